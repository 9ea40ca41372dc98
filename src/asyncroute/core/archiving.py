"""What an archive is to do: its tiers, when a later tier takes images in, and how long they are kept.

Guarantees: pure; seconds since the epoch go in and come out. A time of day that the clock skips is the moment of the
jump, one that comes twice is the first of the two. Failures: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from asyncroute.core.conditions import Attributes
from asyncroute.core.hours import Hours, Range
from asyncroute.core.rates import Rates

BEHIND = 9
"""Days that are looked back: a time of day comes once a week at least."""


class Layout(Protocol):
    """Names files (``config.template.Layout``)."""

    @property
    def tags(self) -> frozenset[int]:
        """Attributes it needs."""
        ...

    def render(self, attributes: Attributes) -> str:
        """The relative path of an image."""
        ...


@dataclass(frozen=True, slots=True)
class MoveIn:
    """Why and when a tier takes in what the tier before it has; each of the first three is a reason by itself.

    ``at``: times of day (the begins of the ranges); ``below_free``: bytes that the tier before should have free;
    ``older_than``: seconds since a study's last image was archived. ``hours``: when (None: always); ``rates``: bytes
    a second (None: without limit).
    """

    at: tuple[Range, ...] = ()
    below_free: int | None = None
    older_than: float | None = None
    hours: Hours | None = None
    rates: Rates | None = None


@dataclass(frozen=True, slots=True)
class TierTerms:
    """One tier; the first one has no ``move_in``."""

    path: Path
    move_in: MoveIn | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """The whole archive. ``keep``: seconds since a study's last image was archived; inf: for ever."""

    keep: float
    layout: Layout
    tiers: tuple[TierTerms, ...]


def last_moment(at: Sequence[Range], now: float) -> float | None:
    """The last of these times of day that is not after ``now``; None: there is none within the last week."""
    return max((moment for moment in _around(at, now) if moment <= now), default=None)


def next_moment(at: Sequence[Range], now: float) -> float | None:
    """The next one after ``now``; None: there is none."""
    return min((moment for moment in _around(at, now) if moment > now), default=None)


def _around(at: Sequence[Range], now: float) -> list[float]:
    found = []
    for each in at:
        today = datetime.fromtimestamp(now, each.zone).date()
        days = (today + timedelta(days=offset) for offset in range(-BEHIND, BEHIND))
        found += [opened[0] for day in days if (opened := each.on(day)) is not None]
    return found
