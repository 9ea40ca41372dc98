"""Proof of deliveries by Storage Commitment: what was delivered is asked for, and what follows from the reports.

The journal knows what waits for proof and in which transaction it was asked for; here is the task of a destination that
is asked (``ByCommitment``), and one place that takes reports, whatever way they come (``Proofs.report``). In memory:
one transaction's images at a time. Guarantees: a transaction is durable before the destination hears of it, and a
report is durable before it is answered; what is not reported in time, or was under way when a router ended, is asked
again; what a destination does not commit is sent again, by the rules of ``retry``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping
from time import time
from typing import Any, Final
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
from asyncroute.crashpoints import crash_point
from asyncroute.forward.base import Committing, NotAsked, TakeReport
from asyncroute.journal.base import Proofs as Known
from asyncroute.queue.proving import MOST, Books, Proving, Shared, Terms
from asyncroute.queue.query import ByQuery
from asyncroute.wire import command as dimse

log = logging.getLogger(__name__)

AHEAD: Final = 3600.0
"""Seconds by which a time in the journal may be ahead of what the configuration explains: else a clock was wrong."""


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
            before = self.destinations.get(name)
            if before is not None and (its.querier is not None) == isinstance(before, ByQuery):
                before.terms = its
                continue
            if before is not None:
                before.stop()
            self.destinations[name] = self._proving(name, its)
        for name in unproving:
            if self._shared.unconfirmed[name]:
                task = asyncio.get_running_loop().create_task(self._waive(name), name=f"waive {name}")
                self._waiving.add(task)
                task.add_done_callback(self._waiving.discard)

    def _proving(self, name: str, terms: Terms) -> Proving:
        if terms.querier is not None:
            return ByQuery(name, terms, self._shared)
        return ByCommitment(name, terms, self._shared, self.report)

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
                return dimse.PROCESSING_FAILURE, "unknown transaction"
            async with self._locks[inquiry.destination]:  # so that what is decided on is not changed meanwhile
                await self._take(done)
        except AsyncrouteError as fault:
            log.error("a commitment report cannot be kept: %s", fault)
            return dimse.PROCESSING_FAILURE, "it cannot be kept now"
        return dimse.SUCCESS, ""

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
        self._shared.count(name, len(confirmed), setbacks, inquiry.images)

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


class ByCommitment(Proving):
    """A destination that is asked to commit what it got."""

    def __init__(self, name: str, terms: Terms, shared: Shared, report: TakeReport) -> None:
        super().__init__(name, terms, shared)
        self._report = report

    async def _round(self, unsure: bool) -> None:
        """Ask for all that waits, and for what is overdue."""
        known, now, committer = self._shared.known, time(), self.terms.committer
        assert committer is not None
        due = await known.next_due(self.name)
        if unsure or (due is not None and not now < due <= now + self.terms.wait + AHEAD):
            await self._overdue(now, unsure)
        found = await known.waiting(self.name, MOST)
        if not found:
            self.trouble = ""
        if not found or not self.terms.may():
            return
        association = await committer.open(self._report)
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
