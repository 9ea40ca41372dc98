"""How many bytes a second something may take, by the hours of the day.

Guarantees: pure; seconds since the epoch go in and come out. Of several ranges that are open the first counts.
Failures: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from asyncroute.core.hours import Hours


@dataclass(frozen=True, slots=True)
class Rates:
    """``ranges``: hours, and bytes a second in them; ``otherwise``: at all other times. None: as many as there are."""

    ranges: tuple[tuple[Hours, int | None], ...]
    otherwise: int | None

    def at(self, now: float) -> tuple[int | None, float]:
        """Bytes a second, and until when that certainly does not change; inf: it never does."""
        until, found = inf, list[int | None]()
        for hours, rate in self.ranges:
            opened, change = hours.at(now)
            until = min(until, change)
            if opened:
                found.append(rate)
        return (found[0] if found else self.otherwise), until
