"""The top level of a data set's header as a list of elements that can be replaced: little endian, one encoding.

Guarantees: ``pieces`` gives back every byte of what was not changed; the length of a group in which something was
changed is left out (PS3.5 §7.2: it is retired). Failures: ``NotPossible`` for what is no plain list of elements.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from asyncroute.transform.pixels.errors import NotPossible
from asyncroute.wire.elements import UNDEFINED, Odd, Walk, content_of, skip
from asyncroute.wire.syntax import Encoding

_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<HH2sHI")
_IMPLICIT = struct.Struct("<HHI")
_LONG_VRS = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"})
_END = _IMPLICIT.pack(0xFFFE, 0xE0DD, 0)
_ITEM = 0xE000


class Element(NamedTuple):
    """Where an element is: from ``start`` to ``end``, its value from ``value`` to there; ``undefined``: its length is
    (then the value ends with a delimiter). ``vr``: empty in implicit VR."""

    tag: int
    vr: str
    start: int
    value: int
    end: int
    undefined: bool


def elements_of(view: memoryview, encoding: Encoding) -> Iterator[Element]:
    """The elements of one level.

    Raises:
        NotPossible: they end inside of one, or are no elements.
    """
    pos, limit = 0, len(view)
    walk = Walk(view, limit, frozenset(), 0, 0, -1)
    while pos < limit:
        try:
            found = _element(walk, pos, encoding)
        except (Odd, struct.error) as error:
            reason = error.reason if isinstance(error, Odd) else "it ends inside of an element"
            raise NotPossible(f"its header cannot be read: {reason}") from None
        if found.end > limit:
            raise NotPossible(f"its header cannot be read: ({found.tag >> 16:04X},{found.tag & 0xFFFF:04X}) is cut off")
        yield found
        pos = found.end


def _element(walk: Walk, pos: int, encoding: Encoding) -> Element:
    view = walk.view
    if encoding.implicit:
        group, element, length = encoding.header(view, pos)
        vr, value = "", pos + 8
    else:
        group, element, number, length = encoding.header(view, pos)
        vr, form = encoding.vr_name(number), encoding.forms[number]
        if not form:
            raise Odd(f"no VR at offset {pos + 4}")
        value = pos + form
        if form == 12:
            (length,) = encoding.length(view, pos + 8)
    undefined = length == UNDEFINED
    content = encoding if encoding.implicit else content_of(encoding, encoding.vr_number(vr))
    end = skip(walk, value, content) if undefined else value + length
    return Element(group << 16 | element, vr, pos, value, end, undefined)


class Head:
    """See module. ``encoding`` is explicit or implicit VR little endian."""

    def __init__(self, data: bytes, encoding: Encoding) -> None:
        self._view = memoryview(data)
        self._encoding = encoding
        self._elements: dict[int, Element | bytes] = {}
        for found in elements_of(self._view, encoding):
            self._elements[found.tag] = found
        self._changed: set[int] = set()

    def tags(self) -> frozenset[int]:
        """Of all elements."""
        return frozenset(self._elements)

    def get(self, tag: int) -> bytes | None:
        """The value as encoded, of a sequence its items without the delimiter; None: there is none."""
        found = self._elements.get(tag)
        if isinstance(found, bytes):
            return found[self._size_of_header(found) :]
        if found is None:
            return None
        return bytes(self._view[found.value : found.end - (8 if found.undefined else 0)])

    def text(self, tag: int) -> str:
        """The value as text without padding; empty if there is none."""
        return (self.get(tag) or b"").decode("latin-1").strip(" \0")

    def number(self, tag: int) -> int | None:
        """An unsigned 16-bit value; None: there is none."""
        value = self.get(tag) or b""
        return int.from_bytes(value[:2], "little") if len(value) >= 2 else None

    def set(self, tag: int, vr: str, value: bytes) -> None:
        """Give an element this value, padded to even length."""
        if len(value) & 1:
            value += b"\0" if vr in ("UI", "OB", "UN") else b" "
        if value == self.get(tag):
            return
        self._elements[tag] = header_of(tag, vr, len(value), self._encoding) + value
        self._changed.add(tag >> 16)

    def number_set(self, tag: int, value: int) -> None:
        """Give an element of VR US this value."""
        self.set(tag, "US", value.to_bytes(2, "little"))

    def item_added(self, tag: int, *elements: tuple[int, str, bytes]) -> None:
        """One more item in the sequence ``tag``, with these elements in their order."""
        self.set(tag, "SQ", (self.get(tag) or b"") + self.item(*elements))

    def item(self, *elements: tuple[int, str, bytes]) -> bytes:
        """An item of these elements."""
        parts = []
        for tag, vr, value in elements:
            padded = value + (b"\0" if vr == "UI" else b" ") * (len(value) & 1)
            parts.append(header_of(tag, vr, len(padded), self._encoding) + padded)
        body = b"".join(parts)
        return _IMPLICIT.pack(0xFFFE, _ITEM, len(body)) + body

    def place(self, tag: int) -> int:
        """Where in the header, as ``pieces`` gives it, the value of an element that was set begins."""
        at = 0
        for known, found in sorted(self._elements.items()):
            if known == tag and isinstance(found, bytes):
                return at + self._size_of_header(found)
            at += len(found) if isinstance(found, bytes) else found.end - found.start
        raise KeyError(tag)

    def remove(self, tag: int) -> None:
        """Without this element."""
        if self._elements.pop(tag, None) is not None:
            self._changed.add(tag >> 16)

    def pieces(self) -> list[bytes | memoryview]:
        """The header as it is now."""
        for group in self._changed:
            self._elements.pop(group << 16, None)
        return [
            found if isinstance(found, bytes) else self._view[found.start : found.end]
            for _, found in sorted(self._elements.items())
        ]

    def _size_of_header(self, encoded: bytes) -> int:
        return 12 if not self._encoding.implicit and encoded[4:6] in _LONG_VRS else 8


def header_of(tag: int, vr: str, length: int, encoding: Encoding) -> bytes:
    """The header of an element in little endian."""
    if encoding.implicit:
        return _IMPLICIT.pack(tag >> 16, tag & 0xFFFF, length)
    if vr.encode() in _LONG_VRS:
        return _LONG.pack(tag >> 16, tag & 0xFFFF, vr.encode(), 0, length)
    return _SHORT.pack(tag >> 16, tag & 0xFFFF, vr.encode(), length)


def item_header(length: int) -> bytes:
    """The header of an item, or of a fragment."""
    return _IMPLICIT.pack(0xFFFE, _ITEM, length)


DELIMITER = _END
"""Ends a sequence, or the fragments of pixel data."""
