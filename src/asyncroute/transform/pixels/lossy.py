"""What an image says of its losses (PS3.3 C.7.6.1.1.5, C.12.4): Lossy Image Compression with ratio and method, one more
value for each step; Image Type, Derivation, and what it was made of."""

from __future__ import annotations

from typing import NamedTuple

from asyncroute.core.syntaxes import JLS_NEAR, METHODS, Wish
from asyncroute.transform.elements import Content
from asyncroute.transform.pixels.elements import Head, padded

LOSSY, RATIO, METHOD = 0x00282110, 0x00282112, 0x00282114
IMAGE_TYPE, DESCRIPTION, DERIVATION, SOURCES = 0x00080008, 0x00082111, 0x00089215, 0x00082112
_WIDTH = 10
_LONGEST = 1024
_CODE = ((0x00080100, "SH"), (0x00080102, "SH"), (0x00080104, "LO"))


class Loss(NamedTuple):
    """Where the ratio goes when it is known: ``skip`` bytes behind the beginning of the value of ``tag``."""

    tag: int
    skip: int

    @staticmethod
    def ratio(before: int, after: int) -> bytes:
        """The ratio to one, of a fixed width."""
        return f"{before / max(after, 1):.2f}".ljust(_WIDTH)[:_WIDTH].encode()


def mark(head: Head, syntax: str, wish: Wish, sop_class: str, uid: str) -> Loss:
    """Say that a loss happens now; ``uid``: of the image before."""
    earlier = head.text(RATIO)
    before = head.text(LOSSY)
    skip = len(earlier) + 1 if earlier else 0
    if before == "01" and not earlier:
        skip = 1  # an earlier loss whose ratio nobody knows: an empty value stands for it
    head.set(LOSSY, "CS", b"01")
    head.set(RATIO, "DS", (earlier + "\\" if skip else "").encode() + b" " * _WIDTH)
    method = METHODS[syntax]
    methods = head.text(METHOD)
    head.set(METHOD, "CS", ((methods + "\\" if methods or skip else "") + method).encode())
    kind = f"JPEG-LS, error {wish.error}" if syntax == JLS_NEAR else f"JPEG 2000, ratio {wish.ratio:g}"
    description = head.get(DESCRIPTION) or b""
    text = (description.rstrip() + b"; " if description.strip() else b"") + f"lossy compression: {kind}".encode()
    if len(text) <= _LONGEST:
        head.set(DESCRIPTION, "ST", text)
    values = head.text(IMAGE_TYPE).split("\\")
    if len(values) > 1:
        head.set(IMAGE_TYPE, "CS", "\\".join(["DERIVED", *values[1:]]).encode())
    head.item_added(DERIVATION, _coded("113040", "Lossy Compression"))
    if not wish.keep_uid:
        reference = ((0x00081150, sop_class), (0x00081155, uid))
        purpose = (0x0040A170, "SQ", _coded("121320", "Uncompressed predecessor"))
        head.item_added(SOURCES, (*((tag, "UI", padded(text.encode(), "UI")) for tag, text in reference), purpose))
    return Loss(RATIO, skip)


def mark_decoded(head: Head, syntax: str, before: int, after: int) -> None:
    """Of what is decoded: that something was lost does not go away with the syntax that says so.

    ``before``, ``after``: bytes of the pixels without compression and with it.
    """
    head.set(LOSSY, "CS", b"01")
    if not head.text(METHOD) and "\\" not in head.text(RATIO):
        head.set(METHOD, "CS", METHODS[syntax].encode())
    if not head.text(RATIO) and "\\" not in head.text(METHOD):
        head.set(RATIO, "DS", Loss.ratio(before, after).rstrip())


def _coded(code: str, meaning: str) -> Content:
    return tuple(
        (tag, vr, padded(text.encode(), vr)) for (tag, vr), text in zip(_CODE, (code, "DCM", meaning), strict=True)
    )
