"""Transforms, ready to run: all steps of the `Coercion`s of a route, compiled once.

Guarantees: as in `base`. A compiled transform can be pickled: it is compiled again where it arrives, once for equal
ones. Headers are read up to the last element that a step may touch and no further.
Failures: `Refused`; also for headers that are too odd to edit: they are held as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from asyncroute.core.coercion import Coercion, Delete, Fact, Function, Target
from asyncroute.core.deidentification import Deidentify
from asyncroute.transform.base import Edited, Facts, Header, Refused, Tail
from asyncroute.transform.deflated import Rewriting
from asyncroute.transform.editing import Editing
from asyncroute.transform.index import END
from asyncroute.transform.level import Level
from asyncroute.transform.recall import Recall
from asyncroute.transform.record import record
from asyncroute.transform.registry import KINDS
from asyncroute.transform.shapes import Fit, Shapes
from asyncroute.transform.tail import Dropping, Drops
from asyncroute.wire.elements import Odd
from asyncroute.wire.lenient import actual_encoding
from asyncroute.wire.syntax import Encoding, syntax_of

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
        self.recall = Recall(facts_in(specs)) if not recorded and all(map(is_plain, specs)) else None
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
        syntax = syntax_of(header.transfer_syntax)
        if syntax is None:
            raise Odd(f"nobody knows how transfer syntax {header.transfer_syntax} encodes elements")
        fit = self.shapes.find(view, syntax.encoding)
        recall = self.recall if fit is not None and self.recall is not None and self.recall.worth_it() else None
        if recall is not None and fit is not None:
            known = recall.find(view, fit, header, facts)
            if known is not None:
                return known
        top = self._read(view, syntax.encoding, fit)
        editing = Editing(top, facts, header)
        for coercion, label, run in self._steps:
            editing.coercion = coercion
            editing.label = label
            run(editing)
        if self._system is not None:
            record(editing, self._system)
        made = top.made() if top.dirty else {}
        edited = Edited(
            top.encoded(made) if made else header.data,
            _uid(top, _SOP_CLASS, header.sop_class_uid),
            _uid(top, _SOP_INSTANCE, editing.sop_instance_uid),
            tuple(editing.changes),
            editing.links,
            editing.anonymous,
        )
        if recall is not None and fit is not None and top.encoding is syntax.encoding:
            recall.keep(fit, top, made, edited, facts)
        return edited

    def _read(self, view: memoryview, encoding: Encoding, fit: Fit | None) -> Level:
        try:
            top = Level(view, encoding, b"", self._last, fit=fit)
        except Odd:
            actual = actual_encoding(view, encoding)
            if actual is encoding:
                raise
            return Level(view, actual, b"", self._last)
        if fit is None:
            self.shapes.learn(view, encoding, *top.index)
        return top

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


def is_plain(spec: object) -> bool:
    """Whether what a step does follows from some elements' bytes and facts, none of them in a sequence or private."""
    return not is_deep(spec) and all(len(each.path) == 1 and not each.path[0].creator for each in _targets(spec))


def facts_in(specs: Iterable[object]) -> tuple[str, ...]:
    """Which facts steps name."""
    return tuple(dict.fromkeys(each.name for spec in specs for each in _named(spec) if isinstance(each, Fact)))


def _targets(spec: object) -> Iterator[Target]:
    return (each for each in _named(spec) if isinstance(each, Target))


def _named(spec: Any) -> Iterator[object]:
    """All attributes and facts that a step has to do with, and texts."""
    for each in fields(spec):
        value = getattr(spec, each.name)
        for piece in value if isinstance(value, tuple) and not isinstance(value, Target | Fact) else (value,):
            yield piece.of if isinstance(piece, Function) else piece
