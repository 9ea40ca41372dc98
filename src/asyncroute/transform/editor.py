"""Edits of data set headers by splicing: elements are replaced, put in and taken out, the rest is passed on as it is.

A ``Level`` is one list of elements: the top of a data set, or an item of a sequence. Guarantees: every byte of an
element that nobody changed is kept, whatever its encoding; only group lengths and the lengths of enclosing items and
sequences follow (PS3.5 §7.2, §7.5). Sequences and items keep their kind of length, defined or not.
Failures: ``Refused``, where the elements cannot be told apart for sure (nothing is guessed), or are out of order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache
from struct import Struct, error, unpack_from
from typing import NamedTuple

from asyncroute.transform.base import Header, Refused
from asyncroute.wire import charset
from asyncroute.wire.elements import UNDEFINED, Odd, Walk, content_of, item_encoding, skip, tag_text
from asyncroute.wire.lenient import actual_encoding
from asyncroute.wire.syntax import Encoding, syntax_of
from asyncroute.wire.values import dictionary_vr, texts_of

SPECIFIC_CHARACTER_SET = 0x00080005
PIXEL_REPRESENTATION = 0x00280103
MAX_DEPTH = 32
"""Sequences in sequences that are looked into."""

MAX_ELEMENTS = 100_000
"""Of one level."""

_LONG = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_ITEM, _END = 0xE000, 0xE0DD
_Bytes = bytes | memoryview
_HEADS = {
    False: (Struct("<HHI").pack, Struct("<HH2sH").pack, Struct("<HH2sHI").pack),
    True: (Struct(">HHI").pack, Struct(">HH2sH").pack, Struct(">HH2sHI").pack),
}


class Place(NamedTuple):
    """Where an element is: from ``start`` to ``end``, its value from ``value`` on (with a delimiter, if ``undefined``).

    ``vr``: as sent; empty in implicit VR.
    """

    start: int
    value: int
    end: int
    vr: str
    undefined: bool


class Item(NamedTuple):
    """One item of a sequence; ``head``, ``tail``: its header and delimiter, as they came (empty: it is new)."""

    head: _Bytes
    level: Level
    tail: _Bytes
    undefined: bool


def top(header: Header) -> Level:
    """The top of a data set.

    Raises:
        Refused: its elements cannot be told apart.
    """
    syntax = syntax_of(header.transfer_syntax)
    if syntax is None:
        raise Refused(f"nobody knows how the transfer syntax {header.transfer_syntax} encodes elements")
    view = memoryview(header.data)
    return Level(view, actual_encoding(view, syntax.encoding))


class Level:
    """See module. ``name``: what stands before the names of its attributes, for people."""

    __slots__ = (
        *("_codecs", "_creators", "_edits", "_sequences", "_starts", "_tags", "_view", "depth", "encoding"),
        *("name", "parent"),
    )

    def __init__(self, view: memoryview, encoding: Encoding, parent: Level | None = None, name: str = "") -> None:
        self.encoding = encoding
        self.parent = parent
        self.name = name
        self.depth: int = parent.depth + 1 if parent is not None else 0
        self._view = view
        self._edits: dict[int, tuple[str, bytes] | None] = {}
        self._sequences: dict[int, list[Item] | None] = {}
        self._codecs: tuple[str, ...] | None = None
        self._creators: dict[tuple[int, str], int] | None = None
        if self.depth > MAX_DEPTH:
            raise Refused(f"sequences are nested more than {MAX_DEPTH} deep")
        try:
            self._tags, self._starts = _index(view, encoding)
        except (Odd, error) as odd:
            reason = odd.reason if isinstance(odd, Odd) else "it ends inside of an element"
            raise Refused(f"the header cannot be edited: {reason}") from None

    # ---- looking

    def __contains__(self, tag: int) -> bool:
        if tag in self._edits:
            return self._edits[tag] is not None
        return tag in self._sequences or self._find(tag) is not None

    def tags(self) -> list[int]:
        """Of all elements, ascending, as they are now."""
        now = {tag for tag in self._tags if self._edits.get(tag, ()) is not None}
        new = {tag for tag, edit in self._edits.items() if edit is not None}
        return sorted(now | new | {tag for tag, items in self._sequences.items() if items})

    def vr(self, tag: int) -> str:
        """As sent (where that says something), else by the dictionary; "UN": nobody knows."""
        edit = self._edits.get(tag)
        place = self._find(tag) if edit is None else None
        vr = edit[0] if edit is not None else place.vr if place is not None else ""
        if vr and vr != "UN":
            return vr
        return self._choice(dictionary_vr(tag, self.creator(tag)))

    def _choice(self, vr: str) -> str:
        """One of the dictionary's choices."""
        if " or " not in vr:
            return vr
        if vr.startswith("US or SS"):
            raw = self.value(PIXEL_REPRESENTATION)
            if raw is None and self.parent is not None:
                return self.parent._choice(vr)
            return "SS" if raw is not None and raw.strip(b"\0") == b"\1" else "US"
        return "OW"

    def value(self, tag: int) -> bytes | None:
        """The value's bytes, with padding, as encoded; None: there is no such element, or it is a sequence."""
        if tag in self._edits:
            edit = self._edits[tag]
            return edit[1] if edit is not None else None
        place = self._find(tag)
        if place is None or place.undefined:
            return None
        return bytes(self._view[place.value : place.end])

    def texts(self, tag: int) -> tuple[str, ...]:
        """The values as text; see ``wire.values.texts_of``."""
        value = self.value(tag)
        if not value:
            return ()
        edit = self._edits.get(tag)
        place = self._find(tag) if edit is None else None
        little = place is not None and place.vr == "UN"  # whose value is little endian anywhere (PS3.5 §6.2.2)
        return texts_of(self.vr(tag), value, self.codecs(), big=self.encoding.big and not little)

    def codecs(self) -> tuple[str, ...]:
        """The Python codecs of its text: an item has its parent's, unless it has its own (PS3.3 §C.12.1.1.2)."""
        if self._codecs is None:
            self._codecs = charset.codecs_of(self.character_set())
        return self._codecs

    def character_set(self) -> bytes:
        """The raw value of Specific Character Set that counts here."""
        raw = self.value(SPECIFIC_CHARACTER_SET)
        if raw is None:
            return self.parent.character_set() if self.parent is not None else b""
        return raw

    def creator(self, tag: int) -> str:
        """The private creator of a private element's block (PS3.5 §7.8.1); empty: it has none."""
        if not tag >> 16 & 1 or tag & 0xFFFF <= 0xFF:
            return ""
        raw = self.value(tag & 0xFFFF0000 | tag >> 8 & 0xFF)
        return raw.decode("latin-1").strip(" \0") if raw else ""

    def private(self, tag: int, creator: str, make: bool = False) -> int | None:
        """The tag of 0xgggg00ee in the creator's block; None: there is no such block. ``make``: then there is."""
        group = tag & 0xFFFF0000
        for block in range(0x10, 0x100):
            raw = self.value(group | block)
            if raw is not None and raw.decode("latin-1").strip(" \0") == creator:
                return group | block << 8 | tag & 0xFF
        if not make:
            return None
        used = {each & 0xFFFF if each & 0xFFFF <= 0xFF else each >> 8 & 0xFF for each in self.tags() if each >= group}
        free = next((block for block in range(0x10, 0x100) if block not in used), None)
        if free is None:
            raise Refused(f"no private block is free in group {tag >> 16:04X}")
        text = creator.encode("ascii", "replace")
        self.put(group | free, "LO", text + b" " * (len(text) & 1))
        return group | free << 8 | tag & 0xFF

    def original(self, tag: int) -> _Bytes | None:
        """The whole element as it came; None: there was none."""
        place = self._find(tag)
        return self._view[place.start : place.end] if place is not None else None

    @property
    def changed(self) -> list[int]:
        """The tags of all elements that are others now, or gone, ascending; of sequences also for what is in them."""
        return sorted({*self._edits, *(tag for tag, items in self._sequences.items() if items and _touched(items))})

    def _find(self, tag: int) -> Place | None:
        at = bisect_left(self._tags, tag)
        if at == len(self._tags) or self._tags[at] != tag:
            return None
        return _place(self._view, self._starts[at], self._starts[at + 1], self.encoding)

    # ---- sequences

    def items(self, tag: int) -> list[Item] | None:
        """The items of a sequence, which may be changed; None: it is none."""
        if self._edits.get(tag, ()) is None:
            return None
        if tag not in self._sequences:
            place = self._find(tag)
            found = self._parse(tag, place) if place is not None and self._is_sequence(tag, place) else None
            self._sequences[tag] = found
            if found is None:
                del self._sequences[tag]
            return found
        return self._sequences[tag]

    def _is_sequence(self, tag: int, place: Place) -> bool:
        if place.vr:
            return place.vr == "SQ" or (place.vr == "UN" and place.undefined)
        return place.undefined or dictionary_vr(tag, self.creator(tag)) == "SQ"

    def _parse(self, tag: int, place: Place) -> list[Item]:
        content = content_of(self.encoding, self.encoding.vr_number(place.vr)) if place.vr else self.encoding
        view, pos, limit = self._view, place.value, place.end
        walk = Walk(view, limit, frozenset(), 0, pos, -1)
        found: list[Item] = []
        try:
            while pos + 8 <= limit:
                group, element, length = content.item(view, pos)
                if group == 0xFFFE and element == _END and place.undefined:
                    break
                if group != 0xFFFE or element != _ITEM:
                    raise Odd(f"{tag_text(group << 16 | element)} instead of an item")
                start, undefined = pos + 8, length == UNDEFINED
                inner = item_encoding(walk, start, content) if start + 8 <= limit else content
                stop = _end_of_item(view, start, limit, inner) if undefined else start + length
                pos = stop + 8 if undefined else stop
                if pos > limit:
                    raise Odd("an item is longer than its sequence")
                name = f"{self.name}{keyword(tag)}.{len(found)}."
                level = Level(view[start:stop], inner, self, name)
                found.append(Item(view[start - 8 : start], level, view[stop:pos], undefined))
        except (Odd, error) as odd:
            reason = odd.reason if isinstance(odd, Odd) else "it ends inside of an item"
            raise Refused(f"{self.name}{keyword(tag)} cannot be edited: {reason}") from None
        return found

    def new_item(self, tag: int) -> Level:
        """One more item, at the end of a sequence, which is made if it is not there."""
        items = self.items(tag)
        if items is None:
            self._edits.pop(tag, None)
            items = self._sequences[tag] = []
        level = Level(memoryview(b""), self.encoding, self, f"{self.name}{keyword(tag)}.{len(items)}.")
        items.append(Item(b"", level, b"", False))
        return level

    def everywhere(self) -> Iterator[Level]:
        """This level and those of all items of all sequences below it."""
        yield self
        for tag in self.tags():
            for item in self.items(tag) or ():
                yield from item.level.everywhere()

    # ---- changing

    def put(self, tag: int, vr: str, value: bytes) -> None:
        """An element with this value (of even length), instead of the one that may be there."""
        self._sequences.pop(tag, None)
        self._edits[tag] = (vr, value)
        if tag == SPECIFIC_CHARACTER_SET:
            self._codecs = None

    def drop(self, tag: int) -> None:
        """No such element any more."""
        self._sequences.pop(tag, None)
        if self._find(tag) is not None:
            self._edits[tag] = None
        else:
            self._edits.pop(tag, None)

    def pieces(self) -> list[_Bytes]:
        """All elements as they are now, encoded."""
        new = self._elements()
        if not new:
            return [self._view] if len(self._view) else []
        self._follow_group_lengths(new)
        view, pos = self._view, 0
        found: list[_Bytes] = []
        for tag in sorted(new):
            at = bisect_left(self._tags, tag)
            start = self._starts[at]
            if start > pos:
                found.append(view[pos:start])
            found += new[tag]
            pos = self._starts[at + 1] if at < len(self._tags) and self._tags[at] == tag else start
        if pos < len(view):
            found.append(view[pos:])
        return found

    def _elements(self) -> dict[int, list[_Bytes]]:
        """What stands now for each element that was changed."""
        new: dict[int, list[_Bytes]] = {}
        for tag, edit in self._edits.items():
            new[tag] = [self._element(tag, *edit)] if edit is not None else []
        for tag, items in self._sequences.items():
            if items is not None and _touched(items):
                new[tag] = self._sequence(tag, items)
        return new

    def _element(self, tag: int, vr: str, value: bytes) -> bytes:
        implicit, short, long = _HEADS[self.encoding.big]
        group, element = tag >> 16, tag & 0xFFFF
        if self.encoding.implicit:
            return implicit(group, element, len(value)) + value
        if vr in _LONG:
            return long(group, element, vr.encode(), 0, len(value)) + value
        if len(value) > 0xFFFE:
            raise Refused(f"{self.name}{keyword(tag)}: {len(value)} bytes are more than {vr} takes")
        return short(group, element, vr.encode(), len(value)) + value

    def _sequence(self, tag: int, items: list[Item]) -> list[_Bytes]:
        place = self._find(tag)
        parts = [piece for item in items for piece in self._item(item)]
        if place is not None and place.undefined:
            return [self._view[place.start : place.value], *parts, self._view[place.end - 8 : place.end]]
        size = sum(map(len, parts))
        implicit, _, long = _HEADS[self.encoding.big]
        if self.encoding.implicit:
            return [implicit(tag >> 16, tag & 0xFFFF, size), *parts]
        vr = place.vr if place is not None else "SQ"
        return [long(tag >> 16, tag & 0xFFFF, vr.encode(), 0, size), *parts]

    def _item(self, item: Item) -> list[_Bytes]:
        pieces = item.level.pieces()
        if item.undefined or (len(item.head) and not item.level.changed):
            return [item.head, *pieces, item.tail]
        big = item.level.encoding.big
        return [_HEADS[big][0](0xFFFE, _ITEM, sum(map(len, pieces))), *pieces]

    def _follow_group_lengths(self, new: dict[int, list[_Bytes]]) -> None:
        """A group length (gggg,0000) says how long the group is now (PS3.5 §7.2)."""
        grown: dict[int, int] = {}
        for tag, pieces in new.items():
            place = self._find(tag)
            before = place.end - place.start if place is not None else 0
            grown[tag & 0xFFFF0000] = grown.get(tag & 0xFFFF0000, 0) + sum(map(len, pieces)) - before
        for tag, more in grown.items():
            place = self._find(tag)
            if more and place is not None and tag not in new and place.end - place.value == 4:
                order = "big" if self.encoding.big else "little"
                length = int.from_bytes(self._view[place.value : place.end], order) + more  # type: ignore[arg-type]
                if 0 <= length <= 0xFFFFFFFF:
                    head = self._view[place.start : place.value]
                    new[tag] = [head, length.to_bytes(4, order)]  # type: ignore[arg-type]


