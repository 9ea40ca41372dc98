"""Proof of deliveries by Storage Commitment: what was delivered is asked for, and what follows from the reports.

The journal knows what waits for proof and in which transaction it was asked for; here is a task for each destination
that asks (``Proving``), and one place that takes reports, whatever way they come (``Proofs.report``). In memory: one
transaction's images at a time. Guarantees: a transaction is durable before the destination hears of it, and a report is
durable before it is answered; what is not reported in time, or was under way when a router ended, is asked again; what
a destination does not commit is sent again, by the rules of ``retry``. Failures of the destination are shown
(``trouble``) and asking is tried again; those of the journal likewise.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from time import time
from typing import Any, Final, Protocol
from uuid import uuid4

from asyncroute.core.errors import AsyncrouteError
from asyncroute.core.proof import (
    DUPLICATE_TRANSACTION,
    Ask,
    Asked,
    Commitment,
    Inquiry,
    Overdue,
    ProofAction,
    Proven,
    Reference,
    Setback,
    Unask,
    Unproven,
    Waive,
    reason_text,
    setback,
)
from asyncroute.core.retry import Backoff
from asyncroute.core.states import DeliveryState
from asyncroute.crashpoints import crash_point
from asyncroute.forward.base import Committer, Committing, NotAsked
from asyncroute.journal.base import Proofs as Known

log = logging.getLogger(__name__)

MOST: Final = 300
"""Images of one transaction."""

GATHER: Final = 3.0
"""Seconds in which deliveries gather for a transaction."""

LOOK: Final = 30.0
"""Seconds between looks at the journal while something waits for proof."""

AHEAD: Final = 3600.0
"""Seconds by which a time in the journal may be ahead of what the configuration explains: else a clock was wrong."""

SUCCESS, PROCESSING_FAILURE = 0x0000, 0x0110


class Books(Protocol):
    """Who counts deliveries (the scheduler)."""

    def clock(self) -> float:
        """Seconds on the journal's clock."""
        ...

    def undelivered(self, destination: str, again: Iterable[int], failed: int) -> None:
        """These were counted as delivered: ready again (their sizes in bytes), and dead letters."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """How one destination proves its deliveries. ``wait``: seconds after which a report is overdue. ``linger``: seconds
    that an association stays open for reports. ``may``: whether it may be asked now."""

    committer: Committer
    wait: float
    linger: float
    retry: Backoff
    may: Callable[[], bool]


@dataclass(slots=True)
class Shared:
    """What all destinations use."""

    known: Known
    act: Callable[[ProofAction], Coroutine[Any, Any, int]]
    books: Books
    unconfirmed: Counter[str] = field(default_factory=Counter)
    """Deliveries that wait for proof, by destination."""


class Proofs:
    """See module. The loop's thread only."""

    def __init__(self, known: Known, act: Callable[[ProofAction], Coroutine[Any, Any, int]], books: Books) -> None:
        self.destinations: dict[str, Proving] = {}
        self._shared = Shared(known, act, books)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waiving: set[asyncio.Task[None]] = set()

    @property
    def unconfirmed(self) -> Mapping[str, int]:
        """Deliveries that wait for proof, by destination."""
        return self._shared.unconfirmed

    def trouble(self, name: str) -> str:
        """Why a destination cannot be asked now; empty: it can."""
        proving = self.destinations.get(name)
        return proving.trouble if proving is not None else ""

    def begin(self, unconfirmed: Mapping[str, int], terms: Mapping[str, Terms], unproving: Iterable[str]) -> None:
        """Take over what the journal counts. See ``change``."""
        self._shared.unconfirmed.update(unconfirmed)
        self.change(terms, unproving)

    def change(self, terms: Mapping[str, Terms], unproving: Iterable[str]) -> None:
        """These destinations prove what they get; ``unproving`` ones need not, also of what was delivered before."""
        for name in [*self.destinations]:
            if name not in terms:
                self.destinations.pop(name).stop()
        for name, its in terms.items():
            if name in self.destinations:
                self.destinations[name].terms = its
            else:
                self.destinations[name] = Proving(name, its, self._shared, self.report)
        for name in unproving:
            if self._shared.unconfirmed[name]:
                task = asyncio.get_running_loop().create_task(self._waive(name), name=f"waive {name}")
                self._waiving.add(task)
                task.add_done_callback(self._waiving.discard)

    async def _waive(self, name: str) -> None:
        try:
            n = await self._shared.act(Waive(name))
        except AsyncrouteError as fault:
            log.error("%s: deliveries that need no proof any more are kept: %s", name, fault)
        else:
            self._shared.unconfirmed[name] -= n
            log.warning("%s: %d deliveries need no proof any more", name, n)

    def delivered(self, name: str) -> None:
        """One more delivery that waits for proof (it becomes durable before long)."""
        self._shared.unconfirmed[name] += 1
        self.destinations[name].delivered()

    async def stop(self) -> None:
        """Ask nothing more. Idempotent."""
        tasks = [proving.stop() for proving in self.destinations.values()]
        await asyncio.gather(*tasks, *self._waiving, return_exceptions=True)

    # ---- reports

    async def report(self, done: Commitment) -> tuple[int, str]:
        """Take a report; status and comment of the answer."""
        try:
            inquiry = await self._shared.known.inquiry(done.transaction_uid)
            if inquiry is None:
                log.warning("a report on the unknown transaction %s", done.transaction_uid)
                return PROCESSING_FAILURE, "unknown transaction"
            async with self._locks[inquiry.destination]:  # so that what is decided on is not changed meanwhile
                await self._take(done)
        except AsyncrouteError as fault:
            log.error("a commitment report cannot be kept: %s", fault)
            return PROCESSING_FAILURE, "it cannot be kept now"
        return SUCCESS, ""

    async def _take(self, done: Commitment) -> None:
        inquiry = await self._shared.known.inquiry(done.transaction_uid)
        if inquiry is None:
            return
        confirmed, setbacks = self._judge(inquiry, done)
        crash_point("proof-reported")
        how = f"Storage Commitment, transaction {done.transaction_uid}"
        name = inquiry.destination
        await self._shared.act(Proven(name, done.transaction_uid, confirmed, setbacks, how))
        crash_point("proof-taken")
        self._count(name, inquiry, confirmed, setbacks)

    def _judge(self, inquiry: Inquiry, done: Commitment) -> tuple[list[int], list[Setback]]:
        """What follows for each image that the transaction asked for; what it did not ask for is of no interest."""
        good = set(done.references)
        bad = {Reference(*failed[:2]): failed.reason for failed in done.failed}
        confirmed, setbacks = [], []
        for image in inquiry.images:
            reference = Reference(image.sop_class_uid, image.sop_instance_uid)
            if not image.open:
                continue
            if reference in bad:  # also where it is said to be committed, too
                reason = bad[reference]
                if image.newest and reason != DUPLICATE_TRANSACTION:
                    error = f"not committed by the destination: {reason_text(reason)}"
                    setbacks.append(self._setback(inquiry.destination, image, reason, error))
            elif reference in good:
                confirmed.append(image.instance_id)
        return confirmed, setbacks

    def _setback(self, name: str, image: Unproven, reason: int, error: str) -> Setback:
        proving = self.destinations.get(name)
        retry = proving.terms.retry if proving is not None else Backoff()
        return setback(image, reason, error, retry, self._shared.books.clock() - image.since, time())

    def _count(self, name: str, inquiry: Inquiry, confirmed: list[int], setbacks: list[Setback]) -> None:
        self._shared.unconfirmed[name] -= len(confirmed) + len(setbacks)
        if not setbacks:
            return
        sizes = {image.instance_id: image.size for image in inquiry.images}
        again = [sizes[it.instance_id] for it in setbacks if it.state is DeliveryState.READY]
        log.warning("%s: %d images are not committed: %s", name, len(setbacks), setbacks[0].error)
        self._shared.books.undelivered(name, again, len(setbacks) - len(again))


