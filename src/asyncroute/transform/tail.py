"""What comes behind the header: pixel data, which pass as they are, and elements after them, which steps may drop.

Those are private groups above 7FE0, Digital Signatures (FFFA,FFFA) and Data Set Trailing Padding (FFFC,FFFC).
Guarantees: sans-io; memory is bounded whatever the length of a value, defined or not (PS3.5 §7.5, §A.4). What is not
dropped stays byte for byte, but the group length of a group in which something may be dropped, which goes, too (it is
retired). What goes on are slices of what came in, which may be cut anywhere; kept back is at most one element header or
private creator (`MAX_CREATOR`). Data that end inside of a value go on as far as they came: nothing can be behind it.
Failures: `Refused` for anything but plainly encoded elements in ascending order, and beyond a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from asyncroute.transform.base import Refused
from asyncroute.transform.level import MAX_DEPTH
from asyncroute.wire.elements import PIXELS, UNDEFINED, Odd, content_of, item_encoding, tag_text
from asyncroute.wire.syntax import Encoding

MAX_CREATOR = 1024  # bytes of the value of a private creator
MAX_HEADERS = 1 << 21  # of elements, items and fragments: some seconds

_AHEAD = 12 + MAX_CREATOR  # what must be at hand to understand one header
_PIXEL_GROUP = PIXELS >> 16
_DELIMITERS = 0xFFFE
_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD


class _Head(NamedTuple):
    """The header of an element. ``size``: its own, in bytes."""

    tag: int
    vr: int
    length: int
    size: int


class Drops(NamedTuple):
    """What one step drops, of the top level.

    ``goes``: whether it is the element of this tag and private creator: of its block; "" if there is none, or it is a
    creator itself. ``shrinks``: whether anything of this group may go.
    """

    goes: Callable[[int, str], bool]
    shrinks: Callable[[int], bool]


class Dropping:
    """A ``base.Tail``.

    ``name``: of the transform, for people. ``encoding``: the one that the header was read with. ``drops``: what goes.
    """

    __slots__ = ("_creators", "_drops", "_encoding", "_headers", "_held", "_keep", "_left", "_name", "_stack", "_tag")

    def __init__(self, name: str, encoding: Encoding, drops: Sequence[Drops]) -> None:
        self._name = name
        self._encoding = encoding
        self._drops = tuple(drops)
        self._creators: dict[int, str] = {}
        self._headers = 0
        self._held = b""  # the beginning of a header
        self._keep = True  # whether the element that we are in goes on
        self._left = 0  # bytes of a value that are still to come
        self._stack: list[Encoding] = []  # of sequences and items in turn: where their number is odd, items come next
        self._tag = PIXELS - 1  # the last one on the top level

    def feed(self, data: memoryview) -> list[bytes | memoryview]:
        """See ``base.Tail.feed``."""
        try:
            return self._fed(data)
        except Odd as odd:
            raise self._refused(odd.reason) from None

    def _fed(self, data: memoryview) -> list[bytes | memoryview]:
        out: list[bytes | memoryview] = []
        pos = 0
        if self._held:
            size = len(self._held)
            joined = memoryview(self._held + bytes(data[:_AHEAD]))
            end = self._run(joined, 0, size, out)
            self._held = bytes(joined[end:]) if end < size else b""
            pos = end - size if end >= size else len(data)
        end = self._run(data, pos, len(data), out)
        if end < len(data):
            self._held = bytes(data[end:])
        return out

    def finish(self) -> list[bytes | memoryview]:
        """See ``base.Tail.finish``."""
        if not self._held:
            return []
        if not self._stack and self._held.strip(b"\0"):
            raise self._refused(f"the data end inside of the element after {_shown(self._tag)}")
        return [self._held] if self._keep else []

    def _refused(self, why: str) -> Refused:
        return Refused(f"{self._name}: what follows the pixel data cannot be read for sure: {why}")

    def _run(self, view: memoryview, pos: int, stop: int, out: list[bytes | memoryview]) -> int:
        """Take what begins before ``stop``. Gives how far that was possible: at most a header is left."""
        start = pos  # of what goes on in one piece
        while pos < stop:
            kept = self._keep
            if self._left:
                size = min(self._left, stop - pos)
                self._left -= size
            else:
                size = self._header(view, pos)
                if not size:
                    break
                if self._keep != kept:
                    if kept and pos > start:
                        out.append(view[start:pos])
                    start = pos
            pos += size
        if self._keep and pos > start:
            out.append(view[start:pos])
        return pos

    def _header(self, view: memoryview, pos: int) -> int:
        """Understand the header at ``pos``: its size in bytes; 0 if there is not all of it yet."""
        self._headers += 1
        if self._headers > MAX_HEADERS:
            raise Odd(f"more than {MAX_HEADERS} elements, items and fragments from the pixel data on")
        if not self._stack:
            return self._top(view, pos)
        size = self._item(view, pos) if len(self._stack) & 1 else self._inside(view, pos)
        if len(self._stack) > 2 * MAX_DEPTH:
            raise Odd(f"sequences nested more than {MAX_DEPTH} deep")
        return size

    def _top(self, view: memoryview, pos: int) -> int:
        head = _head(view, pos, self._encoding)
        if head is None:
            return 0
        if head.tag <= self._tag:
            raise Odd(f"{tag_text(head.tag)} follows {_shown(self._tag)}")
        if head.tag >> 16 == _DELIMITERS:
            raise Odd(f"delimiter {tag_text(head.tag)} outside of a sequence")
        if _is_creator(head.tag):
            value = _creator_value(view, pos, head)
            if value is None:
                return 0
            self._creators[head.tag] = value
        self._tag = head.tag
        self._keep = self._is_wanted(head.tag)
        self._value(head, self._encoding)
        return head.size

    def _is_wanted(self, tag: int) -> bool:
        if tag >> 16 == _PIXEL_GROUP:
            return True
        if not tag & 0xFFFF:
            return not any(each.shrinks(tag >> 16) for each in self._drops)
        creator = self._creators.get(tag & 0xFFFF0000 | tag >> 8 & 0xFF, "")
        return not any(each.goes(tag, creator) for each in self._drops)

    def _value(self, head: _Head, encoding: Encoding) -> None:
        """What comes next: so many bytes, or items."""
        if head.length == UNDEFINED:
            self._stack.append(content_of(encoding, head.vr))
        else:
            self._left = head.length

    def _item(self, view: memoryview, pos: int) -> int:
        """An item, a fragment or the end of the sequence."""
        room = len(view) - pos
        if room < 8:
            return 0
        content = self._stack[-1]
        group, element, length = content.item(view, pos)
        tag = group << 16 | element
        if tag == _SEQUENCE_END:
            self._stack.pop()
        elif tag != _ITEM:
            raise Odd(f"{tag_text(tag)} instead of an item in {tag_text(self._tag)}")
        elif length != UNDEFINED:
            self._left = length
        elif room < 16:
            return 0
        else:
            self._stack.append(item_encoding(view, pos + 8, content))
        return 8

    def _inside(self, view: memoryview, pos: int) -> int:
        """An element inside of an item of undefined length, or the end of the item."""
        encoding = self._stack[-1]
        if len(view) - pos < 8:
            return 0
        group, element, _ = encoding.item(view, pos)
        if group == _DELIMITERS:
            if group << 16 | element != _ITEM_END:
                raise Odd(f"{tag_text(group << 16 | element)} inside of an item of {tag_text(self._tag)}")
            self._stack.pop()
            return 8
        head = _head(view, pos, encoding)
        if head is None:
            return 0
        self._value(head, encoding)
        return head.size


def _head(view: memoryview, pos: int, encoding: Encoding) -> _Head | None:
    """The header of the element at ``pos``; None if there is not all of it."""
    room = len(view) - pos
    if room < 8:
        return None
    if encoding.implicit:
        group, element, length = encoding.header(view, pos)
        return _Head(group << 16 | element, 0, length, 8)
    group, element, vr, length = encoding.header(view, pos)
    size = encoding.forms[vr]
    tag = group << 16 | element
    if size == 8:
        return _Head(tag, vr, length, 8)
    if not size:
        raise Odd(f"{tag_text(tag)} has no VR")
    if length:
        raise Odd(f"reserved bytes of {tag_text(tag)} are not zero")
    if room < 12:
        return None
    return _Head(tag, vr, encoding.length(view, pos + 8)[0], 12)


def _is_creator(tag: int) -> bool:
    return bool(tag >> 16 & 1) and 0x10 <= tag & 0xFFFF <= 0xFF


def _creator_value(view: memoryview, pos: int, head: _Head) -> str | None:
    """The private creator; None if there is not all of it."""
    if head.length > MAX_CREATOR:
        raise Odd(f"private creator {tag_text(head.tag)} of {head.length} bytes")
    start = pos + head.size
    if start + head.length > len(view):
        return None
    return bytes(view[start : start + head.length]).decode("latin-1").strip(" \0")


def _shown(tag: int) -> str:
    return tag_text(tag) if tag >= PIXELS else "the header"
