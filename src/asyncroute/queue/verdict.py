"""What follows from an outcome: settled, tried again, or the channel pauses.

The rules of the outcome table (``core.outcomes``) applied to one channel. Keeps what the rules need to remember:
strikes of an image while others pass, pauses of the destination and of calling titles, refusals in a row.
"""

from __future__ import annotations

import logging
from collections import deque
from random import random
from time import time
from typing import Protocol

from asyncroute.core.model import Delivery, Settlement
from asyncroute.core.outcomes import SLOW, Kind, Outcome
from asyncroute.core.retry import Backoff
from asyncroute.core.states import DeliveryState
from asyncroute.forward.base import Titles
from asyncroute.queue.breaker import Breaker, covered
from asyncroute.queue.pace import Pace
from asyncroute.queue.times import Times
from asyncroute.queue.window import Window

log = logging.getLogger(__name__)

NOT_YET = float("-inf")
"""Away since: it has not answered in this run. It may have been down before, so nothing is given up until it does."""


MANY_PAUSES = 3
"""Pauses in a row that make a destination ill."""

MOST_PAUSES = 1000
"""Pauses of a destination that are written down, between two acts of a person."""


class Ledger(Protocol):
    """Where results go."""

    def settle(self, settlement: Settlement, delivery: Delivery, logged: str = "") -> None:
        """Make it durable. ``logged``: what the log says instead of its error, if not empty."""
        ...

    def clock(self) -> float:
        """Seconds on the journal's clock (``journal.base.Writer.clock``), on which ages are measured."""
        ...

    def note(self, kind: str, text: str, destination: str, instance_id: int | None = None) -> None:
        """Write down what is not a result but worth telling: a ``journal.base.Event``."""
        ...

    @property
    def stalled(self) -> bool:
        """Whether results cannot be made durable now: nothing new should begin."""
        ...

    def finished_with(self, delivery: Delivery) -> None:
        """The channel no longer holds the delivery in memory (its bytes may go)."""
        ...


class Queue(Protocol):
    """The channel, as the verdict needs it."""

    name: str
    breaker: Breaker
    times: Times
    pace: Pace
    window: Window

    def again(self, delivery: Delivery, *, first: bool) -> None:
        """Ready again at once."""
        ...

    def later(self, delivery: Delivery, seconds: float) -> None:
        """Ready again after a while."""
        ...

    def narrowed(self, text: str, now: float) -> bool:
        """One more association was refused, for the reason ``text``: whether fewer will do."""
        ...


