"""Destinations of kind ``dicom``: lanes that send by C-STORE over associations of their own.

A lane reuses its association for every delivery it carries (same calling title, of one study or whatever ``scope``
names, accepted contexts) until it has been idle for ``idle_close`` or is older than ``max_age``. Contexts are proposed
for what is queued, the delivery at hand first, filled up with what was needed before, one per (SOP class, transfer
syntax), so that each keeps its own bytes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from asyncroute.core import outcomes
from asyncroute.core.errors import AsyncrouteError
from asyncroute.core.model import Delivery
from asyncroute.core.outcomes import Action, Outcome
from asyncroute.core.syntaxes import AS_STORED, Wish
from asyncroute.crashpoints import crash_point
from asyncroute.forward.association import Failed, Requestor, Shared, Target
from asyncroute.forward.base import FIRST, Bond, Key, Pair, Reports, title_of
from asyncroute.forward.coercion import Coercions, Outgoing
from asyncroute.forward.conversions import Conversions
from asyncroute.forward.exchange import Exchange
from asyncroute.forward.leaving import Leaving
from asyncroute.forward.opening import Opening
from asyncroute.forward.reading import Data, Readers, Reading, unreadable
from asyncroute.forward.rewritten import RewrittenReading
from asyncroute.forward.scope import bonds
from asyncroute.forward.substitute import Substitute
from asyncroute.link.buffers import ImageBytes, Memory
from asyncroute.link.negotiate import Proposal
from asyncroute.wire.command import IMPLICIT_LE, VERIFICATION

log = logging.getLogger(__name__)

REFUSED = 5.0
"""Seconds for which a refused context counts: a backlog of such images ends without an association for each of them,
and what the destination takes by then is not refused for as long as others keep an association busy."""


@dataclass(slots=True)
class Means:
    """What all DICOM lanes of a process use."""

    shared: Shared
    memory: Memory
    readers: Readers
    coercions: Coercions
    conversions: Conversions | None = None
    """None: what was received is what is sent."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One destination's way of sending (seconds)."""

    title: Callable[[Delivery], str]
    """The calling AE title for a delivery; raises ``core.titles.WrongTitle``."""
    overrides: Mapping[int, Action]
    idle_close: float
    max_age: float
    max_contexts: int
    min_gap: float = 0.0
    scope: str = "any"
    """See ``forward.scope``."""
    wish: Wish = AS_STORED


class DicomForwarder:
    """See module; ``forward.base.Forwarder``."""

    kind = "dicom"

    def __init__(self, name: str, target: Target, policy: Policy, means: Means) -> None:
        self.name = name
        self.target = target
        self.policy = policy
        self.means = means
        self.max_age = 0.0 if policy.scope == "image" else policy.max_age
        self._bond = bonds(policy.scope, policy.title)
        self._leaving = Leaving()
        self._next = 0.0

    def release(self, association: Requestor) -> None:
        """End an association in an orderly way; new ones wait for it a little."""
        association.release()
        if not association.ended:
            self._leaving.add(association)

    def begin(self, opening: Opening[Requestor]) -> None:
        """Let it begin when those are gone that are being released, and ``min_gap`` is over. Not at once: what else is
        coming now is then proposed, too."""
        if self._leaving:
            self._leaving.wait(partial(self._begin, opening))
        else:
            asyncio.get_running_loop().call_soon(self._begin, opening)

    def _begin(self, opening: Opening[Requestor]) -> None:
        seconds = 0.0 if opening.over else self._until_turn()
        if seconds:
            asyncio.get_running_loop().call_later(seconds, opening.begin)
        else:
            opening.begin()

    async def turn(self) -> None:
        """Wait until ``min_gap`` has passed since the last association began; the channel knows not of all of them."""
        await asyncio.sleep(self._until_turn())

    def _until_turn(self) -> float:
        """Seconds until the next association may begin, which is taken for begun then."""
        if not self.policy.min_gap:
            return 0.0
        now = asyncio.get_running_loop().time()
        at = max(now, self._next)
        self._next = at + self.policy.min_gap
        return at - now

    def key(self, delivery: Delivery) -> Key:
        """See ``forward.base.Forwarder``."""
        return self._bond(delivery), delivery.sop_class_uid, delivery.transfer_syntax

    def lane(self, reports: Reports) -> DicomLane:
        """See ``forward.base.Forwarder``."""
        return DicomLane(self, reports)


