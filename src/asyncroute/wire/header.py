"""Scan of the beginning of a data set for a few top-level attributes: routing needs a dozen, at once, of every image.

Guarantees: reads every encoding of PS3.5 §7 and annex A (implicit, explicit, big endian, deflated, encapsulated);
stops at the last wanted tag or the pixel data; copies only wanted values; never raises on data; time and memory are
bounded whatever a peer sends. What is plainly encoded is read as pydicom reads it; what is not is read by pydicom's
element reader (`Scan.fallback` says why). What cannot be read for sure is not guessed: `Scan.odd` says why, and holds
only what stands before the odd place. With `alike`, headers that look like earlier ones are recognized (`layouts`),
with the same result for a tenth of the cost.
Not noticed: anything behind the last wanted tag.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterable, Mapping
from itertools import count
from typing import NamedTuple

from asyncroute.wire.elements import PIXELS, Odd, Walk, tag_text
from asyncroute.wire.layout import Match
from asyncroute.wire.layouts import Key, Layouts
from asyncroute.wire.lenient import WINDOW, actual_encoding, read_leniently
from asyncroute.wire.scan import PIXEL_REPRESENTATION, SPECIFIC_CHARACTER_SET, Following, Scan, creator_tag
from asyncroute.wire.syntax import EXPLICIT_LE, Encoding, syntax_of
from asyncroute.wire.values import dictionary_vr

Data = bytes | bytearray | memoryview

_INFLATE_FIRST = 1 << 15  # bytes of inflated header that are made at first
_INFLATE_MOST = 1 << 20
_DEFLATED_PIECE = 1 << 14

_SHARED = 512  # contents that are remembered with their texts
_SHARED_BYTES = 512  # of the values of one

_SENDERS = 256  # of whose images one is remembered
_FEW = 8  # attributes that may differ from those of this one

_tokens = count(1)


class _Example(NamedTuple):
    """One image of a sender. `places`: where in the key the image before differed from the one before that; `changed`:
    which attributes these are, and `numbers` them by tag, empty if too much depends on them.
    """

    key: tuple[bytes, ...]
    scan: Scan
    places: tuple[int, ...]
    changed: tuple[int, ...]
    numbers: Mapping[int, int]


class HeaderScanner:
    """Scans data sets for the same attributes again and again.

    `wanted`: tags as numbers, (gggg << 16) + eeee. Attributes from group 7FE0 on are never found. Specific Character
    Set is always looked for, and what else the wanted ones need (private creators, Pixel Representation).
    """

    __slots__ = ("_context", "_examples", "_last", "_shared", "_wanted", "layouts")

    def __init__(self, wanted: Iterable[int]) -> None:
        tags = {SPECIFIC_CHARACTER_SET, *wanted}
        creators = {creator_tag(tag) for tag in tags if tag >> 16 & 1 and tag & 0xFFFF > 0xFF}
        self._context = frozenset({SPECIFIC_CHARACTER_SET, PIXEL_REPRESENTATION, *creators})
        tags |= creators
        if any(dictionary_vr(tag, "") == "US or SS" for tag in tags):
            tags.add(PIXEL_REPRESENTATION)
        self._wanted = frozenset(tag for tag in tags if tag < PIXELS)
        self._last = max(self._wanted)
        self.layouts = Layouts()
        self._shared: dict[tuple[int, tuple[bytes, ...]], Scan] = {}
        self._examples: dict[tuple[int, Hashable], _Example] = {}

    @property
    def wanted(self) -> frozenset[int]:
        """All tags that are looked for."""
        return self._wanted

    def scan(self, data: Data, transfer_syntax: str, complete: bool, alike: Hashable = None) -> Scan | None:
        """Scan `data`, the beginning of a data set (no File Meta Information); `complete`: it is all of it.

        Returns None if more of it is needed, which cannot be if it is complete. Every call begins anew: with data that
        arrives in pieces, wait for twice as much before the next call. `alike`: what images whose headers probably look
        alike have in common, such as their sender: the same result sooner; from one thread only. Never raises on data.
        """
        syntax = syntax_of(transfer_syntax)
        if syntax is None:
            return Scan({}, {}, None, 0)
        key = None if alike is None or syntax.deflated else (transfer_syntax, alike)
        if key is not None and (match := self.layouts.match(key, data, complete)) is not None:
            return self._recognized(match, alike)
        with memoryview(data) as view:
            if syntax.deflated:
                return self._scan_deflated(view, complete)
            return self._scan(view, syntax.encoding, whole=complete, final=complete, key=key)

    def _recognized(self, match: Match, alike: Hashable) -> Scan:
        """The scan that a walk would have given, with the texts of an earlier one of the same values."""
        twin = self._shared.get((match.layout.number, match.key))
        if twin is None:
            return self._following(match, alike)
        scan = Scan(twin.values, twin.vrs, twin.encoding, match.offset)
        scan.token, scan._texts, scan._codecs, scan.end = twin.token, twin._texts, twin._codecs, match.end
        return scan

    def _following(self, match: Match, alike: Hashable) -> Scan:
        """Of what differs from the sender's example just where the image before did; else the next example."""
        layout, key = match.layout, match.key
        example = self._examples.get((layout.number, alike))
        places: tuple[int, ...] = ()
        if example is not None and len(example.key) == len(key):
            places = tuple([n for n, (a, b) in enumerate(zip(key, example.key, strict=True)) if a != b])
            if places == example.places and example.changed:
                return Following(example.scan, match, example.changed, example.numbers)
        scan = Scan(
            dict(zip(layout.tags, layout.values(match), strict=True)), layout.vrs, layout.encoding, match.offset
        )
        scan.end = match.end
        if sum(map(len, key)) <= _SHARED_BYTES:
            self._remember(scan, match, alike, places)
        return scan

    def _remember(self, scan: Scan, match: Match, alike: Hashable, places: tuple[int, ...]) -> None:
        layout, key = match.layout, match.key
        if len(self._shared) >= _SHARED:
            self._shared.clear()
        if len(self._examples) >= _SENDERS:
            self._examples.clear()
        scan.token = next(_tokens)
        numbers = {layout.tags[n]: n for n in places}
        if len(numbers) > _FEW or not self._context.isdisjoint(numbers):
            numbers = {}
        self._shared[layout.number, key] = scan
        self._examples[layout.number, alike] = _Example(key, scan, places, tuple(numbers), numbers)

    def _scan(
        self, view: memoryview, encoding: Encoding, *, whole: bool, final: bool, key: Key | None = None
    ) -> Scan | None:
        """`whole`: the data set ends with `view`; `final`: there will not be more of it in any case."""
        limit = len(view)
        walk = Walk(view, limit, self._wanted, self._last, 0, -1)
        try:
            over = walk.run(encoding)
        except Odd as odd:
            return self._scan_odd(walk, encoding, odd, whole=whole, final=final)
        if not (over or (whole and walk.pos == limit)):
            if not final:
                return None
            return self._scan_odd(walk, encoding, Odd(f"the data ends inside {_place(walk)}"), whole=whole, final=final)
        scan = Scan(walk.values, walk.vrs, encoding, walk.pos)
        scan.odd = walk.note
        if key is not None and not walk.note:
            self.layouts.learn(key, walk, encoding, whole)
        return scan

    def _scan_odd(self, walk: Walk, encoding: Encoding, odd: Odd, *, whole: bool, final: bool) -> Scan | None:
        reason = odd.reason
        if not odd.final:
            if not final and walk.limit < WINDOW:
                return None  # what pydicom makes of a part is not to be trusted
            limit = min(walk.limit, WINDOW)
            again = Walk(walk.view, limit, self._wanted, self._last, 0, -1)
            try:
                actual = read_leniently(again, encoding, whole and limit == walk.limit)
            except Odd as second:
                reason = f"{reason}; {second.reason}"
            else:
                scan = Scan(again.values, again.vrs, actual, again.pos)
                scan.odd, scan.fallback = again.note, reason
                return scan
        scan = Scan(walk.values, walk.vrs, encoding, walk.pos)
        scan.odd = reason
        return scan

    def _scan_deflated(self, view: memoryview, complete: bool) -> Scan | None:
        """First with little output, which nearly always does; then with as much as is ever made."""
        scan, more = self._scan_inflated(view, complete, _INFLATE_FIRST, most=False)
        if more and (scan is None or scan.odd):
            scan, _ = self._scan_inflated(view, complete, _INFLATE_MOST, most=True)
        return scan

    def _scan_inflated(self, view: memoryview, complete: bool, cap: int, most: bool) -> tuple[Scan | None, bool]:
        """The scan of `cap` bytes of inflated data, and whether it could be had of more."""
        inflated, ended, error = _inflate(view, cap)
        full = len(inflated) >= cap
        final = ended or complete or bool(error) or (full and most)
        with memoryview(inflated) as plain:
            scan = self._scan(plain, EXPLICIT_LE, whole=ended, final=final)
        if scan and scan.odd and not ended:
            scan.odd += f" ({error or f'in the first {len(inflated)} bytes inflated'})"
        return scan, full


