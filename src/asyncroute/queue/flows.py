"""The ready deliveries of one channel, grouped by what an association must offer them.

Deliveries of one ``Key`` (calling title, SOP class, transfer syntax) are first in, first out. Keys for which no lane
works wait in line: who came first is first, and who lost the last lane is last. All that is done for a delivery takes
the same time whether there are ten titles or a thousand. Pure: no I/O, no clock.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterator

from asyncroute.core.model import Delivery
from asyncroute.forward.base import Key

PUT_BACK = 1 << 62
"""More than any instance's id: what was put back has a number below zero."""

STALE = 64
"""Places in line that may be held by nobody any more, besides as many as there are of the others."""


class Flow:
    """Deliveries of one key, at least one. ``rank``: its place in line, None: it is not in line. ``since``: loop time
    at which it was lined up."""

    __slots__ = ("entries", "key", "rank", "since")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.rank: int | None = None
        self.since = 0.0
        self.entries: deque[tuple[int, Delivery]] = deque()

    @property
    def head(self) -> int:
        """The number of its first delivery: the lower, the longer it has waited."""
        return self.entries[0][0]


class Flows:
    """See module."""

    def __init__(self) -> None:
        self._flows: dict[Key, Flow] = {}
        self._titles: dict[str, dict[Key, Flow]] = {}
        self._line: list[tuple[int, Key]] = []
        self._sequence = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Delivery]:
        return (delivery for flow in self._flows.values() for _, delivery in flow.entries)

    def clear(self) -> None:
        """Forget all."""
        self._flows.clear()
        self._titles.clear()
        self._line.clear()
        self._count = 0

    # ---- deliveries

    def add(self, key: Key, delivery: Delivery) -> Flow | None:
        """``delivery`` comes last; the flow, if it is the first of its key (not in line yet)."""
        self._count += 1
        self._sequence += 1
        flow = self._flows.get(key)
        if flow is not None:
            flow.entries.append((self._sequence, delivery))
            return None
        flow = self._new(key)
        flow.entries.append((self._sequence, delivery))
        return flow

    def put_back(self, key: Key, delivery: Delivery, now: float) -> None:
        """``delivery`` comes first again, and its key is the first in line; of several the one received first."""
        sequence = delivery.instance_id - PUT_BACK
        flow = self._flows.get(key) or self._new(key)
        entries, before = flow.entries, []
        while entries and entries[0][0] < sequence:
            before.append(entries.popleft())
        entries.appendleft((sequence, delivery))
        entries.extendleft(reversed(before))
        self._count += 1
        self._line_up(flow, entries[0][0], now)

    def take(self, flow: Flow) -> Delivery:
        """Remove and return the head of ``flow``."""
        _, delivery = flow.entries.popleft()
        self._count -= 1
        if not flow.entries:
            self._over(flow.key)
        return delivery

    def remove(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out every delivery that is ``unwanted``."""
        gone: list[Delivery] = []
        for key, flow in list(self._flows.items()):
            kept = deque(e for e in flow.entries if not unwanted(e[1]))
            if len(kept) != len(flow.entries):
                gone += [d for _, d in flow.entries if unwanted(d)]
                flow.entries = kept
                if not kept:
                    self._over(key)
        self._count -= len(gone)
        return gone

    def _new(self, key: Key) -> Flow:
        flow = self._flows[key] = Flow(key)
        siblings = self._titles.get(key[0])
        if siblings is None:
            self._titles[key[0]] = {key: flow}
        else:
            siblings[key] = flow
        return flow

    def _over(self, key: Key) -> None:
        del self._flows[key]
        siblings = self._titles[key[0]]
        if len(siblings) == 1:
            del self._titles[key[0]]
        else:
            del siblings[key]

    # ---- which

    def each(self) -> Collection[Flow]:
        """All, in no order."""
        return self._flows.values()

    def of(self, title: str) -> Collection[Flow]:
        """The flows of a calling title."""
        siblings = self._titles.get(title)
        return siblings.values() if siblings is not None else ()

    def only(self, key: Key) -> Flow | None:
        """The flow of ``key``, if there is no other of its title."""
        siblings = self._titles.get(key[0])
        return siblings.get(key) if siblings is not None and len(siblings) == 1 else None

    def oldest(self, allowed: Callable[[Key], bool] | None = None) -> Flow | None:
        """The flow whose head has waited longest, of those whose key is ``allowed``. Looks at all."""
        found = [f for f in self._flows.values() if allowed is None or allowed(f.key)]
        return min(found, key=lambda f: f.head) if found else None

    def keys(self) -> list[Key]:
        """The keys that have deliveries, oldest head first."""
        return [f.key for f in sorted(self._flows.values(), key=lambda f: f.head)]

    # ---- the line

    @property
    def lined(self) -> bool:
        """Whether anybody may be in line."""
        return bool(self._line)

    def line_up(self, flow: Flow, now: float) -> None:
        """``flow`` waits for a lane from now on, behind those who do already."""
        if flow.rank is None:
            self._sequence += 1
            self._line_up(flow, self._sequence, now)

    def _line_up(self, flow: Flow, rank: int, now: float) -> None:
        flow.rank, flow.since = rank, now
        if len(self._line) >= 2 * len(self._flows) + STALE:
            self._line = [(f.rank, f.key) for f in self._flows.values() if f.rank is not None and f is not flow]
            heapq.heapify(self._line)
        heapq.heappush(self._line, (rank, flow.key))

    def first(self) -> Flow | None:
        """Who has waited longest in line."""
        while self._line:
            rank, key = self._line[0]
            flow = self._flows.get(key)
            if flow is not None and flow.rank == rank:
                return flow
            heapq.heappop(self._line)
        return None

    def step_out(self, flow: Flow) -> None:
        """``flow`` waits in line no more."""
        flow.rank = None

    def step_back(self, flow: Flow, rank: int) -> None:
        """``flow``, which stepped out of it, has its place in line again."""
        self._line_up(flow, rank, flow.since)
