"""Group commit: the one gate through which images, results and a person's actions reach stable storage.

What comes while the committing threads are busy waits and goes as one group: all files are written and synced, their
folders too, one journal transaction is committed; back on the loop every image is answered and queued. Two threads
overlap one group's syncing with the next one's writing. Senders wait for images, nobody waits for results and for what
the journal may write later: those go with every so many images, together, because a row costs little beside a group.

Guarantees: promise 1 (nothing is answered "success" before its group is committed) and promise 2 (a file is removed
only after the transaction that settled its last delivery, and overwritten only after the one that says it has left).
Failures: a failed image gets its own reason; when the journal fails, every image of the group is refused and its file
removed (unless the journal may have it after all: then the next start finds out), while results, releases and actions
wait and are tried again: they are never lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from errno import EIO, ENOSPC
from functools import partial
from pathlib import PurePath
from time import time

from asyncroute.core.completion import Completion
from asyncroute.core.errors import AsyncrouteError, StorageFault
from asyncroute.core.groups import Regrouped
from asyncroute.core.model import Settlement
from asyncroute.crashpoints import crash_point
from asyncroute.journal.base import Action, Committed, Complete, Event, Group, Writer
from asyncroute.link.workers import Workers
from asyncroute.receive.base import Received
from asyncroute.spool.base import Spool

log = logging.getLogger(__name__)

THREADS = 2
MOST_IMAGES = 64
MOST_BYTES = 24 << 20
WORTH_A_THREAD = 4
"""Images that make a second group worth starting while another one is under way."""

LINGER = 0.05
"""Seconds that results wait for company."""

MANY_RESULTS = 128
"""Results, or files released, that wait no longer."""

RETRY = 1.0
"""Seconds between tries while the journal cannot be written."""


@dataclass(slots=True, eq=False)
class Batch:
    """One group on its way, and what became of it."""

    images: list[Received] = field(default_factory=list)
    settlements: list[Settlement] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    actions: list[tuple[Action, asyncio.Future[int]]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    committed: Committed | None = None
    fault: AsyncrouteError | None = None
    over: list[asyncio.Future[None]] = field(default_factory=list)
    """Who waits for its end."""

    @property
    def urgent(self) -> bool:
        """Whether there is nothing in it but images on their way to a destination, whose senders wait."""
        alone = not (self.settlements or self.released or self.actions or self.events)
        return alone and all(received.instance.hits for received in self.images)


class Committer:
    """See module. All methods on the loop's thread. ``on_*`` must be set before the first image."""

    def __init__(self, spool: Spool, writer: Writer, most_images: int = MOST_IMAGES) -> None:
        self.on_stored: Callable[[Received], None] = _unset
        self.on_refused: Callable[[Received, str], None] = _unset
        self.on_settled: Callable[[list[Settlement]], None] = _unset
        self.on_releasable: Callable[[list[tuple[int, str]]], None] = _unset
        self.on_released: Callable[[list[int]], None] = _unset
        self.on_regrouped: Callable[[Regrouped], None] = _unset
        self.on_trouble: Callable[[bool], None] = _unset
        self.on_full: Callable[[], None] = lambda: None
        self.on_waiting: Callable[[list[Completion]], None] = _unset
        self.trouble: str | None = None
        self._spool = spool
        self._writer = writer
        self._most_images = min(most_images, MOST_IMAGES)
        self._loop = asyncio.get_running_loop()
        self._workers = Workers(THREADS, "commit")
        self._under_way: list[Batch] = []
        self._called = False
        self._next = Batch()
        self._bytes = 0
        self._results_since = 0.0  # loop time, where there are any
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def broken(self) -> str | None:
        """Why nothing can be committed until a restart; None while that is not so."""
        return self._writer.broken

    # ---- what comes in

    def admit(self, received: Received) -> None:
        """Store an image; ``on_stored`` or ``on_refused`` follows."""
        self._next.images.append(received)
        self._bytes += received.instance.size
        if not self._called:  # those that became whole in the same round of the loop go together
            self._called = True
            self._loop.call_soon(self._round_over)

    def settle(self, settlement: Settlement, event: Event | None = None) -> None:
        """Record a result; ``on_settled`` follows once it is durable."""
        self._wait_with_results()
        self._next.settlements.append(settlement)
        if event is not None:
            self._next.events.append(event)

    def release(self, instance_ids: Iterable[int]) -> None:
        """These images have left the spool; ``on_released`` follows once that is durable."""
        self._wait_with_results()
        self._next.released.extend(instance_ids)

    def record(self, event: Event) -> None:
        """Write down something worth telling."""
        self._wait_with_results()
        self._next.events.append(event)

    async def act(self, action: Action) -> int:
        """Carry out a person's word; the number of deliveries or images it touched.

        Raises:
            StorageFault: the journal cannot be written now.
        """
        future: asyncio.Future[int] = self._loop.create_future()
        self._next.actions.append((action, future))
        self._kick()
        return await future

    async def caught_up(self) -> None:
        """Wait until every result that has come in so far is durable; not where the journal cannot be written now."""
        ends = []
        for batch in self._under_way:
            ends.append(self._loop.create_future())
            batch.over.append(ends[-1])
        if self._results():
            with suppress(StorageFault):
                await self.act(Complete(()))
        await asyncio.gather(*ends)

    async def drained(self) -> None:
        """Wait until all that has come in is durable, or the journal has failed once more."""
        last_try = False
        while self._under_way or (self._pending() and not last_try):
            if self.trouble and not self._under_way:
                last_try = True
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._idle.clear()
            self._kick()
            await self._idle.wait()

    def close(self) -> None:
        """End the threads; call after ``drained``."""
        if self._timer is not None:
            self._timer.cancel()
        self._workers.close()

    # ---- groups

    def _pending(self) -> bool:
        n = self._next
        return bool(n.images or n.settlements or n.released or n.actions or n.events)

    def _wait_with_results(self) -> None:
        """A result is coming: it waits a little for company, unless many wait already."""
        if not self._results():
            self._results_since = self._loop.time()
        if self._many_results():
            self._kick()
        else:
            self._linger()

    def _linger(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(LINGER, self._lingered)

    def _results(self) -> bool:
        n = self._next
        return bool(n.settlements or n.released or n.events)

    def _many_results(self) -> bool:
        return len(self._next.settlements) >= MANY_RESULTS or len(self._next.released) >= MANY_RESULTS

    def _results_due(self) -> bool:
        """Whether they go with the next group: many, old enough, or before a person's word or a stop."""
        if self._next.actions or self._many_results() or not self._idle.is_set():
            return True
        return self._results() and self._loop.time() - self._results_since >= 0.9 * LINGER

    def _round_over(self) -> None:
        self._called = False
        self._kick()

    def _lingered(self) -> None:
        self._timer = None
        self._kick(probe=self.trouble is not None)
        if self._results():
            self._linger()

    def _kick(self, probe: bool = False) -> None:
        """Begin a group if one is due. ``probe``: an empty one will do, to learn whether the journal works again."""
        new = self._next
        if len(self._under_way) >= THREADS or not (self._pending() or probe):
            return
        due = self._results_due()
        if not (new.images or new.actions or due or probe):
            return
        if self._under_way and len(new.images) < WORTH_A_THREAD and not (due and self._many_results()):
            return
        if self.trouble and not new.images and not new.actions and self._timer is not None:
            return  # a retry is due soon enough
        batch = self._cut(due)
        self._under_way.append(batch)
        self._workers.submit(partial(self._work, batch), partial(self._done, batch))

    def _cut(self, results: bool) -> Batch:
        """The next group: everything that waits, up to the bounds; ``results``: those, too."""
        batch, self._next = self._next, Batch()
        if not results:
            self._next.settlements, batch.settlements = batch.settlements, []
            self._next.released, batch.released = batch.released, []
            self._next.events, batch.events = batch.events, []
        if len(batch.images) <= self._most_images and self._bytes <= MOST_BYTES:
            self._bytes = 0
            return batch
        size = n = 0
        for received in batch.images[: self._most_images]:
            size += received.instance.size
            if n and size > MOST_BYTES:
                break
            n += 1
        self._next.images = rest = batch.images[n:]
        del batch.images[n:]
        self._bytes = sum(r.instance.size for r in rest)
        return batch

    # ---- in a committing thread

    def _work(self, batch: Batch) -> None:
        """Write one group. Every exception ends up in ``batch.fault``: nothing here may be silent."""
        good = batch.images
        try:
            if good:
                failed = self._spool.write([(r.instance, r.image.parts if r.image is not None else ()) for r in good])
                if failed:
                    batch.refused.update((i, str(fault)) for i, fault in failed.items())
                    good = [r for r in good if r.instance.id not in failed]
            batch.committed = self._writer.commit(
                Group(
                    [r.instance for r in good],
                    batch.settlements,
                    batch.released,
                    [a for a, _ in batch.actions],
                    batch.events,
                    time(),
                    later=batch.urgent,
                )
            )
        except AsyncrouteError as fault:
            batch.fault = fault
        except Exception as error:
            log.exception("a group could not be committed")
            batch.fault = StorageFault(f"unexpected error while committing: {error!r}")
        self._clean(batch, good)

    def _clean(self, batch: Batch, good: list[Received]) -> None:
        """Remove the files of what was refused."""
        if self._in_doubt(batch):
            return
        committed = batch.committed
        for r in good:
            if committed is None or r.instance.id in committed.refused:
                self._remove(r.instance.path)
        if committed is not None:
            batch.refused.update(committed.refused)

    def _in_doubt(self, batch: Batch) -> bool:
        """Whether the journal may yet turn out to have the group: its last sync failed. The next start will see."""
        fault = batch.fault
        return isinstance(fault, StorageFault) and fault.errno == EIO and self.broken is not None

    def _remove(self, path: str) -> None:
        """Remove a file; one that cannot be removed stays for the next start's recovery."""
        try:
            self._spool.remove(path)
        except AsyncrouteError as error:
            log.error("file not removed: %s", error)

    # ---- back on the loop

    def _done(self, batch: Batch, _: None, error: Exception | None) -> None:
        self._under_way.remove(batch)
        if error is not None and batch.fault is None:
            batch.fault = StorageFault(f"unexpected error while committing: {error!r}")
        try:
            if batch.fault is not None:
                self._failed(batch, batch.fault)
            else:
                self._succeeded(batch)
        finally:
            for end in batch.over:
                if not end.done():
                    end.set_result(None)
            if self._pending() or self.trouble:
                self._kick_or_wait()
            elif not self._under_way:
                self._idle.set()

    def _kick_or_wait(self) -> None:
        if self.trouble:
            self._idle.set()
            if self._timer is None:
                self._timer = self._loop.call_later(RETRY, self._lingered)
        else:
            self._kick()

    def _succeeded(self, batch: Batch) -> None:
        if self.trouble:
            log.warning("the journal can be written again")
            self.trouble = None
            self.on_trouble(False)
        if batch.images:
            crash_point("admitted-unanswered")
        committed = batch.committed
        assert committed is not None
        if committed.completions:
            _guarded(self.on_waiting, committed.completions)
        for received in batch.images:
            why = batch.refused.get(received.instance.id)
            if why is None:
                _guarded(self.on_stored, received)
            else:
                _guarded(self.on_refused, received, why)
        if committed.regrouped is not None:
            _guarded(self.on_regrouped, committed.regrouped)
        for (_, waiter), n in zip(batch.actions, committed.acted, strict=True):
            if not waiter.done():
                waiter.set_result(n)
        if batch.settlements:
            _guarded(self.on_settled, batch.settlements)
        self.on_releasable(committed.releasable)
        if batch.released:
            self.on_released(batch.released)
        for instance_id in committed.conflicts:
            log.warning("image %d: this SOP Instance UID was received before with other bytes", instance_id)

    def _failed(self, batch: Batch, fault: AsyncrouteError) -> None:
        """The journal did not take the group: refuse its images, keep everything else for the next try."""
        if self.trouble is None:
            log.error("cannot commit: %s", fault)
            self.on_trouble(True)
        self.trouble = str(fault)
        if isinstance(fault, StorageFault) and fault.errno == ENOSPC:
            self.on_full()
        why = _without_folder(str(fault))
        for received in batch.images:
            _guarded(self.on_refused, received, batch.refused.get(received.instance.id, why))
        for _, waiter in batch.actions:
            if not waiter.done():
                waiter.set_exception(fault)
        waiting = self._next
        waiting.settlements[:0] = batch.settlements
        waiting.released[:0] = batch.released
        waiting.events[:0] = batch.events


def _without_folder(text: str) -> str:
    """A fault for a sender: its Error Comment is short, and where our files are is none of its business."""
    place, _, rest = text.partition(": ")
    return f"{PurePath(place).name}: {rest}" if place.startswith("/") else text


def _guarded(call: Callable[..., None], *arguments: object) -> None:
    """One image's trouble must not leave the rest of its group without an answer."""
    try:
        call(*arguments)
    except Exception:
        log.exception("unexpected error after a commit")


def _unset(*_: object) -> None:
    raise RuntimeError("committer not connected")
