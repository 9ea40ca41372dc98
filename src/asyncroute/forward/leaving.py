"""Associations of one destination that are being released, and new ones that wait for them to be gone: the destination
may not take more at once than it has now.

Guarantees: who waits is called once, in the order of waiting, when all those are gone that were leaving when it came;
after ``LEAVING`` seconds in any case. The loop's thread only. Failures: none.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf

from asyncroute.forward.association import Requestor

LEAVING = 1.0
"""Seconds for which a new association waits for others to end that are being released."""


class Leaving:
    """See module."""

    def __init__(self) -> None:
        self._leaving: dict[Requestor, int] = {}
        self._count = 0
        self._waiting: deque[tuple[int, float, Callable[[], None]]] = deque()
        """What the youngest of those waited for counts, until when, and whom to call."""
        self._alarm: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        """Whether anybody is leaving."""
        return bool(self._leaving)

    def add(self, association: Requestor) -> None:
        """It is being released."""
        self._count += 1
        self._leaving[association] = self._count
        association.on_closed = partial(self._gone, association)

    def wait(self, ready: Callable[[], None]) -> None:
        """Somebody is leaving: call ``ready`` later."""
        loop = asyncio.get_running_loop()
        self._waiting.append((self._count, loop.time() + LEAVING, ready))
        if self._alarm is None:
            self._alarm = loop.call_later(LEAVING, self._too_long, loop)

    def _gone(self, association: Requestor) -> None:
        del self._leaving[association]
        first = next(iter(self._leaving.values()), inf)
        while self._waiting and self._waiting[0][0] < first:
            self._waiting.popleft()[2]()

    def _too_long(self, loop: asyncio.AbstractEventLoop) -> None:
        """The alarm is not moved for each who waits: it looks who is late."""
        self._alarm = None
        now = loop.time()
        while self._waiting and self._waiting[0][1] <= now:
            self._waiting.popleft()[2]()
        if self._waiting:
            self._alarm = loop.call_later(self._waiting[0][1] - now, self._too_long, loop)
