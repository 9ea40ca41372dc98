"""Transforms, ready to run: all steps of the `Coercion`s of a route, compiled once.

Guarantees: as in `base`. A compiled transform can be pickled: it is compiled again where it arrives, once for equal
ones. Headers are read up to the last element that a step may touch and no further.
Failures: `Refused`; also for headers that are too odd to edit: they are held as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from asyncroute.core.coercion import Coercion, Delete, Fact, Function, Target
from asyncroute.core.deidentification import Deidentify
from asyncroute.transform.base import Edited, Facts, Header, Refused, Tail
from asyncroute.transform.deflated import Rewriting
from asyncroute.transform.editing import Editing
from asyncroute.transform.index import END
from asyncroute.transform.level import Level
from asyncroute.transform.record import record
from asyncroute.transform.registry import KINDS
from asyncroute.transform.shapes import Shapes
from asyncroute.transform.tail import Dropping, Drops
from asyncroute.wire.elements import Odd
from asyncroute.wire.lenient import actual_encoding
from asyncroute.wire.syntax import syntax_of

_SOP_CLASS = 0x00080016
_SOP_INSTANCE = 0x00080018
_PIXEL_REPRESENTATION = 0x00280103


class _Step(NamedTuple):
    coercion: Coercion
    label: str
    run: Callable[[Editing], None]


class Compiled:
    """A ``Transform``. `coercions`: what it was made of."""

    def __init__(self, coercions: Sequence[Coercion]) -> None:
        self.coercions = tuple(coercions)
        self.name = " + ".join(each.name for each in self.coercions)
        pairs = [(each, number, spec) for each in self.coercions for number, spec in enumerate(each.steps)]
        self._steps = tuple(
            _Step(each, f"{each.name}, step {number + 1} ({each.words[number]})", KINDS[type(spec)].make(spec))
            for each, number, spec in pairs
        )
        specs = [spec for _, _, spec in pairs]
        self.quick = not any(is_deep(spec) for spec in specs)
        recorded = END if any(each.record for each in self.coercions) else 0
        self._last = max((reach(spec) for spec in specs), default=0)
        self._last = max(self._last, recorded)
        self._drops = tuple(drops for spec in specs if (drops := _drops(spec)) is not None)
        self.shapes = Shapes()
        anonymous = any(isinstance(spec, Deidentify) for spec in specs)  # then nothing of what was may be recorded
        self._system = None if anonymous else next((each.system for each in self.coercions if each.record), None)

    def __reduce__(self) -> tuple[Any, ...]:
        return compiled, (self.coercions,)

    def apply(self, header: Header, facts: Facts) -> Edited:
        """See ``Transform.apply``."""
        try:
            with memoryview(header.data) as view:
                return self._apply(view, header, facts)
        except Odd as odd:
            raise Refused(f"{self.name}: the header cannot be edited for sure: {odd.reason}") from None

    def _apply(self, view: memoryview, header: Header, facts: Facts) -> Edited:
        top = self._read(view, header.transfer_syntax)
        editing = Editing(top, facts, header)
        for coercion, label, run in self._steps:
            editing.coercion = coercion
            editing.label = label
            run(editing)
        if self._system is not None:
            record(editing, self._system)
        if not top.dirty:
            return Edited(header.data, header.sop_class_uid, header.sop_instance_uid, tuple(editing.changes))
        data = top.encoded()
        return Edited(
            data,
            _uid(top, _SOP_CLASS, header.sop_class_uid),
            _uid(top, _SOP_INSTANCE, editing.sop_instance_uid),
            tuple(editing.changes),
            editing.links,
            editing.anonymous,
        )

    def _read(self, view: memoryview, transfer_syntax: str) -> Level:
        syntax = syntax_of(transfer_syntax)
        if syntax is None:
            raise Odd(f"nobody knows how transfer syntax {transfer_syntax} encodes elements")
        try:
            return Level(view, syntax.encoding, b"", self._last, shapes=self.shapes)
        except Odd:
            actual = actual_encoding(view, syntax.encoding)
            if actual is syntax.encoding:
                raise
            return Level(view, actual, b"", self._last)

    @property
    def edits_tail(self) -> bool:
        """See ``Transform.edits_tail``."""
        return bool(self._drops)

    def tail(self, header: Header) -> Tail:
        """See ``Transform.tail``."""
        syntax = syntax_of(header.transfer_syntax)
        if syntax is None:
            raise Refused(f"{self.name}: nobody knows how transfer syntax {header.transfer_syntax} encodes elements")
        with memoryview(header.data) as view:
            encoding = actual_encoding(view, syntax.encoding) if view else syntax.encoding
        return Dropping(self.name, encoding, self._drops)

    def deflated(self, header: Header, edited: Edited) -> Tail:
        """See ``Transform.deflated``."""
        rest = self.tail(header) if self._drops else None
        return Rewriting(self.name, header.data, edited.data, rest)


_known: dict[tuple[Coercion, ...], Compiled] = {}
_MOST_KNOWN = 64


def compiled(coercions: tuple[Coercion, ...]) -> Compiled:
    """The transform that these make; equal ones are compiled once in a process."""
    found = _known.get(coercions)
    if found is None or found.coercions != coercions:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        found = _known[coercions] = Compiled(coercions)
    return found


def _uid(top: Level, tag: int, before: str) -> str:
    entry = top.get(tag) if tag in top.edits else None
    return entry.value.decode("latin-1").strip(" \0") if entry else before


def _drops(spec: object) -> Drops | None:
    kind = KINDS[type(spec)]
    return kind.drops(spec) if kind.drops is not None else None


def is_deep(spec: object) -> bool:
    """Whether a step looks at more than a few elements."""
    private = isinstance(spec, Delete) and spec.private
    return KINDS[type(spec)].deep or bool(getattr(spec, "everywhere", False)) or private


def reach(spec: object) -> int:
    """The greatest top-level tag that a step may look at."""
    if is_deep(spec):
        return END
    targets = list(_targets(spec))
    tags = [each.path[0].tag | (0xFFFF if each.path[0].creator else 0) for each in targets]
    if isinstance(spec, Delete) and spec.group is not None:
        tags.append(spec.group << 16 | 0xFFFF)
    if any(" or " in each.vr for each in targets):
        tags.append(_PIXEL_REPRESENTATION)  # says which of the two it is
    return min(END, max(tags, default=0))


def _targets(spec: Any) -> Iterator[Target]:
    for each in fields(spec):
        value = getattr(spec, each.name)
        for piece in value if isinstance(value, tuple) and not isinstance(value, Target | Fact) else (value,):
            of = piece.of if isinstance(piece, Function) else piece
            if isinstance(of, Target):
                yield of
