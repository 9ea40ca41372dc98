"""How fast a destination may be sent to: so many bytes a second, by the hours of the day.

What is sent is paid for with time. While more was sent than has been paid for, nothing begins, and lanes that are in
the midst of a large image wait with their next piece; they go on first. Guarantees: in any ``t`` seconds no more than
``rate * (t + BURST)`` bytes are begun, and one image of less than 1 MiB (of more, if it is in memory) or one piece
besides; nothing that waits is forgotten; after a change of the clock the hours are right within ``LOOK`` seconds.
Failures: none. The loop's thread only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from time import time
from typing import Any

from asyncroute.core.rates import Rates
from asyncroute.queue.alarm import Alarm
from asyncroute.queue.report import count_second
from asyncroute.queue.times import LEAST, LOOK

BURST = 0.1
"""Seconds that may be saved up while nothing is sent."""

TOLD = 10.0
"""Seconds over which the rate is measured that people are told."""


class Pace:
    """See module. ``ring`` is called when something may begin again. ``now`` is monotonic seconds."""

    def __init__(self, ring: Callable[[], None], wall: Callable[[], float] = time) -> None:
        self.limited = False
        """Whether there is any limit, at any time."""
        self._ring = ring
        self._wall = wall
        self._rates: Rates | None = None
        self._rate: int | None = None
        self._until = inf
        self._look_at = 0.0
        self._paid = 0.0
        """When all that was sent is paid for."""
        self._waiting: deque[Callable[[], None]] = deque()
        self._slowed = -inf
        self._sent: deque[list[int]] = deque()
        self._alarm = Alarm(self._rings)

    def change(self, rates: Rates | None, now: float) -> None:
        """Another limit; what is owed already stays owed, in bytes."""
        self._rates, self._look_at = rates, 0.0
        self.limited = rates is not None
        self._look(now)
        self._alarm.cancel()
        self._go_on(now)

    def close(self) -> None:
        """Ring no more."""
        self._alarm.cancel()

    def blocked(self, now: float) -> bool:
        """Whether nothing may begin now; then it rings when something may."""
        if not self.limited:
            return False
        self._look(now)
        if now >= self._paid:
            return False
        self._wait(now)
        return True

    def spend(self, count: int, now: float, resume: Callable[[], None] | None = None) -> bool:
        """``count`` bytes are sent. With ``resume`` only if they may; False: they may not, and it is called when it is
        worth while to ask again."""
        if not self.limited:
            return True
        self._look(now)
        if resume is not None and now < self._paid:
            self._waiting.append(resume)
            self._wait(now)
            return False
        if self._rate is not None:
            self._paid = max(self._paid, now - BURST) + count / self._rate
        count_second(self._sent, now, count, TOLD)
        return True

    def _wait(self, now: float) -> None:
        self._slowed = now
        self._alarm.set(now, (self._paid, self._look_at))

    def _rings(self) -> None:
        self._go_on(self._alarm.time())
        self._ring()

    def _go_on(self, now: float) -> None:
        """Lanes in the midst of an image come first; each may have to wait again."""
        self._look(now)
        for _ in range(len(self._waiting)):
            if now < self._paid:
                self._wait(now)
                break
            self._waiting.popleft()()

    def _look(self, now: float) -> None:
        if now < self._look_at:
            return
        if self._rates is None:
            rate, self._until, self._look_at = None, inf, inf
        else:
            wall = self._wall()
            rate, self._until = self._rates.at(wall)
            self._look_at = now + min(max(self._until - wall, LEAST), LOOK) if self._until < inf else inf
        if rate != self._rate:
            owed = max(self._paid - now, 0.0) * (self._rate or 0)
            self._paid = now + owed / rate if rate else 0.0
            self._rate = rate

    # ---- for people

    def describe(self, now: float) -> dict[str, Any] | None:
        """For ``status``: bytes a second that may be (None: any number) and until when (epoch; None: always), those
        that were sent lately, and whether the limit is what slows. None: there is no limit at any time."""
        if not self.limited:
            return None
        self._look(now)
        recent = [entry for entry in self._sent if entry[0] > now - TOLD - 1]
        seconds = max(now - recent[0][0], 1.0) if recent else 1.0
        return {
            "limit": self._rate,
            "until": self._until if self._until < inf else None,
            "rate": round(sum(count for _, count in recent) / seconds),
            "slows": self._rate is not None and now - self._slowed < TOLD,
        }
