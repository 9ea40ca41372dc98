"""Reading images back from the spool, for lanes whose image is no longer in memory.

A few threads serve all lanes; requests that wait are taken together, and results come back to the loop together. What
comes back from disk is checked against the journal: the file's own header first (another image's bytes are never sent
under this one's name), its length and checksum before the last byte of it is handed out: small images are read whole
and compared, large ones piece by piece, so that the last piece of a damaged one is withheld.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
from collections import deque
from collections.abc import Callable

import xxhash

from asyncroute.core import outcomes
from asyncroute.core.errors import AsyncrouteError, StorageFault
from asyncroute.core.model import Delivery
from asyncroute.core.outcomes import Outcome
from asyncroute.spool.base import Spool

log = logging.getLogger(__name__)

WHOLE = 1 << 20
"""Images up to so many bytes are read in one piece."""

PIECE = 256 << 10
"""Bytes per piece of larger ones."""

Done = Callable[[bytes | None, AsyncrouteError | None], None]
Job = tuple[Callable[[], bytes], Done]


def unreadable(fault: AsyncrouteError | None) -> Outcome:
    """The outcome of a spool file that could not be read: missing or damaged for good, else worth another try."""
    number = fault.errno if isinstance(fault, StorageFault) else 0
    return outcomes.unreadable(str(fault), for_good=number in (0, errno.ENOENT))


class Readers:
    """See module. ``read`` on the loop's thread; ``done`` is called there."""

    def __init__(self, spool: Spool, threads: int = 4) -> None:
        self._spool = spool
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[Job] = deque()
        self._results: list[tuple[Done, bytes | None, AsyncrouteError | None]] = []
        self._wake = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._serve, name=f"read-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def open(self, delivery: Delivery) -> Reading:
        """The delivery's data set, from its beginning. No I/O yet."""
        return Reading(self, delivery)

    def submit(self, job: Callable[[], bytes], done: Done) -> None:
        """Do ``job`` in a reading thread; ``done`` with its result follows on the loop."""
        with self._wake:
            self._jobs.append((job, done))
            self._wake.notify()

    def close(self) -> None:
        """End the threads."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(5)

    def confirm(self, delivery: Delivery) -> None:
        """Whether the file is the one that the journal means; else a ``StorageFault``. Blocks."""
        self._spool.confirm(delivery)

    def fetch(self, path: str, offset: int, length: int) -> bytes:
        """Bytes of a spool file. Blocks."""
        return self._spool.read(path, offset, length)

    def _serve(self) -> None:
        while True:
            with self._wake:
                while not self._jobs:
                    if self._closed:
                        return
                    self._wake.wait()
                job, done = self._jobs.popleft()
            try:
                result: bytes | None = job()
                fault: AsyncrouteError | None = None
            except AsyncrouteError as error:
                result, fault = None, error
            except Exception as error:
                log.exception("cannot read from the spool")
                result, fault = None, StorageFault(f"cannot read from the spool: {error!r}")
            with self._wake:
                first = not self._results
                self._results.append((done, result, fault))
            if first:
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._wake:
            results, self._results = self._results, []
        for done, data, fault in results:
            try:
                done(data, fault)
            except Exception:
                log.exception("a lane could not take what was read")


class Reading:
    """One data set being read, a piece at a time; the last piece comes only if the whole is what was received."""

    __slots__ = ("_delivery", "_hasher", "_offset", "_readers")

    def __init__(self, readers: Readers, delivery: Delivery) -> None:
        self._readers = readers
        self._delivery = delivery
        self._offset = 0
        self._hasher = xxhash.xxh3_64()

    @property
    def ended(self) -> bool:
        """Whether the last piece has been asked for."""
        return self._offset >= self._delivery.size

    def next(self, done: Done) -> None:
        """The next piece (all, if it is small); one at a time."""
        offset, size = self._offset, self._delivery.size
        length = size if size <= WHOLE else min(PIECE, size - offset)
        self._offset = offset + length
        self._readers.submit(lambda: self._fetch(offset, length), done)

    def _fetch(self, offset: int, length: int) -> bytes:
        d = self._delivery
        if not offset:
            self._readers.confirm(d)
        data = self._readers.fetch(d.path, d.data_offset + offset, length)
        self._hasher.update(data)
        if offset + length >= d.size and self._hasher.intdigest() != d.checksum:
            raise StorageFault(f"spool file {d.path} is damaged: its checksum is not the one of what was received")
        return data
