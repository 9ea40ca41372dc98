"""Storage Commitment as SCP: what senders ask us to commit, and the reports that they get.

A request is durable before it is answered. It is looked at until every image is decided: committed once all of its
deliveries are (and proved, where their destinations have to), failed where that is no more to be, or ``commit_wait`` is
over. The report goes to the sender's ``[[peer]]`` address; without one, on the association of the request while that
is open. It is tried again, with growing pauses, also after a restart, for ``GIVE_UP`` seconds. In memory: the id of
each request, and one request's images at a time. Failures are logged and shown (``trouble``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from math import inf
from time import time
from typing import Any, Final, Protocol

from asyncroute.core.errors import AsyncrouteError
from asyncroute.core.model import Source
from asyncroute.core.outcomes import Outcome
from asyncroute.core.proof import Commitment, Failed, Pledge, ProofAction, Redeem, verdict
from asyncroute.journal.base import Proofs as Known
from asyncroute.queue.proving import within
from asyncroute.wire import command as dimse

log = logging.getLogger(__name__)

MOST: Final = 10_000
"""Requests that wait for their report."""

FIRST, LAST = 0.5, 30.0
"""Seconds between looks at a request, growing."""

FIRST_TRY, LAST_TRY = 5.0, 600.0
"""Seconds between tries to report, growing."""

GIVE_UP: Final = 7 * 86400.0
"""Seconds after the time at which a request is decided at the latest."""

AT_ONCE: Final = 32
"""Senders that are told at the same time."""

SHARE: Final = 9.0
"""Looking takes one tenth of the journal's reader at most."""

Tell = Callable[[str, Commitment], Coroutine[Any, Any, Outcome]]
"""Report under this calling AE title; raises ``PeerFault``."""


class Asker(Protocol):
    """The association on which a request came."""

    def reports(self) -> bool:
        """Whether a report could go there now."""
        ...

    async def tell(self, calling_aet: str, done: Commitment) -> Outcome:
        """See ``Tell``."""
        ...


@dataclass(slots=True)
class _Watch:
    """When a request is looked at again."""

    at: float
    looks: int = 0
    tries: int = 0
    nowhere: str = ""


