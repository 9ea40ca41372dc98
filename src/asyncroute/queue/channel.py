"""One destination's queue in memory: what is ready, which lanes work, when to wait.

The journal holds every delivery; a channel holds a bounded number of them and refills from the journal. Decisions
(``pump``) are synchronous: which delivery, on which lane; lanes act afterwards and report outcomes, on which
``queue.verdict`` decides. Guarantees: no delivery is on two lanes at once; every delivery is settled through the
journal or stays ready there; a destination that is down costs no image an attempt. Failures of the journal's reader
are logged and tried again.

Order: the most urgent class, then turns between (source, study)s (``queue.flows``). So that this holds whatever waits
in the journal, a refill takes as many of each, and the first of a study are taken as they come despite a backlog.

The usual case (an image whose title has an idle lane, a result that is a success, more of the same title) goes straight
from lane to lane in ``offer`` and ``finished``; everything else goes through ``pump``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from itertools import islice
from math import inf
from random import random
from typing import Any

from asyncroute.core.hours import Hours
from asyncroute.core.model import Delivery
from asyncroute.core.outcomes import SUCCESS, Outcome, unsendable
from asyncroute.core.retry import Backoff
from asyncroute.core.titles import WrongTitle
from asyncroute.forward.base import FIRST, Bond, Forwarder, Key, Lane, Pair, title_of
from asyncroute.journal.base import Reader
from asyncroute.queue import report
from asyncroute.queue.alarm import Alarm
from asyncroute.queue.breaker import Breaker
from asyncroute.queue.choice import Choice
from asyncroute.queue.delayed import Delayed
from asyncroute.queue.flows import Flow
from asyncroute.queue.handover import Handover
from asyncroute.queue.limits import Backlog, Outbound
from asyncroute.queue.pace import Pace
from asyncroute.queue.pairs import Pairs
from asyncroute.queue.refill import Refill
from asyncroute.queue.times import Times
from asyncroute.queue.turns import Stint
from asyncroute.queue.verdict import Ledger, Verdict
from asyncroute.queue.window import NEVER, Window

TURN = 2.0
"""Seconds after which a lane that others wait for gives its association back, between two images."""


class Channel:
    """See module. The loop's thread only."""

    def __init__(
        self,
        name: str,
        forwarder: Forwarder,
        lanes: int,
        retry: Backoff,
        backlog: Backlog,
        reader: Reader,
        ledger: Ledger,
        outbound: Outbound,
    ) -> None:
        self.name = name
        self.forwarder = forwarder
        self.window = Window(lanes)
        self.backlog = backlog
        self.breaker = Breaker(retry, random)
        self.times = Times()
        self.pace = Pace(self.pump)
        self.verdict = Verdict(self, retry, ledger)
        self.lanes: list[Lane] = []
        self.sending: dict[Lane, Delivery] = {}
        self.stopping = self.halted = False
        self._outdated: set[Lane] = set()
        self.handover = Handover(self)
        self._opened: dict[Lane, float] = {}
        self._loop = asyncio.get_running_loop()
        self._ledger = ledger
        self._outbound = outbound
        self._choice = Choice()
        self.idle = self._choice.idle
        self._flows = self._choice.flows
        self._turns = self._choice.turns
        self.known: set[int] = set()
        self._left_to_journal: set[int] = set()
        """Waiting for another try there, once the journal knows until when: before, a refill would bring them back."""
        self._delayed = Delayed()
        self._pairs = Pairs()
        self._refill = Refill(self, self._flows, reader, ledger)
        self._alarm = Alarm(self.pump)

    # ---- what comes in

    def offer(self, delivery: Delivery) -> bool:
        """A new delivery, already in the journal. False: not held here (it will be read from the journal)."""
        if delivery.instance_id in self.known:
            return False
        if not self._refill.passes(delivery):
            kept = self._refill.keep(delivery)
            if not kept and not self.sending:
                self.pump()
            return kept
        self.known.add(delivery.instance_id)
        key = self._key(delivery)
        if key is not None and not (self.verdict.calm and self._begin_at_once(key, delivery)):
            self._queue_up(key, delivery)
        return True

    def _begin_at_once(self, key: Key, delivery: Delivery) -> bool:
        """The usual case of an arrival: nothing is before it and a lane of its title is idle. False: it is not so."""
        title = key[0]
        if self.halted or self._ledger.stalled or self._outbound.wanted or len(self.sending) >= self.window.size:
            return False
        if self._flows.of(title) or self._flows.classes.mixed or not self._flows.may_begin(delivery.study_uid):
            return False
        for lane in reversed(self.idle):
            stint = self._turns.stints[lane]
            if stint.title == title and (stint.key == key or lane.carries(key)):
                now = self._loop.time()
                if now >= stint.until and self._flows.lined:
                    return False
                if stint.key != key:
                    self._pairs.remember(key)
                self._turns.goes_on(stint, key, now)
                self.idle.remove(lane)
                self._give(lane, delivery, stint, now)
                return True
        return False

    def _queue_up(self, key: Key, delivery: Delivery) -> None:
        """It has to wait, or a lane be found for it. Behind others of its key it changes nothing."""
        new = self._choice.add(key, delivery, self._loop.time())
        if new and (self.idle or len(self.lanes) < self.window.most or self._delayed):
            self.pump()

    def change(self, forwarder: Forwarder, retry: Backoff, hours: Hours | None, gap: float) -> None:
        """New settings: idle lanes end, those that send end with the image at hand."""
        self.forwarder = forwarder
        self.times.change(hours, gap, self._loop.time())
        self.verdict.change(retry)
        self.breaker.backoff = retry
        self._outdated |= set(self.sending)
        self._make_room()
        self.limit_studies(self._flows.most)
        self._pairs.clear()
        self.pump()

    def limit_studies(self, most: int) -> None:
        """``max_per_study``: from now on no more deliveries of one study are begun while so many are under way (0: no
        limit)."""
        waiting = sorted(self._flows, key=lambda d: d.instance_id)
        self._flows.clear()
        self._flows.limit(most, (d.study_uid for d in self.sending.values()))
        for delivery in waiting:
            self._add(delivery)

    def forget(self) -> None:
        """Hold nothing any more; what is owed stays in the journal."""
        self._give_up(lambda _: True)

    def look_again(self) -> None:
        """The journal may hold deliveries that we do not know (a person's retry, a start)."""
        self._refill.look()
        self.pump()

    def look_now(self) -> None:
        """The journal has more that may be next, whatever is here (studies that are complete)."""
        self._flows.beyond.appear()
        self.look_again()

    def settled(self, instance_id: int, final: bool) -> None:
        """A result is durable; ``final``: the delivery is over (delivered, failed, discarded)."""
        if final or instance_id in self._left_to_journal:
            self._left_to_journal.discard(instance_id)
            self.known.discard(instance_id)
            if not self._refill.settled(instance_id, final) and self._refill.behind and not self.sending:
                self.pump()

    def take_back(self, instance_ids: Collection[int]) -> set[int]:
        """A person wants these: give up those that are not being sent; the ids that were given up.

        They stay unknown to refills until ``settled`` is called for each of them.
        """
        ids = set(instance_ids) - {d.instance_id for d in self.sending.values()}
        self._give_up(lambda d: d.instance_id in ids)
        self.known |= ids  # until ``settled``: a refill must not bring them back
        return ids

    def _give_up(self, chosen: Callable[[Delivery], bool]) -> list[Delivery]:
        """Hold these no more; what is being sent stays."""
        gone = self._flows.remove(chosen)
        gone += self._delayed.remove(chosen)
        gone += filter(chosen, self._refill.arrivals)
        self._refill.arrivals = [d for d in self._refill.arrivals if not chosen(d)]
        for delivery in gone:
            self._ledger.finished_with(delivery)
        return gone

    # ---- decisions

    def pump(self) -> None:
        """Give every free lane something to do, as far as that is allowed now."""
        if self.halted:
            return
        now = self._loop.time()
        for delivery in self._delayed.due(now) if self._delayed else ():
            self._add(delivery)
        if self._flows.classes.due(now):
            eldest = self._flows.eldest()
            self._flows.classes.age(now, {priority: self.verdict.age(since, now) for priority, since in eldest.items()})
        self._refill.begin_if_due()
        self._choice.turn_at = inf
        if self.times.shut(now):
            self.verdict.calm = False
            self._make_room()  # nothing may begin here
        while len(self._flows) and len(self.sending) < self._allowed(now) and self._begin_one(now):
            pass
        if self._outbound.wanted and self._outbound.wanted_beside(self):
            self._make_room()
        if self._delayed or len(self._flows) or self.times.timed:
            self._set_alarm(now)

    def _allowed(self, now: float) -> int:
        """How many lanes may work now."""
        if self._ledger.stalled or self.verdict.paused_until(now) or self.pace.blocked(now):
            return 0
        return self.breaker.allowed(now, self.window.at(now))

    def _make_room(self, most: int = 0) -> None:
        """Close lanes that have nothing to do, until there are ``most`` in all."""
        for lane in list(self.idle):
            if lane.open and lane in self.idle and len(self.lanes) > most:  # closing one may have set others to work
                lane.close()
                self._lane_closed(lane)

    def _begin_one(self, now: float) -> bool:
        """One delivery more begins; False: none can now."""
        chosen = self._chosen(now)
        if chosen is None or not (chosen[0] is None or chosen[0].carries(chosen[1].key)):
            full = len(self.lanes) >= self.window.size
            if full and self._outbound.room and self.window.needed(self.verdict.successes):
                chosen = self._chosen(now)
        if chosen is not None:
            self._begin(chosen[0] or self._new_lane(), chosen[1], now)
        elif not self.idle and not self._outbound.room:
            self._outbound.wait(self, starving=not self._opened)
        return chosen is not None

    def _chosen(self, now: float) -> tuple[Lane | None, Flow] | None:
        spare = len(self.lanes) < self.window.at(now) and self._outbound.room
        paused = self.verdict.paused_titles(now)
        return self._choice.choose(now, paused, spare if now >= self.times.next_lane else None)

    def _new_lane(self) -> Lane:
        lane = self.forwarder.lane(self)
        self.lanes.append(lane)
        self.idle.append(lane)
        return lane

    def _begin(self, lane: Lane, flow: Flow, now: float) -> None:
        key = flow.key
        self._choice.chosen(lane, flow, now)
        delivery = self._flows.take(flow)
        self.idle.remove(lane)
        if self.times.gap and not lane.carries(key):
            self.times.lane_begins(now)
        if not lane.open:
            self._outbound.taken()
            self._opened[lane] = now
        self._pairs.remember(key)
        self._give(lane, delivery, self._turns.stints[lane], now, self.breaker.open)

    def _give(self, lane: Lane, delivery: Delivery, stint: Stint, now: float, probe: bool = False) -> None:
        self.sending[lane] = delivery
        stint.images += 1
        stint.bytes += delivery.size
        if self._flows.most:
            self._flows.begun(delivery.study_uid)
        if self.pace.limited:
            self.pace.spend(min(delivery.size, FIRST), now)
        if now >= self.window.next_sample and not stint.opening:  # else from then on when it is open
            self.window.begins(lane, delivery.size, now)
        lane.begin(delivery, stint.title, probe)

    def spend(self, count: int, resume: Callable[[], None] | None = None) -> bool:
        """See ``forward.base.Reports``."""
        return self.pace.spend(count, self._loop.time(), resume)

    def wanted(self, bond: Bond) -> Iterable[Pair]:
        """See ``forward.base.Reports``."""
        return self._pairs.wanted(bond, self._flows.keys(bond))

    # ---- what lanes report

    def finished(self, lane: Lane, delivery: Delivery, outcome: Outcome) -> None:
        """See ``forward.base.Reports``."""
        del self.sending[lane]
        if self._flows.most:
            self._choice.ended(delivery.study_uid, self._loop.time())
        if lane is self.window.timed and self.window.ended(outcome.delivered, self._loop.time()):
            self._narrow()
        stint = self._turns.stints[lane]
        stint.opening = False
        usual = outcome is SUCCESS and self.verdict.calm and lane.open and not self._outdated
        usual = usual and len(self.sending) < self.window.grows_at
        if usual and not self._outbound.wanted and not self.halted:
            self.verdict.passed(delivery)
            self._next(lane, stint, delivery)
        else:
            self._finished_otherwise(lane, stint, delivery, outcome)

    def _next(self, lane: Lane, stint: Stint, delivery: Delivery) -> None:
        """After ``delivery`` ``lane`` goes on with the same key; if there is no more, or others have a say, ``pump``
        decides."""
        flows, now = self._flows, self._loop.time()
        if len(flows) and not self._delayed and not self._ledger.stalled:
            flow = flows.only(stint.key)
            usual = not flows.classes.mixed and not self._refill.near
            if flow is not None and usual and (now < stint.until or not (flows.lined or self._turns.several)):
                self._give(lane, flows.take(flow), stint, now)
                return
        stint.free, stint.priority = now, delivery.priority
        self.idle.append(lane)
        if len(flows) or self._refill.behind or self._delayed:
            until = self._rests_until(stint)
            if until > now:
                self._alarm.set(now, (until,))
            else:
                self.pump()

    def _rests_until(self, stint: Stint) -> float:
        """A lane has become idle, and others wait: until when nothing could begin because of that; 0: ``pump`` has to
        look. Where many titles share few lanes that is every other image, and looking costs more than one.
        """
        flows, window = self._flows, self.window
        if self._refill.behind or self._delayed or flows.most or self.pace.limited or self.times.timed:
            return 0.0
        if len(self.lanes) != window.size or window.grows_at != NEVER:
            return 0.0
        if flows.of(stint.title) or not flows.classes.only(stint.priority):
            return 0.0
        return self._turns.stays_until(stint, flows.titles)

    def _finished_otherwise(self, lane: Lane, stint: Stint, delivery: Delivery, outcome: Outcome) -> None:
        now = stint.free = self._loop.time()
        stint.priority = delivery.priority
        self.idle.append(lane)
        if lane.open and (lane in self._outdated or self._must_share(lane)):
            lane.close()
        self._outdated.discard(lane)
        if not lane.open:
            self._lane_closed(lane)
        if self.handover.ended(lane, delivery, outcome, now):
            self.pump()
            return
        self.verdict.on(delivery, title_of(stint.title), outcome, now)
        if outcome.delivered and len(self.sending) >= self.window.grows_at:
            self.window.needed(self.verdict.successes)
        self.pump()

    def opened(self, lane: Lane, seconds: float) -> None:
        """See ``forward.base.Reports``."""
        now = self._loop.time()
        self._turns.opened(lane, seconds, now)
        self.window.granted(self._associated())
        if now >= self.window.next_sample:
            self.window.begins(lane, self.sending[lane].size, now)

    def restarted(self, lane: Lane) -> None:
        """See ``forward.base.Reports``."""
        if lane is self.window.timed:
            self.window.begins(lane, self.sending[lane].size, self._loop.time())

    def _associated(self) -> int:
        """Associations that the destination has granted."""
        return sum(not self._turns.stints[lane].opening for lane in self._opened)

    def narrowed(self, text: str, now: float) -> bool:
        """See ``verdict.Queue``."""
        held = self._associated()
        return self.window.refused(held, len(self._opened) - held, text, now)

    def _narrow(self) -> None:
        """The window is smaller now: lanes beyond it end, those that send with the image at hand."""
        self._make_room(self.window.size)
        self._outdated |= set(islice(self.sending, max(len(self.lanes) - self.window.size, 0)))

    def _must_share(self, lane: Lane) -> bool:
        """Others wait for an association: who has none gets one of our several at once; else it goes by turns."""
        if not self._outbound.wanted_beside(self):
            return False
        if len(self._opened) > 1 and self._outbound.starved_beside(self):
            return True
        return self._loop.time() - self._opened[lane] >= TURN

    def closed(self, lane: Lane) -> None:
        """See ``forward.base.Reports``."""
        self._lane_closed(lane)
        self.pump()

    def _lane_closed(self, lane: Lane) -> None:
        if lane in self.idle:
            self.idle.remove(lane)
            self.lanes.remove(lane)
        self._choice.leave(lane, self._loop.time())
        self._opened.pop(lane, None)
        self._outbound.returned()

    # ---- for the verdict

    def again(self, delivery: Delivery, *, first: bool) -> None:
        """Ready again, at once: in front or at the end."""
        if first:
            key = self._key(delivery)
            if key is not None:
                self._flows.put_back(key, delivery, self._loop.time())
        else:
            self._add(delivery)

    def later(self, delivery: Delivery, seconds: float) -> None:
        """Ready again after ``seconds``; beyond our bound the journal remembers it for us."""
        if len(self._delayed) >= self._refill.most:
            self._left_to_journal.add(delivery.instance_id)
            self._ledger.finished_with(delivery)
            self._refill.look()
        else:
            self._delayed.add(self._loop.time() + seconds, delivery)

    def _add(self, delivery: Delivery) -> None:
        key = self._key(delivery)
        if key is not None:
            self._choice.add(key, delivery, self._loop.time())

    def _key(self, delivery: Delivery) -> Key | None:
        """None: it cannot go under any calling AE title, and is a dead letter now."""
        try:
            return self.forwarder.key(delivery)
        except WrongTitle as wrong:
            self.verdict.on(delivery, "", unsendable(str(wrong)), self._loop.time())
            return None

    def take_in(self, deliveries: Iterable[Delivery]) -> None:
        """See ``queue.refill.Holder``."""
        for delivery in deliveries:
            if delivery.instance_id not in self.known:
                self.known.add(delivery.instance_id)
                self._add(delivery)
            elif delivery.image is not None:
                self._ledger.finished_with(delivery)

    # ---- time

    def _set_alarm(self, now: float) -> None:
        """Come back when the first of what is waited for is due."""
        verdict, times = self.verdict, self.times
        due = (verdict.paused_until(now), self.breaker.until, verdict.next_title(now), times.look_at, times.next_lane)
        own = (self.window.next_try, self._choice.turn_at, self._delayed.next_at)
        self._alarm.set(now, (*due, *own))

    # ---- status and the end

    @property
    def oldest_at(self) -> float | None:
        """When the oldest delivery in memory was queued (seconds since the epoch); None: there is none here."""
        held = (*self._flows, *self._delayed, *self.sending.values())
        return min((d.queued_at for d in held), default=None)

    def describe(self) -> dict[str, Any]:
        """Its own part of the ``channels`` line of ``status --json``."""
        return report.of(self, self._loop.time())

    def _lanes_busy(self) -> bool:
        """Whether images are being sent; connections that are only being made are not waited for."""
        states = [lane.info() for lane in self.sending]
        return any(state is None or state["state"] != "connecting" for state in states)

    async def stop(self, deadline: float) -> None:
        """Begin nothing more; let what is under way end until ``deadline`` (loop time), then cut it off. Idempotent."""
        self.stopping = self.halted = True
        self._alarm.cancel()
        self._refill.cancel()
        while self._lanes_busy() and self._loop.time() < deadline:
            await asyncio.sleep(0.02)
        for lane in self.lanes:
            (lane.abort if lane in self.sending else lane.close)()
        self.pace.close()
