"""Which destinations an image goes to: routes, their conditions, and the table that decides.

Purpose: `RouteTable.decide` turns where an image came from and a few of its attributes into (route, destination)
pairs.
Guarantees: pure and deterministic; everything is compiled when the table is made. However many routes there are, what
is asked of one attribute is asked once for each value of it, and remembered as one bit for each route, so that a
decision costs a look-up for each attribute. Conditions that a bit cannot say (`any`, `not`, `unless` of several, the
time, attributes inside sequences) are asked of the routes that are left, those inside sequences last.
Failures: none while deciding; a bad regular expression or network raises ValueError (re.error) when the table is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from asyncroute.core.conditions import (
    Attributes,
    Condition,
    During,
    Holds,
    Not,
    Term,
    Values,
    compile_terms,
    compile_values,
    conditions_in,
    fact,
    paths_in,
    values_of,
)
from asyncroute.core.model import RouteHit, Source, Wait
from asyncroute.core.patterns import Glob, Pattern
from asyncroute.core.priority import NORMAL

_KNOWN_COMBINATIONS = 4096
_KNOWN_VALUES = 512
"""Values of one attribute that are remembered; of sources as many."""

_KNOWN_RESTS = 16
"""What is left of the routes of one image's attributes: by sources, and by the attributes that change."""

_KNOWN_LENGTH = 256
"""Characters of values that are remembered, at most."""

_NOWHERE = Source("", "", "", "")


@dataclass(frozen=True, slots=True)
class Rule:
    """One route: all of `match` must hold, and `unless` must be empty or not hold as a whole.

    `priority` is one of ``core.priority``.
    """

    name: str
    destinations: tuple[str, ...]
    match: tuple[Term, ...] = ()
    unless: tuple[Term, ...] = ()
    final: bool = False
    priority: int = NORMAL
    wait: Wait | None = None

    @property
    def terms(self) -> tuple[Term, ...]:
        """All that it asks."""
        return self.match + self.unless


_Mask = Callable[[tuple[str, ...]], int]
"""By the values of an attribute, the routes that may apply, a bit each."""


class _Column:
    """What all routes ask of one attribute, or of one fact. ``routes``: which do, a bit each."""

    def __init__(self, every: int) -> None:
        self.routes = 0
        self._all = every
        self._tests: dict[tuple[tuple[Pattern, ...], bool], int] = {}

    def add(self, condition: Condition, bit: int, holds: bool) -> None:
        """A route applies only if ``condition`` holds, or only if it does not."""
        key = (condition.patterns, holds)
        self._tests[key] = self._tests.get(key, 0) | bit
        self.routes |= bit

    def compiled(self) -> _Mask:
        """Remembers what it said of values."""
        every = self._all
        known: dict[tuple[str, ...], int] = {}
        texts, others = _Texts(), list[tuple[Values, int]]()
        tests = []
        for n, ((patterns, holds), routes) in enumerate(self._tests.items()):
            tests.append((1 << n, holds, ~routes))
            if not texts.add(patterns, 1 << n):
                others.append((compile_values(patterns), 1 << n))

        def mask(values: tuple[str, ...]) -> int:
            found = known.get(values)
            if found is None:
                holding = texts.holding(values)
                for test, bit in others:
                    if test(values):
                        holding |= bit
                found = every
                for bit, holds, but in tests:
                    if (holding & bit != 0) is not holds:
                        found &= but
                if sum(map(len, values)) <= _KNOWN_LENGTH:
                    if len(known) >= _KNOWN_VALUES:
                        known.clear()
                    known[values] = found
            return found

        return mask


class _Texts:
    """Conditions that are texts, or beginnings of texts: all looked up at once, a bit each."""

    def __init__(self) -> None:
        self._exact: dict[str, int] = {}
        self._beginnings: dict[int, dict[str, int]] = {}

    def add(self, patterns: tuple[Pattern, ...], bit: int) -> bool:
        """False: these are others as well."""
        texts = [each.text for each in patterns if isinstance(each, Glob)]
        if len(texts) < len(patterns) or not all(text and not set("*?[") & set(text[:-1]) for text in texts):
            return False
        if any(text[-1] in "?[" or "\\" in text for text in texts):
            return False
        for text in texts:
            if text.endswith("*"):
                known = self._beginnings.setdefault(len(text) - 1, {})
                known[text[:-1]] = known.get(text[:-1], 0) | bit
            else:
                self._exact[text] = self._exact.get(text, 0) | bit
        return True

    def holding(self, values: tuple[str, ...]) -> int:
        """Those that hold for any of the values."""
        found = 0
        for value in values:
            if value:
                found |= self._exact.get(value, 0)
                for length, known in self._beginnings.items():
                    found |= known.get(value[:length], 0)
        return found


class Said:
    """What routes said to attributes of one image, for others that are like it in all or in most of them."""

    __slots__ = ("of", "rest")

    def __init__(self) -> None:
        self.of: dict[int, int] = {}
        """By tag, as far as they were asked."""
        self.rest: dict[tuple[Source, tuple[int, ...]], int] = {}
        """Which are left when all attributes but these have been looked at, by source."""


