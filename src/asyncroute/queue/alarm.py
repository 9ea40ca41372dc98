"""Come back at a time: one timer of the loop, for the earliest of several reasons."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from math import inf

SOONEST = 0.001


class Alarm:
    """Calls ``ring`` at the earliest of the times that it was set to. The loop's thread only."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0.0

    def set(self, now: float, times: Iterable[float]) -> None:
        """Ring at the first of ``times`` (loop time) that is to come, unless it will ring before that."""
        at = min((t for t in times if now < t < inf), default=inf)
        if at == inf or (self._timer is not None and self._at <= at):
            return
        self.cancel()
        self._at = at
        self._timer = self._loop.call_later(max(at - now, SOONEST), self._rings)

    def time(self) -> float:
        """The loop's."""
        return self._loop.time()

    def cancel(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rings(self) -> None:
        self._timer = None
        self._ring()
