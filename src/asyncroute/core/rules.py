"""Which destinations an image goes to: routes, their conditions, and the table that decides.

Purpose: `RouteTable.decide` turns where an image came from and a few of its attributes into (route, destination)
pairs. The configuration compiles its `match` and `unless` tables to the `Condition` objects used here.
Guarantees: pure and deterministic; everything is compiled when the table is made, so that a decision costs set look-ups
and regular expressions only, and nothing at all where no route has conditions. A value that cannot be read as the
number or date that a range asks for does not match; it never raises.
Failures: none while deciding; a bad regular expression or network raises ValueError (re.error) when the table is made.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import attrgetter

from asyncroute.core.model import RouteHit, Source, Wait
from asyncroute.core.priority import NORMAL

FACTS = ("calling_aet", "called_aet", "listener", "peer")
"""What is known of an image's source, in the words of `match`."""

_GLOB_CHARACTERS = frozenset("*?[")
_KNOWN_COMBINATIONS = 4096
_PEERS_REMEMBERED = 4096

_NOWHERE = Source("", "", "", "")

Attributes = Mapping[int, tuple[str, ...]]
"""Attribute values by tag (0xggggeeee): decoded, without padding, one string per value."""

Test = Callable[[str], object]
"""Whether one non-empty value matches: true or false by the truth of what is returned."""


Holds = Callable[[Source, Attributes], object]


# --- Patterns: one value of a condition ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Glob:
    """Text with ``*``, ``?`` and ``[...]``, case-sensitive; the empty text stands for "absent or empty"."""

    text: str


@dataclass(frozen=True, slots=True)
class Regex:
    """A regular expression that is searched for anywhere in the value, case-sensitive unless it says otherwise."""

    text: str


@dataclass(frozen=True, slots=True)
class Numbers:
    """A number between `low` and `high`, both included."""

    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True, slots=True)
class Moments:
    """A date, time or date with time between `low` and `high`, both included, as far as they are written.

    `kind` is "date", "time" or "datetime"; `low` and `high` are digits from the left (``2024``, ``20240131``,
    ``0830``), so that an upper end of ``2024`` includes all of 2024; None leaves that end open.
    """

    kind: str
    low: str | None = None
    high: str | None = None


@dataclass(frozen=True, slots=True)
class Ages:
    """A DICOM age (PS3.5 6.2, AS: ``018Y``) between `low` and `high` days, both included."""

    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True, slots=True)
class Network:
    """An IP address or a network in CIDR notation."""

    text: str


Pattern = Glob | Regex | Numbers | Moments | Ages | Network


@dataclass(frozen=True, slots=True)
class Condition:
    """One key of `match` or `unless`: it holds if any of `patterns` matches any value.

    `key` is one of `FACTS`, or an attribute's tag. An attribute that is absent, or has only empty values, is matched
    by ``Glob("")`` and by nothing else (not by ``*``, so that ``*`` means "has a value").
    """

    key: str | int
    patterns: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One route: all of `match` must hold, and `unless` must be empty or not hold as a whole.

    `priority` is one of ``core.priority``.
    """

    name: str
    destinations: tuple[str, ...]
    match: tuple[Condition, ...] = ()
    unless: tuple[Condition, ...] = ()
    final: bool = False
    priority: int = NORMAL
    wait: Wait | None = None


# --- Reading values --------------------------------------------------------------------------------------------------

_DATE = re.compile(r"(\d{4})[-.]?(\d{2})[-.]?(\d{2})")
_TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2}(?:\.\d{1,6})?))?)?")
_DATETIME = re.compile(r"(\d{4}(?:\d{2}){0,5})(\.\d{1,6})?(?:[+-]\d{4})?")
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_DAYS = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}


def age_in_days(text: str) -> float | None:
    """A DICOM age (``045Y``, ``10M``) in days, months and years by their average length; None if it is not one."""
    found = _AGE.fullmatch(text)
    return int(found[1]) * _DAYS[found[2]] if found else None


def moment(kind: str, text: str) -> str | None:
    """A DICOM date, time or datetime as comparable digits, full to the second; None if it is not one.

    The forms of ACR-NEMA (``2024.01.31``, ``08:30:00``) are read too; an offset from UTC is not taken into account.
    """
    return _READERS[kind](text)


def _read_date(text: str) -> str | None:
    found = _DATE.fullmatch(text)
    return found[1] + found[2] + found[3] if found else None


def _read_time(text: str) -> str | None:
    found = _TIME.fullmatch(text)
    return found[1] + (found[2] or "00") + (found[3] or "00") if found else None


def _read_datetime(text: str) -> str | None:
    found = _DATETIME.fullmatch(text)
    return found[1].ljust(14, "0") + (found[2] or "") if found else None


_READERS = {"date": _read_date, "time": _read_time, "datetime": _read_datetime}


# --- Compiling patterns ----------------------------------------------------------------------------------------------


def text_test(patterns: Iterable[str]) -> Test:
    """One test for "any of these": exact texts and globs."""
    test, _ = _compile_patterns(tuple(Glob(text) for text in patterns))
    return test


def network_test(networks: Iterable[str]) -> Test:
    """One test for "in any of these": addresses and CIDR networks; ``*`` is every address.

    Raises ValueError if one of them is neither. IPv4 addresses mapped into IPv6 count as IPv4.
    """
    texts = tuple(networks)
    if "*" in texts:
        return lambda peer: True
    nets = tuple(ipaddress.ip_network(text) for text in texts)

    @lru_cache(maxsize=_PEERS_REMEMBERED)
    def inside(peer: str) -> bool:
        address = _address(peer)
        return address is not None and any(address in net for net in nets)

    return inside


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def compile_regex(text: str) -> re.Pattern[str]:
    """A regular expression; Python's warnings about what it may mean in future versions are no concern of a route.

    Raises re.error.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return re.compile(text)


