"""Elements of a data set, or of one item in it, that can be replaced: bytes in, bytes out.

Purpose: a ``Level`` knows where its elements stand, takes new values for some of them, and puts together what it was
made of with these: by splicing, so that every byte of what was not replaced stays as it was, but group lengths
(gggg,0000) and the lengths of enclosing items and sequences (PS3.5 §7.2, §7.5).
Guarantees: nothing is decoded or looked into but what is asked for; elements stay in ascending order.
Failures: `Odd` where bytes are not what they should be, so that an edit would be a guess.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import NamedTuple

from asyncroute.transform.index import END, indexed, item_end
from asyncroute.transform.shapes import Fit
from asyncroute.wire import charset
from asyncroute.wire.elements import UNDEFINED, Odd, item_encoding, tag_text
from asyncroute.wire.syntax import UN_CONTENT, Encoding
from asyncroute.wire.values import dictionary_vr

MAX_DEPTH = 64  # sequences in sequences
CHARACTER_SET = 0x00080005

_ITEM = 0xFFFEE000
_ITEM_LE = b"\xfe\xff\x00\xe0"  # in an element of unknown VR, whatever is around it (PS3.5 §6.2.2)
_SEQUENCE_END = 0xFFFEE0DD
_ITEM_END_PARTS = (0xFFFE, 0xE00D)
_LONGEST_SHORT = 0xFFFF


class Entry(NamedTuple):
    """An element: its VR as written (implicit: as the dictionary says), its value as encoded, padding included.

    `undefined`: of undefined length; the value then ends with its delimiter.
    """

    vr: str
    value: bytes
    undefined: bool = False


class Level:
    """See module. `character_set`: the raw Specific Character Set in force, of an enclosing level if it has none."""

    __slots__ = (
        "_entries", "_outer", "_sequences", "_starts", "_tags", "character_set", "codecs", "depth",
        "edits", "encoding", "view",
    )  # fmt: skip

    def __init__(
        self,
        view: memoryview,
        encoding: Encoding,
        character_set: bytes,
        last: int = END,
        depth: int = 0,
        fit: Fit | None = None,
    ) -> None:
        self.view = view
        self.encoding = encoding
        self.depth = depth
        self.edits: dict[int, Entry | None] = {}
        self._entries: dict[int, Entry | None] = {}
        self._sequences: dict[int, Sequence | None] = {}
        self._tags, self._starts = indexed(view, encoding, last, fit)
        own = self.get(CHARACTER_SET)
        self._outer = character_set
        self.character_set = character_set if own is None else own.value
        self.codecs = charset.codecs_of(self.character_set)

    # --- reading ------------------------------------------------------------------------------------------------------

    def get(self, tag: int) -> Entry | None:
        """The element as it is now; None if there is none."""
        if tag in self.edits:
            return self.edits[tag]
        if self._sequences.get(tag) is not None:
            return self._rebuilt(tag)
        return self.original(tag)

    def original(self, tag: int) -> Entry | None:
        """The element as it was."""
        try:
            return self._entries[tag]
        except KeyError:
            pass
        at = bisect_left(self._tags, tag)
        found = self._read(at) if at < len(self._tags) and self._tags[at] == tag else None
        self._entries[tag] = found
        return found

    def _read(self, number: int) -> Entry:
        view, encoding, start, end = self.view, self.encoding, self._starts[number], self._starts[number + 1]
        if encoding.implicit:
            undefined = encoding.item(view, start)[2] == UNDEFINED
            vr = self._dictionary(self._tags[number])
            return Entry("SQ" if undefined else vr, bytes(view[start + 8 : end]), undefined)
        _, _, code, _ = encoding.header(view, start)
        size = encoding.forms[code]
        undefined = size == 12 and encoding.length(view, start + 8)[0] == UNDEFINED
        return Entry(encoding.names.get(code) or encoding.vr_name(code), bytes(view[start + size : end]), undefined)

    def _dictionary(self, tag: int) -> str:
        vr = dictionary_vr(tag, self.creator(tag))
        return vr if " or " not in vr else self.either(vr)

    def either(self, vr: str) -> str:
        """One of the dictionary's choices: signed or not by Pixel Representation, words for all binary data."""
        if "US" in vr:
            entry = self.get(0x00280103)
            return "SS" if entry and entry.value.strip(b"\0") == b"\1" else "US"
        return "OW"

    def meaning(self, tag: int, entry: Entry) -> str:
        """The VR of an element; of one that was sent as UN by the dictionary (PS3.5 §6.2.2)."""
        return self._dictionary(tag) if entry.vr == "UN" else entry.vr

    def vr(self, tag: int) -> str:
        """The same of an element that is there, without copying its value."""
        edited = self.edits.get(tag)
        if edited is not None:
            return self.meaning(tag, edited)
        if self.encoding.implicit:
            return self._dictionary(tag)
        start = self._starts[bisect_left(self._tags, tag)]
        vr = self.encoding.names.get(self.encoding.header(self.view, start)[2], "UN")
        return self._dictionary(tag) if vr == "UN" else vr

    def tags(self) -> list[int]:
        """Of all elements that there are now, in order."""
        if not self.edits:
            return list(self._tags)
        kept = [tag for tag in self._tags if self.edits.get(tag, ...) is not None]
        added = [tag for tag, entry in self.edits.items() if entry is not None and not self._was(tag)]
        return sorted(kept + added)

    def _was(self, tag: int) -> bool:
        at = bisect_left(self._tags, tag)
        return at < len(self._tags) and self._tags[at] == tag

    @property
    def index(self) -> tuple[list[int], list[int]]:
        """The tags of all elements that there were; where they began, and where the last one ended."""
        return self._tags, self._starts

    @property
    def looked_at(self) -> Iterable[int]:
        """Of all elements whose values were asked for, whether they are there or not."""
        return self._entries.keys()

    # --- private blocks -----------------------------------------------------------------------------------------------

    def creator(self, tag: int) -> str:
        """The private creator of a private element; "" if there is none (PS3.5 §7.8.1)."""
        if not tag >> 16 & 1 or not tag & 0xFF00:
            return ""
        entry = self.get(tag & 0xFFFF0000 | tag >> 8 & 0xFF)
        return entry.value.decode("latin-1").strip(" \0") if entry else ""

    def blocks(self, group: int, creator: str) -> list[int]:
        """Which blocks of a group (0x10..0xFF) this creator has reserved: one, as a rule (PS3.5 §7.8.1)."""
        low, high = group << 16 | 0x10, group << 16 | 0xFF
        found = self._tags[bisect_left(self._tags, low) : bisect_left(self._tags, high + 1)]
        tags = sorted({*found, *(tag for tag in self.edits if low <= tag <= high)})
        entries = ((tag, self.get(tag)) for tag in tags)
        return [tag & 0xFF for tag, it in entries if it and it.value.decode("latin-1").strip(" \0") == creator]

    def free_block(self, group: int) -> int:
        """A block that nobody has reserved."""
        taken = {tag & 0xFF for tag in self.tags() if tag >> 16 == group and tag & 0xFFFF <= 0xFF}
        taken |= {tag >> 8 & 0xFF for tag in self.tags() if tag >> 16 == group}
        free = next((block for block in range(0x10, 0x100) if block not in taken), None)
        if free is None:
            raise Odd(f"group {group:04X} has no free block for another private creator")
        return free

    # --- sequences ----------------------------------------------------------------------------------------------------

    def sequence(self, tag: int, named: bool = False) -> Sequence | None:
        """The items of a sequence; None for what is none, or not there.

        ``named``: a person says that it is one, which counts where neither the image nor the dictionary knows.
        """
        known = self._sequences.get(tag)
        if known is not None or (tag in self._sequences and not named):
            return known
        entry = self.get(tag)
        found = self._sequences[tag] = self._items(tag, entry, named) if entry else None
        return found

    def _items(self, tag: int, entry: Entry, named: bool) -> Sequence | None:
        if entry.vr == "UN":
            vr = self._dictionary(tag)
            if not entry.undefined and vr != "SQ" and not (named and vr == "UN" and entry.value.startswith(_ITEM_LE)):
                return None
            return Sequence(entry, UN_CONTENT, self)
        return Sequence(entry, self.encoding, self) if entry.vr == "SQ" else None

    def levels(self) -> Iterator[Level]:
        """This one and those of all items, at any depth."""
        yield self
        for tag in self.tags():
            sequence = self._sequences.get(tag) if tag in self._sequences else self._maybe(tag)
            for item in sequence.items if sequence else ():
                yield from item.level.levels()

    def _maybe(self, tag: int) -> Sequence | None:
        """Without copying values that are none."""
        if tag not in self.edits and not self._looks_like_one(tag):
            return None
        return self.sequence(tag)

    def _looks_like_one(self, tag: int) -> bool:
        start = self._starts[bisect_left(self._tags, tag)]
        if self.encoding.implicit:
            return self.encoding.item(self.view, start)[2] == UNDEFINED or self._dictionary(tag) == "SQ"
        name = self.encoding.names.get(self.encoding.header(self.view, start)[2])
        return name in ("SQ", "UN")

    # --- writing ------------------------------------------------------------------------------------------------------

    def put(self, tag: int, entry: Entry) -> None:
        """Replace or insert an element; its value has an even length."""
        self.edits[tag] = entry
        self._sequences.pop(tag, None)
        if tag == CHARACTER_SET:
            self._read_as(entry.value)

    def drop(self, tag: int) -> None:
        """Remove an element, if it is there."""
        self._sequences.pop(tag, None)
        if self._was(tag):
            self.edits[tag] = None
        else:
            self.edits.pop(tag, None)
        if tag == CHARACTER_SET:
            self._read_as(self._outer)

    def _read_as(self, character_set: bytes) -> None:
        """From now on, also in the items that are known already and have none of their own."""
        self.character_set = character_set
        self.codecs = charset.codecs_of(character_set)
        for sequence in self._sequences.values():
            for item in sequence.items if sequence is not None else ():
                item.level._outer = character_set
                if item.level.get(CHARACTER_SET) is None:
                    item.level._read_as(character_set)

    @property
    def dirty(self) -> bool:
        """Whether anything is to be written otherwise."""
        return bool(self.edits) or any(each is not None and each.dirty for each in self._sequences.values())

    def _rebuilt(self, tag: int) -> Entry | None:
        sequence = self._sequences[tag]
        if sequence is None or not sequence.dirty:
            return self.original(tag)
        return sequence.entry._replace(value=sequence.encoded())

    def changed(self) -> dict[int, Entry | None]:
        """Every element that is another now, sequences with what was edited in them."""
        found = dict(self.edits)
        for tag, sequence in self._sequences.items():
            if sequence is not None and sequence.dirty:
                found[tag] = sequence.entry._replace(value=sequence.encoded())
        return found

    def made(self) -> dict[int, bytes]:
        """Every element that is another now, as encoded; empty where it is gone."""
        made = {tag: self._encode(tag, entry) if entry else b"" for tag, entry in self.changed().items()}
        self._group_lengths(made)
        return made

    def encoded(self, made: dict[int, bytes] | None = None) -> bytes:
        """All elements as they are now. `made`: as above, if known."""
        made = self.made() if made is None else made
        view, tags, starts = self.view, self._tags, self._starts
        pieces: list[bytes | memoryview] = []
        pos = 0
        for tag in sorted(made):
            at = bisect_left(tags, tag)
            pieces.append(view[pos : starts[at]])
            pieces.append(made[tag])
            pos = starts[at + 1] if at < len(tags) and tags[at] == tag else starts[at]
        pieces.append(view[pos:])
        return b"".join(pieces)

    def _group_lengths(self, made: dict[int, bytes]) -> None:
        """(gggg,0000) of every group that got longer or shorter, where it is there (PS3.5 §7.2)."""
        grown: dict[int, int] = {}
        for tag, new in made.items():
            if tag & 0xFFFF:
                grown[tag >> 16] = grown.get(tag >> 16, 0) + len(new) - self._length(tag)
        for group, by in grown.items():
            tag = group << 16
            entry = self.original(tag) if by and tag not in made and self._was(tag) else None
            if entry and len(entry.value) == 4:
                length = self.encoding.length(entry.value)[0] + by & UNDEFINED
                made[tag] = self._encode(tag, entry._replace(value=number(length, 4, self.encoding)))

    def _length(self, tag: int) -> int:
        at = bisect_left(self._tags, tag)
        was = at < len(self._tags) and self._tags[at] == tag
        return self._starts[at + 1] - self._starts[at] if was else 0

    def _encode(self, tag: int, entry: Entry) -> bytes:
        return encode(tag, entry, self.encoding)


