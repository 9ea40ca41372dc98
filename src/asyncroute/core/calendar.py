"""A wall clock that is not believed at once: for what a wrong date would destroy.

History is forgotten by date. A date that jumps ahead, because somebody mistyped it or a clock's battery died, must not
cost the history of the last month. So a jump ahead counts only after it has stood for a day; a date that is set back
counts at once, because it forgets nothing.
Guarantees: pure; never later than the wall clock.
Failures: none.
"""

from __future__ import annotations

BELIEVED_AFTER = 86400.0
SLACK = 3600.0
"""Seconds ahead that are no jump."""


class Calendar:
    """See module. ``wall`` is seconds since the epoch, ``steady`` seconds of a clock that never jumps."""

    def __init__(self, wall: float, steady: float, newest: float | None) -> None:
        """``newest``: the date of the last thing that happened before this run; None: nothing did."""
        self._believed = (wall if newest is None else min(wall, newest)) - steady
        self._ahead_since: float | None = None

    def now(self, wall: float, steady: float) -> float:
        """The date to go by, in seconds since the epoch."""
        offset = wall - steady
        if offset <= self._believed:
            self._ahead_since = None
            return wall
        if self._ahead_since is None:
            self._ahead_since = steady
        if offset <= self._believed + SLACK or steady - self._ahead_since >= BELIEVED_AFTER:
            self._believed, self._ahead_since = offset, None
        return self._believed + steady
