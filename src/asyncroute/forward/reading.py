"""Reading images back from the spool, for lanes whose image is no longer in memory.

Small images that the system has in memory are read on the loop. For the others a few threads serve all lanes; requests
that wait are taken together, and results come back to the loop together.
What comes back is checked against the journal: the file's own header first (another image's bytes are never sent under
this one's name), its length and checksum before the last byte of it is handed out: small images are read whole and
compared, large ones piece by piece, so that the last piece of a damaged one is withheld.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import xxhash

from asyncroute.core import outcomes
from asyncroute.core.errors import AsyncrouteError, StorageFault
from asyncroute.core.model import Delivery
from asyncroute.core.outcomes import Outcome
from asyncroute.link.workers import Workers
from asyncroute.spool.base import Spool, check_sum

log = logging.getLogger(__name__)

WHOLE = 1 << 20
"""Images up to so many bytes are read in one piece."""

AT_ONCE = 256 << 10
"""Images up to so many bytes are read on the loop if the system still has them in memory: cheaper than to hand them to
a thread and back, and no longer than to receive one."""

COLD = 32
"""Images that are read by threads, at most, after several that were not in memory, one after the other: those of the
same time are likely not to be. After a single one the next is tried at once again."""

PIECE = 256 << 10
"""Bytes per piece of larger ones."""

Data = bytes | memoryview
Done = Callable[[Data | None, AsyncrouteError | None], None]


def unreadable(fault: AsyncrouteError | None) -> Outcome:
    """The outcome of a spool file that could not be read: missing or damaged for good, else worth another try."""
    number = fault.errno if isinstance(fault, StorageFault) else 0
    return outcomes.unreadable(str(fault), for_good=number in (0, errno.ENOENT))


class Readers:
    """See module. ``read`` on the loop's thread; ``done`` is called there."""

    def __init__(self, spool: Spool, threads: int = 4) -> None:
        self.spool = spool
        self._workers = Workers(threads, "read")
        self._cold = self._missed = 0

    def at_once(self, delivery: Delivery) -> memoryview | None:
        """The whole data set, checked, if the system has it in memory; else ``open`` it."""
        if delivery.size > AT_ONCE:
            return None
        if self._cold:
            self._cold -= 1
            return None
        data = self.spool.at_once(delivery)
        if data is None:
            self._cold = self._missed
            self._missed = min(2 * self._missed or 1, COLD)
        else:
            self._missed = 0
        return data

    def open(self, delivery: Delivery) -> Reading:
        """The delivery's data set, from its beginning. No I/O yet."""
        return Reading(self, delivery)

    def submit(self, job: Callable[[], Any], done: Callable[[Any, AsyncrouteError | None], None]) -> None:
        """Do ``job`` in a reading thread; ``done`` with its result follows on the loop."""
        self._workers.submit(job, partial(_read, done))

    def close(self) -> None:
        """End the threads."""
        self._workers.close(5)


def _read(done: Callable[[Any, AsyncrouteError | None], None], data: Any, error: Exception | None) -> None:
    """Back on the loop; what is no fault of the storage's is one of ours."""
    if error is None or isinstance(error, AsyncrouteError):
        done(data, error)
    else:
        log.error("cannot read from the spool", exc_info=error)
        done(None, StorageFault(f"cannot read from the spool: {error!r}"))


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

    @property
    def further(self) -> int:
        """Bytes of the next piece, if it is not of the first MiB."""
        return min(PIECE, self._delivery.size - self._offset) if self._offset >= WHOLE else 0

    def next(self, done: Done) -> None:
        """The next piece (all, if it is small); one at a time."""
        offset, size, readers = self._offset, self._delivery.size, self._readers
        if size <= WHOLE:
            self._offset = size
            readers.submit(partial(readers.spool.load, self._delivery), done)
        else:
            length = min(PIECE, size - offset)
            self._offset = offset + length
            readers.submit(partial(self._fetch, offset, length), done)

    def _fetch(self, offset: int, length: int) -> bytes:
        d, spool = self._delivery, self._readers.spool
        if not offset:
            spool.confirm(d)
        data = spool.read(d.path, d.data_offset + offset, length)
        self._hasher.update(data)
        if offset + length >= d.size:
            check_sum(d, self._hasher.intdigest())
        return data
