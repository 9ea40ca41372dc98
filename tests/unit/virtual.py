"""Event loops with a time of their own.

``virtually``: it passes only when everybody waits, and then at once: hours in a moment, always the same. ``slowly``: it
passes at a tenth of the usual speed, so that what a busy machine delays comes early enough.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine

SLOWER = 10


class _Selector(selectors.DefaultSelector):
    """Lets the clock jump instead of waiting."""

    passed: Callable[[float], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            self.passed(timeout)
            timeout = 0
        return super().select(timeout)


class VirtualLoop(asyncio.SelectorEventLoop):
    """See module. For what waits on timers alone: other threads and processes live in real time."""

    def __init__(self) -> None:
        selector = _Selector()
        self.now = 1000.0
        selector.passed = self._passed
        super().__init__(selector)

    def _passed(self, seconds: float) -> None:
        self.now += seconds

    def time(self) -> float:
        return self.now


class _SlowSelector(selectors.DefaultSelector):
    """Waits longer than it is told to."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout * SLOWER if timeout else timeout)


class SlowLoop(asyncio.SelectorEventLoop):
    """See module. For real connections and threads, where timers must not be quicker than these."""

    def __init__(self) -> None:
        super().__init__(_SlowSelector())

    def time(self) -> float:
        return super().time() / SLOWER


def virtually(main: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run ``main`` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


def slowly(main: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run ``main`` in slow time."""
    with asyncio.Runner(loop_factory=SlowLoop) as runner:
        runner.run(main())
