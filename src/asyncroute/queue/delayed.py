"""Deliveries that are tried again after a while, and stay in memory meanwhile. Pure: times are passed in."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import count
from math import inf

from asyncroute.core.model import Delivery


class Delayed:
    """The earliest first; of those due at one time, the first added."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Delivery]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[Delivery]:
        return (delivery for _, _, delivery in self._heap)

    @property
    def next_at(self) -> float:
        """When the first is due; inf: there is none."""
        return self._heap[0][0] if self._heap else inf

    def add(self, at: float, delivery: Delivery) -> None:
        """``delivery`` is ready again at this time."""
        heapq.heappush(self._heap, (at, next(self._order), delivery))

    def due(self, now: float) -> Iterator[Delivery]:
        """Take out those whose time has come."""
        while self._heap and self._heap[0][0] <= now:
            yield heapq.heappop(self._heap)[2]

    def remove(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out every delivery that is ``unwanted``."""
        gone = [delivery for delivery in self if unwanted(delivery)]
        self._heap = [entry for entry in self._heap if not unwanted(entry[2])]
        heapq.heapify(self._heap)
        return gone
