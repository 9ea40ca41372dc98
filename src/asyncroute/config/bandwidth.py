"""Bandwidth as an administrator writes it: ``20 MB/s``, or by hours: ``{ "08:00-18:00" = "5 MB/s", else = "9 MB/s" }``.

Purpose: such values, checked and frozen; and to ``core.rates``.
Guarantees: what is not understood is refused as a whole.
Failures: Invalid (a ValueError) with a text that says what to write instead.
"""

from __future__ import annotations

from asyncroute.config.hours import hours_text, parse_range
from asyncroute.config.units import parse_size
from asyncroute.config.words import Invalid, quote, show
from asyncroute.core.hours import Hours
from asyncroute.core.rates import Rates

Bandwidth = tuple[tuple[str, int | None], ...]
"""(hours, bytes a second) in the order of the file; ``else`` stands for all other times. None: without limit."""

ELSE = "else"
UNLIMITED = "unlimited"
LEAST = 10_000
"""Bytes a second. An image of a CT takes a minute then."""

_HINT = 'must be a rate such as "20 MB/s" or "500 KiB/s"'
_TABLE = 'or a table such as { "Mon-Fri 08:00-18:00" = "5 MB/s", else = "50 MB/s" }'


def bandwidth_value(value: object) -> Bandwidth:
    """A rate, or rates by hours."""
    if not isinstance(value, dict):
        return ((ELSE, _rate(value, f"{_HINT}, {_TABLE}")),)
    if not value:
        raise Invalid(f"must not be empty: {_TABLE.removeprefix('or ')}")
    return tuple((_when(key), _rate_at(key, rate)) for key, rate in value.items())


def parse_bandwidth(rates: Bandwidth) -> Rates:
    """The same, able to tell the time."""
    ranges = tuple((Hours((parse_range(when),)), rate) for when, rate in rates if when != ELSE)
    return Rates(ranges, dict(rates).get(ELSE))


def _when(key: str) -> str:
    if key == ELSE:
        return key
    try:
        return hours_text(key)
    except Invalid as error:
        raise Invalid(f'{quote(key)} {error}; for all other times write "else"') from None


def _rate_at(key: str, value: object) -> int | None:
    try:
        return None if value == UNLIMITED else _rate(value, f'{_HINT}, or "{UNLIMITED}"')
    except Invalid as error:
        raise Invalid(f"at {quote(key)} {error}") from None


def _rate(value: object, hint: str) -> int:
    text = value.strip() if isinstance(value, str) else ""
    size, per, second = text.rpartition("/")
    if not per or second.strip() != "s":
        raise Invalid(f"{hint}, not {show(value)}")
    try:
        rate = parse_size(size)
    except Invalid as error:
        raise Invalid(f'{error}, and "/s" behind it') from None
    if rate < LEAST:
        raise Invalid(f'must be "{LEAST // 1000} KB/s" or more, not {show(value)}')
    return rate
