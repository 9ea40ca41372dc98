"""A data set's header as elements that can be replaced, and its bytes as a list of elements.

Guarantees: as ``transform.level``'s. Failures: ``NotPossible`` for what is no plain list of elements.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from asyncroute.transform.elements import Content, Elements
from asyncroute.transform.level import Level
from asyncroute.transform.pixels.errors import NotPossible
from asyncroute.wire.elements import UNDEFINED, Odd, Walk, content_of, skip
from asyncroute.wire.syntax import Encoding

_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<HH2sHI")
_IMPLICIT = struct.Struct("<HHI")
_LONG_VRS = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"})
_END = _IMPLICIT.pack(0xFFFE, 0xE0DD, 0)
_ITEM = 0xE000
PIXEL_DATA = 0x7FE00010


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
        try:
            self._level = Level(memoryview(data), encoding, b"")
        except Odd as odd:
            raise NotPossible(f"its header cannot be read: {odd.reason}") from None
        self._elements = Elements(self._level)

    def pictures(self) -> Iterator[Head]:
        """The items at any depth that have Pixel Data in fragments; what is set in them is in ``encoded``."""
        for inner in islice(self._elements.everywhere(), 1, None):
            entry = inner.level.get(PIXEL_DATA)
            if entry is not None and entry.undefined:
                head = Head.__new__(Head)
                head._level, head._elements = inner.level, inner
                yield head

    def tags(self) -> frozenset[int]:
        """Of all elements."""
        return frozenset(self._level.tags())

    def get(self, tag: int) -> bytes | None:
        """The value as encoded; None: there is none."""
        return self._elements.value(tag)

    def text(self, tag: int) -> str:
        """The value as text without padding; empty if there is none."""
        return (self.get(tag) or b"").decode("latin-1").strip(" \0")

    def number(self, tag: int) -> int | None:
        """An unsigned 16-bit value; None: there is none."""
        value = self.get(tag) or b""
        return int.from_bytes(value[:2], "little") if len(value) >= 2 else None

    def set(self, tag: int, vr: str, value: bytes) -> None:
        """Give an element this value, padded to even length."""
        value = padded(value, vr)
        if value != self.get(tag):
            self._elements.put(tag, vr, value)

    def number_set(self, tag: int, value: int) -> None:
        """Give an element of VR US this value."""
        self.set(tag, "US", value.to_bytes(2, "little"))

    def item_added(self, tag: int, item: Content) -> None:
        """One more item in the sequence ``tag``."""
        self._elements.put_items(tag, (item,), keep=True)

    def place(self, tag: int) -> int:
        """Where in ``encoded`` the value of an element begins."""
        view = memoryview(self.encoded())
        return next(found.value for found in elements_of(view, self._level.encoding) if found.tag == tag)

    def encoded(self) -> bytes:
        """The header as it is now."""
        return self._level.encoded()


def padded(value: bytes, vr: str) -> bytes:
    """A value with an even length."""
    return value + (b"\0" if vr in ("UI", "OB", "UN") else b" ") * (len(value) & 1)


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