def header_end(data: Data, transfer_syntax: str, complete: bool = False, start: int = 0) -> int | None:
    """The offset of the first top-level element of group 7FE0 or above: pixel data, signatures, padding.

    `complete`: `data` is the whole data set; one without such elements then ends at its own length. `start`: the
    `offset` of an earlier scan of the same data, to go on from there. None if the place is not within the data, or
    cannot be told: deflated data, a private transfer syntax, elements out of order or otherwise odd. Never raises.
    """
    syntax = syntax_of(transfer_syntax)
    if syntax is None or syntax.deflated:
        return None
    with memoryview(data) as view:
        walk = Walk(view, len(view), frozenset(), PIXELS - 1, start, 0 if start else -1)
        try:
            over = walk.run(actual_encoding(view, syntax.encoding))
        except Odd:
            return None
        return walk.pos if over or (complete and walk.pos == len(view)) else None


def inflate_header(data: Data, complete: bool) -> tuple[bytes, bool]:
    """As much of a deflated data set as is ever looked at, and whether it ends there; `complete`: `data` is all of it.

    What is no deflated data ends where it is wrong.
    """
    with memoryview(data) as view:
        inflated, ended, error = _inflate(view, _INFLATE_MOST)
    return inflated, ended or complete or bool(error) or len(inflated) >= _INFLATE_MOST


def _inflate(view: memoryview, cap: int) -> tuple[bytes, bool, str]:
    """At most `cap` bytes of a raw deflate stream (RFC 1951), whether it ended, and what is wrong with it, if so."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    pieces: list[bytes] = []
    room = cap
    for start in range(0, len(view), _DEFLATED_PIECE):
        try:
            piece = inflater.decompress(view[start : start + _DEFLATED_PIECE], room)
        except zlib.error as error:
            return b"".join(pieces), False, f"not deflated data: {error}"
        pieces.append(piece)
        room -= len(piece)
        if inflater.eof or room <= 0:
            break
    return b"".join(pieces), inflater.eof, ""


def _place(walk: Walk) -> str:
    """The element in which a walk met the end of the data."""
    if walk.pos > walk.limit:
        return tag_text(walk.prev)
    return "the first element" if walk.prev < 0 else f"the element after {tag_text(walk.prev)}"
