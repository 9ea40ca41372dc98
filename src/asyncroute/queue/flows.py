"""The ready deliveries of one channel, grouped by what an association must offer them.

Deliveries of one ``Key`` (calling title, SOP class, transfer syntax) are first in, first out. Between keys the oldest
head comes first. The few keys make looking for what a lane can carry cheap. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from asyncroute.core.model import Delivery
from asyncroute.forward.base import Key

PUT_BACK = 1 << 62
"""More than any instance's id: what was put back has a number below zero."""


class Flow:
    """Deliveries of one key. ``skipped``: how often its head was passed over for what an open association carries."""

    __slots__ = ("entries", "key", "skipped")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.skipped = 0
        self.entries: deque[tuple[int, Delivery]] = deque()


class Flows:
    """See module."""

    def __init__(self) -> None:
        self._flows: dict[Key, Flow] = {}
        self._sequence = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Delivery]:
        return (delivery for flow in self._flows.values() for _, delivery in flow.entries)

    def add(self, key: Key, delivery: Delivery) -> None:
        """``delivery`` comes last."""
        self._sequence += 1
        self._flow(key).entries.append((self._sequence, delivery))
        self._count += 1

    def put_back(self, key: Key, delivery: Delivery) -> None:
        """``delivery`` comes first again; of several put back the one that was received first."""
        sequence = delivery.instance_id - PUT_BACK
        entries = self._flow(key).entries
        before = []
        while entries and entries[0][0] < sequence:
            before.append(entries.popleft())
        entries.appendleft((sequence, delivery))
        entries.extendleft(reversed(before))
        self._count += 1

    def oldest(self, allowed: Callable[[Key], bool] | None = None) -> Flow | None:
        """The flow whose head has waited longest, of those whose key is ``allowed``."""
        flows = self._flows
        if len(flows) == 1:
            flow = next(iter(flows.values()))
            return flow if allowed is None or allowed(flow.key) else None
        best: Flow | None = None
        for flow in flows.values():
            if (best is None or flow.entries[0][0] < best.entries[0][0]) and (allowed is None or allowed(flow.key)):
                best = flow
        return best

    def take(self, flow: Flow) -> Delivery:
        """Remove and return the head of ``flow``."""
        _, delivery = flow.entries.popleft()
        flow.skipped = 0
        self._count -= 1
        if not flow.entries:
            del self._flows[flow.key]
        return delivery

    def keys(self) -> list[Key]:
        """The keys that have deliveries, oldest head first."""
        return [f.key for f in sorted(self._flows.values(), key=lambda f: f.entries[0][0])]

    def remove(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out every delivery that is ``unwanted``."""
        gone: list[Delivery] = []
        for key, flow in list(self._flows.items()):
            kept = deque(e for e in flow.entries if not unwanted(e[1]))
            if len(kept) != len(flow.entries):
                gone += [d for _, d in flow.entries if unwanted(d)]
                flow.entries = kept
                if not kept:
                    del self._flows[key]
        self._count -= len(gone)
        return gone

    def _flow(self, key: Key) -> Flow:
        flow = self._flows.get(key)
        if flow is None:
            flow = self._flows[key] = Flow(key)
        return flow
