"""When something may be done: hours of the day, on days of the week, in a time zone.

Guarantees: pure; seconds since the epoch go in and come out. A range belongs to the day on which it begins. Where the
clock is changed, no range is lost and none opens twice:
- it opens at the first moment at which the clock shows its begin or later; a begin that the clock skips is the moment
  of the jump;
- it closes when the clock will not again show a time before its end, so what comes twice is open both times; an end
  that the clock skips is the moment of the jump;
- a range of which the clock skips everything is open from the jump for as long as it is long.
Failures: none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo

DAY = 24 * 60
"""Minutes."""

AHEAD = 9
"""Days that are looked at: a range comes once a week at least."""

BEHIND = 2
"""Days, so that yesterday's range is seen wherever the zone stands to the system's."""


@dataclass(frozen=True, slots=True)
class Range:
    """From ``begin`` to ``end`` (minutes since midnight; an ``end`` beyond 24 hours is of the next day).

    On ``days`` (0: Monday) of ``zone`` (None: the system's).
    """

    begin: int
    end: int
    days: frozenset[int]
    zone: tzinfo | None

    def on(self, day: date) -> tuple[float, float] | None:
        """When it opens and closes, if it begins on ``day``."""
        if day.weekday() not in self.days:
            return None
        midnight = datetime.combine(day, time())
        opens, _ = _moments(midnight + timedelta(minutes=self.begin), self.zone)
        _, closes = _moments(midnight + timedelta(minutes=self.end), self.zone)
        return opens, closes if closes > opens else opens + 60.0 * (self.end - self.begin)


@dataclass(frozen=True, slots=True)
class Hours:
    """Open while any of ``ranges`` (one at least) is."""

    ranges: tuple[Range, ...]

    def at(self, now: float) -> tuple[bool, float]:
        """Whether they are open, and when that changes (seconds since the epoch).

        If it does not change within a week: a moment until which it certainly does not.
        """
        until = now
        for opens, closes in sorted(self._around(now)):
            if closes <= until:
                continue
            if opens > until:
                return (True, until) if until > now else (False, opens)
            until = closes
        return True, until

    def _around(self, now: float) -> Iterator[tuple[float, float]]:
        for each in self.ranges:
            today = datetime.fromtimestamp(now, each.zone).date()
            for offset in range(-BEHIND, AHEAD):
                found = each.on(today + timedelta(days=offset))
                if found is not None:
                    yield found


def _moments(shown: datetime, zone: tzinfo | None) -> tuple[float, float]:
    """When the clock of ``zone`` shows ``shown`` or later for the first time, and from when on nothing else."""
    first, last = (shown.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))
    if first < last and datetime.fromtimestamp(last - 1, zone).replace(tzinfo=None) >= shown:
        return first, first  # the clock is put back to just this time, not behind it
    if first <= last:
        return first, last
    jump = _jump(shown, zone, last, first)
    return jump, jump


def _jump(shown: datetime, zone: tzinfo | None, before: float, after: float) -> float:
    """The moment between ``before`` and ``after`` (to the second) at which the clock skips ``shown``."""
    low, high = int(before), int(after)
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).replace(tzinfo=None) >= shown:
            high = middle
        else:
            low = middle
    return float(high)
