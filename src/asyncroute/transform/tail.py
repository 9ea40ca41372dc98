"""What comes behind the header: pixel data, which pass as they are, and elements after them, which steps may drop.

Those are private groups above 7FE0, Digital Signatures (FFFA,FFFA) and Data Set Trailing Padding (FFFC,FFFC).
Guarantees: sans-io; memory is bounded whatever the length of a value, defined or not (PS3.5 §7.5, §A.4); pixel data are
handed on in the pieces in which they came, never looked into but for the lengths of fragments. What is not dropped
stays byte for byte, but the group length of a group in which something may be dropped, which goes, too (it is retired).
Failures: `Refused` where an element's header cannot be read for sure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from asyncroute.transform.base import Refused
from asyncroute.wire.elements import PIXELS, UNDEFINED, content_of, tag_text
from asyncroute.wire.syntax import Encoding

MAX_DEPTH = 64  # sequences in sequences
_PIXEL_GROUP = PIXELS >> 16
_DELIMITERS = 0xFFFE
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONGEST_CREATOR = 64


class Drops(NamedTuple):
    """What one step drops. `goes`: whether it is the element of this tag and creator; `shrinks`: any of this group."""

    goes: Callable[[int, str], bool]
    shrinks: Callable[[int], bool]


class Dropping:
    """A ``Tail``. `name`: of the transform, for people; `drops`: what goes."""

    def __init__(self, name: str, encoding: Encoding, drops: Sequence[Drops]) -> None:
        self._name = name
        self._encoding = encoding
        self._drops = tuple(drops)
        self._head = b""  # the beginning of a header that came in two pieces
        self._left = 0  # bytes of the value that are still to come
        self._dropping = False
        self._last = PIXELS - 1
        self._stack: list[Encoding] = []  # as in wire/elements.py: sequences and items in turn
        self._creators: dict[int, str] = {}
        self._creator_of = 0  # the private creator element whose value is being read
        self._creator = b""

    def feed(self, data: memoryview) -> Sequence[bytes | memoryview]:
        """See ``base.Tail``."""
        out: list[bytes | memoryview] = []
        pos, end = 0, len(data)
        while pos < end:
            if self._left:
                taken = min(self._left, end - pos)
                self._value(data[pos : pos + taken], out)
                self._left -= taken
                pos += taken
                continue
            need = self._need()
            taken = min(need - len(self._head), end - pos)
            self._head += data[pos : pos + taken]
            pos += taken
            if len(self._head) == self._need():
                self._header(out)
        return out

    def finish(self) -> Sequence[bytes | memoryview]:
        """See ``base.Tail``. Data that end within a value are not ours to judge."""
        if self._head.strip(b"\0"):
            raise self._odd("the data end within the header of an element")
        return (self._head,) if self._head and not self._dropping else ()

    def _value(self, piece: memoryview, out: list[bytes | memoryview]) -> None:
        if not self._dropping:
            out.append(piece)
        if self._creator_of:
            self._creator += piece[: _LONGEST_CREATOR + 2 - len(self._creator)]
            self._creators[self._creator_of] = self._creator.decode("latin-1").strip(" \0")

    def _need(self) -> int:
        """Bytes of the header that is being read: 8 or 12, which its first 8 say."""
        items = len(self._stack) & 1
        encoding = self._stack[-1] if self._stack else self._encoding
        if items or encoding.implicit or len(self._head) < 8:
            return 8
        if encoding.item(self._head, 0)[0] == _DELIMITERS:
            return 8
        size: int = encoding.forms[encoding.header(self._head, 0)[2]]
        if not size:
            raise self._odd(f"no VR in {tag_text(self._tag(encoding))}")
        return size

    def _tag(self, encoding: Encoding) -> int:
        group, element, _ = encoding.item(self._head, 0)
        return int(group << 16 | element)

    def _header(self, out: list[bytes | memoryview]) -> None:
        if not self._stack:
            self._top()
        elif len(self._stack) & 1:
            self._item()
        else:
            self._inside()
        if not self._dropping:
            out.append(self._head)
        self._head = b""

    def _top(self) -> None:
        encoding = self._encoding
        tag = self._tag(encoding)
        if tag <= self._last or tag >> 16 == 0xFFFE:
            raise self._odd(f"{tag_text(tag)} follows {tag_text(self._last)}")
        self._last = tag
        self._creator_of, self._creator = 0, b""
        if tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF:
            self._creator_of = tag
        self._dropping = self._goes(tag)
        self._begin(encoding)

    def _goes(self, tag: int) -> bool:
        if tag >> 16 == _PIXEL_GROUP:
            return False
        if not tag & 0xFFFF:
            return any(each.shrinks(tag >> 16) for each in self._drops)
        creator = self._creators.get(tag & 0xFFFF0000 | tag >> 8 & 0xFF, "")
        return any(each.goes(tag, creator) for each in self._drops)

    def _begin(self, encoding: Encoding) -> None:
        """The value of an element follows."""
        vr = 0
        if encoding.implicit:
            length = encoding.item(self._head, 0)[2]
        elif len(self._head) == 8:
            length = encoding.header(self._head, 0)[3]
        else:
            vr = encoding.header(self._head, 0)[2]
            length = encoding.length(self._head, 8)[0]
            if length == UNDEFINED:
                self._push(content_of(encoding, vr))
                return
        if length == UNDEFINED and encoding.implicit:
            self._push(encoding)
        else:
            self._left = length

    def _item(self) -> None:
        tag, length = self._tag(self._stack[-1]), self._stack[-1].item(self._head, 0)[2]
        if tag == _SEQUENCE_END:
            self._stack.pop()
        elif tag != _ITEM:
            raise self._odd(f"{tag_text(tag)} instead of an item")
        elif length == UNDEFINED:
            self._push(self._stack[-1])
        else:
            self._left = length

    def _inside(self) -> None:
        encoding = self._stack[-1]
        tag = self._tag(encoding)
        if tag == _ITEM_END:
            self._stack.pop()
        elif tag >> 16 == 0xFFFE:
            raise self._odd(f"{tag_text(tag)} inside of an item")
        else:
            self._begin(encoding)

    def _push(self, content: Encoding) -> None:
        if len(self._stack) > 2 * MAX_DEPTH:
            raise self._odd(f"sequences nested more than {MAX_DEPTH} deep")
        self._stack.append(content)

    def _odd(self, why: str) -> Refused:
        return Refused(f"{self._name}: what follows the pixel data cannot be read for sure: {why}")
