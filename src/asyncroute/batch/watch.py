"""One ``[[watch]]``: finds batches in its folders and carries so many at a time, each to its end, to its destinations.

Guarantees: what is found is a batch once, however often it is seen, over restarts; one that fails holds up no other.
Memory: the batches that are carried, and a few numbers for each entry of the folder.
Failures: a folder that cannot be listed is told (``trouble``) and looked at again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from functools import partial

from asyncroute.batch.base import Known
from asyncroute.batch.carry import Carry
from asyncroute.batch.events import Events
from asyncroute.batch.finding import Finder, listing
from asyncroute.batch.means import Means
from asyncroute.batch.telling import REMEMBERED
from asyncroute.core.batches import Batch, BatchState, Enqueue, Entry, Leftover, Terms
from asyncroute.core.errors import AsyncrouteError, OurFault

log = logging.getLogger(__name__)

NETWORK_POLL = 5.0
"""Seconds between two looks at a folder without events."""

AGAIN = 1.0
QUEUED_TOGETHER = 500


class Watch:
    """See module. The loop's thread only."""

    def __init__(self, means: Means, terms: Terms, stopped: bool, left: bool = False) -> None:
        """``stopped``: by a person. ``left``: it is not in the configuration; what is under way goes to its end."""
        self.terms = terms
        self.stopped = stopped
        self.left = left
        self.trouble = ""
        self.carries: dict[int, Carry] = {}
        self.recent: deque[Batch] = deque(maxlen=REMEMBERED)
        self.open: dict[BatchState, int] = {}
        self.errors = 0
        self.settling = 0
        self._means = means
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._news = asyncio.Event()
        self._known: dict[str, Known] = {}
        self._finder: Finder | None = None
        self._events: Events | None = None
        self._starting = asyncio.Lock()
        self._main = asyncio.get_running_loop().create_task(self._run(), name=f"watch {terms.name}")

    # ---- from outside

    def wake(self) -> None:
        """Something may have changed."""
        self._news.set()

    async def stop(self) -> None:
        """End at once; what is under way goes on at the next start."""
        if self._events is not None:
            await self._events.stop()
        tasks = [self._main, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def change(self, terms: Terms, left: bool = False) -> None:
        """New terms, or none any more (``left``); batches that are under way end under the old ones."""
        self.terms = terms
        self.left = left
        self._finder = None
        self.wake()

    async def start_batches(self, number: int | None, subfolder: str) -> int:
        """Queue what lies in the bases; how many. Raises OurFault, StorageFault."""
        async with self._starting:
            await self._count()
            under_way = sum(self.open.values())
            if under_way:
                words = ", ".join(f"{n} {state.word}" for state, n in sorted(self.open.items()) if n)
                raise OurFault(f"{self.terms.name}: the batches before are not finished: {words}")
            entries = await self._candidates(subfolder)
            queued = await self._enqueue(entries, number)
            self.wake()
            return queued

    async def _candidates(self, subfolder: str) -> list[Entry]:
        """Those below ``subfolder`` of each base first, then those of the bases.

        A folder in which batches were found is none itself.
        """
        bases = [str(base) for base in self.terms.bases]
        firsts = [f"{base}/{subfolder}" for base in bases] if subfolder else []
        try:
            there = [first for first in firsts if await self._means.blocking(_is_folder, first)]
            if firsts and not there:
                raise OurFault(f"no folder {subfolder!r} in {', '.join(bases)}")
            network = await self._on_network(bases)
            first = await self._means.blocking(listing, there, network)
            apart = frozenset(there) | {os.path.dirname(path) for path in self._known}
            rest = await self._means.blocking(listing, bases, network, apart)
        except OSError as error:
            raise OurFault(f"{error.filename}: cannot be read: {(error.strerror or str(error)).lower()}") from None
        return [*first.entries, *rest.entries]

    # ---- the loop of one watch

    async def _run(self) -> None:
        while True:
            try:
                await self._go_on()
            except AsyncrouteError as fault:
                self.trouble = str(fault)
                await asyncio.sleep(AGAIN)
            except Exception as error:
                log.exception("watch %s: unexpected error", self.terms.name)
                self.trouble = f"unexpected error: {error!r}"
                await asyncio.sleep(AGAIN)

    async def _go_on(self) -> None:
        """From the journal on, for ever."""
        self._known = await self._means.journal.known(self.terms.name)
        self._finder = None
        for batch in await self._means.journal.owed(self.terms.name):
            self._carry(batch)
        while True:
            self._news.clear()
            await self._find()
            await self._begin()
            await self._count()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), self._until_next_look())

    def _until_next_look(self) -> float:
        if self._finder is not None and self._finder.settling:
            return max(self.terms.settle / 4, 0.1)
        return self.terms.poll if self._events is not None else min(self.terms.poll, NETWORK_POLL)

    async def _find(self) -> None:
        """Queue what is finished."""
        if not self.terms.stream or self.stopped or self.left:
            self.settling = 0
            await self._look_no_more()
            return
        if self._finder is None:
            await self._look_anew()
        finder = self._finder
        assert finder is not None
        try:
            found = await self._means.blocking(finder.look)
        except OSError as error:
            self._tell(f"{error.filename}: cannot be read: {(error.strerror or str(error)).lower()}")
            return
        if finder is not self._finder:  # new terms meanwhile
            self.wake()
            return
        self._tell("")
        self.settling = finder.settling
        carried = {carry.batch.path for carry in self.carries.values()}
        await self._enqueue([entry for entry in found if entry.path not in carried], None)

    async def _look_anew(self) -> None:
        bases = tuple(str(base) for base in self.terms.bases)
        await self._look_no_more()
        network = await self._on_network(bases)
        self._finder = Finder(bases, self.terms.settle, self._known, network)
        if not network:
            self._events = Events(bases, self.wake)

    async def _on_network(self, bases: Iterable[str]) -> bool:
        return any([await self._means.blocking(self._means.on_network, base) for base in bases])

    async def _look_no_more(self) -> None:
        self._finder = None
        events, self._events = self._events, None
        if events is not None:
            await events.stop()

    def _tell(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            log.warning("watch %s: %s", self.terms.name, trouble)
        self.trouble = trouble

    async def _enqueue(self, entries: Iterable[Entry], number: int | None) -> int:
        """Queue those that were no batches before as they are now, up to ``number``; how many that were."""
        new = [entry for entry in entries if self._is_new(entry)][:number]
        queued = 0
        for at in range(0, len(new), QUEUED_TOGETHER):
            some = new[at : at + QUEUED_TOGETHER]
            queued += await self._means.act(Enqueue(self.terms.name, some))
            for entry in some:
                self._known[entry.path] = Known(entry.stamp)
        if queued:
            log.info("watch %s: %d batches queued", self.terms.name, queued)
        return queued

    def _is_new(self, entry: Entry) -> bool:
        known = self._known.get(entry.path)
        return known is None or known.stamp != entry.stamp

    # ---- batches

    async def _begin(self) -> None:
        """Carry as many as there are workers; those that were under way first."""
        room = self.terms.workers - len(self.carries)
        if room <= 0:
            return
        for batch in await self._means.journal.next(self.terms.name, self.carries.keys(), room):
            if self._may_carry(batch):
                self._carry(batch)

    def _may_carry(self, batch: Batch) -> bool:
        if self.left:  # how to read on is not known any more
            return batch.state is BatchState.PROCESSING or batch.cancelled
        return batch.state is not BatchState.QUEUED or not self.stopped

    def _carry(self, batch: Batch) -> None:
        self.carries[batch.id] = carry = Carry(self._means, self.terms, batch, self.wake)
        task = asyncio.get_running_loop().create_task(carry.run(), name=f"batch {batch.label}")
        self._tasks[batch.id] = task
        task.add_done_callback(partial(self._carried, carry))

    def _carried(self, carry: Carry, task: asyncio.Task[None]) -> None:
        batch = carry.batch
        del self._tasks[batch.id]
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:  # it stays where it is, in the way of one worker, until a restart
            log.error("batch %s: unexpected error", batch.label, exc_info=error)
            carry.trouble = f"unexpected error: {error!r}"
            return
        del self.carries[batch.id]
        self.recent = deque((it for it in self.recent if it.id != batch.id), REMEMBERED)
        self.recent.append(batch)
        if batch.leftover is Leftover.GONE:
            self._known.pop(batch.path, None)
        else:
            self._known[batch.path] = Known(batch.stamp, batch.signature)
        self.wake()

    async def _count(self) -> None:
        counts = await self._means.journal.open()
        self.open = {state: n for (name, state), n in counts.items() if name == self.terms.name}
        self.errors = (await self._means.journal.errors()).get(self.terms.name, 0)


def _is_folder(path: str) -> bool:
    return os.path.isdir(path)