def number(value: int, size: int, encoding: Encoding) -> bytes:
    """In this byte order."""
    return value.to_bytes(size, "big" if encoding.big else "little")


_HEADS = {
    False: (Struct("<HHI").pack, Struct("<HH2sH").pack, Struct("<HH2sHI").pack),
    True: (Struct(">HHI").pack, Struct(">HH2sH").pack, Struct(">HH2sHI").pack),
}


def encode(tag: int, entry: Entry, encoding: Encoding) -> bytes:
    """One element, header and value. Raises `Odd` if its length cannot be written."""
    vr, value, undefined = entry
    implicit, short, long = _HEADS[encoding.big]
    length = UNDEFINED if undefined else len(value)
    if encoding.implicit:
        return implicit(tag >> 16, tag & 0xFFFF, length) + value
    code = vr.encode("latin-1")
    if encoding.forms[encoding.vr_number(vr)] == 12:
        return long(tag >> 16, tag & 0xFFFF, code, 0, length) + value
    if length > _LONGEST_SHORT:
        raise Odd(f"{tag_text(tag)} gets {len(value)} bytes, but VR {vr} has a length of 16 bits")
    return short(tag >> 16, tag & 0xFFFF, code, length) + value


class Item:
    """One item of a sequence: its header, its elements, and whether a delimiter follows."""

    __slots__ = ("head", "level", "tail")

    def __init__(self, head: bytes, level: Level, tail: bytes) -> None:
        self.head = head
        self.level = level
        self.tail = tail

    def encoded(self) -> bytes:
        """All of it as it is now."""
        if not self.level.dirty:
            return b"".join((self.head, self.level.view, self.tail))
        body = self.level.encoded()
        if self.tail:
            return self.head + body + self.tail
        return self.head[:4] + number(len(body), 4, self.level.encoding) + body


