"""All watches together: made from the configuration, started and stopped by people, shown in status.

Guarantees: what a person stops stays stopped over restarts; a watch that is taken out of the configuration carries
what is under way to its end. Failures: ``OurFault`` for what a person asks and cannot be.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable, Sequence
from typing import Any

from asyncroute.batch import telling
from asyncroute.batch.carry import Carry
from asyncroute.batch.means import Means
from asyncroute.batch.watch import Watch
from asyncroute.core.batches import OPEN, Batch, BatchState, CancelBatch, RetryBatch, SetWatch, Terms
from asyncroute.core.errors import OurFault
from asyncroute.core.model import Settlement


class BatchRoom:
    """See module. The loop's thread only."""

    def __init__(self, means: Means) -> None:
        self.watches: dict[str, Watch] = {}
        self._means = means
        self._leaving: dict[str, Watch] = {}
        self._stopped: set[str] = set()

    async def begin(self, terms: Iterable[Terms]) -> None:
        """Watch, and go on with what was under way. Raises StorageFault."""
        await self._means.blocking(shutil.rmtree, self._means.unpacked, True)  # what a crash left
        self._stopped = await self._means.journal.stopped()
        for each in terms:
            self.watches[each.name] = self._made(each)
        for name in sorted(await self._means.journal.unfinished() - self.watches.keys()):
            self._leaving[name] = self._made(Terms(name, stream=False, bases=()), left=True)

    def _made(self, terms: Terms, left: bool = False) -> Watch:
        return Watch(self._means, terms, terms.name in self._stopped, left)

    async def stop(self) -> None:
        """End at once. Idempotent."""
        await asyncio.gather(*(watch.stop() for watch in self._all()))

    def change(self, terms: Sequence[Terms]) -> None:
        """A new configuration."""
        names = {each.name for each in terms}
        for name in self.watches.keys() - names:
            self._leaving[name] = watch = self.watches.pop(name)
            watch.change(watch.terms, left=True)
        for each in terms:
            if each.name in self._leaving:
                self.watches[each.name] = watch = self._leaving.pop(each.name)
                watch.change(each)
            elif each.name not in self.watches:
                self.watches[each.name] = self._made(each)
            elif self.watches[each.name].terms != each:
                self.watches[each.name].change(each)
        self.watches = {each.name: self.watches[each.name] for each in terms}  # in the order of the file

    def _all(self) -> list[Watch]:
        return [*self.watches.values(), *self._leaving.values()]

    def wake(self) -> None:
        """A person has changed what becomes of images: of batches that ended in error, perhaps."""
        for watch in self._all():
            watch.wake()

    def settled(self, _: Sequence[Settlement]) -> None:
        """Results of deliveries are durable."""
        self._means.settled.set()

    # ---- a person's words

    def watch(self, name: str) -> Watch:
        """The one of this name. Raises OurFault."""
        found = self.watches.get(name)
        if found is None:
            there = ", ".join(sorted(self.watches)) or "none"
            raise OurFault(f"no watch is called {name!r}; there is {there}")
        return found

    async def set_watch(self, names: Sequence[str], stopped: bool) -> list[str]:
        """Stop or start these watches (all if none is named); those that changed. Raises OurFault, StorageFault."""
        changed = []
        for watch in [self.watch(name) for name in names or sorted(self.watches)]:
            await self._means.act(SetWatch(watch.terms.name, stopped))
            (self._stopped.add if stopped else self._stopped.discard)(watch.terms.name)
            if watch.stopped != stopped:
                watch.stopped = stopped
                changed.append(watch.terms.name)
            watch.wake()
        return changed

    async def retry(self, batch: Batch) -> None:
        """Queue one again that ended in error. Raises OurFault, StorageFault."""
        watch = self.watch(batch.watch)
        if not await self._means.act(RetryBatch(batch.id)):
            raise OurFault(f"{batch.label} is {batch.state.word}: only a batch that ended in error can be retried")
        watch.wake()

    async def cancel(self, batch: Batch) -> str:
        """What became of it, in a word. Raises OurFault, StorageFault."""
        if not await self._means.act(CancelBatch(batch.id)):
            raise OurFault(f"{batch.label} is {batch.state.word}: there is nothing to cancel")
        watch = self.watches.get(batch.watch) or self._leaving.get(batch.watch)
        carry = watch.carries.get(batch.id) if watch is not None else None
        if carry is not None:
            carry.cancel()
        if watch is not None:
            watch.wake()
        return "dismissed" if batch.state is BatchState.ERROR else "cancelled"

    # ---- status

    def facts(self) -> list[dict[str, Any]]:
        """Each watch, with what it carries; for ``status --json``."""
        left = (watch for watch in self._leaving.values() if watch.open or watch.errors)
        return [*map(_facts, self.watches.values()), *map(_left, left)]

    def progress(self, batch: int) -> dict[str, Any] | None:
        """Of a batch that is carried now."""
        for watch in self._all():
            if batch in watch.carries:
                return carried(watch.carries[batch])
        return None

    def trouble(self) -> list[str]:
        """What a person should know, one line each."""
        return telling.trouble(self.facts())


def _facts(watch: Watch) -> dict[str, Any]:
    terms = watch.terms
    return {
        "name": terms.name,
        "mode": "stream" if terms.stream else "batch",
        "paths": [str(base) for base in terms.bases],
        "stopped": watch.stopped,
        "trouble": watch.trouble,
        "settling": watch.settling,
        **{state.word: watch.open.get(state, 0) for state in OPEN},
        "errors": watch.errors,
        "carried": [carried(carry) for carry in watch.carries.values()],
        "last": [telling.ended(batch) for batch in watch.recent],
    }


def _left(watch: Watch) -> dict[str, Any]:
    reading = sum(carry.batch.state is BatchState.READING for carry in watch.carries.values())
    return _facts(watch) | telling.removed(watch.open, reading)


def carried(carry: Carry) -> dict[str, Any]:
    """One batch that is under way."""
    batch = carry.batch
    counts = carry.reading.counts if batch.state is BatchState.READING else batch.counts
    return {
        "id": batch.id,
        "name": batch.name,
        "run": batch.run,
        "state": batch.state.word,
        "files": counts.files,
        "images": counts.images,
        "bytes": counts.bytes,
        "errors": counts.errors,
        "warnings": counts.warnings,
        "waits": carry.waits,
    }
