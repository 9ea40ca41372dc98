"""The last step of an image's way: files whose every delivery is settled leave the spool.

The journal says which (``Committed.releasable``), after the transaction that settled the last delivery. Release has a
thread of its own and goes in batches, because removals between the syncs of the committing threads slow both down. When
files have left a later group writes so into the journal, and only then may new images be written over those that the
spool keeps for that; what was not used for some seconds is removed here, too. Failures: a file that cannot be removed
is logged and stays for the next start's recovery.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

from asyncroute.core.errors import AsyncrouteError
from asyncroute.crashpoints import crash_point
from asyncroute.link.workers import Workers
from asyncroute.spool.base import Spool

log = logging.getLogger(__name__)

PERIOD = 0.02
"""Seconds that releases wait for company: the sooner a file is spare, the fewer files (and pages of memory) take turns.
"""

KEEPING_PERIOD = 0.25
"""The same where an archive keeps them, to which a batch costs more."""

TIDY = 0.5
"""Seconds between looks at spare files while nothing else is released."""

AGAIN = 5.0
"""Seconds until images are tried again that cannot leave."""

MOST = 100_000
"""Images that may wait here; of more the journal is asked when these are gone."""

Releasable = tuple[int, str]
"""Instance id and spool path."""


class Keeping(Protocol):
    """Who keeps images that are done (an archive)."""

    def keep(self, batch: Sequence[Releasable]) -> list[Releasable]:
        """Keep these; those that are safe, and may leave the spool. In the releasing thread."""
        ...


class Releaser:
    """See module. The loop's thread only. ``released`` is told which files have left; ``committed`` is to follow.

    ``keeping``: who has to have an image before it may go; None: nobody. ``remember``: up to so many images that are
    done, from the journal; may block.
    """

    def __init__(self, spool: Spool, released: Callable[[Sequence[int]], None]) -> None:
        self._spool = spool
        self._released = released
        self._loop = asyncio.get_running_loop()
        self._workers = Workers(1, "release")
        self.keeping: Keeping | None = None
        self.remember: Callable[[int], list[Releasable]] = lambda most: []
        self._waiting: list[Releasable] = []
        self._spare: dict[int, str] = {}
        """Files that are to be used again, by the image that left and of which the journal does not know that yet."""
        self._forgot = False
        self._draining = False
        self._running = False
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def release(self, done: Sequence[Releasable]) -> None:
        """These images are done: release their files before long."""
        if done:
            first = not self._waiting
            self._waiting.extend(done[: max(MOST - len(self._waiting), 0)])
            self._forgot = self._forgot or len(self._waiting) >= MOST
            self._idle.clear()
            if first and not self._running:
                self._run_in(self._period)

    def committed(self, instance_ids: Iterable[int]) -> None:
        """The journal knows that these images have left."""
        paths = [path for each in instance_ids if (path := self._spare.pop(each, None)) is not None]
        if paths:
            self._spool.spare(paths)

    @property
    def _period(self) -> float:
        return PERIOD if self.keeping is None else KEEPING_PERIOD

    def _run_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._run)

    async def drained(self) -> None:
        """Wait until all that was given has been removed, and no spare file is left; what cannot leave now stays."""
        self._draining = True
        if self._timer is not None:
            self._timer.cancel()
            self._run()
        await self._idle.wait()
        tidied: asyncio.Future[None] = self._loop.create_future()
        self._workers.submit(partial(self._spool.tidy, True), lambda _, error: _finished(tidied, error))
        await tidied

    def close(self) -> None:
        """End the thread."""
        if self._timer is not None:
            self._timer.cancel()
        self._workers.close(5)

    def _run(self) -> None:
        self._timer = None
        if self._running:
            return
        batch, self._waiting = self._waiting, []
        self._running = True
        self._workers.submit(partial(self._release, batch, self.keeping), self._ran)

    def _release(self, batch: list[Releasable], keeping: Keeping | None) -> tuple[list[int], list[Releasable]]:
        """In the thread; the ids whose files have left, and what has to stay for now."""
        gone: list[int] = []
        kept = batch if keeping is None else keeping.keep(batch)
        for instance_id, path in kept:
            try:
                if keeping is not None:
                    self._spool.remove_of(path, instance_id)  # it may be the archive's file, too
                elif self._spool.release(path, instance_id):
                    self._spare[instance_id] = path
            except AsyncrouteError as error:
                log.error("file not removed: %s", error)
            else:
                crash_point("file-removed")
                gone.append(instance_id)
        self._spool.tidy()
        safe = set(kept) if len(kept) < len(batch) else None
        return gone, [each for each in batch if each not in safe] if safe is not None else []

    def _ran(self, done: tuple[list[int], list[Releasable]] | None, error: Exception | None) -> None:
        self._running = False
        gone, left = done or ([], [])
        if error is not None:
            log.error("files not removed", exc_info=error)
        if gone:
            self._released(gone)
        if left and not self._draining:
            self._waiting[:0] = left
        if self._waiting:
            self._run_in(AGAIN if left else self._period)
        elif self._forgot and not self._draining:
            self._forgot = False
            self._running = True
            self._workers.submit(partial(self.remember, MOST), self._remembered)
        else:
            self._idle.set()
            if self._spool.spare_files:
                self._run_in(TIDY)

    def _remembered(self, done: list[Releasable] | None, error: Exception | None) -> None:
        if error is not None:
            log.error("files of images that are done stay until the next start", exc_info=error)
        self._ran(([], []), None)
        self.release(done or [])


def _finished(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(None)
