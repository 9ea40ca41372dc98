"""Layouts of headers: what a header is made of, learned from one image and recognized in the next ones.

A sender's images differ in values and in some lengths, seldom in their elements. A ``Layout`` holds every element
header of one image, nested ones too, so that ``match`` verifies those of another with a few calls into C.

Guarantees: `match` succeeds only where a ``Walk`` over the same data would read the very same headers: each byte that
a walk looks at is compared with what it was, but for the lengths that were seen to vary; those are taken from the data,
as a walk does. What it finds is what a walk finds. The number of layouts, of headers in them and of attempts to learn
is bounded, whatever senders make up.
Failures: none; where nothing fits, the walk decides.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Hashable, Sequence
from copy import copy
from itertools import count
from typing import Any, NamedTuple

from asyncroute.wire.elements import MAX_VALUE, PIXELS, UNDEFINED, Odd, Walk
from asyncroute.wire.syntax import Encoding

Data = bytes | bytearray | memoryview

MAX_HEADERS = 1024  # in one layout
MAX_ALL_HEADERS = 1 << 14  # in all layouts of a scanner (some 3 MB)
MAX_KEYS = 64
MAX_LAYOUTS = 4  # under one key

_LEARNING = 16  # what learning costs, in images that fit or are passed over
_CREDIT = 8 * _LEARNING

_DELIMITERS, _ITEM = 0xFFFE, 0xFFFEE000
_MAX_IMPLICIT = 0x4140  # a longer length may read as a VR, which makes a walk doubt that VRs are implicit

# How the parts of an element's header are compared: formats of `struct`.
FIXED = {8: "Q", 12: "QI"}
VARYING = {"implicit": "II", "item": "II", 8: "IHH", 12: "QI"}  # the length comes last
LAST = {True: "I4x", False: "IH2x"}  # implicit or not: a tag behind the header, its VR; any length

_numbers = count(1)


class _Header(NamedTuple):
    """One element header: its offset, its size, all of it that must stay the same, the bytes of value behind it."""

    at: int
    size: int
    tag: int
    same: bytes
    jump: int
    may_vary: bool
    top: bool


class _Segment(NamedTuple):
    """A run of elements of fixed lengths; ends with the header of one whose length varies, unless `same` is None."""

    headers: Callable[..., tuple[Any, ...]]
    expected: tuple[Any, ...]
    same: tuple[Any, ...] | None
    size: int
    values: Callable[..., tuple[Any, ...]] | None
    wanted: bool  # the value behind it


class Match(NamedTuple):
    """What a layout found: raw values in the order of its `tags`; where a walk would stop; where the header ends."""

    layout: Layout
    raw: tuple[bytes, ...]
    offset: int
    end: int


class Layout:
    """The headers of one image, and which of their lengths vary.

    `number` is its own; `tags` are the wanted attributes in it, `vrs` their VR numbers (explicit VR only). `same` is
    what two layouts of the same elements have in common: all of the headers but lengths.
    """

    __slots__ = (
        *("_after", "_before", "_ends", "_most", "encoding", "lengths", "number", "same", "tags", "varying", "vrs"),
    )

    def __init__(
        self, walk: Walk, encoding: Encoding, headers: Sequence[_Header], ends: bool, varying: Collection[int]
    ) -> None:
        view = walk.view
        self.number = next(_numbers)
        self.encoding = encoding
        self.tags = tuple(walk.values)
        self.vrs = dict(walk.vrs)
        self.same = tuple(header.same for header in headers)
        self.lengths = tuple(header.jump for header in headers)
        self.varying = frozenset(varying)
        self._ends = ends
        self._most = most_varying(encoding)
        builder = _Builder(view, encoding, walk.values)
        self._before: tuple[_Segment, ...] = ()
        for number, header in enumerate(headers):
            if header.top and header.at == walk.pos:
                self._before = builder.take()
            builder.add(header, number in varying, ends and number == len(headers) - 1)
        self._after = builder.take()
        if walk.pos == len(view):
            self._before, self._after = self._after, ()

    def match(self, data: Data, whole: bool) -> Match | None:
        """What is found in data of this layout; None for any other. `whole`: the data set ends with `data`."""
        raw: list[bytes] = []
        try:
            offset = _follow(self._before, data, 0, self._most, raw)
            end = _follow(self._after, data, offset, self._most, raw) if offset >= 0 else -1
        except struct.error:  # the data ends within a segment
            return None
        if end < 0:
            return None
        if self._ends:
            return Match(self, tuple(raw), offset, end - 8)
        return Match(self, tuple(raw), offset, end) if whole and end == len(data) else None


def _follow(segments: tuple[_Segment, ...], data: Data, pos: int, most: int, raw: list[bytes]) -> int:
    """The offset behind the segments, -1 if they do not fit. Raises struct.error at the end of the data."""
    # The hot loop: one turn for each length that varies.
    for headers, expected, same, size, values, wanted in segments:
        found = headers(data, pos)
        if found != expected and (same is None or found[:-1] != same or found[-1] > most):
            return -1
        if values is not None:
            raw += values(data, pos)
        pos += size
        if same is not None:
            length = found[-1]
            if wanted:
                raw.append(bytes(data[pos : pos + length]))
            pos += length
    return pos


def most_varying(encoding: Encoding) -> int:
    """The greatest length that may differ from what was learned: what a walk treats like any other length."""
    return _MAX_IMPLICIT if encoding.implicit else MAX_VALUE


class _Builder:
    """Puts headers together to segments."""

    def __init__(self, view: memoryview, encoding: Encoding, wanted: Collection[int]) -> None:
        self._view = view
        self._implicit = encoding.implicit
        self._sign = ">" if encoding.big else "<"
        self._wanted = wanted
        self._made: list[_Segment] = []
        self._start = -1
        self._clear()

    def _clear(self) -> None:
        self._headers: list[str] = []
        self._values: list[str] = []
        self._gap = 0

    def add(self, header: _Header, varies: bool, last: bool) -> None:
        """The next header in order."""
        if not self._headers:
            self._start = header.at
        wanted = header.top and header.tag in self._wanted
        if last:
            self._headers.append(LAST[self._implicit])
        elif varies:
            kind = "item" if header.tag == _ITEM else "implicit" if self._implicit else header.size
            self._headers.append(VARYING[kind])
            self._close(varies, wanted)
        else:
            self._add_fixed(header, wanted)

    def _add_fixed(self, header: _Header, wanted: bool) -> None:
        self._headers.append(f"{FIXED[header.size]}{header.jump}x")
        self._gap += header.size
        if wanted:
            self._values.append(f"{self._gap}x{header.jump}s")
            self._gap = 0
        else:
            self._gap += header.jump

    def _close(self, varies: bool, wanted: bool) -> None:
        headers = struct.Struct(self._sign + "".join(self._headers))
        values = struct.Struct(self._sign + "".join(self._values)).unpack_from if self._values else None
        expected = headers.unpack_from(self._view, self._start)
        same = expected[:-1] if varies else None
        self._made.append(_Segment(headers.unpack_from, expected, same, headers.size, values, wanted))
        self._clear()

    def take(self) -> tuple[_Segment, ...]:
        """The segments since the last call."""
        if self._headers:
            self._close(False, False)
        made, self._made = tuple(self._made), []
        return made


# --- learning ---------------------------------------------------------------------------------------------------------


class _TooMany(Exception):
    """More headers than a layout may have."""


class _Recorder:
    """Notes which headers a walk looks at: it walks with an `encoding` whose readers tell."""

    def __init__(self, encoding: Encoding) -> None:
        self.found: list[tuple[int, int]] = []  # offset and size
        self.encoding = copy(encoding)
        self._length = encoding.length
        self.encoding.header = self._telling(encoding.header)
        self.encoding.item = self._telling(encoding.item)
        self.encoding.length = self._long

    def _telling(self, read: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
        def header(view: memoryview, at: int) -> tuple[Any, ...]:
            if len(self.found) >= MAX_HEADERS:
                raise _TooMany
            self.found.append((at, 8))
            return read(view, at)

        return header

    def _long(self, view: memoryview, at: int) -> tuple[Any, ...]:
        self.found[-1] = (self.found[-1][0], 12)
        return self._length(view, at)


def learn(walk: Walk, encoding: Encoding, whole: bool, known: Sequence[Layout]) -> Layout | None:
    """The layout of a data set that `walk` has read plainly to the last wanted tag, if it can be had.

    Lengths that vary: those that vary in the one of the `known` ones with the same elements, and those that differ from
    it. `whole`: the data set ends where the walk's data ends.
    """
    recorder = _Recorder(encoding)
    again = Walk(walk.view, walk.limit, frozenset(), PIXELS - 1, 0, -1)
    try:
        ends = again.run(recorder.encoding)
    except (Odd, _TooMany):
        return None
    if not recorder.found or not (ends or (whole and again.pos == again.limit)):
        return None
    headers = _headers_of(walk.view, recorder.found, encoding, ends)
    if not _gapless(headers, again.pos):
        return None
    same = tuple(header.same for header in headers)
    old = next((layout for layout in known if layout.same == same), None)
    layout = Layout(walk, encoding, headers, ends, _varying(headers, old, most_varying(encoding)))
    match = layout.match(walk.view, whole)
    found = match and (match.raw, match.offset, match.end)
    return layout if found == (tuple(walk.values.values()), walk.pos, again.pos) else None


def _gapless(headers: Sequence[_Header], end: int) -> bool:
    """Whether each header stands right behind the value before it: none was read unseen (items in another encoding)."""
    places = [header.at for header in headers]
    if places[-1] != end:
        places.append(end)
    return all(each.at + each.size + each.jump == after for each, after in zip(headers, places[1:], strict=False))


def _varying(headers: Sequence[_Header], old: Layout | None, most: int) -> set[int]:
    if old is None:
        return set()
    pairs = enumerate(zip(headers, old.lengths, strict=True))
    differ = {n for n, (header, length) in pairs if header.jump != length} | old.varying
    return {n for n in differ if headers[n].may_vary and headers[n].jump <= most}


def _headers_of(view: memoryview, found: Sequence[tuple[int, int]], encoding: Encoding, ends: bool) -> list[_Header]:
    made: list[_Header] = []
    depth = 0
    order: Any = "big" if encoding.big else "little"
    for at, size in found:
        group, element, length = encoding.item(view, at)
        tag = group << 16 | element
        delimiter = group == _DELIMITERS
        if not encoding.implicit and not delimiter:
            length = int.from_bytes(view[at + 6 : at + 8] if size == 8 else view[at + 8 : at + 12], order)
        if ends and len(made) == len(found) - 1:
            same = bytes(view[at : at + (4 if encoding.implicit else 6)])
            made.append(_Header(at, 8, tag, same, 0, False, True))
            break
        closes = delimiter and tag != _ITEM
        opens = length == UNDEFINED and (size == 12 or encoding.implicit or delimiter)
        may_vary = not closes and not opens
        cut = 2 if size == 8 and not encoding.implicit and not delimiter else 4
        same = bytes(view[at : at + size - cut]) if may_vary else bytes(view[at : at + size])
        made.append(_Header(at, size, tag, same, 0 if opens else length, may_vary, depth == 0))
        depth += opens - closes
    return made


class _Place:
    """The layouts under one key, the one that fitted last first; what learning has cost that did not pay off yet."""

    __slots__ = ("debt", "layouts", "used")

    def __init__(self, debt: int) -> None:
        self.layouts: list[Layout] = []
        self.debt = debt
        self.used = False

    @property
    def size(self) -> int:
        return sum(len(each.same) for each in self.layouts)


class Layouts:
    """The layouts that one scanner has learned, by keys under which images look alike (a sender and a kind of image).

    `fits` counts the data sets that one of them fitted, `learned` those that one was made of. Not for several threads.
    """

    __slots__ = ("_places", "_size", "fits", "learned")

    def __init__(self) -> None:
        self._places: dict[Hashable, _Place] = {}  # the oldest first
        self._size = 0
        self.fits = 0
        self.learned = 0

    @property
    def size(self) -> tuple[int, int]:
        """How many keys and how many headers are remembered."""
        return len(self._places), self._size

    def match(self, key: Hashable, data: Data, whole: bool) -> Match | None:
        """What the first layout that fits finds, if any."""
        place = self._places.get(key)
        if place is None:
            return None
        for number, layout in enumerate(place.layouts):
            match = layout.match(data, whole)
            if match is not None:
                if number:
                    place.layouts.insert(0, place.layouts.pop(number))
                if place.debt:
                    place.debt -= 1
                place.used = True
                self.fits += 1
                return match
        return None

    def learn(self, key: Hashable, walk: Walk, encoding: Encoding, whole: bool) -> None:
        """See the function `learn`: of data that nothing fitted, but seldom from images that are never alike."""
        place = self._places.get(key) or self._new_place(key)
        if place.debt > _CREDIT:
            place.debt -= 1
            return
        place.debt += _LEARNING
        layout = learn(walk, encoding, whole, place.layouts)
        if layout is not None:
            self.learned += 1
            others = [each for each in place.layouts if each.same != layout.same]
            self._size -= place.size
            place.layouts = [layout, *others[: MAX_LAYOUTS - 1]]
            self._size += place.size
            while self._size > MAX_ALL_HEADERS:
                self._forget_one()

    def _new_place(self, key: Hashable) -> _Place:
        """Whoever makes up keys inherits what learning for them has cost."""
        debt = self._forget_one() if len(self._places) >= MAX_KEYS else 0
        place = self._places[key] = _Place(debt)
        return place

    def _forget_one(self) -> int:
        """Forget the oldest place that was of no use since the last time; its debt."""
        while True:
            key, place = next(iter(self._places.items()))
            del self._places[key]
            if not place.used:
                self._size -= place.size
                return place.debt
            place.used = False
            self._places[key] = place
