"""When to try again, and when to stop trying.

Purpose: exponential backoff with full jitter, for a delivery (`[[destination]] retry`) and for a paused destination.
Guarantees: pure; chance and time are passed in, so that the same input gives the same answer; no number of attempts
overflows.
Failures: a `Backoff` of impossible values raises ValueError when it is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that start below `first` seconds and grow by `factor` up to `max` seconds.

    `attempts` is how many tries there are in all (0: no limit) and `give_up` the age in seconds at which a delivery
    is no longer tried (inf: never). The caller does not count time in which its destination was paused.
    """

    first: float = 5.0
    factor: float = 2.0
    max: float = 600.0
    attempts: int = 0
    give_up: float = math.inf

    def __post_init__(self) -> None:
        sane = 0 < self.first <= self.max < math.inf and 1 <= self.factor < math.inf
        if not sane or self.attempts < 0 or not self.give_up > 0:
            raise ValueError(f"impossible backoff: {self}")

    def ceiling(self, failures: int) -> float:
        """The longest wait in seconds after `failures` (1 or more) failures in a row."""
        growth = max(failures, 1) - 1
        if growth * math.log(self.factor) >= math.log(self.max / self.first):
            return self.max
        return self.first * self.factor**growth

    def delay(self, failures: int, random: Callable[[], float]) -> float:
        """A wait in seconds after `failures` failures in a row; `random` returns numbers in [0, 1).

        Full jitter: evenly spread between nothing and the ceiling, so that many waiters do not come back at once.
        """
        return self.ceiling(failures) * random()

    def exhausted(self, attempts: int, age: float) -> bool:
        """Whether to stop after `attempts` charged tries of a delivery that is `age` seconds old."""
        return age >= self.give_up or 0 < self.attempts <= attempts
