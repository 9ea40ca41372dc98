"""What of one destination's deliveries only the journal has, and when it is read.

A channel holds a bounded number; the rest waits in the journal. Each reading takes as many of each strand, so that
they take turns whatever waits there. Guarantees: what arrives or is settled while the journal is read is neither lost
nor taken twice. Failures of the reader are logged, and it is asked again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from contextlib import suppress
from time import time
from typing import Protocol

from asyncroute.core.model import Delivery
from asyncroute.core.priority import PRIORITIES
from asyncroute.core.titles import WrongTitle
from asyncroute.forward.base import Forwarder
from asyncroute.journal.base import Reader
from asyncroute.queue.flows import Flows
from asyncroute.queue.verdict import Ledger

log = logging.getLogger(__name__)

READY_MOST = 1000
"""Deliveries that a channel holds in memory: so many of each class of priority with those that are more urgent."""

READY_LOW = 200
"""It refills when it holds fewer."""

READER_RETRY = 1.0

FIRST_MOST = 32
"""Deliveries of one class, source and study that are taken as they come though there is a backlog of others."""


class Holder(Protocol):
    """The channel, as a refill needs it."""

    name: str
    forwarder: Forwarder
    stopping: bool
    known: set[int]

    def take_in(self, deliveries: Iterable[Delivery]) -> None:
        """These are ready; those that are known already are not needed."""
        ...

    def look_again(self) -> None:
        """There may be more in the journal."""
        ...

    def pump(self) -> None:
        """Go on with what has come."""
        ...


class Refill:
    """See module. ``behind``: the journal may have what the channel does not know. The loop's thread only."""

    def __init__(self, holder: Holder, flows: Flows, reader: Reader, ledger: Ledger) -> None:
        self.behind = True
        self.most = READY_MOST
        self.arrivals: list[Delivery] = []
        """What came during a reading: the journal's answer may have it as well."""
        self._holder = holder
        self._flows = flows
        self._reader = reader
        self._ledger = ledger
        self._low = READY_LOW
        self._missed = False
        self._settled: set[int] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether the journal is being read."""
        return self._task is not None

    @property
    def near(self) -> bool:
        """Whether the channel may have to read more with the next delivery that begins."""
        return self.behind and (len(self._flows) <= self._low or self._flows.beyond.due)

    def look(self) -> None:
        """The journal has, or may have, something that the answer under way may be without."""
        self.behind = self._missed = True

    def cancel(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()

    # ---- what arrives

    def passes(self, delivery: Delivery) -> bool:
        """Whether this new one is taken at once: there is no backlog, or it is among the first of its strand (class,
        source and study), of which the journal has none before it."""
        flows = self._flows
        if not self.behind and flows.held < self.most:
            return True
        if delivery.strand in flows.beyond or flows.held >= 2 * self.most:
            return False
        with suppress(WrongTitle):
            return flows.holds(self._holder.forwarder.key(delivery), delivery.strand) < FIRST_MOST
        return True

    def keep(self, delivery: Delivery) -> bool:
        """One that does not pass: kept until the reading has ended, or (False) left to the journal."""
        if self.running and len(self.arrivals) < self.most:
            self.arrivals.append(delivery)
            return True
        self._leave(delivery)
        return False

    def _leave(self, delivery: Delivery) -> None:
        self.look()
        self._flows.beyond.leave(delivery.strand)

    def settled(self, instance_id: int, final: bool) -> bool:
        """A result is durable. Whether a reading is under way, which may bring the delivery back as it was before."""
        if self.running:
            self._settled.add(instance_id)
            self._missed = self._missed or not final
        return self.running

    # ---- reading

    def begin_if_due(self) -> None:
        """Read more if there is more and room for it. Results that are not durable yet count, too."""
        held = self._flows.held
        if not self.behind or self.running or len(self._holder.known) - held >= 2 * self.most:
            return
        if held < self._low or self._flows.beyond.due:
            self._missed = False
            self._flows.beyond.reads()
            self._settled.clear()
            self._task = asyncio.get_running_loop().create_task(self._read(), name=f"refill {self._holder.name}")

    async def _read(self) -> None:
        again: float | None = None
        holder = self._holder
        try:
            again = await self._claim(time(), holder.name, frozenset(holder.known))
        except Exception as error:
            log.error("%s: cannot read the journal: %s", holder.name, error)
            self.behind = False  # until look_again
            again = READER_RETRY
        finally:
            self._task = None
            self._judge_arrivals()
        if again is not None and not holder.stopping:
            asyncio.get_running_loop().call_later(again, holder.look_again)
        holder.pump()

    async def _claim(self, now: float, name: str, known: Collection[int]) -> float | None:
        """Take in what there is room for; if that was all: in how many seconds more is due."""
        rooms = {priority: self.most - self._flows.held_of(priority) for priority in PRIORITIES.values()}
        found = await self._reader.claim(name, rooms, now, known)
        self._flows.beyond.read(found)
        self._holder.take_in(d for d in found.deliveries if d.instance_id not in self._settled)
        if found.more or self._missed:
            return None
        self.behind = False
        return await self._reader.next_due(name, now, frozenset(self._holder.known))

    def _judge_arrivals(self) -> None:
        """What arrived meanwhile is taken, unless its own are before it in a backlog: then it waits there.

        The journal's answer may have brought it, too, and it may be over by now.
        """
        arrivals, self.arrivals = self.arrivals, []
        for delivery in arrivals:
            if delivery.instance_id in self._settled:
                self._ledger.finished_with(delivery)
            elif not self.behind or self.passes(delivery):
                self._holder.take_in((delivery,))
            else:
                self._leave(delivery)
                self._ledger.finished_with(delivery)
