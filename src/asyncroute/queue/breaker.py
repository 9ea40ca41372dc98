"""When a destination fails as a whole: pause, probe, recover slowly. Pure: times are passed in.

Three association-level failures in a row open the breaker: the channel pauses for an exponentially growing time (5 s to
10 min, full jitter), then one lane probes; success closes it and lets 1, 2, 4 ... lanes work again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from asyncroute.core.retry import Backoff

THRESHOLD = 3
SHORT = 0.5
"""Seconds between the failures before the third."""

LEAST = 0.2
"""Seconds that a pause lasts at least, whatever the jitter says."""


class Breaker:
    """One destination's breaker. Times are monotonic seconds."""

    __slots__ = ("_down", "_opened", "_random", "_since", "backoff", "failures", "lanes", "until")

    def __init__(self, backoff: Backoff, random: Callable[[], float]) -> None:
        self.failures = 0
        self.until = 0.0
        self.lanes: int | None = None  # None: all; else how many are trusted so far
        self._opened = 0
        self._since = 0.0
        self.backoff = backoff
        self._random = random
        self._down: deque[tuple[float, float]] = deque(maxlen=256)

    @property
    def open(self) -> bool:
        """Whether the destination counts as down (pausing, or probed just now)."""
        return self.failures >= THRESHOLD

    def failed(self, now: float) -> None:
        """An association could not be made, or ended on its own."""
        if self.open and now < self.until:
            return  # other lanes met the same end
        self.failures += 1
        if self.failures < THRESHOLD:
            self.until = now + min(SHORT * self.failures, self.backoff.first)
            return
        if self.failures == THRESHOLD:
            self._since = now
        self._opened += 1
        self.lanes = 1
        self.until = now + max(LEAST, self.backoff.delay(self._opened, self._random))

    def succeeded(self, now: float, most: int) -> None:
        """A delivery came through; ``most`` is the lanes that the window allows."""
        if self.failures >= THRESHOLD:
            self._down.append((self._since, now))
        self.failures = 0
        self.until = 0.0
        self._opened = 0
        if self.lanes is not None:
            self.lanes *= 2
            if self.lanes >= most:
                self.lanes = None

    def allowed(self, now: float, most: int) -> int:
        """How many lanes may work."""
        if now < self.until:
            return 0
        if self.failures:
            return 1
        return most if self.lanes is None else min(most, self.lanes)

    def periods(self, now: float) -> list[tuple[float, float]]:
        """When the destination was down: (from, to)."""
        return [*self._down, (self._since, now)] if self.open else list(self._down)

    def down_since(self, start: float, now: float) -> float:
        """Seconds between ``start`` and ``now`` in which the destination was down."""
        return covered(self.periods(now), start, now)


def covered(periods: Iterable[tuple[float, float]], start: float, now: float) -> float:
    """Seconds between ``start`` and ``now`` that lie in one of ``periods``, which may overlap."""
    total = 0.0
    for begin, end in sorted(periods):
        begin, end = max(begin, start), min(end, now)
        if begin < end:
            total += end - begin
            start = end
    return total
