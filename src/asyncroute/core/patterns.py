"""Patterns: how one value of an image is compared with what a condition asks for.

Purpose: the kinds of patterns, and tests compiled from them; values are text, as decoded from a header.
Guarantees: pure; everything is compiled when a test is made. A value that cannot be read as the number or date that a
range asks for does not match; it never raises.
Failures: none while testing; a bad regular expression or network raises ValueError (re.error) when a test is made.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import math
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

_GLOB_CHARACTERS = frozenset("*?[")
_PEERS_REMEMBERED = 4096

Test = Callable[[str], object]
"""Whether one non-empty value matches: true or false by the truth of what is returned."""


# --- Patterns: one value of a condition ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Glob:
    """Text with ``*``, ``?`` and ``[...]``, case-sensitive; the empty text stands for "absent or empty".

    One with a backslash is about all values of an attribute together, with backslashes between them.
    """

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


@dataclass(frozen=True, slots=True)
class Presence:
    """The attribute is in the image, with a value or without (``there``), or it is not."""

    there: bool


Pattern = Glob | Regex | Numbers | Moments | Ages | Network | Presence


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
    return compile_patterns(tuple(Glob(text) for text in patterns)).test


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


class Compiled(NamedTuple):
    """`test`: for a value that is not empty; the others: what an attribute without one gives, there or not."""

    test: Test
    empty: bool
    """Whether it holds for an attribute whose values are all empty."""
    there: bool
    """Whether it holds for any attribute that is there."""
    absent: bool
    """Whether it holds for one that is not there."""
    together: Test | None = None
    """For several values with backslashes between them, if it is about such."""


def compile_patterns(patterns: tuple[Pattern, ...]) -> Compiled:
    """One test for "any of these"."""
    globs = [pattern.text for pattern in patterns if isinstance(pattern, Glob)]
    networks = [pattern.text for pattern in patterns if isinstance(pattern, Network)]
    tests = _glob_tests(globs)
    if networks:
        tests.append(network_test(networks))
    tests += [_single_test(p) for p in patterns if not isinstance(p, Glob | Network | Presence)]
    presence = {p.there for p in patterns if isinstance(p, Presence)}
    empty = "" in globs
    several = _glob_tests([text for text in globs if "\\" in text])
    together = _any_test(several) if several else None
    return Compiled(_any_test(tests), empty, True in presence, empty or False in presence, together)


def _glob_tests(globs: list[str]) -> list[Test]:
    exact = frozenset(text for text in globs if text and not _GLOB_CHARACTERS & set(text))
    wild = [text for text in globs if _GLOB_CHARACTERS & set(text)]
    tests: list[Test] = [exact.__contains__] if exact else []
    if wild:
        tests.append(re.compile("|".join(fnmatch.translate(text) for text in wild)).match)
    return tests


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
