"""Where the elements of headers stand that look like earlier ones: verified with a few calls into C, not walked over.

A sender's images differ in values and in some lengths, seldom in their elements. A ``Shape`` is the beginning of one
header; it fits another one if every byte of its element headers is the same, but for lengths that were seen to vary:
those are taken from the data, as a walk does. The walk goes on where the shape ends, so nothing is taken for granted.
Guarantees: memory and the work of learning are bounded. Failures: none; what fits no shape is walked over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from struct import Struct, error
from typing import Any, NamedTuple

from asyncroute.wire.elements import UNDEFINED
from asyncroute.wire.syntax import Encoding

MAX_SHAPES = 8
MAX_ELEMENTS = 1024
_LEARNING = 16  # what learning costs, in headers that fit or are passed over
_CREDIT = 8 * _LEARNING
_MOST_IMPLICIT = 0x4140  # a longer length of a first element may be a VR


class _Segment(NamedTuple):
    """Elements of fixed lengths; the last one's length varies, unless `same` is None."""

    unpack: Callable[..., tuple[Any, ...]]
    expected: tuple[Any, ...]
    same: tuple[Any, ...] | None
    starts: tuple[int, ...]
    size: int


Place = tuple[int, int]
"""A segment's number, and an offset in it."""


class Shape:
    """The first elements of one header: all up to the first one of undefined length, or to the end."""

    __slots__ = ("_segments", "heads", "lengths", "places", "tags", "varying")

    def __init__(
        self,
        view: memoryview,
        encoding: Encoding,
        tags: Sequence[int],
        heads: Sequence[bytes],
        lengths: Sequence[int],
        varying: frozenset[int],
    ) -> None:
        self.tags = tuple(tags)
        self.heads = tuple(heads)
        self.lengths = tuple(lengths)
        self.varying = varying
        self._segments = tuple(_segments(view, encoding, self.heads, self.lengths, varying))
        found = [(n, offset) for n, segment in enumerate(self._segments) for offset in segment.starts]
        self.places: tuple[Place, ...] = (*found, (len(self._segments), 0))
        """Where its elements begin, and the last one ends."""

    def match(self, view: memoryview) -> list[int] | None:
        """Where its segments begin in this header, and the last one ends; None if it is another header."""
        bases = [0]
        pos = 0
        try:
            for unpack, expected, same, _, size in self._segments:
                found = unpack(view, pos)
                if found != expected and (same is None or found[:-1] != same or found[-1] > _MOST_IMPLICIT):
                    return None
                pos += size if same is None else size + found[-1]
                bases.append(pos)
        except error:  # the data end within a segment
            return None
        return bases if pos <= len(view) else None


class Fit(NamedTuple):
    """A shape that fits a header. `bases`: where its segments begin there, and the last one ends."""

    shape: Shape
    bases: list[int]

    def starts(self) -> list[int]:
        """Where its elements begin in that header."""
        bases = self.bases
        return [bases[segment] + offset for segment, offset in self.shape.places[:-1]]


def _segments(
    view: memoryview, encoding: Encoding, heads: Sequence[bytes], lengths: Sequence[int], varying: frozenset[int]
) -> list[_Segment]:
    made: list[_Segment] = []
    sign = ">" if encoding.big else "<"
    form: list[str] = []
    starts: list[int] = []
    begin = pos = 0
    for n, (head, length) in enumerate(zip(heads, lengths, strict=True)):
        size = len(head)
        starts.append(pos - begin)
        pos += size
        if n in varying:
            short = size == 8 and not encoding.implicit
            form.append(f"{size - 2}sH" if short else f"{size - 4}sI")
        else:
            form.append(f"{size}s{length}x")
            pos += length
        if n in varying or n == len(heads) - 1:
            packed = Struct(sign + "".join(form))
            expected = packed.unpack_from(view, begin)
            same = expected[:-1] if n in varying else None
            made.append(_Segment(packed.unpack_from, expected, same, tuple(starts), packed.size))
            pos = begin = pos + (length if n in varying else 0)
            form, starts = [], []
    return made


class Shapes:
    """Those that one transform has seen, the one that fitted last first. `fits`: headers that one of them fitted."""

    __slots__ = ("_debt", "_known", "fits")

    def __init__(self) -> None:
        self._known: tuple[tuple[Encoding, Shape], ...] = ()
        self._debt = 0
        self.fits = 0

    def find(self, view: memoryview, encoding: Encoding) -> Fit | None:
        """The one that fits this header."""
        for n, (encoded, shape) in enumerate(self._known):
            bases = shape.match(view) if encoded is encoding else None
            if bases is not None:
                if n:
                    known = self._known
                    self._known = (known[n], *known[:n], *known[n + 1 :]) if n < len(known) else known
                self._debt -= self._debt > 0
                self.fits += 1
                return Fit(shape, bases)
        return None

    def learn(self, view: memoryview, encoding: Encoding, tags: Sequence[int], starts: Sequence[int]) -> None:
        """Remember a header that no shape fitted. `starts`: of its elements, and the end of the last one."""
        if self._debt > _CREDIT:
            self._debt -= 1
            return
        self._debt += _LEARNING
        heads, lengths = _heads(view, encoding, starts)
        kept = tuple(tags[: len(heads)])
        if not heads:
            return
        fixed = [_without_length(head, encoding) for head in heads]
        varying: frozenset[int] = frozenset()
        others = []
        for encoded, shape in self._known:
            same = encoded is encoding and [_without_length(head, encoding) for head in shape.heads] == fixed
            if same:
                differ = {n for n, (a, b) in enumerate(zip(shape.lengths, lengths, strict=True)) if a != b}
                varying = frozenset(n for n in differ | shape.varying if lengths[n] <= _MOST_IMPLICIT)
            else:
                others.append((encoded, shape))
        made = Shape(view, encoding, kept, heads, lengths, varying)
        self._known = ((encoding, made), *others[: MAX_SHAPES - 1])


def _heads(view: memoryview, encoding: Encoding, starts: Sequence[int]) -> tuple[list[bytes], list[int]]:
    """The headers of the first elements and the lengths of their values, up to one of undefined length."""
    heads: list[bytes] = []
    lengths: list[int] = []
    for start, end in pairwise(starts[: MAX_ELEMENTS + 1]):
        size = 8 if encoding.implicit else encoding.forms[encoding.header(view, start)[2]]
        length = encoding.length(view, start + 4)[0] if encoding.implicit else end - start - size
        if length == UNDEFINED or (size == 12 and encoding.length(view, start + 8)[0] == UNDEFINED):
            break
        heads.append(bytes(view[start : start + size]))
        lengths.append(length)
    return heads, lengths


def _without_length(head: bytes, encoding: Encoding) -> bytes:
    return head[:-2] if len(head) == 8 and not encoding.implicit else head[:-4]
