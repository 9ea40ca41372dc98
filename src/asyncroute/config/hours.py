"""Hours of the day as an administrator writes them: ``18:00-06:00``, ``Mon-Fri 18:00-06:00 Europe/Berlin``.

Purpose: such texts to ``core.hours``.
Guarantees: what is not understood is refused as a whole. Zones are those of the system's (IANA) zone files.
Failures: Invalid (a ValueError) with a text that says what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from zoneinfo import ZoneInfo

from asyncroute.config.words import Invalid, quote, show
from asyncroute.core.hours import DAY, Hours, Range

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_EVERY_DAY = frozenset(range(7))
_TIME = r"(\d{1,2}):(\d{2})"
_RANGE = re.compile(rf"{_TIME}-{_TIME}")
_HINT = 'must be hours such as "18:00-06:00", "Sat,Sun" or "Mon-Fri 18:00-06:00 Europe/Berlin"'


def hours_text(value: object) -> str:
    """Hours, checked, as they are written."""
    if not isinstance(value, str):
        raise Invalid(f"{_HINT}, not {show(value)}")
    parse_range(value)
    return value


def hours_texts(value: object) -> tuple[str, ...]:
    """One text of hours, or a list of several, checked."""
    several = value if isinstance(value, list | tuple) else [value]
    return tuple(map(hours_text, several))


def parse_hours(texts: Iterable[str]) -> Hours | None:
    """Hours that are open while any of these is; None: there are none, so it is always open."""
    ranges = tuple(map(parse_range, texts))
    return Hours(ranges) if ranges else None


def parse_range(text: str) -> Range:
    """``[DAYS] [HH:MM-HH:MM] [ZONE]``, in this order, with days or times or both."""
    words = text.split()
    days = times = None
    if words and words[0][0].isalpha() and "/" not in words[0] and _is_days(words[0]):
        days = _days(words.pop(0))
    if words and words[0][0].isdigit():
        times = _times(words.pop(0))
    if (days is None and times is None) or len(words) > 1:
        raise Invalid(f"{_HINT}, not {quote(text)}")
    zone = _zone(words[0]) if words else None
    begin, end = times or (0, DAY)
    return Range(begin, end, days or _EVERY_DAY, zone)


def _is_days(word: str) -> bool:
    """Whether it is meant as days; else it may be a zone such as UTC."""
    return _day(re.split("[-,]", word)[0]) is not None


def _day(word: str) -> int | None:
    low = word.lower()
    return next((n for n, day in enumerate(_DAYS) if len(low) >= 3 and day.startswith(low)), None)


def _days(word: str) -> frozenset[int]:
    found: set[int] = set()
    for part in word.split(","):
        first, *rest = (_day(name) for name in part.split("-"))
        last = rest[0] if rest else first
        if first is None or last is None or len(rest) > 1:
            raise Invalid(f'has days that are none: {quote(word)}; write "Mon-Fri", "Sat,Sun" and so on')
        found |= {(first + n) % 7 for n in range((last - first) % 7 + 1)}
    return frozenset(found)


def _times(word: str) -> tuple[int, int]:
    found = _RANGE.fullmatch(word)
    if not found:
        raise Invalid(f'has times that are none: {quote(word)}; write "HH:MM-HH:MM"')
    hours, minutes, until_hours, until_minutes = map(int, found.groups())
    begin, end = hours * 60 + minutes, until_hours * 60 + until_minutes
    if begin >= DAY or end > DAY or minutes > 59 or until_minutes > 59:
        raise Invalid(f'has times that are none: {quote(word)}; they go from "00:00" to "24:00"')
    if begin == end:
        raise Invalid(f'begins and ends at the same time: {quote(word)}; the whole day is "00:00-24:00"')
    return begin, end if end > begin else end + DAY


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # no such file, a folder, a path that leads out
        raise Invalid(
            f'names a time zone that is not known here: {quote(name)}; write one such as "Europe/Berlin"'
        ) from None
