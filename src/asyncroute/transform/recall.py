"""What a transform made of one header, made again of others in which all that it looked at is the same.

Most images of a series have the same patient, accession number and institution, so the same edits follow. What steps
look at is learned while they run, for each shape of headers: where these elements have the same bytes, and the facts
that templates name are the same, the new elements are put in without running a step.
Guarantees: the result is what the steps would make. Memory is bounded (``MOST`` answers of ``LONGEST`` bytes for a
shape), and so is the work of learning where nothing ever comes again.
Failures: none; what is not known is None. May be used by several threads at once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, NamedTuple

from asyncroute.transform.base import Change, Edited, Facts, Header
from asyncroute.transform.level import Level
from asyncroute.transform.shapes import MAX_SHAPES, Fit, Place, Shape

MOST = 64
LONGEST = 2048
MOST_CHANGES = 20
_LEARNING = 8  # what an answer that is not known costs, in those that are
_CREDIT = 32 * _LEARNING
_NEXT = 6  # bytes of an element's tag and VR: where they are the same, a walk ends there, too
_HEADER = 8
_SOP_CLASS = 0x00080016
_SOP_INSTANCE = 0x00080018

_Range = tuple[int, int, int, int]
"""From one place to another: segment and offset, twice."""


class _Answer(NamedTuple):
    """`edits`: what comes in place of what. A UID of None: the header's own."""

    edits: tuple[tuple[int, int, int, int, bytes], ...]
    sop_class_uid: str | None
    sop_instance_uid: str | None
    changes: tuple[Change, ...]


class _Known:
    """Answers for one shape, by the bytes of the elements `tags`, by what comes behind the shape, and by facts."""

    __slots__ = ("answers", "ranges", "tags")

    def __init__(self, shape: Shape, tags: frozenset[int]) -> None:
        self.tags = tags
        self.ranges: list[_Range] = []
        self.answers: dict[object, _Answer] = {}
        for number, tag in enumerate(shape.tags):
            if tag in tags:
                start, end = shape.places[number], shape.places[number + 1]
                if self.ranges and self.ranges[-1][2:] == start:
                    start = self.ranges.pop()[:2]
                self.ranges.append((*start, *end))
        self.ranges.append((*shape.places[-1], shape.places[-1][0], _NEXT))


class Recall:
    """See module; of one transform. `facts`: what its templates name. `hits`: how many headers were known."""

    __slots__ = ("_debt", "_facts", "_known", "hits")

    def __init__(self, facts: tuple[str, ...]) -> None:
        self._facts: Callable[[Facts], Any] | None = attrgetter(*facts) if facts else None
        self._known: dict[Shape, _Known] = {}
        self._debt = 0
        self.hits = 0

    def worth_it(self) -> bool:
        """Whether to ask for the next header; not always where little was known lately."""
        if self._debt > _CREDIT:
            self._debt -= 1
            return False
        return True

    def find(self, view: memoryview, fit: Fit, header: Header, facts: Facts) -> Edited | None:
        """What is made of this header."""
        known = self._known.get(fit.shape)
        answer = known.answers.get(self._key(view, fit, known, facts)) if known is not None else None
        if answer is None or 0 < len(view) - fit.bases[-1] < _HEADER:
            return None
        self.hits += 1
        self._debt -= self._debt > 0
        edits, sop_class_uid, sop_instance_uid, changes = answer
        return Edited(
            _spliced(view, fit.bases, edits) if edits else header.data,
            header.sop_class_uid if sop_class_uid is None else sop_class_uid,
            header.sop_instance_uid if sop_instance_uid is None else sop_instance_uid,
            changes,
        )

    def keep(self, fit: Fit, top: Level, made: Mapping[int, bytes], edited: Edited, facts: Facts) -> None:
        """The steps have made `edited` of the header `top`, which `fit` fits: elements `made`."""
        self._debt += _LEARNING
        if len(top.index[0]) != len(fit.shape.tags) or len(edited.changes) > MOST_CHANGES:
            return
        known = self._of(fit.shape, {*top.looked_at, *made})
        key = self._key(top.view, fit, known, facts)
        edits = tuple((*_range(fit.shape, tag), new) for tag, new in sorted(made.items()))
        if _size(key) + sum(map(len, made.values())) > LONGEST:
            return
        if len(known.answers) >= MOST:
            known.answers = {}
        known.answers[key] = _Answer(
            edits,
            edited.sop_class_uid if top.edits.get(_SOP_CLASS) else None,
            edited.sop_instance_uid if top.edits.get(_SOP_INSTANCE) else None,
            edited.changes,
        )

    def _of(self, shape: Shape, tags: Iterable[int]) -> _Known:
        """Where answers are kept that depend on these elements; those kept so far are given up if more matter."""
        known = self._known.get(shape)
        if known is None or not known.tags.issuperset(tags):
            if known is None and len(self._known) >= 2 * MAX_SHAPES:
                self._known = {}
            known = self._known[shape] = _Known(shape, frozenset(tags) | (known.tags if known else frozenset()))
        return known

    def _key(self, view: memoryview, fit: Fit, known: _Known, facts: Facts) -> object:
        bases = fit.bases
        raw = b"".join([view[bases[a] + b : bases[c] + d] for a, b, c, d in known.ranges])
        return raw if self._facts is None else (raw, self._facts(facts))


def _size(key: object) -> int:
    return len(key) if isinstance(key, bytes) else sum(map(_size, key)) if isinstance(key, tuple) else len(str(key))


def _range(shape: Shape, tag: int) -> _Range:
    """Where an element is, or would be."""
    number = bisect_left(shape.tags, tag)
    there = number < len(shape.tags) and shape.tags[number] == tag
    start: Place = shape.places[number]
    return (*start, *(shape.places[number + 1] if there else start))


def _spliced(view: memoryview, bases: list[int], edits: Iterable[tuple[int, int, int, int, bytes]]) -> bytes:
    pieces: list[bytes | memoryview] = []
    pos = 0
    for a, b, c, d, new in edits:
        pieces.append(view[pos : bases[a] + b])
        pieces.append(new)
        pos = bases[c] + d
    pieces.append(view[pos:])
    return b"".join(pieces)
