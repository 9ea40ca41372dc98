"""Made images: deterministic, with unique UIDs, of any size, in several SOP classes and transfer syntaxes.

The same seed, index and settings always give the same bytes. Large pixel data is made while it is read.
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from tests.support.images import BytesSource, Image, Source
from tests.support.ul import EXPLICIT_LE, IMPLICIT_LE

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
CR = "1.2.840.10008.5.1.4.1.1.1"
US = "1.2.840.10008.5.1.4.1.1.6.1"
SC = "1.2.840.10008.5.1.4.1.1.7"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
RLE = "1.2.840.10008.1.2.5"
PRIVATE_SYNTAX = "1.2.826.0.1.3680043.9.7133.1.99"
MODALITIES = {CT: "CT", MR: "MR", CR: "CR", US: "US", SC: "OT"}
KINDS = [(CT, EXPLICIT_LE), (MR, IMPLICIT_LE), (CR, JPEG_LOSSLESS), (US, BIG_ENDIAN), (SC, RLE), (CT, IMPLICIT_LE)]
ENCAPSULATED = frozenset({JPEG_LOSSLESS, RLE})
IN_MEMORY = 1 << 22
BLOCK = 1 << 16


@dataclass(frozen=True)
class Kind:
    """What an image is: SOP class, transfer syntax, and the bytes of pixel data (rounded up to whole rows)."""

    sop_class: str = CT
    transfer_syntax: str = EXPLICIT_LE
    size: int = 16_384


def uid(*parts: object) -> str:
    """A UID that depends on ``parts`` only."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def image(
    seed: str, index: int, kind: Kind | None = None, study: int = 0, patient: str = "PAT-1", series: int = 1
) -> Image:
    """The ``index``-th image of ``seed``."""
    kind = kind or Kind()
    instance = uid(seed, index, kind)
    pixels = -(-kind.size // 512) * 512
    study_uid = uid(seed, "study", study)
    head = _header(kind, instance, study_uid, f"{study_uid}.{series}", patient, pixels // 512)
    source = _source(head, kind.transfer_syntax, pixels, f"{seed}/{index}")
    size = len(head) + _framing(kind.transfer_syntax, pixels) + pixels
    name = f"{seed}-{index}"
    return Image(name, kind.sop_class, instance, kind.transfer_syntax, size, source, MODALITIES[kind.sop_class])


def series(seed: str, count: int, kind: Kind | None = None, study: int = 0) -> list[Image]:
    """``count`` images of one kind."""
    return [image(seed, index, kind, study) for index in range(count)]


def mixed(seed: str, count: int, size: int = 16_384) -> list[Image]:
    """``count`` images of alternating SOP classes and transfer syntaxes (``KINDS``)."""
    return [image(seed, n, Kind(*KINDS[n % len(KINDS)], size=size)) for n in range(count)]


def _header(kind: Kind, instance: str, study: str, series: str, patient: str, rows: int) -> bytes:
    texts = [
        (0x0008, 0x0016, b"UI", kind.sop_class),
        (0x0008, 0x0018, b"UI", instance),
        (0x0008, 0x0020, b"DA", "20240229"),
        (0x0008, 0x0050, b"SH", f"A{study[-8:]}"),
        (0x0008, 0x0060, b"CS", MODALITIES[kind.sop_class]),
        (0x0008, 0x1030, b"LO", "Made for a test"),
        (0x0010, 0x0010, b"PN", "Test^Image"),
        (0x0010, 0x0020, b"LO", patient),
        (0x0020, 0x000D, b"UI", study),
        (0x0020, 0x000E, b"UI", series),
    ]
    out = b"".join(_element(kind, group, tag, vr, _padded(vr, value)) for group, tag, vr, value in texts)
    return out + _image_pixel(kind, rows)


def _image_pixel(kind: Kind, rows: int) -> bytes:
    """The Image Pixel Module for rows of 256 pixels of 16 bits; more rows than fit are said as frames."""
    order = ">H" if kind.transfer_syntax == BIG_ENDIAN else "<H"
    frames = -(-rows // 4096)
    out = _element(kind, 0x0028, 0x0002, b"US", struct.pack(order, 1))
    out += _element(kind, 0x0028, 0x0004, b"CS", b"MONOCHROME2 ")
    out += _element(kind, 0x0028, 0x0008, b"IS", _padded(b"IS", str(frames))) if frames > 1 else b""
    for tag, value in ((0x0010, min(rows, 4096)), (0x0011, 256), (0x0100, 16), (0x0101, 16), (0x0102, 15), (0x0103, 0)):
        out += _element(kind, 0x0028, tag, b"US", struct.pack(order, value))
    return out


def _padded(vr: bytes, value: str) -> bytes:
    raw = value.encode("ascii")
    return raw + (b"\0" if vr == b"UI" else b" ") * (len(raw) & 1)


def _element(kind: Kind, group: int, tag: int, vr: bytes, value: bytes) -> bytes:
    order = ">" if kind.transfer_syntax == BIG_ENDIAN else "<"
    if kind.transfer_syntax == IMPLICIT_LE:
        return struct.pack("<HHI", group, tag, len(value)) + value
    return struct.pack(f"{order}HH2sH", group, tag, vr, len(value)) + value


def _framing(transfer_syntax: str, pixels: int) -> int:
    return sum(map(len, _frame(transfer_syntax, pixels)))


def _frame(transfer_syntax: str, pixels: int) -> tuple[bytes, bytes]:
    """What stands before and after the pixel bytes."""
    if transfer_syntax in ENCAPSULATED:
        start = struct.pack("<HH2sxxI", 0x7FE0, 0x0010, b"OB", 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0)
        return start + struct.pack("<HHI", 0xFFFE, 0xE000, pixels), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    if transfer_syntax == IMPLICIT_LE:
        return struct.pack("<HHI", 0x7FE0, 0x0010, pixels), b""
    order = ">" if transfer_syntax == BIG_ENDIAN else "<"
    return struct.pack(f"{order}HH2sxxI", 0x7FE0, 0x0010, b"OW", pixels), b""


def _source(head: bytes, transfer_syntax: str, pixels: int, seed: str) -> Source:
    start, end = _frame(transfer_syntax, pixels)
    if pixels <= IN_MEMORY:
        return BytesSource(head + start + random.Random(seed).randbytes(pixels) + end)
    return MadeSource(head + start, pixels, end, seed)


@lru_cache(maxsize=8)
def _block(seed: str) -> bytes:
    return random.Random(seed).randbytes(BLOCK)


@dataclass(frozen=True)
class MadeSource:
    """``head``, then numbered blocks of noise, then ``tail``: made while read, never held as a whole."""

    head: bytes
    pixels: int
    tail: bytes
    seed: str

    def chunks(self, size: int) -> Iterator[bytes]:
        """See ``Source``."""
        pending = bytearray()
        for piece in self._pieces():
            pending += piece
            while len(pending) >= size:
                yield bytes(pending[:size])
                del pending[:size]
        if pending:
            yield bytes(pending)

    def _pieces(self) -> Iterator[bytes]:
        noise = _block(self.seed)
        yield self.head
        for at in range(0, self.pixels, BLOCK):
            yield (struct.pack("<Q", at) + noise[8:])[: self.pixels - at]
        yield self.tail
