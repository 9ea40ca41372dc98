"""Which class of priority goes first: how much waits of each, and how long the oldest of it has.

The most urgent class goes first. For every ``STEP`` seconds that its oldest delivery has waited, while the destination
could be sent to, a class counts one higher; classes that count the same take turns, image by image. So nothing starves,
and what is urgent waits for one image of each other class at most. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from asyncroute.core.priority import PRIORITIES, STAT

STEP = 300.0
"""Seconds of waiting after which a class counts one higher."""

OFTEN = 1.0
"""Seconds after which ages are looked at again."""


class Classes:
    """See module."""

    def __init__(self) -> None:
        self.mixed = False
        """Whether deliveries of several classes wait."""
        self.counts = dict.fromkeys(PRIORITIES.values(), 0)
        self.served = dict.fromkeys(PRIORITIES.values(), 0)
        """When each one had its last turn, as a number that rises."""
        self.levels = {priority: priority for priority in PRIORITIES.values()}
        """As what each of them counts now."""
        self._looked = float("-inf")

    def clear(self) -> None:
        """Nothing waits."""
        self.counts = dict.fromkeys(self.counts, 0)
        self.mixed = False

    def more(self, priority: int, number: int = 1) -> None:
        """``number`` more wait."""
        before = self.counts[priority]
        self.counts[priority] = before + number
        if not before:
            self._changed()

    def less(self, priority: int, number: int = 1) -> None:
        """``number`` fewer wait."""
        left = self.counts[priority] = self.counts[priority] - number
        if not left:
            self.levels[priority] = priority
            self._changed()

    def _changed(self) -> None:
        self.mixed = sum(map(bool, self.counts.values())) > 1

    def only(self, priority: int) -> bool:
        """Whether all that waits is of this class."""
        return not self.mixed and self.counts[priority] > 0

    def any_up_to(self, priority: int) -> bool:
        """Whether something of this class waits, or of a more urgent one."""
        return any(count for other, count in self.counts.items() if other <= priority)

    def best(self, some: Iterable[int]) -> int:
        """Of these classes the one that goes first."""
        return min(some, key=lambda priority: (self.levels[priority], self.served[priority], priority))

    def due(self, now: float) -> bool:
        """Whether ``age`` should be called."""
        return self.mixed and now - self._looked >= OFTEN

    def age(self, now: float, ages: Mapping[int, float]) -> None:
        """Take account of how long the oldest delivery of each class has waited (seconds)."""
        self._looked = now
        for priority, age in ages.items():
            self.levels[priority] = max(priority - int(max(age, 0.0) // STEP), STAT)
