"""The journal's own clock: the seconds in which a router has run on it, over all runs.

Ages that decide something (``give_up``) are measured on it, so that a wall clock that jumps, or a router that was
stopped for a week, makes no dead letters. It is written down with the groups, every ten seconds at most; what a crash
cuts off is missing, which makes ages a little smaller.
Guarantees: never goes back, within a run or from one to the next.
Failures: none.
"""

from __future__ import annotations

from time import monotonic

EVERY = 10


class RunClock:
    """See module. Call it for the seconds now. Thread-safe, but for ``due`` (the writing thread's)."""

    def __init__(self, before: float) -> None:
        """``before``: where the last run left it."""
        self._offset = before - monotonic()
        self._written = int(before)

    def __call__(self) -> float:
        """Seconds of running so far."""
        return monotonic() + self._offset

    def due(self) -> int | None:
        """What should be written now; None: not yet."""
        now = int(self())
        if now < self._written + EVERY:
            return None
        self._written = now
        return now
