"""Channels for unit tests: a real journal, committer and scheduler; only lanes and destinations are doubles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from asyncroute.commit import Committer
from asyncroute.core.model import Delivery, Instance, Settlement
from asyncroute.core.outcomes import SUCCESS, Outcome
from asyncroute.core.retry import Backoff
from asyncroute.core.titles import WrongTitle
from asyncroute.forward.base import Key, Lane, Reports
from asyncroute.journal.base import Claim, Group
from asyncroute.journal.reader import SqliteReader
from asyncroute.journal.sqlite import SqliteJournal
from asyncroute.link.buffers import Memory
from asyncroute.queue.channel import Channel
from asyncroute.queue.limits import Backlog, Outbound
from asyncroute.queue.scheduler import Scheduler
from asyncroute.release import Releaser
from asyncroute.settle import Settler
from asyncroute.spool.local import LocalSpool
from tests.unit.parts import instance, states, until

QUICK = Backoff(first=0.01, factor=1, max=0.02)


class Hand:
    """``forward.base.Lane``: takes a delivery and does nothing until the test (or ``Site.auto``) says how it ended."""

    def __init__(self, site: Site, reports: Reports) -> None:
        self.open = False
        self.site = site
        self.reports = reports
        self.delivery: Delivery | None = None
        self.title = ""
        self.pairs: set[tuple[str, ...]] = set()
        self.ended = ""
        self.connecting = False

    def carries(self, key: Key) -> bool:
        return self.open and key[0] == self.title and key[1:] in self.pairs

    def begin(self, delivery: Delivery, title: str, probe: bool) -> None:
        assert self.delivery is None
        assert not self.ended
        if not self.carries((title, delivery.sop_class_uid, delivery.transfer_syntax)):
            self.site.opened += 1
            self.pairs = set() if title != self.title else self.pairs
            self.pairs.add((delivery.sop_class_uid, delivery.transfer_syntax))
        self.open, self.title, self.delivery = True, title, delivery
        self.site.began(self, delivery, probe)

    def finish_if_busy(self, outcome: Outcome) -> None:
        if self.delivery is not None:
            self.finish(outcome)

    def finish(self, outcome: Outcome = SUCCESS, stays_open: bool = True) -> None:
        delivery, self.delivery = self.delivery, None
        assert delivery is not None
        self.open = self.open and stays_open
        self.reports.finished(self, delivery, outcome)

    def lose(self) -> None:
        """The connection ends while idle."""
        assert self.delivery is None
        self.open = False
        self.reports.closed(self)

    def close(self) -> None:
        assert self.delivery is None
        self.open = False
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.open = False
        self.delivery = None
        self.ended = "aborted"

    def info(self) -> dict[str, Any] | None:
        return {"state": "connecting" if self.connecting else "sending"} if self.open else None


class Site:
    """``forward.base.Forwarder``: a destination whose lanes are ``Hand``s. ``log``: images in the order they began.

    ``wrong``: senders whose images have no title.
    """

    kind = "dicom"

    def __init__(self, auto: Outcome | None = None) -> None:
        self.auto = auto
        self.hands: list[Hand] = []
        self.log: list[int] = []
        self.probes: list[bool] = []
        self.images: list[object] = []
        self.opened = 0
        self.most = 0
        self.wrong: set[str] = set()

    def key(self, delivery: Delivery) -> Key:
        if delivery.calling_aet in self.wrong:
            raise WrongTitle(f"no title for {delivery.calling_aet}")
        return delivery.calling_aet, delivery.sop_class_uid, delivery.transfer_syntax

    def lane(self, reports: Reports) -> Lane:
        self.hands.append(Hand(self, reports))
        return self.hands[-1]

    def began(self, hand: Hand, delivery: Delivery, probe: bool) -> None:
        self.log.append(delivery.instance_id)
        self.probes.append(probe)
        self.images.append(delivery.image)
        under_way = [x.delivery.instance_id for x in self.hands if x.delivery is not None]
        assert len(under_way) == len(set(under_way)), f"on two lanes at once: {under_way}"
        self.most = max(self.most, len(under_way))
        if self.auto is not None:
            outcome = self.auto
            asyncio.get_running_loop().call_soon(hand.finish_if_busy, outcome)

    @property
    def busy(self) -> list[Hand]:
        return [hand for hand in self.hands if hand.delivery is not None]

    @property
    def sending(self) -> list[int]:
        return [hand.delivery.instance_id for hand in self.hands if hand.delivery is not None]

    @property
    def open(self) -> int:
        return sum(hand.open for hand in self.hands)

    def finish(self, number: int, outcome: Outcome = SUCCESS, stays_open: bool = True) -> None:
        """End the delivery of image ``number``."""
        next(x for x in self.busy if x.delivery and x.delivery.instance_id == number).finish(outcome, stays_open)


class SlowReader:
    """A journal reader that can be held up before and after a claim, and before the question what is due."""

    def __init__(self, real: SqliteReader) -> None:
        self._real = real
        self.before, self.after, self.due = (asyncio.Event() for _ in range(3))
        self.go_on()
        self.claims = self.asked = 0
        self.error: Exception | None = None

    def go_on(self) -> None:
        for event in (self.before, self.after, self.due):
            event.set()

    async def claim(self, destination: str, rooms: Mapping[int, int], now: float, exclude: Collection[int]) -> Claim:
        self.claims += 1
        await self.before.wait()
        if self.error is not None:
            raise self.error
        found = await self._real.claim(destination, rooms, now, exclude)
        await self.after.wait()
        return found

    async def next_due(self, destination: str, now: float, exclude: Collection[int]) -> float | None:
        self.asked += 1
        await self.due.wait()
        return await self._real.next_due(destination, now, exclude)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class Queue:
    """Everything behind admission but the real destinations."""

    def __init__(self, journal: SqliteJournal, reader: SqliteReader, spool: LocalSpool) -> None:
        self.journal = journal
        self.reader = SlowReader(reader)
        self.memory = Memory(64 << 20)
        self.committer = Committer(spool, journal)
        self.scheduler = Scheduler(self.memory, Settler(self.committer).settle, self.committer.record, journal.clock)
        self.committer.on_settled = self._settled
        self.committer.on_trouble = self.scheduler.stall
        self.releaser = Releaser(spool, self.committer.release)
        self.committer.on_releasable = self.releaser.release
        self.outbound = Outbound(1000)
        self.sites: dict[str, Site] = {}
        self.results: list[Settlement] = []

    def _settled(self, settlements: list[Settlement]) -> None:
        self.results += settlements
        self.scheduler.settled(settlements)

    def channel(self, name: str = "pacs", lanes: int = 2, retry: Backoff = QUICK, auto: Outcome | None = None) -> Site:
        """One more destination; start it with ``begin``."""
        site = self.sites[name] = Site(auto)
        backlog = Backlog(0, 0)
        self.scheduler.add(Channel(name, site, lanes, retry, backlog, self.reader, self.scheduler, self.outbound))
        return site

    async def begin(self) -> None:
        """Let all channels read the journal; wait until they have (or hang in ``reader``)."""
        self.scheduler.begin(await self.reader.counts())
        if self.reader.before.is_set() and self.reader.after.is_set() and self.reader.due.is_set():
            await until(self.idle, "all channels have read the journal")

    def idle(self) -> bool:
        return all(not channel._refill.running for channel in self.scheduler.channels.values())

    def write(self, numbers: Sequence[int], *destinations: str, **more: Any) -> list[Instance]:
        """Journal images, without telling anybody."""
        made = [instance(number, *(destinations or ("pacs",)), **more) for number in numbers]
        self.journal.commit(Group(admits=made))
        return made

    def admit(self, numbers: Sequence[int], *destinations: str, **more: Any) -> None:
        """Journal images and hand them to the channels."""
        for made in self.write(numbers, *destinations, **more):
            self.scheduler.admitted(made, None)

    async def settled(self, count: int) -> None:
        """Wait until so many results are durable."""
        await until(lambda: len(self.results) >= count, f"{count} results ({len(self.results)})")

    def states(self, destination: str = "pacs") -> dict[int, str]:
        return states(self.journal, destination)

    def ids(self, destination: str = "pacs") -> set[int]:
        """What the channel holds."""
        return self.scheduler.channels[destination].known


@asynccontextmanager
async def queueing(folder: Path) -> AsyncIterator[Queue]:
    """A journal with nothing in it, and everything that works on it."""
    journal = SqliteJournal.open(folder, "process-crash")
    spool = LocalSpool(folder / "spool", "process-crash")
    reader = await SqliteReader.open(folder)
    queue = Queue(journal, reader, spool)
    try:
        yield queue
    finally:
        queue.reader.go_on()
        for site in queue.sites.values():
            site.auto = None
        for channel in queue.scheduler.channels.values():
            await channel.stop(0.0)
        await queue.committer.drained()
        await queue.releaser.drained()
        await queue.committer.drained()
        queue.releaser.close()
        queue.committer.close()
        await reader.close()
        journal.close()
        spool.close()
