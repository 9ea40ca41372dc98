"""Layouts of headers: what a header is made of, learned from one image and recognized in others.

A sender's images differ in values and in some lengths, seldom in their elements. A ``Layout`` holds every element
header of one image, nested ones too, so that ``match`` verifies those of another with a few calls into C: with one
unpacked struct for each length that varies, and, once it has proved worth the milliseconds that compiling takes, with
one regular expression in which these lengths are alternatives.

Guarantees: `match` succeeds only where a ``Walk`` over the same data would read the very same headers: each byte that
a walk looks at is compared with what it was, but for the lengths that were seen to vary; those are taken from the data,
as a walk does. What it finds is what a walk finds.
Failures: none; where nothing fits, the walk decides.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import count
from typing import Any, NamedTuple

from asyncroute.wire.elements import MAX_VALUE, Walk
from asyncroute.wire.syntax import Encoding

Data = bytes | bytearray | memoryview

ITEM = 0xFFFEE000
PROVED = 256
"""Fits without an expression before one is compiled; twice as many before the next one."""

_MAX_EXPRESSION = 512  # headers: 20 ms to compile
_MAX_LENGTHS = 24  # of one element
_MAX_ALTERNATIVES = 1024  # lengths of all elements
_MAX_IMPLICIT = 0x4140  # a longer length may read as a VR, which makes a walk doubt that VRs are implicit

# How the parts of an element's header are compared: formats of `struct`.
FIXED = {8: "Q", 12: "QI"}
VARYING = {"implicit": "II", "item": "II", 8: "IHH", 12: "QI"}  # the length comes last
LAST = {True: "I4x", False: "IH2x"}  # implicit or not: a tag behind the header, its VR; any length

_numbers = count(1)


class Header(NamedTuple):
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
    """What a layout found.

    `key`: equal for equal values; by it ``Layout.values`` finds them. `offset`: where a walk would stop; `end`: where
    the header ends.
    """

    layout: Layout
    key: tuple[bytes, ...]
    offset: int
    end: int


class Layout:
    """The headers of one image, and which of their lengths vary.

    `number` is its own; `tags` are the wanted attributes in it, `vrs` their VR numbers (explicit VR only). `same` is
    what two layouts of the same elements have in common: all of the headers but lengths. `expression` is None until it
    has proved useful.
    """

    __slots__ = (
        *("_after", "_before", "_cuts", "_ends", "_fits", "_headers", "_most", "_proof", "_seen", "_split", "encoding"),
        *("expression", "number", "same", "tags", "varying", "vrs"),
    )

    def __init__(
        self, walk: Walk, encoding: Encoding, headers: Sequence[Header], ends: bool, varying: Collection[int]
    ) -> None:
        self.number = next(_numbers)
        self.encoding = encoding
        self.tags = tuple(walk.values)
        self.vrs = dict(walk.vrs)
        self.same = tuple(header.same for header in headers)
        self.varying = sorted(varying)
        self.expression: Callable[[Data], re.Match[bytes] | None] | None = None
        self._headers = tuple(headers)
        self._ends = ends
        self._most = most_varying(encoding)
        self._split = next((n for n, each in enumerate(headers) if each.top and each.at == walk.pos), len(headers))
        self._cuts = tuple(slice(self._length_size(n), None) for n in self._wanted())
        self._before, self._after = self._segments(walk.view)
        self._seen: tuple[Counter[int], ...] = tuple(Counter() for _ in self.varying)
        self._fits, self._proof = 0, PROVED

    def _segments(self, view: memoryview) -> tuple[tuple[_Segment, ...], tuple[_Segment, ...]]:
        """Up to where a walk would stop, and behind."""
        builder = _Builder(view, self.encoding, self.tags)
        before: tuple[_Segment, ...] = ()
        for number, header in enumerate(self._headers):
            if number == self._split:
                before = builder.take()
            builder.add(header, number in self.varying, self._ends and number == len(self._headers) - 1)
        rest = builder.take()
        return (before, rest) if self._split < len(self._headers) else (rest, ())

    @property
    def lengths(self) -> tuple[int, ...]:
        """Of the values in the image from which it was learned."""
        return tuple(header.jump for header in self._headers)

    def match(self, data: Data, whole: bool) -> Match | None:
        """What is found in data of this layout; None for any other. `whole`: the data set ends with `data`."""
        if self.expression is not None and (found := self.expression(data)) is not None:
            key, end = found.groups(), found.end()
            match = Match(self, key, found.end(len(key)), end - 8 if self._ends else end)
        else:
            unpacked = self._unpack(data)
            if unpacked is None:
                return None
            match = unpacked
        return match if self._ends or (whole and match.end == len(data)) else None

    def _unpack(self, data: Data) -> Match | None:
        raw: list[bytes] = []
        lengths: list[int] = []
        try:
            offset = _follow(self._before, data, 0, self._most, raw, lengths)
            end = _follow(self._after, data, offset, self._most, raw, lengths) if offset >= 0 else -1
        except struct.error:  # the data ends within a segment
            return None
        if end < 0:
            return None
        self._prove(lengths)
        return Match(self, tuple(raw), offset, end - 8 if self._ends else end)

    def values(self, match: Match) -> tuple[bytes, ...]:
        """The raw values, in the order of `tags`."""
        key = match.key
        if len(key) == len(self.tags):
            return key
        return tuple([value[cut] for value, cut in zip(key, self._cuts, strict=False)])

    def value(self, match: Match, number: int) -> bytes:
        """One of them."""
        value = match.key[number]
        return value if len(match.key) == len(self.tags) else value[self._cuts[number]]

    def _wanted(self) -> list[int]:
        return [n for n, header in enumerate(self._headers) if header.top and header.tag in self.tags]

    def _length_size(self, number: int) -> int:
        return self._headers[number].size - len(self.same[number])

    def _prove(self, lengths: list[int]) -> None:
        """Count lengths; compile an expression from time to time, if that may help."""
        for seen, length in zip(self._seen, lengths, strict=True):
            if length in seen or len(seen) < _MAX_LENGTHS:
                seen[length] += 1
        self._fits += 1
        if self._fits >= self._proof and len(self._headers) <= _MAX_EXPRESSION:
            self._fits, self._proof = 0, 2 * self._proof
            self.expression = re.compile(self._expression(), re.DOTALL).match
            re.purge()  # else its cache keeps hundreds of them

    def _expression(self) -> bytes:
        """All headers as they were; groups are the wanted values with their lengths and, empty, where a walk stops."""
        wanted = set(self._wanted())
        seen = dict(zip(self.varying, self._seen, strict=True))
        most = max(1, _MAX_ALTERNATIVES // max(1, len(seen)))
        pieces = []
        for number, header in enumerate(self._headers):
            lengths = [n for n, _ in seen[number].most_common(most)] if number in seen else [header.jump]
            value = self._value(number, lengths)
            last = self._ends and number == len(self._headers) - 1
            pieces.append(b"()" if number == self._split else b"")
            pieces.append(literal(header.same))
            pieces.append(_any(8 - len(header.same)) if last else b"(%b)" % value if number in wanted else value)
        return b"".join(pieces) + (b"()" if self._split == len(self._headers) else b"")

    def _value(self, number: int, lengths: Sequence[int]) -> bytes:
        """A value behind its length, which may be one of several: no two of them can match at the same place."""
        size = self._length_size(number)
        order: Any = "big" if self.encoding.big else "little"
        alternatives = [literal(length.to_bytes(size, order)) + _any(length) for length in lengths]
        return alternatives[0] if len(alternatives) == 1 else b"(?:%b)" % b"|".join(alternatives)


def _follow(
    segments: tuple[_Segment, ...], data: Data, pos: int, most: int, raw: list[bytes], lengths: list[int]
) -> int:
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
            lengths.append(length)
            if wanted:
                raw.append(bytes(data[pos : pos + length]))
            pos += length
    return pos


def literal(part: bytes) -> bytes:
    """What a regular expression matches these bytes with, and nothing else."""
    return re.escape(part)


def _any(size: int) -> bytes:
    return b".{%d}" % size if size else b""


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

    def add(self, header: Header, varies: bool, last: bool) -> None:
        """The next header in order."""
        if not self._headers:
            self._start = header.at
        wanted = header.top and header.tag in self._wanted
        if last:
            self._headers.append(LAST[self._implicit])
        elif varies:
            kind = "item" if header.tag == ITEM else "implicit" if self._implicit else header.size
            self._headers.append(VARYING[kind])
            self._close(varies, wanted)
        else:
            self._add_fixed(header, wanted)

    def _add_fixed(self, header: Header, wanted: bool) -> None:
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
