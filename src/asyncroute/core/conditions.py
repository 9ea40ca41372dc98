"""Conditions: what `match` and `unless` ask of one image, and how that is decided.

Purpose: the configuration compiles its tables to the `Term`s used here; `compile_term` makes functions of them.
Guarantees: pure and deterministic: what a term says depends on the source, attributes and time that it is given.
Failures: none while deciding; a bad pattern raises ValueError when a term is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from asyncroute.core.hours import Hours
from asyncroute.core.model import Source
from asyncroute.core.paths import Key, Path
from asyncroute.core.patterns import Pattern, Test, compile_patterns

FACTS = ("calling_aet", "called_aet", "listener", "peer", "watch")
"""What is known of an image's source, in the words of `match`."""

Attributes = Mapping[Any, tuple[str, ...]]
"""Attribute values by tag (0xggggeeee) or path: decoded, without padding, one string per value.

An attribute that is not in the image has no values; one that is there without a value has one that is empty.
"""

Holds = Callable[[Source, Attributes, float], object]
"""Whether something holds for an image from this source, with these attributes, at this time (seconds since epoch)."""

Values = Callable[[tuple[str, ...]], object]
"""Whether a condition holds for an attribute (or a fact) of these values."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One key of `match` or `unless`: it holds if any of `patterns` matches any value.

    `key` is one of `FACTS`, or an attribute's tag or path. An attribute that is absent, or has only empty values, is
    matched by ``Glob("")`` and ``Presence`` and by nothing else (not by ``*``, so that ``*`` means "has a value").
    `name` and `wanted` are the key and the value as written, for people.
    """

    key: str | Key
    patterns: tuple[Pattern, ...]
    name: str = field(default="", compare=False)
    wanted: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class During:
    """It is now within `hours`; `wanted` is as written."""

    hours: Hours
    wanted: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Either:
    """Any of these tables holds as a whole."""

    tables: tuple[tuple[Term, ...], ...]


@dataclass(frozen=True, slots=True)
class Not:
    """These do not hold all together."""

    table: tuple[Term, ...]


Term = Condition | During | Either | Not


def conditions_in(terms: Iterable[Term]) -> Iterator[Condition | During]:
    """Every single condition in them, however deep."""
    for term in terms:
        if isinstance(term, Either):
            for table in term.tables:
                yield from conditions_in(table)
        elif isinstance(term, Not):
            yield from conditions_in(term.table)
        else:
            yield term


def paths_in(terms: Iterable[Term]) -> set[Path]:
    """The attributes that take more than a scan of the top level."""
    return {each.key for each in conditions_in(terms) if isinstance(each, Condition) and isinstance(each.key, tuple)}


# --- Compiling -------------------------------------------------------------------------------------------------------


def compile_values(patterns: tuple[Pattern, ...]) -> Values:
    """What a condition asks of the values of its attribute."""
    test, empty, there, absent, together = compile_patterns(patterns)

    def holds(values: tuple[str, ...]) -> object:
        if not values:
            return absent
        if there:
            return True
        if len(values) == 1:
            return test(values[0]) if values[0] else empty
        found = _any_filled(test, values, empty)
        return found if found or together is None else together("\\".join(values))

    return holds


def _any_filled(test: Test, values: tuple[str, ...], empty: bool) -> object:
    filled = [value for value in values if value]
    return any(test(value) for value in filled) if filled else empty


def compile_term(term: Term) -> Holds:
    """One function for it."""
    if isinstance(term, Condition):
        return _compile_condition(term)
    if isinstance(term, During):
        return _compile_hours(term.hours)
    if isinstance(term, Not):
        inner = compile_terms(term.table)
        return lambda source, attributes, at: not inner(source, attributes, at)
    tables = [compile_terms(table) for table in term.tables]
    return lambda source, attributes, at: any(holds(source, attributes, at) for holds in tables)


def compile_terms(terms: Iterable[Term]) -> Holds:
    """One function for "all of these hold"; what needs a closer look at the header comes last."""
    compiled = tuple(compile_term(term) for term in sorted(terms, key=lambda term: bool(paths_in([term]))))
    if len(compiled) == 1:
        return compiled[0]

    def holds(source: Source, attributes: Attributes, at: float) -> object:
        for each in compiled:  # noqa: SIM110 - a plain loop: half the cost of all() with a generator
            if not each(source, attributes, at):
                return False
        return True

    return holds


def _compile_condition(condition: Condition) -> Holds:
    values_hold, key = compile_values(condition.patterns), condition.key
    if isinstance(key, str):
        get = fact(key)
        return lambda source, attributes, at: values_hold(get(source))
    return lambda source, attributes, at: values_hold(values_of(attributes, key))


def values_of(attributes: Attributes, key: Key) -> tuple[str, ...]:
    """Its values; who hands over a mapping may find them only now (``__missing__``)."""
    try:
        return attributes[key]
    except KeyError:
        return ()


def fact(name: str) -> Callable[[Source], tuple[str]]:
    """Reads one of `FACTS`, as the values of an attribute are.

    Raises:
        ValueError: it is none.
    """
    if name not in FACTS:
        raise ValueError(f"not a fact of an image's source: {name}")
    get = attrgetter(name)
    return lambda source: (get(source),)


def _compile_hours(hours: Hours) -> Holds:
    """Remembers until when its answer holds."""
    known = (0.0, 0.0, False)

    def holds(source: Source, attributes: Attributes, at: float) -> object:
        nonlocal known
        since, until, open_ = known
        if not since <= at < until:
            open_, until = hours.at(at)
            known = (at, until, open_)
        return open_

    return holds