class DicomLane:
    """See module; ``forward.base.Lane``, and the owner of its association."""

    def __init__(self, forwarder: DicomForwarder, reports: Reports) -> None:
        self.open = False
        self._forwarder = forwarder
        self._means = forwarder.means
        self._reports = reports
        self._association: Requestor | None = None
        self._bond: Bond = ""
        self._asked_at = self._opened_at = self._free_at = 0.0
        self._delivery: Delivery | None = None
        self._image: ImageBytes | None = None
        self._opening: Opening[Requestor] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._probing = False
        self._substitute = Substitute(forwarder.means.coercions, forwarder.means.memory, self._substituted)
        self._exchange = Exchange(forwarder.means.conversions, forwarder.policy.wish, self._exchanged)
        self._reading: Reading | RewrittenReading | None = None
        self._piece: Data | None = None
        self._loop = asyncio.get_running_loop()

    # ---- forward.base.Lane

    def carries(self, key: Key) -> bool:
        """See ``forward.base.Lane``. Contexts just refused count: their deliveries end here without delay."""
        association = self._association
        if association is None or association.ended or association.peer is None or self._bond != key[0]:
            return False
        lately = self._loop.time() < self._opened_at + REFUSED
        return self._exchange.carried(association.peer.contexts, association.peer.rejected, lately, key[1:])

    def begin(self, delivery: Delivery, bond: Bond, probe: bool) -> None:
        """See ``forward.base.Lane``."""
        self._delivery = delivery
        if self._substitute.wanted(delivery):
            self.open, before = True, self.open
            if self._substitute.begin(delivery, bond, probe):
                return
            self.open = before
        self._go(delivery, bond, probe)

    def _go(self, delivery: Delivery, bond: Bond, probe: bool) -> None:
        """Send it: over the association that there is, if it fits, else over a new one."""
        pair = self._substitute.pair(delivery)
        association = self._association
        if association is not None and association.peer is not None and bond == self._bond and not association.ended:
            context_id = self._exchange.context(association.peer.contexts, pair)
            fits = context_id is not None and (self._exchange.made or not self._exchange.wish.changes)
            if (fits or self.carries((bond, *pair))) and not self._too_old():
                self._store(association, delivery, context_id)
                return
        if association is not None:
            self._forwarder.release(association)
            self._association = None
        self.open = True
        self._bond = bond
        self._asked_at = self._loop.time()
        target, done = self._forwarder.target, partial(self._opened, probe)
        propose = partial(self._proposal, delivery, probe)
        self._opening = Opening(Requestor, target, propose, self._means.shared, done)
        self._forwarder.begin(self._opening)

    def close(self) -> None:
        """See ``forward.base.Lane``."""
        self._shut(self._forwarder.release)

    def abort(self) -> None:
        """See ``forward.base.Lane``."""
        self._delivery = None
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        self._substitute.clear()
        self._exchange.clear()
        self._shut(Requestor.abort)
        self._let_image_go()

    def info(self) -> dict[str, Any] | None:
        """See ``forward.base.Lane``."""
        if not self.open:
            return None
        association = self._association
        state = "sending" if self._delivery is not None else "idle"
        return {
            "destination": self._forwarder.name,
            "calling_aet": title_of(self._bond),
            "since_s": round(self._loop.time() - self._opened_at, 3) if association is not None else 0.0,
            "images": association.images if association is not None else 0,
            "bytes": association.written if association is not None else 0,
            "state": state if association is not None else "connecting",
        }

    def _shut(self, how: Callable[[Requestor], None]) -> None:
        association, self._association = self._association, None
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        self.open = False
        if association is not None:
            association.owner = None
            how(association)

    def _too_old(self) -> bool:
        return self._loop.time() - self._opened_at >= self._forwarder.max_age

    def _substituted(self, delivery: Delivery, bond: Bond, probe: bool, wrong: Outcome | None) -> None:
        """What goes out has been made, or it does not go."""
        if wrong is None:
            self._reports.restarted(self)
            self._go(delivery, bond, probe)
        else:
            self.open = self._association is not None
            self._report(wrong)

    def _exchanged(self, delivery: Delivery, wrong: Outcome | None) -> None:
        """It is there in another syntax, or cannot be: what to send is chosen anew."""
        self._substitute.clear()
        if wrong is not None:
            self.open = self._association is not None
            self._report(wrong)
        elif self._delivery is delivery:
            subject = self._exchange.subject(delivery)
            if not (self._substitute.wanted(subject) and self._substitute.begin(subject, self._bond, False)):
                self._substituted(subject, self._bond, False, None)

    # ---- opening

    def _opened(self, probe: bool, found: Requestor | Failed) -> None:
        self._opening = None
        if isinstance(found, Failed):
            self.open = False
            self._report(found.outcome)
        else:
            self._established(found, probe)

    def _proposal(self, delivery: Delivery, probe: bool) -> Proposal:
        policy = self._forwarder.policy
        wanted = [self._substitute.pair(delivery), *self._reports.wanted(self._bond)]
        pairs = dict.fromkeys(self._exchange.all_offers(wanted))
        chosen = list(pairs)[: policy.max_contexts]
        if probe:
            chosen = [(VERIFICATION, IMPLICIT_LE), *chosen[: max(policy.max_contexts - 1, 1)]]
        target = self._forwarder.target
        return _proposing(title_of(self._bond), target.called_aet, target.max_pdu, tuple(chosen))

    def _established(self, association: Requestor, probe: bool) -> None:
        self._association = association
        self._opened_at = self._loop.time()
        self._reports.opened(self, self._opened_at - self._asked_at)
        association.owner = self
        assert association.peer is not None
        self._probing = probe and any(abstract == VERIFICATION for abstract, _ in association.peer.contexts)
        if self._probing:
            association.echo()
        else:
            self._store_first()

    # ---- storing

    def _store_first(self) -> None:
        """The delivery that the association was opened for."""
        delivery, association = self._delivery, self._association
        assert delivery is not None
        assert association is not None
        assert association.peer is not None
        subject = self._exchange.subject(delivery)
        context_id = self._exchange.context(association.peer.contexts, self._substitute.pair(subject))
        self._store(association, subject, context_id)

    def _store(self, association: Requestor, delivery: Delivery, context_id: int | None) -> None:
        if context_id is None:
            self._loop.call_soon(self._no_context, self._delivery)
            return
        if self._delivery is not None and self._exchange.needed(self._delivery):
            self._exchange.begin(self._delivery)
            return
        if self._substitute.out is not None:
            self._store_substitute(association, self._substitute.out, context_id)
            return
        image = delivery.image
        if isinstance(image, ImageBytes) and self._means.memory.may_send(image):
            self._image = image
            if delivery.size > FIRST:
                self._reports.spend(delivery.size - FIRST)
            parts: Sequence[memoryview] = image.parts
        elif (data := self._means.readers.at_once(delivery)) is not None:
            parts = (data,)
        else:
            self._reading = self._means.readers.open(delivery)
            self._piece = None
            self._fetch()
            return
        association.store(context_id, delivery.sop_class_uid, delivery.sop_instance_uid, delivery.size, parts)

    def _store_substitute(self, association: Requestor, out: Outgoing, context_id: int) -> None:
        if out.parts is None:
            self._reading = out.reading(self._means.readers)
            self._piece = None
            self._fetch()
            return
        if out.size > FIRST:
            self._reports.spend(out.size - FIRST)
        association.store(context_id, out.sop_class_uid, out.sop_instance_uid, out.size, out.parts)

    def _no_context(self, delivery: Delivery | None) -> None:
        if delivery is not None and self._delivery is delivery:
            self._report(self._exchange.outcome(self._substitute.pair(self._exchange.subject(delivery))))

    def _fetch(self) -> None:
        """Ask for the next piece of the file."""
        reading = self._reading
        assert reading is not None
        further = reading.further
        if further and not self._reports.spend(further, partial(self._fetch_later, reading)):
            return
        reading.next(lambda data, fault: self._fetched(reading, data, fault))

    def _fetch_later(self, reading: Reading | RewrittenReading) -> None:
        if self._reading is reading and self._delivery is not None:
            self._fetch()

    def _fetched(self, reading: Reading | RewrittenReading, data: Data | None, fault: AsyncrouteError | None) -> None:
        delivery = self._delivery
        if self._reading is not reading or delivery is None:
            return
        association = self._association
        if association is None or association.ended:
            return
        if data is None:
            self._unreadable(fault)
            return
        if not association.busy:
            self._begin_from_file(association, delivery, data)
        elif association._out:
            self._piece = data
        else:
            self._give(association, data)

    def _begin_from_file(self, association: Requestor, delivery: Delivery, data: Data) -> None:
        assert association.peer is not None
        delivery = self._exchange.subject(delivery)
        context_id = association.peer.contexts[self._substitute.pair(delivery)]
        if not self._read_all():
            self._fetch()
        out = self._substitute.out or delivery
        association.store(context_id, out.sop_class_uid, out.sop_instance_uid, out.size, (memoryview(data),))

    def _give(self, association: Requestor, data: Data) -> None:
        if not self._read_all():
            self._fetch()
        association.more((memoryview(data),))

    def _read_all(self) -> bool:
        return self._reading is None or self._reading.ended

    def room(self) -> None:
        """See ``forward.association.Owner``."""
        piece, self._piece = self._piece, None
        if piece is not None and self._association is not None:
            self._give(self._association, piece)

    def _unreadable(self, fault: AsyncrouteError | None) -> None:
        """Our own storage's fault: not all of the image was sent; the association cannot go on mid-way."""
        if self._association is not None and self._association.busy:
            self._shut(Requestor.abort)
        self._report(unreadable(fault))

    # ---- forward.association.Owner

    def responded(self, status: int, comment: str, early: bool = False) -> None:
        """See ``forward.association.Owner``."""
        if self._probing:
            self._probing = False
            self._store_first()
            return
        crash_point("sent-unsettled")
        association = self._association
        if association is not None:
            association.images += 1
            if association.ended:
                self._shut(Requestor.abort)
        if status == 0 and not early:
            self._report(outcomes.SUCCESS)
            return
        outcome = outcomes.classify(status, self._forwarder.policy.overrides, comment)
        if early and outcome.delivered:  # it cannot have what was not sent yet
            outcome = outcomes.lost(f"{outcome.text} answered before the whole image was sent", image_in_flight=True)
        self._report(outcome)

    def lost(self, outcome: Outcome) -> None:
        """See ``forward.association.Owner``."""
        self._association = None
        if self._substitute.pending or self._exchange.pending:  # of no image: it goes over another one
            return
        self.open = False
        if self._probing:  # the C-ECHO's end is no image's fault
            self._probing = False
            outcome = outcomes.lost(outcome.text, image_in_flight=False)
        if self._delivery is not None:
            self._report(outcome)
        else:
            if self._idle is not None:
                self._idle.cancel()
                self._idle = None
            self._reports.closed(self)

    def _report(self, outcome: Outcome) -> None:
        delivery, self._delivery = self._delivery, None
        self._piece = self._reading = None
        if self._substitute.used:
            self._substitute.clear()
        if delivery is not None and self._exchange.wish.changes:
            delivery.sent = self._exchange.sent(delivery)
            self._exchange.clear()
        self._let_image_go()
        if delivery is None:
            return
        self._free_at = self._loop.time()
        if self._association is not None and self._free_at - self._opened_at >= self._forwarder.max_age:
            self._shut(self._forwarder.release)
        self._reports.finished(self, delivery, outcome)
        if self._idle is None and self._free():
            self._idle = self._loop.call_later(self._forwarder.policy.idle_close, self._idle_over)

    def _free(self) -> bool:
        return self.open and self._delivery is None

    def _let_image_go(self) -> None:
        image, self._image = self._image, None
        if image is not None:
            self._means.memory.sent(image)

    def _idle_over(self) -> None:
        """The timer is not moved for every image: it looks whether there was one meanwhile."""
        self._idle = None
        if not self._free():
            return
        left = self._free_at + self._forwarder.policy.idle_close - self._loop.time()
        if left > 0:
            self._idle = self._loop.call_later(left, self._idle_over)
        else:
            self._shut(self._forwarder.release)
            self._reports.closed(self)


@lru_cache(512)
def _proposing(calling_aet: str, called_aet: str, max_pdu: int, pairs: tuple[Pair, ...]) -> Proposal:
    """Raises ValueError for what cannot be proposed."""
    return Proposal(calling_aet, called_aet, max_pdu, tuple((abstract, (syntax,)) for abstract, syntax in pairs))
