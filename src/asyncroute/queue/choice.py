"""What begins next, and on which lane: the ready deliveries of one destination, its idle lanes and what they serve.

An idle lane goes on with its title. When others wait for a lane, and its dwell is over (``queue.turns``), it turns to
who has waited longest; when it has nothing to do, also to a title that has a lane already. What was sent as more
urgent does not wait for a dwell, and a lane does not turn to what is less urgent while it has anything else.
Guarantees: nobody who waits is passed over by a backlog of the same class for longer than a dwell and the image at
hand. Pure: no I/O, times are passed in.
"""

from __future__ import annotations

from collections.abc import Collection
from math import inf

from asyncroute.core.model import Delivery
from asyncroute.forward.base import Key, Lane
from asyncroute.queue.flows import Flow, Flows
from asyncroute.queue.turns import Turns


class Choice:
    """See module. ``turn_at``: when an idle lane may turn that may not yet (monotonic seconds)."""

    def __init__(self) -> None:
        self.flows = Flows()
        self.turns = Turns()
        self.idle: list[Lane] = []
        self.turn_at = inf

    def add(self, key: Key, delivery: Delivery, now: float) -> bool:
        """``delivery`` is ready; False: others of its key are before it, so that nothing has changed."""
        flow = self.flows.add(key, delivery)
        if flow is not None and not self.turns.serves(key):
            self.flows.line_up(flow, now)
        return flow is not None

    def choose(self, now: float, paused: Collection[str], spare: bool | None) -> tuple[Lane | None, Flow] | None:
        """A lane (None: a new one; ``spare``: there may be one) and the flow whose head it shall take, or nothing.

        ``spare`` None: no association may begin now, so that lanes do not turn either. Calling titles in ``paused`` get
        nothing.
        """
        waiting = self._waiting(paused)
        for lane in reversed(self.idle):
            more = self._more(lane, paused, now)
            if more is not None:
                return lane, (self._rival(lane, more, waiting, paused, now) if spare is False else None) or more
        other = waiting or self.flows.oldest(lambda key: key[0] not in paused)
        if other is None or spare is None:
            return None
        return (None, other) if spare else self._turning(other, now)

    def chosen(self, lane: Lane, flow: Flow, now: float) -> None:
        """``lane`` takes the head of ``flow`` next: more of its title, or it leaves that."""
        stint = self.turns.stints.get(lane)
        if stint is not None and stint.title == flow.key[0] and lane.carries(flow.key):
            self.turns.goes_on(stint, flow.key, now)
            return
        if stint is not None and stint.title != flow.key[0]:
            self.turns.turned(stint, now)
        self.leave(lane, now)
        waited = now - flow.since if flow.rank is not None else 0.0
        self.turns.begins(lane, flow.key, now, waited, flow.size)
        for served in self.flows.of(flow.key[0]):
            self.flows.step_out(served)

    def leave(self, lane: Lane, now: float) -> None:
        """``lane`` serves nobody now; what its title still has waits for another."""
        title = self.turns.leaves(lane, now)
        if title is not None:
            for flow in self.flows.of(title):
                self.flows.line_up(flow, now)

    def _waiting(self, paused: Collection[str]) -> Flow | None:
        """Who has waited longest for a lane and has none; who has one by now leaves the line."""
        aside: list[tuple[Flow, int]] = []
        while (flow := self.flows.first()) is not None:
            if flow.key[0] in paused and flow.rank is not None:
                aside.append((flow, flow.rank))
            elif not self.turns.serves(flow.key):
                break
            self.flows.step_out(flow)
        for other, rank in aside:
            self.flows.step_back(other, rank)
        return flow

    def _more(self, lane: Lane, paused: Collection[str], now: float) -> Flow | None:
        """What ``lane`` can take of its own title; the oldest."""
        title, found = self.turns.stints[lane].title, None
        for flow in self.flows.of(title):
            if lane.carries(flow.key):
                if found is None or self.flows.order(flow) < self.flows.order(found):
                    found = flow
            elif not self.turns.serves(flow.key):  # refused, but so long ago that it should be proposed again
                self.flows.line_up(flow, now)
        return None if title in paused else found

    def _rival(self, lane: Lane, more: Flow, waiting: Flow | None, paused: Collection[str], now: float) -> Flow | None:
        """Whom ``lane`` must turn to though it has ``more`` to do: who has waited for a lane, or who has fewer of them
        than its title (by two, or by one and has the older head)."""
        if self.flows.classes.mixed:
            other = self._more_urgent(more, paused)
            if other is not None:
                return other
        if waiting is not None and self._as_urgent(waiting, more):
            return waiting if self.turns.over(lane, waiting.since) <= now else None
        mine = len(self.turns.lanes(more.key[0]))
        if mine < 2 or not self.turns.several or now < self.turns.stints[lane].until:
            return None
        found, fewest = None, mine
        for flow in self.flows.each():
            theirs = len(self.turns.lanes(flow.key[0]))
            if theirs >= fewest or flow.key[0] in paused or not self._as_urgent(flow, more):
                continue
            if theirs + 1 < mine or self.flows.order(flow) < self.flows.order(more):
                found, fewest = flow, theirs
        return found

    def _more_urgent(self, more: Flow, paused: Collection[str]) -> Flow | None:
        """What was sent as more urgent than ``more``, of any other title, and still counts so."""
        level, sent_as = self.flows.class_of(more)
        other = self.flows.oldest(lambda key: key[0] != more.key[0] and key[0] not in paused)
        if other is None:
            return None
        found, theirs = self.flows.class_of(other)
        return other if found < level and theirs < sent_as else None

    def _as_urgent(self, other: Flow, more: Flow) -> bool:
        """Whether ``other`` counts as much as ``more``."""
        return not self.flows.classes.mixed or self.flows.class_of(other)[0] <= self.flows.class_of(more)[0]

    def ended(self, study: str, now: float) -> None:
        """One of a study is not under way any more (only with ``Flows.most``)."""
        for flow in self.flows.ended(study):
            if not self.turns.serves(flow.key):
                self.flows.line_up(flow, now)

    def _turning(self, other: Flow, now: float) -> tuple[Lane, Flow] | None:
        """An idle lane that may turn to ``other``."""
        since = other.since if other.rank is not None else None
        _, sent_as = self.flows.class_of(other)
        for lane in self.idle:
            if sent_as < self.turns.stints[lane].priority:
                return lane, other
            due = self.turns.due(lane, other.key[0], since, self.flows.titles)
            if due <= now:
                return lane, other
            self.turn_at = min(self.turn_at, due)
        return None
