"""Waiting for a condition with a deadline: the only way in which a test lets time pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class NotInTime(AssertionError):
    """The condition did not hold before its deadline."""


def wait_until(
    condition: Callable[[], T],
    deadline: float,
    what: str,
    show: Callable[[], object] | None = None,
    every: float = 0.02,
) -> T:
    """The first true value of ``condition()``, asked every ``every`` seconds for at most ``deadline`` seconds.

    ``show`` is asked for the facts that the failure text ends with.

    Raises:
        NotInTime: with ``what`` was waited for, how long, and the facts.
    """
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            facts = f"\nlast seen: {show() if show else value!r}"
            raise NotInTime(f"waited {deadline:g} s for: {what}{facts}")
        time.sleep(every)


def stays(condition: Callable[[], object], seconds: float, what: str, every: float = 0.05) -> None:
    """Check that ``condition()`` holds now and for ``seconds`` more.

    Raises:
        AssertionError: it did not, at some point.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        assert value, f"no longer true: {what} ({value!r})"
        time.sleep(every)
