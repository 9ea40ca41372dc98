"""How much a function does, counted: the same on every machine, however busy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
COUNTED = {"call", "c_call"}


class TooMuch(AssertionError):
    """More work than allowed."""


class _Ended(BaseException):
    """Ends the function: nothing in it may catch this as an error of its own."""


def within(most: int, function: Callable[[], T]) -> T:
    """What ``function`` returns, which makes at most so many calls of Python and C functions in this thread.

    Raises:
        TooMuch: it makes more; it is ended there.
    """
    calls = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event in COUNTED
        if calls > most:
            raise _Ended

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        return function()
    except _Ended:
        raise TooMuch(f"more than {most} calls") from None
    finally:
        sys.setprofile(before)
