"""Many senders, one destination, in virtual time: how lanes serve titles, measured as an observer would.

Real: the channel, the scheduler. Doubles: lanes (an association takes ``opening`` seconds, an image ``service``), the
journal (nothing in it).
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from operator import attrgetter
from statistics import median
from typing import Any, cast

from asyncroute.core.model import Delivery, Instance, Settlement, Source
from asyncroute.core.outcomes import SUCCESS
from asyncroute.core.retry import Backoff
from asyncroute.forward.base import Key, Lane, Reports
from asyncroute.forward.scope import bonds
from asyncroute.journal.base import Claim, Event, Reader
from asyncroute.link.buffers import Memory
from asyncroute.queue.channel import Channel
from asyncroute.queue.limits import Backlog, Outbound
from asyncroute.queue.scheduler import Scheduler
from tests.unit.parts import instance


class NothingStored:
    """``journal.base.Reader`` of an empty journal."""

    async def claim(self, destination: str, rooms: Mapping[int, int], now: float, exclude: Collection[int]) -> Claim:
        return Claim([])

    async def next_due(self, destination: str, now: float, exclude: Collection[int]) -> float | None:
        return None


class TimedLane:
    """``forward.base.Lane``: takes its time."""

    def __init__(self, town: Town, reports: Reports) -> None:
        self.open = False
        self.title = ""
        self.town = town
        self.reports = reports
        self.pairs: set[tuple[str, ...]] = set()

    def carries(self, key: Key) -> bool:
        return self.open and self.title == key[0] and key[1:] in self.pairs

    def begin(self, delivery: Delivery, title: str, probe: bool) -> None:
        key = (title, delivery.sop_class_uid, delivery.transfer_syntax)
        self.town.begins(delivery)
        loop = asyncio.get_running_loop()
        if self.carries(key):
            loop.call_later(self.town.service, self._sent, delivery)
            return
        self.town.opened.append((loop.time(), title))
        self.open, self.title, self.pairs = True, title, {key[1:], *self.reports.wanted(title)}
        loop.call_later(self.town.opening, self._established, delivery)

    def _established(self, delivery: Delivery) -> None:
        self.reports.opened(self, self.town.opening)
        asyncio.get_running_loop().call_later(self.town.service, self._sent, delivery)

    def _sent(self, delivery: Delivery) -> None:
        self.town.arrived(delivery)
        self.reports.finished(self, delivery, SUCCESS)

    def close(self) -> None:
        self.open = False
        self.town.closed += 1

    def abort(self) -> None:
        self.open = False

    def info(self) -> None:
        return None


class Town:
    """Senders around one channel. ``waits``: seconds from queue to destination, by calling title."""

    kind = "dicom"

    def __init__(self, lanes: int, service: float = 0.001, opening: float = 0.003, outbound: int = 1000) -> None:
        self.service = service
        self.opening = opening
        self.opened: list[tuple[float, str]] = []
        self.closed = 0
        self.waits: dict[str, list[float]] = defaultdict(list)
        self.order: list[str] = []
        self.begun: list[int] = []
        self.under_way: Counter[str] = Counter()
        self.most_at_once: Counter[str] = Counter()
        self.together: set[int] = set()
        self._queued: dict[int, float] = {}
        self._number = 0
        self.results: list[Settlement] = []
        self.notes: list[Event] = []
        self.loop = asyncio.get_running_loop()
        self.scheduler = Scheduler(Memory(1 << 20), self.results.append, self.notes.append, self.loop.time)
        self.outbound = Outbound(outbound)
        reader = cast(Reader, NothingStored())
        backlog = Backlog(0, 0)
        self.scope = "any"
        self.channel = Channel("pacs", self, lanes, Backoff(), backlog, reader, self.scheduler, self.outbound)
        self.scheduler.add(self.channel, start=True)

    def key(self, delivery: Delivery) -> Key:
        bond = bonds(self.scope, attrgetter("calling_aet"))(delivery)
        return bond, delivery.sop_class_uid, delivery.transfer_syntax

    def lane(self, reports: Reports) -> Lane:
        return TimedLane(self, reports)

    def begins(self, delivery: Delivery) -> None:
        """Keeps count of what is under way, by study and in all."""
        self.begun.append(delivery.instance_id)
        self.under_way[delivery.study_uid] += 1
        self.most_at_once |= self.under_way
        self.together.add(self.under_way.total())

    def arrived(self, delivery: Delivery) -> None:
        self.under_way[delivery.study_uid] -= 1
        self.order.append(delivery.calling_aet)
        self.waits[delivery.calling_aet].append(self.loop.time() - self._queued[delivery.instance_id])

    def send(self, title: str, count: int = 1, **more: Any) -> None:
        for _ in range(count):
            self._number += 1
            made: Instance = instance(self._number, "pacs", source=Source(title, "X", "", ""), **more)
            self._queued[self._number] = self.loop.time()
            self.scheduler.admitted(made, None)

    async def sender(self, title: str, count: int, gap: float, after: float = 0.0, **more: Any) -> None:
        """Sends so many images, one each ``gap`` seconds."""
        await asyncio.sleep(after)
        for _ in range(count):
            self.send(title, **more)
            await asyncio.sleep(gap)

    async def empty(self) -> None:
        """Wait until all has arrived."""
        while len(self.order) < self._number:
            await asyncio.sleep(0.001)
            self.scheduler.settled(self.results)
            self.results.clear()

    @property
    def median(self) -> float:
        return median(wait for waits in self.waits.values() for wait in waits)

    @property
    def longest(self) -> float:
        return max(wait for waits in self.waits.values() for wait in waits)


async def busy(town: Town, titles: int, count: int, gap: float, **more: Any) -> float:
    """So many senders at once; the seconds that they took."""
    await asyncio.sleep(0.1)
    begun = town.loop.time()
    senders = [town.sender(f"SITE{n}", count, gap, n * gap / titles, **more) for n in range(titles)]
    await asyncio.gather(*senders)
    await town.empty()
    return town.loop.time() - begun