class Sequence:
    """The items of a sequence. Raises `Odd` unless they are plainly encoded to the last byte (PS3.5 §7.5)."""

    __slots__ = ("entry", "items", "tail")

    def __init__(self, entry: Entry, content: Encoding, parent: Level) -> None:
        if parent.depth >= MAX_DEPTH:
            raise Odd(f"sequences nested more than {MAX_DEPTH} deep")
        self.entry = entry
        self.items: list[Item] = []
        self.tail = b""
        self._read(memoryview(entry.value), content, parent)

    def _read(self, view: memoryview, content: Encoding, parent: Level) -> None:
        pos, limit = 0, len(view)
        while pos < limit:
            if pos + 8 > limit:
                raise Odd("a sequence that ends within an item's header")
            group, element, length = content.item(view, pos)
            tag = group << 16 | element
            if tag == _SEQUENCE_END and self.entry.undefined and pos + 8 == limit:
                self.tail = bytes(view[pos:])
                return
            if tag != _ITEM:
                raise Odd(f"{tag_text(tag)} instead of an item")
            pos = self._item(view, pos, length, content, parent)
        if self.entry.undefined:
            raise Odd("a sequence without its delimiter")

    def _item(self, view: memoryview, pos: int, length: int, content: Encoding, parent: Level) -> int:
        start = pos + 8
        encoding = _item_encoding(view, start, content) if length else content
        if length == UNDEFINED:
            end = item_end(view, start, encoding)
            tail = bytes(view[end : end + 8])
        else:
            end, tail = start + length, b""
            if end > len(view):
                raise Odd("an item that is longer than its sequence")
        level = Level(view[start:end], encoding, parent.character_set, END, parent.depth + 1)
        self.items.append(Item(bytes(view[pos:start]), level, tail))
        return end + len(tail)

    @property
    def dirty(self) -> bool:
        """Whether any element in it is to be written otherwise."""
        return any(item.level.dirty for item in self.items)

    def encoded(self) -> bytes:
        """The sequence's value as it is now, with the delimiter if it has one."""
        return b"".join([item.encoded() for item in self.items] + [self.tail])


def _item_encoding(view: memoryview, pos: int, content: Encoding) -> Encoding:
    """How an item is encoded, an empty one as what is around it."""
    if pos + 8 > len(view) or content.item(view, pos)[:2] == _ITEM_END_PARTS:
        return content
    return item_encoding(view, pos, content)
