"""One batch, carried from where it is to its end: read, delivered, and its source left, moved or deleted.

Guarantees: each step is durable before the next one begins, so that a restart goes on at the step that was broken off;
the source goes only after every image of the batch is delivered (and confirmed, where a destination proves).
Failures: those of the batch become its state and reason; faults of our own storage are waited out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from asyncroute.batch import source
from asyncroute.batch.means import Means
from asyncroute.batch.reading import Broken, Reading
from asyncroute.core.batches import (
    Batch,
    BatchRead,
    BatchState,
    BeginBatch,
    EndBatch,
    Leftover,
    SourceLeft,
    Tally,
    Terms,
    Trouble,
)
from asyncroute.core.errors import AsyncrouteError
from asyncroute.crashpoints import crash_point
from asyncroute.journal.base import Action

log = logging.getLogger(__name__)

AGAIN = 1.0
"""Seconds until what our own storage refused is tried again."""

LOOK = 2.0
"""Seconds after which deliveries are looked at, whether news came or not."""

NOT_OFTENER = 0.05


class Carry:
    """See module. ``batch.state`` follows what is durable."""

    def __init__(self, means: Means, terms: Terms, batch: Batch, moved_on: Callable[[], None]) -> None:
        """``moved_on``: called when the batch is in another state."""
        self._moved_on = moved_on
        self.batch = batch
        self.terms = terms
        self.reading = Reading(means, terms, batch, moved_on)
        self.trouble = ""
        self._means = means
        self._broken = ""

    @property
    def waits(self) -> str:
        """Why it does not go on; empty: it does."""
        return self.trouble or (self.reading.waits if self.batch.state is BatchState.READING else "")

    def cancel(self) -> None:
        """A person's word: read no further."""
        self.reading.cancelled = self.batch.cancelled = True

    async def run(self) -> None:
        """To its end."""
        batch = self.batch
        if batch.state is BatchState.PROCESSING:
            await self._storing(self._remember)
        if batch.state in (BatchState.QUEUED, BatchState.READING):
            batch.state = BatchState.READING
            try:
                await self._read()
            finally:
                await self.reading.tidy()
            batch.state = BatchState.PROCESSING
            self._moved_on()
        if batch.state is BatchState.PROCESSING:
            await self._delivered()
            await self._storing(self._end)
        if batch.state is BatchState.DONE and batch.after:
            await self._dispose()

    # ---- reading

    async def _read(self) -> None:
        self.reading.cancelled |= self.batch.cancelled
        log.info("batch %s: reading %s", self.batch.label, self.batch.path)
        try:
            await self._storing(self.reading.run)
            return
        except Broken as broken:
            self._broken = str(broken)
        except FileNotFoundError:
            self._broken = "its folder is gone" if self.batch.begun_at is None else "its folder went away"
        except OSError as error:
            self._broken = f"cannot be read: {(error.strerror or str(error)).lower()}"
        except Exception as error:
            log.exception("batch %s: unexpected error", self.batch.label)
            self._broken = f"unexpected error: {error!r}"
        await self.reading.landed()
        await self._storing(self._give_up_reading)

    async def _give_up_reading(self) -> None:
        """What was read so far is noted, with why it is no more."""
        reading, batch = self.reading, self.batch
        reading.counts.errors += 1
        troubles = [Trouble("", self._broken, True), *reading.troubles]
        await self._means.act(BeginBatch(batch.id, batch.stamp))  # it may not have come so far
        await self._means.act(BatchRead(batch.id, reading.counts, troubles, 0))
        batch.counts = reading.counts

    async def _remember(self) -> None:
        """Why reading ended early, from before a restart, or before a person sent some of its images again."""
        found = await self._means.journal.troubles(self.batch.id, 1)
        self._broken = next((it.text for it in found if it.error and not it.file), "")

    # ---- delivering

    async def _delivered(self) -> None:
        """Wait until nothing of it is on its way any more."""
        means, at = self._means, 0
        while True:
            means.settled.clear()
            pending = await self._asking(at)
            if pending is None and at == 0:
                return
            at = pending or 0  # at the end once more from the beginning: a person may have sent some again
            if pending is not None:
                try:
                    await asyncio.wait_for(means.settled.wait(), LOOK)
                except TimeoutError:
                    pass
                await asyncio.sleep(NOT_OFTENER)

    async def _asking(self, at: int) -> int | None:
        try:
            return await self._means.journal.pending(self.batch.id, at)
        except AsyncrouteError as fault:
            self.trouble = str(fault)
            await asyncio.sleep(AGAIN)
            return at or 1

    async def _end(self) -> None:
        tally = await self._means.journal.tally(self.batch.id)
        state, reason = self._verdict(tally)
        after = self._after() if state is BatchState.DONE else ""
        await self._means.act(EndBatch(self.batch.id, state, reason, after))
        crash_point("batch-ended")
        batch = self.batch
        batch.state, batch.reason, batch.after, batch.tally = state, reason, after, tally
        say = log.info if state is not BatchState.ERROR else log.warning
        what = f": {reason}" if reason else ""
        say("batch %s: %s%s; %d images, %d deliveries", batch.label, state.word, what, tally.images, tally.delivered)

    def _verdict(self, tally: Tally) -> tuple[BatchState, str]:
        """How it ended, and why not well."""
        errors = self.batch.counts.errors
        reasons = [
            self._broken,
            f"{errors} files could not be taken" if errors and not self._broken else "",
            f"{tally.held} images are held" if tally.held else "",
            f"{tally.failed} deliveries failed" if tally.failed else "",
            f"{tally.discarded} deliveries were given up by a person" if tally.discarded else "",
        ]
        reason = "; ".join(filter(None, reasons))
        if reason:
            return BatchState.ERROR, reason
        found = tally.images or self.batch.counts.discarded or self.batch.counts.images
        return (BatchState.DONE if found else BatchState.EMPTY), ""

    def _after(self) -> str:
        return f"move:{self.terms.move_to}" if self.terms.after == "move" else self.terms.after.replace("leave", "")

    # ---- its source

    async def _dispose(self) -> None:
        batch, trouble = self.batch, ""
        try:
            arguments = (batch.path, batch.id, batch.after, batch.signature)
            await self._means.blocking(source.dispose, *arguments)
        except source.Partly as partly:
            trouble = str(partly)
        except source.Changed as changed:
            trouble = f"stays where it is: {changed}"
        except OSError as error:
            trouble = f"stays where it is: {(error.strerror or str(error)).lower()}"
        if trouble:
            log.warning("batch %s: %s %s", batch.label, batch.path, trouble)
        await self._durable(SourceLeft(batch.id, trouble))
        batch.leftover = Leftover.LEFT if trouble else Leftover.GONE

    # ---- our own storage

    async def _durable(self, action: Action) -> None:
        async def act() -> None:
            await self._means.act(action)

        await self._storing(act)

    async def _storing(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work`` until our own storage lets it be done."""
        while True:
            try:
                await work()
            except AsyncrouteError as fault:
                self.trouble = str(fault)
                await asyncio.sleep(AGAIN)
            else:
                self.trouble = ""
                return