def _touched(items: list[Item]) -> bool:
    return any(not len(item.head) or item.level.changed for item in items)


def _end_of_item(view: memoryview, pos: int, limit: int, encoding: Encoding) -> int:
    """The offset of the Item Delimitation Item that ends the elements at ``pos``."""
    walk = Walk(view, limit, frozenset(), 0, pos, -1)
    for _ in range(MAX_ELEMENTS):
        group, element = unpack_from(">HH" if encoding.big else "<HH", view, pos)
        if group == 0xFFFE:
            if element != 0xE00D:
                raise Odd(f"{tag_text(group << 16 | element)} inside of an item")
            return pos
        pos = _end_of(view, pos, encoding, walk)
    raise Odd(f"more than {MAX_ELEMENTS} elements")


def _index(view: memoryview, encoding: Encoding) -> tuple[list[int], list[int]]:
    """The tags of one level's elements and where each starts, with the end of the last.

    This is the dearest loop of an edit: what is needed of few elements only (``Place``) is found when it is.
    """
    tags: list[int] = []
    starts: list[int] = [0]
    limit, pos, before = len(view), 0, -1
    walk = Walk(view, limit, frozenset(), 0, 0, -1)
    unpack, forms, implicit = encoding.header, encoding.forms, encoding.implicit
    while pos < limit:
        if implicit:
            group, element, length = unpack(view, pos)
            plain = length != UNDEFINED
        else:
            group, element, number, length = unpack(view, pos)
            plain = forms[number] == 8
        tag = group << 16 | element
        if tag <= before:
            raise Odd(f"{tag_text(tag)} follows {tag_text(before)}")
        pos = pos + 8 + length if plain else _end_of(view, pos, encoding, walk)
        tags.append(tag)
        starts.append(pos)
        before = tag
    if pos > limit:
        raise Odd(f"{tag_text(before)} is cut off")
    if len(tags) > MAX_ELEMENTS:
        raise Odd(f"more than {MAX_ELEMENTS} elements")
    return tags, starts