class Proving:
    """One destination's task. ``trouble``: why it cannot be asked now; empty: it can."""

    def __init__(self, name: str, terms: Terms, shared: Shared, report: Callable[..., Any]) -> None:
        self.name = name
        self.terms = terms
        self.trouble = ""
        self._shared = shared
        self._report = report
        self._new = 0
        self._wake, self._full = asyncio.Event(), asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"prove {name}")

    def delivered(self) -> None:
        """One more waits."""
        self._new += 1
        self._wake.set()
        if self._new >= MOST:
            self._full.set()

    def stop(self) -> asyncio.Task[None]:
        """Ask nothing more; the task, which ends."""
        self._task.cancel()
        return self._task

    async def _run(self) -> None:
        failures = 0
        unsure = True  # what the last run was about to ask when it ended
        while True:
            try:
                await self._round(unsure)
                failures, unsure = 0, False
                await self._idle()
            except Exception as fault:
                failures += 1
                self._failed(fault)
                await asyncio.sleep(self.terms.retry.ceiling(failures))

    def _failed(self, fault: Exception) -> None:
        """Told once, until it is another one."""
        words = str(fault) if isinstance(fault, AsyncrouteError) else f"unexpected error: {fault!r}"
        if words != self.trouble:
            log.error(
                "%s: deliveries cannot be confirmed: %s",
                self.name,
                words,
                exc_info=not isinstance(fault, AsyncrouteError),
            )
        self.trouble = words

    async def _idle(self) -> None:
        """Until there is something to ask for, and a little longer, so that more can come."""
        timeout = LOOK if self._shared.unconfirmed[self.name] else inf
        due = await self._shared.known.next_due(self.name)
        if due is not None:
            timeout = min(timeout, max(due - time(), 0.05))
        if await _within(self._wake, timeout):
            await _within(self._full, GATHER)
        self._new = 0
        self._wake.clear()
        self._full.clear()

    async def _round(self, unsure: bool) -> None:
        """Ask for all that waits, and for what is overdue."""
        known, now = self._shared.known, time()
        due = await known.next_due(self.name)
        if unsure or (due is not None and not now < due <= now + self.terms.wait + AHEAD):
            await self._overdue(now, unsure)
        found = await known.waiting(self.name, MOST)
        if not found:
            self.trouble = ""
        if not found or not self.terms.may():
            return
        association = await self.terms.committer.open(self._report)
        try:
            while found:
                await self._ask(association, found)
                self.trouble = ""
                found = await known.waiting(self.name, MOST) if len(found) == MOST else []
            self._full.clear()
            await self._linger(association)
        finally:
            association.close()

    async def _linger(self, association: Committing) -> None:
        """Wait for reports on the association, until there is enough to ask for."""
        waits = [asyncio.ensure_future(association.linger(self.terms.linger)), asyncio.ensure_future(self._full.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _overdue(self, now: float, unsure: bool) -> None:
        n = await self._shared.act(Overdue(self.name, now, self.terms.wait + AHEAD, unsure))
        if n and not unsure:
            log.warning("%s: no report on %d images in time; asking again", self.name, n)

    async def _ask(self, association: Committing, images: list[Unproven]) -> None:
        act, uid = self._shared.act, f"2.25.{uuid4().int}"
        references = dict.fromkeys(Reference(image.sop_class_uid, image.sop_instance_uid) for image in images)
        await act(Ask(uid, self.name, [image.instance_id for image in images], time() + self.terms.wait))
        crash_point("proof-unasked")
        try:
            await association.ask(uid, list(references))
        except NotAsked as fault:
            await act(Unask(uid, fault.heard))
            raise
        crash_point("proof-asked")
        await act(Asked(uid, time() + self.terms.wait))


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether it is set by then."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds if seconds < inf else None):
            await event.wait()
    return event.is_set()