class Pledges:
    """See module. The loop's thread only. ``peers``: how to report to an AE title."""

    def __init__(self, known: Known, act: Callable[[ProofAction], Coroutine[Any, Any, int]]) -> None:
        self.peers: Mapping[str, Tell] = {}
        self._known = known
        self._act = act
        self._loop = asyncio.get_running_loop()
        self._watched: dict[int, _Watch] = {}
        self._askers: dict[tuple[str, str], Asker] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._told: set[str] = set()

    def __len__(self) -> int:
        return len(self._watched)

    @property
    def nowhere(self) -> list[str]:
        """The AE titles of senders that wait for a report, though nothing says where to."""
        return sorted({watch.nowhere for watch in self._watched.values() if watch.nowhere})

    def begin(self, peers: Mapping[str, Tell]) -> None:
        """Go on with what an earlier run left."""
        self.peers = peers
        self._task = self._loop.create_task(self._run(), name="commitment pledges")

    async def stop(self) -> None:
        """Report nothing more. Idempotent."""
        tasks = [*self._telling.values(), *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def change(self, peers: Mapping[str, Tell]) -> None:
        """Other addresses: who could not be reached is tried at once."""
        self.peers = peers
        for watch in self._watched.values():
            watch.at = 0.0
        self._wake.set()

    async def request(self, source: Source, asked: Commitment, wait: float, asker: Asker) -> tuple[int, str]:
        """A sender asks; status and comment of the answer. ``wait``: seconds that deliveries have."""
        if not asked.references:
            return dimse.INVALID_ARGUMENT, "no Referenced SOP Sequence"
        if len(self._watched) >= MOST:
            return dimse.RESOURCE_LIMITATION, f"{MOST} requests wait for their report"
        key = (source.calling_aet, asked.transaction_uid)
        if source.calling_aet not in self.peers:
            self._askers[key] = asker
        pledge = Pledge(asked.transaction_uid, source.calling_aet, source.called_aet, time() + wait, asked.references)
        try:
            await self._act(pledge)
        except AsyncrouteError as fault:
            log.error("a commitment request cannot be kept: %s", fault)
            self._askers.pop(key, None)
            return dimse.PROCESSING_FAILURE, "it cannot be kept now"
        self._wake.set()
        return dimse.SUCCESS, ""

    # ---- the task

    async def _run(self) -> None:
        while True:
            began = self._loop.time()
            try:
                await self._round()
            except Exception as error:
                log.error("commitment requests cannot be looked at: %s", error)
                await asyncio.sleep(LAST)
            took = self._loop.time() - began
            await asyncio.sleep(min(took * SHARE, LAST))
            await self._idle()

    async def _idle(self) -> None:
        """Until one is due, or there is a new one."""
        due = min((watch.at for watch in self._watched.values()), default=inf)
        await within(self._wake, max(due - self._loop.time(), 0.0))

    async def _round(self) -> None:
        """Look at those that are due, and find the new ones."""
        self._wake.clear()
        now = self._loop.time()
        ids = await self._known.pledges()
        for gone in self._watched.keys() - set(ids):
            del self._watched[gone]
        for pledge_id in ids:
            self._watched.setdefault(pledge_id, _Watch(now + FIRST))
        for pledge_id, watch in [(id_, watch) for id_, watch in self._watched.items() if watch.at <= now]:
            pledge = await self._known.pledge(pledge_id)
            if pledge is not None and pledge_id in self._watched:  # its report may have been accepted meanwhile
                await self._look(pledge, watch)

    async def _look(self, pledge: Pledge, watch: _Watch) -> None:
        late = time() >= pledge.until
        kept = await self._known.kept(pledge.references)
        reasons = [verdict(it, its, late) for it, its in zip(pledge.references, kept, strict=True)]
        if None in reasons:
            watch.looks += 1
            watch.at = self._loop.time() + min(FIRST * 2 ** min(watch.looks, 16), LAST)
            return
        pairs = list(zip(pledge.references, reasons, strict=True))
        good = tuple(it for it, reason in pairs if not reason)
        bad = tuple(Failed(*it, reason) for it, reason in pairs if reason)
        self._tell(pledge, watch, Commitment(pledge.transaction_uid, good, bad))

    def _tell(self, pledge: Pledge, watch: _Watch, done: Commitment) -> None:
        """Report, beside what others are told: a sender that is away holds up only itself."""
        name = pledge.calling_aet
        if name in self._telling or len(self._telling) >= AT_ONCE:
            watch.at = self._loop.time() + FIRST
            return
        watch.tries += 1
        watch.at = self._loop.time() + min(FIRST_TRY * 2 ** min(watch.tries - 1, 16), LAST_TRY)
        task = self._telling[name] = self._loop.create_task(self._report(pledge, watch, done), name=f"report to {name}")
        task.add_done_callback(lambda _: self._told_one(name))

    def _told_one(self, name: str) -> None:
        del self._telling[name]
        self._wake.set()

    async def _report(self, pledge: Pledge, watch: _Watch, done: Commitment) -> None:
        try:
            await self._report_once(pledge, watch, done)
        except Exception as error:
            log.error("%s: commitment report not delivered: %r", pledge.calling_aet, error)

    async def _report_once(self, pledge: Pledge, watch: _Watch, done: Commitment) -> None:
        trouble = await self._try(pledge, watch, done)
        if not trouble:
            log.info("%s: told %d committed, %d not", pledge.calling_aet, len(done.references), len(done.failed))
            await self._over(pledge)
        elif time() >= pledge.until + GIVE_UP:
            log.error("%s: commitment report given up: %s", pledge.calling_aet, trouble)
            await self._over(pledge)
        elif trouble not in self._told:
            self._told = {trouble} if len(self._told) > 1000 else self._told | {trouble}
            log.error("%s: commitment report not delivered: %s", pledge.calling_aet, trouble)

    async def _over(self, pledge: Pledge) -> None:
        await self._act(Redeem(pledge.id))
        self._askers.pop((pledge.calling_aet, pledge.transaction_uid), None)
        self._watched.pop(pledge.id, None)

    async def _try(self, pledge: Pledge, watch: _Watch, done: Commitment) -> str:
        """Report; what is wrong, if it was not heard."""
        tell = self.peers.get(pledge.calling_aet)
        asker = self._askers.get((pledge.calling_aet, pledge.transaction_uid))
        if tell is None and asker is not None and asker.reports():
            tell = asker.tell
        if tell is None:
            self._askers.pop((pledge.calling_aet, pledge.transaction_uid), None)
            watch.nowhere = pledge.calling_aet
            return "no [[peer]] says where, and its association is over"
        watch.nowhere = ""
        try:
            outcome = await tell(pledge.called_aet, done)
        except AsyncrouteError as fault:
            return str(fault)
        return "" if outcome.delivered else f"refused with {outcome.text}"