def _end_of(view: memoryview, pos: int, encoding: Encoding, walk: Walk) -> int:
    """Where the element at ``pos`` ends."""
    if encoding.implicit:
        value, content = pos + 8, encoding
        _, _, length = encoding.header(view, pos)
    else:
        _, _, number, length = encoding.header(view, pos)
        size = encoding.forms[number]
        if not size:
            raise Odd(f"no VR at offset {pos + 4}")
        value = pos + size
        if size == 12:
            (length,) = encoding.length(view, pos + 8)
        content = content_of(encoding, number) if length == UNDEFINED else encoding
    return skip(walk, value, content) if length == UNDEFINED else value + length


def _place(view: memoryview, start: int, end: int, encoding: Encoding) -> Place:
    """The element from ``start`` to ``end``."""
    if encoding.implicit:
        _, _, length = encoding.header(view, start)
        return Place(start, start + 8, end, "", length == UNDEFINED)
    _, _, number, _ = encoding.header(view, start)
    size = encoding.forms[number]
    undefined = size == 12 and encoding.length(view, start + 8)[0] == UNDEFINED
    return Place(start, start + size, end, encoding.vr_name(number), undefined)


@lru_cache(4096)
def keyword(tag: int) -> str:
    """The attribute's keyword, or ``(gggg,eeee)``."""
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(tag) or tag_text(tag)
