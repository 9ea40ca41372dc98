"""When a destination may be sent to: a person's hold of it, its hours, the gap between two associations.

Purpose: whether anything may begin now, and when to look again. Where nothing is set, the answer costs two comparisons.
Guarantees: synchronous, no timer of its own; what was answered from the wall clock is answered anew after ``LOOK``
seconds at the latest, so that a clock that is changed does no harm for longer. The times in which nothing might begin
are remembered, so that ages can leave them out.
Failures: none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from math import inf
from time import time

from asyncroute.core.hours import Hours
from asyncroute.journal.base import Held

LOOK = 60.0
LEAST = 0.01
"""Seconds from one look at the wall clock to the next: the two clocks need not agree on when a range opens."""

REMEMBERED = 256

Period = tuple[float, float]
"""From, to (monotonic seconds)."""


class Hold:
    """A person's hold of a destination; it outlives the channel. ``at``: since when (epoch); None: it is not held."""

    __slots__ = ("_over", "_since", "at")

    def __init__(self) -> None:
        self.at: float | None = None
        self._since = 0.0
        self._over: deque[Period] = deque(maxlen=REMEMBERED)

    def remember(self, holds: Iterable[Held], ahead: float) -> None:
        """What the journal says. ``ahead``: seconds that the monotonic clock is ahead of the journal's."""
        for each in holds:
            if each.until is not None:
                self._over.append((each.since + ahead, each.until + ahead))
            else:
                self.begin(each.at, each.since + ahead)

    def begin(self, at: float, now: float) -> None:
        """It is held from ``now`` on."""
        if self.at is None:
            self.at, self._since = at, now

    def end(self, now: float) -> None:
        """It is not held any more."""
        if self.at is not None:
            self._over.append((self._since, now))
            self.at = None

    def periods(self, now: float) -> list[Period]:
        """When it was held."""
        return [*self._over, (self._since, now)] if self.at is not None else list(self._over)


class Times:
    """See module. ``now`` is monotonic seconds; ``wall`` tells those since the epoch."""

    def __init__(self, hours: Hours | None = None, wall: Callable[[], float] = time) -> None:
        self.hold = Hold()
        self.look_at = 0.0
        """When the hours have to be looked at again."""
        self.next_lane = 0.0
        """When another association may begin."""
        self.gap = 0.0
        self._hours = hours
        self._wall = wall
        self._closed_since: float | None = None
        self._opens = 0.0
        self._over: deque[Period] = deque(maxlen=REMEMBERED)

    @property
    def timed(self) -> bool:
        """Whether there are hours to keep."""
        return self._hours is not None

    def change(self, hours: Hours | None, gap: float, now: float) -> None:
        """Other hours; ``gap``: seconds from one association's beginning to the next one's at least."""
        self._hours, self.gap = hours, gap
        self.look_at = 0.0
        if hours is None:
            self._opened(now)

    def shut(self, now: float) -> float:
        """Until when nothing may begin; 0: something may; inf: until a person says so."""
        if self.hold.at is not None:
            return inf
        if self._hours is None:
            return 0.0
        if now >= self.look_at:
            self._look(self._hours, now)
        return self.look_at if self._closed_since is not None else 0.0

    def lane_begins(self, now: float) -> None:
        """An association begins."""
        self.next_lane = now + self.gap

    def closed_until(self, now: float) -> float | None:
        """When the hours begin (seconds since the epoch); None: they are open, or there are none."""
        if self._hours is not None and now >= self.look_at:
            self._look(self._hours, now)
        return self._opens if self._closed_since is not None else None

    def periods(self, now: float) -> list[Period]:
        """When nothing might begin."""
        found = [*self._over, *self.hold.periods(now)]
        return found if self._closed_since is None else [*found, (self._closed_since, now)]

    def _look(self, hours: Hours, now: float) -> None:
        wall = self._wall()
        opened, change = hours.at(wall)
        self.look_at = now + min(max(change - wall, LEAST), LOOK)
        if opened:
            self._opened(now)
        else:
            self._opens = change
            if self._closed_since is None:
                self._closed_since = now

    def _opened(self, now: float) -> None:
        if self._closed_since is not None:
            self._over.append((self._closed_since, now))
            self._closed_since = None
