"""Layouts that were learned: how, when, and how many are remembered.

Guarantees: the number of layouts, of headers in them and of attempts to learn is bounded, whatever senders make up. A
layout is kept only if it finds in the image that it was made of what the walk has found there.
Failures: none; what cannot be learned is walked over again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from copy import copy
from typing import Any

from asyncroute.wire.elements import PIXELS, UNDEFINED, Odd, Walk
from asyncroute.wire.layout import ITEM, Data, Header, Layout, Match, most_varying
from asyncroute.wire.syntax import Encoding

MAX_HEADERS = 1024  # in one layout
MAX_ALL_HEADERS = 1 << 14  # in all layouts of a scanner (some 5 MB)
MAX_KEYS = 512
MAX_LAYOUTS = 8  # under one key
MAX_SHARED = 16  # that other keys may use as well

_LEARNING = 16  # what learning costs, in images that fit or are passed over
_CREDIT = 8 * _LEARNING
_DELIMITERS = 0xFFFE


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
    found = match and (layout.values(match), match.offset, match.end)
    return layout if found == (tuple(walk.values.values()), walk.pos, again.pos) else None


def _gapless(headers: Sequence[Header], end: int) -> bool:
    """Whether each header stands right behind the value before it: none was read unseen (items in another encoding)."""
    places = [header.at for header in headers]
    if places[-1] != end:
        places.append(end)
    return all(each.at + each.size + each.jump == after for each, after in zip(headers, places[1:], strict=False))


def _varying(headers: Sequence[Header], old: Layout | None, most: int) -> set[int]:
    if old is None:
        return set()
    pairs = enumerate(zip(headers, old.lengths, strict=True))
    differ = {n for n, (header, length) in pairs if header.jump != length} | set(old.varying)
    return {n for n in differ if headers[n].may_vary and headers[n].jump <= most}


def _headers_of(view: memoryview, found: Sequence[tuple[int, int]], encoding: Encoding, ends: bool) -> list[Header]:
    made: list[Header] = []
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
            made.append(Header(at, 8, tag, same, 0, False, True))
            break
        closes = delimiter and tag != ITEM
        opens = length == UNDEFINED and (size == 12 or encoding.implicit or delimiter)
        may_vary = not closes and not opens
        cut = 2 if size == 8 and not encoding.implicit and not delimiter else 4
        same = bytes(view[at : at + size - cut]) if may_vary else bytes(view[at : at + size])
        made.append(Header(at, size, tag, same, 0 if opens else length, may_vary, depth == 0))
        depth += opens - closes
    return made


class _Place:
    """The layouts under one key, the one that fitted last first; what learning has cost that did not pay off yet."""

    __slots__ = ("debt", "layouts", "used")

    def __init__(self, debt: int) -> None:
        self.layouts: list[Layout] = []
        self.debt = debt
        self.used = False


Key = tuple[str, Hashable]
"""A transfer syntax, and what images have in common that look alike (a sender and a kind of image)."""


class Layouts:
    """The layouts that one scanner has learned, by keys; a few of them are tried for other keys, too.

    `fits` counts the data sets that one of them fitted, `learned` those that one was made of. Not for several threads.
    """

    __slots__ = ("_held", "_inherited", "_places", "_shared", "_size", "fits", "learned")

    def __init__(self) -> None:
        self._places: dict[Key, _Place] = {}  # the oldest first
        self._shared: list[tuple[str, Layout]] = []  # with their transfer syntax, the latest first
        self._held: dict[Layout, int] = {}  # by how many places
        self._size = 0  # headers of all that are held
        self._inherited = 0  # debt of places that were forgotten
        self.fits = 0
        self.learned = 0

    @property
    def size(self) -> tuple[int, int]:
        """How many keys and how many headers are remembered."""
        return len(self._places), self._size

    def match(self, key: Key, data: Data, whole: bool) -> Match | None:
        """What the first layout that fits finds, if any."""
        place = self._places.get(key)
        if place is None:
            place = self._new_place(key)
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
        return self._match_of_others(key[0], place, data, whole)

    def _match_of_others(self, syntax: str, place: _Place, data: Data, whole: bool) -> Match | None:
        """Another sender may have the same device: what was learned from its images need not be learned again."""
        for encoded, layout in self._shared:
            match = None if encoded != syntax or layout in place.layouts else layout.match(data, whole)
            if match is not None:
                self._keep(place, layout)
                self.fits += 1
                return match
        return None

    def _keep(self, place: _Place, layout: Layout) -> None:
        """``layout`` comes first under a key, in the place of one of the same elements."""
        others = [each for each in place.layouts if each.same != layout.same]
        self._hold(place, [layout, *others[: MAX_LAYOUTS - 1]])
        place.used = True
        while self._size > MAX_ALL_HEADERS:
            self._forget_one()

    def _hold(self, place: _Place, layouts: list[Layout]) -> None:
        """These are a place's layouts now. One that many places hold is there once."""
        for each in layouts:
            self._held[each] = count = self._held.get(each, 0) + 1
            self._size += len(each.same) if count == 1 else 0
        for each in place.layouts:
            self._held[each] = count = self._held[each] - 1
            if not count:
                del self._held[each]
                self._size -= len(each.same)
        place.layouts = layouts

    def learn(self, key: Key, walk: Walk, encoding: Encoding, whole: bool) -> None:
        """See the function `learn`: of data that nothing fitted, but seldom from images that are never alike."""
        place = self._places.get(key) or self._new_place(key)
        if place.debt > _CREDIT:
            place.debt -= 1
            return
        place.debt += _LEARNING
        layout = learn(walk, encoding, whole, place.layouts)
        if layout is not None:
            self.learned += 1
            others = [each for each in self._shared if each[1].same != layout.same]
            self._shared = [(key[0], layout), *others[: MAX_SHARED - 1]]
            self._keep(place, layout)

    def _new_place(self, key: Key) -> _Place:
        """Whoever makes up keys inherits what learning for them has cost."""
        if len(self._places) >= MAX_KEYS:
            self._forget_one()
        debt = min(self._inherited, _CREDIT + _LEARNING)
        self._inherited -= debt
        place = self._places[key] = _Place(debt)
        return place

    def _forget_one(self) -> None:
        """Forget the oldest place that was of no use since the last time; new ones inherit its debt."""
        while True:
            key, place = next(iter(self._places.items()))
            del self._places[key]
            if not place.used:
                self._hold(place, [])
                self._inherited += place.debt
                return
            place.used = False
            self._places[key] = place
