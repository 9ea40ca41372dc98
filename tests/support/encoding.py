"""Data elements as bytes, one at a time, in the three encodings of PS3.5 §7: an encoder to test readers with.

It writes what it is told, sense or not: any tag, any VR of two characters, any length.
"""

from __future__ import annotations

import struct
import zlib

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG = "1.2.840.10008.1.2.2"
UNDEFINED = 0xFFFFFFFF
SHORT = frozenset("AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())  # noqa: SIM905


def element(tag: int, vr: str, value: bytes = b"", syntax: str = EXPLICIT, length: int | None = None) -> bytes:
    """One element; ``length``: what its header says, where that is not the truth."""
    return head(tag, vr, len(value) if length is None else length, syntax) + value


def head(tag: int, vr: str, length: int, syntax: str = EXPLICIT) -> bytes:
    """The header of an element: with a 16-bit length for the VRs of PS3.5 table 7.1-2, else with a 32-bit one."""
    order = ">" if syntax == BIG else "<"
    group, number = tag >> 16, tag & 0xFFFF
    if syntax == IMPLICIT:
        return struct.pack("<HHI", group, number, length)
    if vr in SHORT:
        return struct.pack(order + "HH2sH", group, number, vr.encode(), length)
    return struct.pack(order + "HH2sHI", group, number, vr.encode("latin-1"), 0, length)


def sequence(tag: int, *items: bytes, syntax: str = EXPLICIT, vr: str = "SQ", undefined: bool = True) -> bytes:
    """A sequence whose items, and itself, have undefined lengths, or (not ``undefined``) defined ones."""
    inner = b"".join(item(each, syntax, undefined) for each in items)
    if not undefined:
        return element(tag, vr, inner, syntax)
    return head(tag, vr, UNDEFINED, syntax) + inner + delimiter(0xFFFEE0DD, syntax)


def item(content: bytes, syntax: str = EXPLICIT, undefined: bool = True) -> bytes:
    """One item of a sequence."""
    if not undefined:
        return delimiter(0xFFFEE000, syntax, len(content)) + content
    return delimiter(0xFFFEE000, syntax, UNDEFINED) + content + delimiter(0xFFFEE00D, syntax)


def delimiter(tag: int, syntax: str = EXPLICIT, length: int = 0) -> bytes:
    """An element of group FFFE."""
    return struct.pack((">" if syntax == BIG else "<") + "HHI", tag >> 16, tag & 0xFFFF, length)


def deflate(data: bytes) -> bytes:
    """A raw deflate stream (PS3.5 §A.5), padded to even length."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(data) + packer.flush()
    return packed + b"\0" * (len(packed) & 1)
