"""All channels together: feeds them what is admitted, takes what they report, counts.

``Scheduler`` is ``admit``'s downstream and the channels' ledger. Counters of open deliveries live here while the router
runs (they start from the journal), so that ``status`` and ``max_backlog`` cost nothing per image.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from time import monotonic, time
from typing import Any

from asyncroute.core.groups import Regrouped
from asyncroute.core.model import Delivery, Instance, RouteHit, Settlement
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Counts, Event
from asyncroute.link.buffers import ImageBytes, Memory
from asyncroute.queue import report
from asyncroute.queue.channel import Channel
from asyncroute.queue.group import HELD
from asyncroute.queue.limits import Backlog
from asyncroute.queue.times import Hold

log = logging.getLogger(__name__)

Settle = Callable[[Settlement], None]
Note = Callable[[Event], None]
ALERT = 0.5
RATE_SECONDS = 10.0


@dataclass(slots=True)
class Tally:
    """One destination's deliveries. ``sizes`` are kept only while a delivery is in memory; the journal has the rest."""

    backlog: Backlog
    failed: int = 0
    delivered: int = 0
    transformed: int = 0
    """Delivered as a transform made them, since the start."""
    oldest_at: float | None = None
    recent: deque[list[int]] = field(default_factory=deque)
    """[second (loop time), deliveries in it]."""