class RouteTable:
    """All routes in order, compiled. For one thread.

    `tags` and `paths` are the attributes that decisions depend on: whoever reads headers needs to look for no others.
    `waits`: whether images of any route wait for a completion.
    """

    __slots__ = (
        *("_all", "_closer", "_columns", "_facts", "_final", "_hits", "_known", "_sources", "_timed"),
        *("_unconditional", "paths", "rules", "tags", "waits"),
    )

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = kept = tuple(rules)
        terms = [term for rule in kept for term in rule.terms]
        singles = list(conditions_in(terms))
        self.tags = frozenset(each.key for each in singles if isinstance(each, Condition) and isinstance(each.key, int))
        self.paths = frozenset(paths_in(terms))
        self.waits = any(rule.wait for rule in kept)
        self._hits = tuple(
            tuple(RouteHit(rule.name, name, rule.priority, rule.wait) for name in rule.destinations) for rule in kept
        )
        self._all = (1 << len(kept)) - 1
        self._final = sum(1 << n for n, rule in enumerate(kept) if rule.final)
        self._timed = tuple(each.hours for each in singles if isinstance(each, During))
        self._compile(kept)
        self._sources: dict[Source, int] = {}
        self._known: dict[int, tuple[RouteHit, ...]] = {}
        self._unconditional = None if terms else self._combine(self._cut(self._all))

    def _compile(self, rules: tuple[Rule, ...]) -> None:
        columns: dict[str | int, _Column] = {}
        closer: list[tuple[int, Holds]] = []
        for n, rule in enumerate(rules):
            rest = [term for term in rule.match if not _add(columns, term, 1 << n, True, self._all)]
            if rule.unless and not (len(rule.unless) == 1 and _add(columns, rule.unless[0], 1 << n, False, self._all)):
                rest.append(Not(rule.unless))
            if rest:
                closer.append((1 << n, compile_terms(rest)))
        self._closer = tuple(closer)
        self._facts = tuple((fact(key), each.compiled()) for key, each in columns.items() if isinstance(key, str))
        self._columns = {key: (each.routes, each.compiled()) for key, each in columns.items() if isinstance(key, int)}

    def period(self, at: float) -> tuple[bool, ...]:
        """Which times that routes ask for it is at ``at``: decisions are the same while this is."""
        return tuple([hours.at(at)[0] for hours in self._timed]) if self._timed else ()

    def decide(
        self,
        source: Source,
        attributes: Attributes,
        at: float = 0.0,
        said: Said | None = None,
        changed: tuple[int, ...] = (),
    ) -> tuple[RouteHit, ...]:
        """Every destination of this image, each once, in the order of the routes; empty if no route matches.

        All matching routes apply until one that is final; a destination named by several belongs to the first, with the
        priority of the most urgent. ``at``: seconds since the epoch, where routes ask for the time. ``said``: what was
        found for an image with the same attributes, but for those ``changed``, which is not asked for again; it is
        added to.
        """
        if self._unconditional is not None:
            return self._unconditional
        said = Said() if said is None else said
        left = said.rest.get((source, changed))
        if left is None:
            left = self._rest(source, attributes, said, changed)
        for tag in changed:
            column = self._columns.get(tag)
            if column is not None and left & column[0]:
                left &= column[1](values_of(attributes, tag))
        if self._closer:
            left = self._looked_at_closer(left, source, attributes, at)
        matching = self._cut(left)
        known = self._known.get(matching)
        return self._combine(matching) if known is None else known

    def _rest(self, source: Source, attributes: Attributes, said: Said, changed: tuple[int, ...]) -> int:
        """The routes that are left, a bit each, when all but ``changed`` were asked: those first that cost nothing."""
        left = self._sources.get(source)
        if left is None:
            left = self._of_source(source)
        unsaid = []
        for tag, (routes, mask) in self._columns.items():
            if left & routes and tag not in changed:
                found = said.of.get(tag)
                if found is None:
                    unsaid.append((tag, routes, mask))
                else:
                    left &= found
        for tag, routes, mask in unsaid:
            if left & routes:
                found = said.of[tag] = mask(values_of(attributes, tag))
                left &= found
        if len(said.rest) >= _KNOWN_RESTS:
            said.rest.clear()
        said.rest[source, changed] = left
        return left

    def _of_source(self, source: Source) -> int:
        left = self._all
        for get, mask in self._facts:
            left &= mask(get(source))
        if len(self._sources) >= _KNOWN_VALUES:
            self._sources.clear()
        self._sources[source] = left
        return left

    def _looked_at_closer(self, left: int, source: Source, attributes: Attributes, at: float) -> int:
        """In order, so that routes behind a final one that applies are not looked at."""
        undecided = sum(bit for bit, _ in self._closer if left & bit)
        for bit, holds in self._closer:
            if not left & bit:
                continue
            if left & ~undecided & self._final & (bit - 1):
                break
            undecided &= ~bit
            if not holds(source, attributes, at):
                left &= ~bit
        return left

    def _cut(self, matching: int) -> int:
        """Without those behind the first final route."""
        final = matching & self._final
        return matching & ((final & -final) << 1) - 1 if final else matching

    def _combine(self, matching: int) -> tuple[RouteHit, ...]:
        first: dict[str, RouteHit] = {}
        for n, hits in enumerate(self._hits):
            if matching >> n & 1:
                for hit in hits:
                    known = first.setdefault(hit.destination, hit)
                    if hit.priority < known.priority:
                        first[hit.destination] = replace(known, priority=hit.priority)
        result = tuple(first.values())
        if len(self._known) < _KNOWN_COMBINATIONS:
            self._known[matching] = result
        return result


def _add(columns: dict[str | int, _Column], term: Term, bit: int, holds: bool, every: int) -> bool:
    """Let a column ask it, if it can."""
    if not isinstance(term, Condition) or isinstance(term.key, tuple):
        return False
    columns.setdefault(term.key, _Column(every)).add(term, bit, holds)
    return True