def _compile_patterns(patterns: tuple[Pattern, ...]) -> tuple[Test, bool]:
    """One test for all of them, and whether an absent value matches as well."""
    globs = [pattern.text for pattern in patterns if isinstance(pattern, Glob)]
    exact = frozenset(text for text in globs if text and not _GLOB_CHARACTERS & set(text))
    wild = [text for text in globs if _GLOB_CHARACTERS & set(text)]
    networks = [pattern.text for pattern in patterns if isinstance(pattern, Network)]
    tests: list[Test] = [exact.__contains__] if exact else []
    if wild:
        tests.append(re.compile("|".join(fnmatch.translate(text) for text in wild)).match)
    if networks:
        tests.append(network_test(networks))
    tests += [_single_test(p) for p in patterns if not isinstance(p, Glob | Network)]
    return _any_test(tests), "" in globs


def _any_test(tests: list[Test]) -> Test:
    if not tests:
        return lambda value: False
    if len(tests) == 1:
        return tests[0]
    return lambda value: any(test(value) for test in tests)


def _single_test(pattern: Regex | Numbers | Moments | Ages) -> Test:
    if isinstance(pattern, Regex):
        return compile_regex(pattern.text).search
    if isinstance(pattern, Moments):
        return _moment_test(pattern)
    return _number_test(pattern.low, pattern.high, _read_number if isinstance(pattern, Numbers) else age_in_days)


def _read_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _number_test(low: float, high: float, read: Callable[[str], float | None]) -> Test:
    def between(text: str) -> bool:
        number = read(text)
        return number is not None and low <= number <= high

    return between


def _moment_test(pattern: Moments) -> Test:
    width = 14 if pattern.kind == "datetime" else 8 if pattern.kind == "date" else 6
    read = _READERS[pattern.kind]
    low = (pattern.low or "").ljust(width, "0")
    high = (pattern.high or "").ljust(width, "9") + "~"  # "~" sorts after a fraction of the last second

    def between(text: str) -> bool:
        digits = read(text)
        return digits is not None and low <= digits <= high

    return between


# --- Compiling conditions and routes ---------------------------------------------------------------------------------


def _compile_condition(condition: Condition) -> Holds:
    test, empty = _compile_patterns(condition.patterns)
    if isinstance(condition.key, str):
        return _fact_holds(condition.key, test, empty)
    return _attribute_holds(condition.key, test, empty)


def _fact_holds(name: str, test: Test, empty: bool) -> Holds:
    if name not in FACTS:
        raise ValueError(f"not a fact of an image's source: {name}")
    get = attrgetter(name)

    def holds(source: Source, attributes: Attributes) -> object:
        value = get(source)
        return test(value) if value else empty

    return holds


def _attribute_holds(tag: int, test: Test, empty: bool) -> Holds:
    def holds(source: Source, attributes: Attributes) -> object:
        values = attributes.get(tag, ())
        if len(values) == 1:
            return test(values[0]) if values[0] else empty
        filled = [value for value in values if value]
        return any(test(value) for value in filled) if filled else empty

    return holds


def _all_hold(conditions: tuple[Condition, ...]) -> Holds | None:
    """One function for "all of these hold"; None for no conditions."""
    compiled = tuple(_compile_condition(condition) for condition in conditions)
    if len(compiled) <= 1:
        return compiled[0] if compiled else None

    def holds(source: Source, attributes: Attributes) -> object:
        for condition in compiled:  # noqa: SIM110 - a plain loop: half the cost of all() with a generator
            if not condition(source, attributes):
                return False
        return True

    return holds


def _rule_holds(rule: Rule) -> Holds | None:
    match, unless = _all_hold(rule.match), _all_hold(rule.unless)
    if unless is None:
        return match

    def holds(source: Source, attributes: Attributes) -> object:
        return (match is None or match(source, attributes)) and not unless(source, attributes)

    return holds


class RouteTable:
    """All routes in order, compiled.

    `tags` are the attributes that decisions depend on: whoever reads headers needs to look for no others. `waits`:
    whether images of any route wait for a completion.
    """

    __slots__ = ("_compiled", "_hits", "_known", "_unconditional", "tags", "waits")

    def __init__(self, rules: Iterable[Rule]) -> None:
        kept = tuple(rules)
        self.tags = frozenset(
            condition.key for rule in kept for condition in rule.match + rule.unless if isinstance(condition.key, int)
        )
        self.waits = any(rule.wait for rule in kept)
        self._hits = tuple(
            tuple(RouteHit(rule.name, name, rule.priority, rule.wait) for name in rule.destinations) for rule in kept
        )
        self._compiled = tuple((1 << n, _rule_holds(rule), rule.final) for n, rule in enumerate(kept))
        self._known: dict[int, tuple[RouteHit, ...]] = {}
        conditional = any(holds for _, holds, _ in self._compiled)
        self._unconditional = None if conditional else self._combine(self._matching(_NOWHERE, {}))

    def decide(self, source: Source, attributes: Attributes) -> tuple[RouteHit, ...]:
        """Every destination of this image, each once, in the order of the routes; empty if no route matches.

        All matching routes apply until one that is final; a destination named by several belongs to the first, with the
        priority of the most urgent.
        """
        if self._unconditional is not None:
            return self._unconditional
        matching = self._matching(source, attributes)
        known = self._known.get(matching)
        return self._combine(matching) if known is None else known

    def _matching(self, source: Source, attributes: Attributes) -> int:
        """The routes that apply, one bit each."""
        matching = 0
        for bit, holds, final in self._compiled:
            if holds is None or holds(source, attributes):
                matching |= bit
                if final:
                    break
        return matching

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