class Scheduler:
    """See module. The loop's thread only."""

    def __init__(self, memory: Memory, settle: Settle, note: Note, clock: Callable[[], float] = monotonic) -> None:
        """``note``: makes an event durable. ``clock``: the journal's (``Writer.clock``)."""
        self.channels: dict[str, Channel] = {}
        self.tallies: dict[str, Tally] = {}
        self.totals: Counter[str] = Counter()
        self.held = 0
        self.holds: dict[str, Hold] = {}
        """A person's, by destination; also of those that are not configured now."""
        self.stalled = False
        self.elsewhere: Callable[[RouteHit], bool] = lambda hit: False
        """See ``queue.group.Groups.elsewhere``."""
        self.owe: Callable[[str], None] = lambda name: None
        """See ``queue.group.Groups.owe``."""
        self._retiring: dict[asyncio.Task[None], Channel] = {}
        self._memory = memory
        self._settle = settle
        self._note = note
        self._clock = clock
        self._loop = asyncio.get_running_loop()

    def add(self, channel: Channel, start: bool = False) -> None:
        """One more destination; ``start``: the router runs already. One that was there before keeps its counts."""
        self.channels[channel.name] = channel
        tally = self.tallies.setdefault(channel.name, Tally(channel.backlog))
        channel.backlog.images, channel.backlog.bytes = tally.backlog.images, tally.backlog.bytes
        tally.backlog = channel.backlog
        channel.times.hold = self.holds.setdefault(channel.name, Hold())
        if start:
            channel.look_again()

    def retire(self, name: str, deadline: float) -> None:
        """A destination is gone from the configuration: its lanes end, what it is owed stays in the journal."""
        channel = self.channels.pop(name)
        channel.forget()
        task = self._loop.create_task(channel.stop(deadline), name=f"retire {name}")
        self._retiring[task] = channel
        task.add_done_callback(self._retiring.pop)

    def retiring(self, names: Collection[str]) -> list[Channel]:
        """The channels of these destinations that still end what they were sending."""
        return [channel for channel in self._retiring.values() if channel.name in names]

    def begin(self, counts: Counts) -> None:
        """Take over what the journal counts, then let the channels read."""
        self.count_anew(counts)
        ahead = self._loop.time() - self._clock()
        for name, periods in counts.holds.items():
            self.holds.setdefault(name, Hold()).remember(periods, ahead)
        for channel in self.channels.values():
            channel.look_again()

    def hold(self, name: str, since: float | None) -> None:
        """A person holds this destination since then (seconds since the epoch); None: holds it no more."""
        hold, now = self.holds.setdefault(name, Hold()), self._loop.time()
        if since is None:
            hold.end(now)
        else:
            hold.begin(since, now)
        channel = self.channels.get(name)
        if channel is not None:
            channel.pump()

    def count_anew(self, counts: Counts) -> None:
        """Set all counters from the journal."""
        self.held = counts.held
        self.totals = Counter(counts.totals)
        for name in {*counts.open, *counts.delivered} - set(self.tallies):
            self.tallies[name] = Tally(Backlog(0, 0))  # no longer configured
        for name, tally in self.tallies.items():
            states = counts.open.get(name, {})
            tally.failed = states.get(DeliveryState.FAILED, 0)
            tally.backlog.images = sum(states.values()) - tally.failed
            tally.backlog.bytes = counts.backlog_bytes.get(name, 0)
            tally.delivered = counts.delivered.get(name, 0)
            tally.oldest_at = counts.oldest.get(name)

    # ---- admit.Downstream

    def full(self, hits: tuple[RouteHit, ...]) -> str | None:
        """See ``admit.Downstream``."""
        for hit in hits:
            full = self.tallies[hit.destination].backlog.full()
            if full:
                return f"destination {hit.destination}: {full}"
        return None

    def admitted(self, instance: Instance, image: ImageBytes | None) -> None:
        """See ``admit.Downstream``."""
        if image is not None:
            image.owed = len(instance.hits)
        if not instance.hits:
            self.held += 1
        for hit in instance.hits:
            self.tallies[hit.destination].backlog.add(instance.size)
            delivery = _delivery(instance, hit, image, self._clock())
            if hit.groups and self.elsewhere(hit):
                self.finished_with(delivery)
                continue
            channel = self.channels.get(hit.destination)  # none: retired since the image was routed
            if hit.wait is not None or channel is None or not channel.offer(delivery):
                self.finished_with(delivery)

    # ---- queue.verdict.Ledger

    def clock(self) -> float:
        """See ``queue.verdict.Ledger``."""
        return self._clock()

    def settle(self, settlement: Settlement, delivery: Delivery, logged: str = "") -> None:
        """See ``queue.verdict.Ledger``."""
        self._settle(settlement if delivery.sent is None else Settlement(*settlement[:-1], delivery.sent))
        if settlement.state is DeliveryState.READY:
            return
        tally = self.tallies[delivery.destination]
        tally.backlog.remove(delivery.size)
        why = logged or settlement.error
        if settlement.state is DeliveryState.FAILED:
            tally.failed += 1
            log.error("%s: %s is a dead letter: %s", delivery.destination, delivery.sop_instance_uid, why)
        elif settlement.state is DeliveryState.DISCARDED:
            self.totals["discarded"] += 1
            log.warning("%s: %s is not sent: %s", delivery.destination, delivery.sop_instance_uid, why)
        else:
            tally.delivered += 1
            tally.transformed += delivery.sent is not None
            self.totals["delivered"] += 1
            self._count_rate(tally)

    def undelivered(self, destination: str, again: Iterable[int], failed: int) -> None:
        """See ``queue.proof.Books``."""
        tally, sizes = self.tallies[destination], list(again)
        tally.delivered -= len(sizes) + failed
        self.totals["delivered"] -= len(sizes) + failed
        tally.failed += failed
        for size in sizes:
            tally.backlog.add(size)
        if sizes:
            self.owe(destination)
            self.look_again((destination,))

    def note(self, kind: str, text: str, destination: str, instance_id: int | None = None) -> None:
        """See ``queue.verdict.Ledger``."""
        self._note(Event(time(), kind, text, instance_id, destination))

    def finished_with(self, delivery: Delivery) -> None:
        """See ``queue.verdict.Ledger``."""
        image, delivery.image = delivery.image, None
        if isinstance(image, ImageBytes):
            image.owed -= 1
            if not image.owed:
                self._memory.done_with(delivery.instance_id)

    # ---- the journal's word

    def stall(self, stalled: bool) -> None:
        """Results cannot be written (or can be again): nothing begins meanwhile."""
        self.stalled = stalled
        for channel in self.channels.values() if not stalled else ():
            channel.pump()

    def settled(self, settlements: list[Settlement]) -> None:
        """These results are durable."""
        for s in settlements:
            channel = self.channels.get(s.destination)
            if channel is not None:
                channel.settled(s.instance_id, s.state is not DeliveryState.READY)

    def look_again(self, names: Iterable[str]) -> None:
        """The journal may hold deliveries to these destinations that their channels do not know."""
        for name in names:
            channel = self.channels.get(name)
            if channel is not None:
                channel.look_again()

    def regrouped(self, news: Regrouped) -> None:
        """These deliveries are no more, and those are new."""
        for _, name, size, dead in news.taken:
            if dead:
                self.tallies[name].failed -= 1
            else:
                self.tallies[name].backlog.remove(size)
        for _, name, size in news.given:
            self.tallies[name].backlog.add(size)
        self.look_again({name for _, name, _ in news.given})

    def ill(self, name: str) -> str:
        """Why a destination should have no studies of its groups; empty: it may."""
        channel = self.channels.get(name)
        if channel is None:
            return "no longer in the configuration"
        return channel.verdict.ill(self._loop.time()) or (HELD if channel.times.hold.at is not None else "")

    # ---- rates and status

    def _count_rate(self, tally: Tally) -> None:
        report.count_second(tally.recent, self._loop.time(), 1, RATE_SECONDS)

    def _rate(self, tally: Tally) -> float:
        since = self._loop.time() - RATE_SECONDS
        return round(sum(n for at, n in tally.recent if at >= since) / RATE_SECONDS, 2)

    def describe(self) -> list[dict[str, Any]]:
        """The ``channels`` of ``status --json``, but for the oldest delivery's age."""
        return [self._line(name, tally) for name, tally in self.tallies.items()]

    def _line(self, name: str, tally: Tally) -> dict[str, Any]:
        channel = self.channels.get(name)
        own = channel.describe() if channel is not None else report.removed(name)
        waiting = tally.backlog.images
        oldest_at = (channel.oldest_at if channel is not None else None) or tally.oldest_at
        oldest = max(time() - oldest_at, 0.0) if oldest_at is not None and waiting else None
        return {
            **own,
            "waiting": waiting,
            "ready": max(waiting - own["sending"], 0),
            "failed": tally.failed,
            "delivered": tally.delivered,
            "transformed": tally.transformed,
            "oldest_s": round(oldest, 1) if oldest is not None else None,
            "rate_per_s": self._rate(tally),
            "alert": "max_backlog half full" if tally.backlog.share >= ALERT else "",
        }


def _delivery(instance: Instance, hit: RouteHit, image: ImageBytes | None, since: float) -> Delivery:
    source = instance.source
    return Delivery(
        instance.id,
        hit.destination,
        hit.route,
        source.calling_aet,
        source.called_aet,
        source.listener,
        instance.sop_class_uid,
        instance.sop_instance_uid,
        instance.transfer_syntax,
        instance.study_uid,
        instance.path,
        instance.data_offset,
        instance.size,
        instance.checksum,
        instance.received_at,
        0,
        0.0,
        since,
        hit.priority,
        image,
        instance.series_uid,
        instance.patient_id,
        source.peer,
        instance.received_at,
        instance.header_length,
    )