class Verdict:
    """See module. ``now`` is monotonic seconds."""

    def __init__(self, queue: Queue, retry: Backoff, ledger: Ledger) -> None:
        self.last_error = self.last_title = ""
        self.held: str | None = None
        self.calm = False
        """Nothing pauses, waits or recovers: a success changes nothing but counts (``passed``)."""
        self._queue = queue
        self._retry = retry
        self._ledger = ledger
        self._pause_until = 0.0
        self._pauses = 0
        self._config_until = 0.0
        self._titles: dict[str, float] = {}
        self.successes = 0
        self._blamed = 0
        self._strikes: dict[int, tuple[int, int]] = {}
        self._refused_studies: dict[str, None] = {}
        self._loud = self._told_down = False
        self._told_pauses: set[str] = set()
        self._away: deque[tuple[float, float]] = deque(maxlen=256)
        self._away_since: float | None = NOT_YET

    def change(self, retry: Backoff) -> None:
        """Another ``retry``; a person may have mended what made us pause."""
        self._retry = retry
        self.calm = False
        self.resume()

    # ---- what the channel asks

    def paused_until(self, now: float) -> float:
        """Until when the whole destination pauses; 0: it does not; inf: until a person says so."""
        if self.held:
            return float("inf")
        until = max(self._pause_until, self._config_until, self._queue.times.shut(now))
        return until if until > now else 0.0

    def paused_titles(self, now: float) -> frozenset[str]:
        """Calling titles that the destination does not know and that are not tried now."""
        if not self._titles:
            return frozenset()
        self._titles = {title: until for title, until in self._titles.items() if until > now}
        return Titles(self._titles)

    def next_title(self, now: float) -> float:
        """When the first paused title is tried again; 0: none is paused."""
        return min((t for t in self._titles.values() if t > now), default=0.0)

    def state(self, now: float) -> str:
        """One word for ``status``."""
        times = self._queue.times
        if self.held or times.hold.at is not None:
            return "held"
        if self._config_until > now:
            return "rejected"
        if self._queue.breaker.open or (self._loud and self._queue.breaker.failures):
            return "down"
        if times.closed_until(now) is not None:
            return "closed"
        if self._pause_until > now:
            return "paused"
        if self.next_title(now):
            return "title-rejected"
        return "up" if self._queue.breaker.lanes is None and not self._queue.breaker.failures else "recovering"

    def ill(self, now: float) -> str:
        """Why another member of a group should have its place; empty: it is well. A pause or two are no illness."""
        if self._queue.breaker.open:
            return f"down: {self.last_error}"
        if self.held:
            return f"refuses: {self.held}"
        if self._config_until > now:
            return f"rejected: {self.last_error}"
        if self._pauses >= MANY_PAUSES and self._pause_until > now:
            return f"paused: {self.last_error}"
        return ""

    def resume(self) -> None:
        """A person says: go on. Neither their hold nor the hours end by that."""
        self.held = None
        self._pause_until = self._config_until = 0.0
        self._titles.clear()
        self._told_pauses.clear()
        self._refused_studies.clear()
        self._queue.breaker.until = 0.0

    # ---- outcomes

    def passed(self, delivery: Delivery) -> None:
        """Delivered, while ``calm``: the usual case of ``on``."""
        number = delivery.instance_id
        self.successes += 1
        if self._strikes:
            self._strikes.pop(number, None)
        attempts = delivery.attempts + 1
        settlement = Settlement(number, delivery.destination, DeliveryState.DELIVERED, attempts, time(), 0)
        self._ledger.settle(settlement, delivery)
        self._ledger.finished_with(delivery)

    def on(self, delivery: Delivery, title: str, outcome: Outcome, now: float) -> None:
        """Act on the outcome of one attempt under the calling AE title ``title``."""
        kind = outcome.kind
        if kind is Kind.DELIVERED or kind is Kind.DELIVERED_WITH_WARNING:
            self._delivered(delivery, outcome, now)
            self.calm = self._is_calm(now)
            return
        self.calm = False
        self.last_error, self.last_title = outcome.text, title
        if kind in (Kind.IMAGE_FAILED, Kind.IMAGE_RETRY) and not outcome.ours:
            self._answered(now)
        if kind is Kind.IMAGE_FAILED:
            self._dead(delivery, outcome)
            self._refusals(delivery, outcome, now)
        elif kind is Kind.DISCARDED:
            self._settle(
                delivery, DeliveryState.DISCARDED, delivery.attempts, None, outcome.text, logged=outcome.logged
            )
        elif kind is Kind.IMAGE_RETRY:
            self._try_later(delivery, outcome, now)
        elif kind is Kind.DESTINATION_PAUSE:
            self._pauses += 1
            self._goes_away(now)
            self._pause_until = now + max(0.2, self._retry.delay(self._pauses, random))
            self._struck(delivery, outcome)
        elif kind is Kind.POISON_COUNT:
            self._association_failed(outcome, now)
            self._struck(delivery, outcome)
        else:
            self._blame_destination(delivery, title, outcome, now)

    def of_nobody(self, outcome: Outcome, now: float) -> None:
        """What an attempt says of the destination, where it was for none of its images."""
        self.calm = False
        if outcome.delivered or (outcome.kind in (Kind.IMAGE_FAILED, Kind.IMAGE_RETRY) and not outcome.ours):
            self._answered(now)
        elif not outcome.ours and outcome.kind is not Kind.DESTINATION_PAUSE:
            self.last_error = outcome.text
            self._association_failed(outcome, now)

    def _delivered(self, delivery: Delivery, outcome: Outcome, now: float) -> None:
        self._answered(now)
        self.successes += 1
        self._pauses = 0
        self._strikes.pop(delivery.instance_id, None)
        self._refused_studies.clear()
        text = outcome.text if outcome.kind is Kind.DELIVERED_WITH_WARNING else ""
        self._settle(delivery, DeliveryState.DELIVERED, delivery.attempts + 1, outcome.status, text)

    def _is_calm(self, now: float) -> bool:
        """After a success, so that the destination is neither away nor told to be down."""
        breaker = self._queue.breaker
        recovered = breaker.lanes is None and not breaker.failures
        limited = self._queue.pace.limited  # then each image has to be counted
        return recovered and not limited and not self._titles and not self.paused_until(now)

    def _answered(self, now: float) -> None:
        """The destination is there and answers: associations work."""
        if self._told_down:
            log.warning("%s: answers again", self._queue.name)
            self._note("up", "answers again")
        self._loud = self._told_down = False
        if self._away_since is not None and self._away_since != NOT_YET:
            self._away.append((self._away_since, now))
        self._away_since = None
        self._queue.breaker.succeeded(now, self._queue.window.size)

    def _association_failed(self, outcome: Outcome, now: float) -> None:
        """Told once: when the breaker opens, or at once where a person has to do something."""
        self._queue.breaker.failed(now)
        if self._queue.breaker.open:
            self._queue.window.collapsed()
        self._loud = outcome.loud
        if (self._queue.breaker.open or outcome.loud) and not self._told_down:
            self._told_down = True
            log.error("%s: down: %s", self._queue.name, outcome.text)
            self._note("down", outcome.text)

    def _goes_away(self, now: float) -> None:
        """It takes nothing, whoever's turn it is: until it does, the time does not count for ``give_up``."""
        if self._away_since is None:
            self._away_since = now

    def _blame_destination(self, delivery: Delivery, title: str, outcome: Outcome, now: float) -> None:
        if outcome.narrow and self._queue.narrowed(outcome.text, now):
            self._queue.again(delivery, first=True)
            return
        if outcome.kind is Kind.TITLE_PAUSE:
            self._titles[title] = now + (outcome.delay or SLOW)
            log.error("%s: pauses for calling AE title %s: %s", self._queue.name, title, outcome.text)
            self._note_pause(f"for calling AE title {title}: {outcome.text}")
        elif outcome.kind is Kind.CONFIG_PAUSE:
            self._config_until = now + (outcome.delay or SLOW)
            self._goes_away(now)
            log.error("%s: pauses: %s", self._queue.name, outcome.text)
            self._note_pause(outcome.text)
        else:
            self._association_failed(outcome, now)
        if self._too_old(delivery, now):
            self._dead(delivery, outcome)
        elif outcome.unreached:
            self._queue.again(delivery, first=True)
        else:
            again = self._blamed == delivery.instance_id  # twice in a row: let others try, it may be this image
            self._blamed = delivery.instance_id
            self._queue.again(delivery, first=not again)

    def _struck(self, delivery: Delivery, outcome: Outcome) -> None:
        """Its fault or the destination's? Its own, if it happens ``limit`` times while others pass."""
        before, passed_then = self._strikes.get(delivery.instance_id, (0, -1))
        strikes = before + (self.successes != passed_then)
        if outcome.limit and strikes >= outcome.limit:
            self._dead(delivery, outcome)
            return
        if strikes > before:
            self._ledger.note("attempt", outcome.text, delivery.destination, delivery.instance_id)
        if len(self._strikes) > 10_000:
            self._strikes.clear()
        self._strikes[delivery.instance_id] = (strikes, self.successes)
        self._queue.again(delivery, first=False)

    def _try_later(self, delivery: Delivery, outcome: Outcome, now: float) -> None:
        attempts = delivery.attempts + (1 if outcome.charge else 0)
        spent = outcome.limit is not None and attempts >= outcome.limit
        if spent or self._retry.exhausted(attempts, self.age(delivery.since, now)):
            self._dead(delivery, outcome)
            return
        seconds = outcome.delay if outcome.delay is not None else self._retry.delay(attempts, random)
        delivery.attempts = attempts
        delivery.not_before = time() + seconds
        self._settle(delivery, DeliveryState.READY, attempts, outcome.status, outcome.text, delivery.not_before)
        self._queue.later(delivery, seconds)

    def _note(self, kind: str, text: str) -> None:
        """Of the destination's story."""
        self._ledger.note(kind, text, self._queue.name)

    def _note_pause(self, text: str) -> None:
        """Once, until a person acts: it may go on for weeks, for many titles."""
        if text not in self._told_pauses and len(self._told_pauses) < MOST_PAUSES:
            self._told_pauses.add(text)
            self._note("pause", text)

    def _too_old(self, delivery: Delivery, now: float) -> bool:
        """Whether ``give_up`` has come, though no attempt is charged."""
        return self._retry.give_up != float("inf") and self._retry.exhausted(0, self.age(delivery.since, now))

    def age(self, since: float, now: float) -> float:
        """Seconds of waiting since then (``Delivery.since``), without those in which the destination was down, paused,
        held or closed."""
        age = self._ledger.clock() - since
        periods = [*self._queue.breaker.periods(now), *self._away, *self._queue.times.periods(now)]
        if self._away_since is not None:
            periods.append((self._away_since, now))
        return age - covered(periods, now - age, now)

    def _dead(self, delivery: Delivery, outcome: Outcome) -> None:
        self._strikes.pop(delivery.instance_id, None)
        attempts = delivery.attempts + (outcome.charge or not outcome.ours)
        self._settle(delivery, DeliveryState.FAILED, attempts, outcome.status, outcome.text, logged=outcome.logged)

    def _refusals(self, delivery: Delivery, outcome: Outcome, now: float) -> None:
        """0124 for several studies in a row: not the images, the permission."""
        if not outcome.studies:
            return
        self._refused_studies[delivery.study_uid] = None
        if len(self._refused_studies) >= outcome.studies:
            self.held = f"{outcome.text}, for {len(self._refused_studies)} studies in a row"
            self.last_error = self.held
            self._goes_away(now)
            log.error("%s: held: %s", self._queue.name, self.held)
            self._note("held", self.held)

    def _settle(
        self,
        delivery: Delivery,
        state: DeliveryState,
        attempts: int,
        status: int | None,
        error: str,
        not_before: float = 0.0,
        logged: str = "",
    ) -> None:
        settlement = Settlement(
            delivery.instance_id, delivery.destination, state, attempts, time(), status, error, not_before
        )
        self._ledger.settle(settlement, delivery, logged)
        if state is not DeliveryState.READY:
            self._ledger.finished_with(delivery)
