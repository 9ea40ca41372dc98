"""Elements from one encoding to another: implicit or explicit VR, from big to little endian (PS3.5 §7, §6.2.2).

Guarantees: values are the same bytes, or the same numbers where the byte order changes; order, undefined lengths and
private elements stay; what the dictionary does not know becomes UN, which says the same.
Failures: ``NotPossible`` for what is no plain list of elements, or nested too deeply.
"""

from __future__ import annotations

import struct

from asyncroute.transform.pixels.elements import DELIMITER, Element, elements_of, header_of, item_header
from asyncroute.transform.pixels.errors import NotPossible
from asyncroute.transform.pixels.frames import swapped, swapped_unit
from asyncroute.wire.elements import UNDEFINED
from asyncroute.wire.syntax import EXPLICIT_BE, EXPLICIT_LE, Encoding
from asyncroute.wire.values import dictionary_vr

_DEEPEST = 100
_SHORTEST_LONG = 0x10000
_SHORT_VRS = frozenset(EXPLICIT_LE.names.values()) - frozenset(
    {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
)
_REPRESENTATION = 0x00280103
_ITEM = struct.Struct("<HHI")


def reencoded(data: bytes | memoryview, source: Encoding, target: Encoding) -> bytes:
    """A list of elements of ``source`` in ``target``, which is little endian.

    Raises:
        NotPossible: it cannot be read.
    """
    if source is target:
        return bytes(data)
    return b"".join(_Level(source, target).elements(memoryview(data), 0, False))


class _Level:
    def __init__(self, source: Encoding, target: Encoding) -> None:
        self._source = source
        self._target = target

    def elements(self, view: memoryview, depth: int, signed: bool) -> list[bytes | memoryview]:
        if depth > _DEEPEST:
            raise NotPossible(f"its sequences are nested more than {_DEEPEST} deep")
        found = list(elements_of(view, self._source))
        representation = next((e for e in found if e.tag == _REPRESENTATION), None)
        if representation is not None:
            signed = any(view[representation.value : representation.end])
        creators: dict[int, str] = {}
        out: list[bytes | memoryview] = []
        for element in found:
            if element.tag >> 16 & 1 and 0x10 <= element.tag & 0xFFFF <= 0xFF:
                text = bytes(view[element.value : element.end]).decode("latin-1").strip(" \0")
                creators[element.tag & 0xFFFF0000 | (element.tag & 0xFF) << 8] = text
            if not element.tag & 0xFFFF:
                continue  # a group's length is another one now
            vr = element.vr or self._vr(element, creators, signed)
            out += self._element(view, element, vr, depth, signed)
        return out

    def _vr(self, element: Element, creators: dict[int, str], signed: bool) -> str:
        block = element.tag & 0xFFFFFF00
        vr = dictionary_vr(element.tag, creators.get(block, "") if element.tag >> 16 & 1 else "")
        if " or " in vr:
            choices = vr.split(" or ")
            vr = ("SS" if signed else "US") if choices[:2] == ["US", "SS"] else "OW"
        return vr

    def _element(
        self, view: memoryview, element: Element, vr: str, depth: int, signed: bool
    ) -> list[bytes | memoryview]:
        content = view[element.value : element.end]
        nested = vr == "SQ" or (element.undefined and element.vr not in ("", "UN"))
        if element.undefined and not element.vr and vr != "SQ":
            vr, nested = "UN", False  # a private sequence: UN holds it in implicit VR
        if nested and element.undefined:
            items = self.items(content[:-8], depth, signed)
            return [header_of(element.tag, vr, UNDEFINED, self._target), *items, DELIMITER]
        if nested:
            whole = b"".join(self.items(content, depth, signed))
            return [header_of(element.tag, vr, len(whole), self._target), whole]
        if element.undefined:
            return [header_of(element.tag, vr, UNDEFINED, self._target), content]
        if self._source is EXPLICIT_BE:
            content = memoryview(swapped(bytes(content), swapped_unit(vr)))
        if vr in _SHORT_VRS and len(content) >= _SHORTEST_LONG:
            vr = "UN"
        return [header_of(element.tag, vr, len(content), self._target), content]

    def items(self, view: memoryview, depth: int, signed: bool) -> list[bytes | memoryview]:
        """Items as they are encoded, without a delimiter of the sequence."""
        out: list[bytes | memoryview] = []
        pos = 0
        while pos < len(view):
            try:
                group, number, length = self._source.item(view, pos)
            except struct.error:
                raise NotPossible("its header cannot be read: an item is cut off") from None
            if (group, number) == (0xFFFE, 0xE0DD) and pos + 8 == len(view):
                break  # a delimiter in a sequence of defined length
            if (group, number) != (0xFFFE, 0xE000):
                raise NotPossible(f"its header cannot be read: ({group:04X},{number:04X}) instead of an item")
            pos += 8
            undefined = length == UNDEFINED
            end = self._end_of_item(view, pos) if undefined else pos + length
            if end > len(view):
                raise NotPossible("its header cannot be read: an item is cut off")
            inner = self.elements(view[pos : end - (8 if undefined else 0)], depth + 1, signed)
            if undefined:
                out += [item_header(UNDEFINED), *inner, _ITEM.pack(0xFFFE, 0xE00D, 0)]
            else:
                whole = b"".join(inner)
                out += [item_header(len(whole)), whole]
            pos = end
        return out

    def _end_of_item(self, view: memoryview, pos: int) -> int:
        """Behind the delimiter of the item of undefined length whose content is at ``pos``."""
        at, limit = pos, len(view)
        while at + 8 <= limit:
            group, number, _ = self._source.item(view, at)
            if (group, number) == (0xFFFE, 0xE00D):
                return at + 8
            at += next(elements_of(view[at:], self._source)).end
        raise NotPossible("its header cannot be read: an item is cut off")
