"""Deadlines of many associations, by one sweep instead of a timer each.

An association has a ``deadline`` (loop time, seconds; ``inf``: none) and an ``expired()``. The sweep runs every
``period`` seconds, so a deadline is kept to within about a period. After a stall of our own (the loop did not run for
some periods) one sweep is left out, so that peers who answered meanwhile are read before anybody is expired.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

log = logging.getLogger(__name__)

NEVER = float("inf")


class Expiring(Protocol):
    """Something with a deadline."""

    deadline: float

    def expired(self) -> None:
        """The deadline has passed. Called once per sweep until it is moved or the thing is removed."""
        ...


class Deadlines:
    """The sweep. ``add`` and ``remove`` at will; ``start`` once on the loop."""

    def __init__(self, period: float = 0.25) -> None:
        self.period = period
        self._all: dict[int, Expiring] = {}
        self._handle: asyncio.TimerHandle | None = None
        self._last = 0.0

    def add(self, thing: Expiring) -> None:
        """Watch ``thing``."""
        self._all[id(thing)] = thing

    def remove(self, thing: Expiring) -> None:
        """Watch it no more. Idempotent."""
        self._all.pop(id(thing), None)

    @property
    def busy(self) -> bool:
        """Whether anything is being watched."""
        return bool(self._all)

    def start(self) -> None:
        """Begin to sweep on the running loop."""
        loop = asyncio.get_running_loop()
        self._last = loop.time()
        self._handle = loop.call_later(self.period, self._sweep, loop)

    def stop(self) -> None:
        """End. Idempotent."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        stalled = now - self._last > 4 * self.period
        self._last = now
        self._handle = loop.call_later(self.period, self._sweep, loop)
        if stalled:
            return
        for thing in [t for t in self._all.values() if t.deadline <= now]:
            try:
                thing.expired()
            except Exception:
                log.exception("a deadline could not be carried out")
