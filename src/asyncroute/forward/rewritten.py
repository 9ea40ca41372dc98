"""A stored data set with another header, piece by piece: what lanes send instead of what was received.

Guarantees: everything behind the header is what was received, byte for byte (deflated: after inflating), but for what
the transform's ``Tail`` changes; the checksum is of what was received, and the last piece comes only if it is right.
Memory: a few pieces of ``PIECE`` bytes, and the header.
Failures: the spool's ``StorageFault``; ``Refused``, for a deflated stream that is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import xxhash

from asyncroute.core.errors import AsyncrouteError
from asyncroute.core.model import Delivery
from asyncroute.forward.heads import Head, pieces_of
from asyncroute.forward.reading import PIECE, WHOLE, Data, Done, Readers
from asyncroute.spool.base import Spool, check_sum
from asyncroute.transform.base import Edited, Header, Tail, Transform
from asyncroute.wire.syntax import is_deflated


class Writing:
    """The new data set of ``delivery``, made while the old one is read. ``next`` blocks; for one thread at a time."""

    def __init__(self, spool: Spool, delivery: Delivery, head: Head, header: Data, rest: Tail) -> None:
        """``header``: what comes first, then ``rest`` says what becomes of what is stored behind ``head``."""
        self.ended = False
        """Whether ``next`` has given the last piece."""
        self._delivery = delivery
        self._start: Data | None = head.start
        self._skip = head.skip
        self._stored = pieces_of(spool, delivery, len(head.start))
        self._hasher = xxhash.xxh3_64()
        self._held: list[Data] = [header] if len(header) else []
        self._rest = rest

    def next(self) -> bytes:
        """The next piece. What may be the last is held back until the whole has been compared."""
        out, self._held = self._held, []
        while True:
            fresh = self._step()
            if self.ended:
                return b"".join((*out, *fresh))
            if fresh and out:
                self._held = fresh
                return b"".join(out)
            out += fresh

    def _step(self) -> list[Data]:
        data: Data | None
        if self._start is not None:
            data, self._start = self._start, None
        else:
            data = next(self._stored, None)
        if data is None:
            check_sum(self._delivery, self._hasher.intdigest())
            self.ended = True
            return [it for it in self._rest.finish() if len(it)]
        self._hasher.update(data)
        view = memoryview(data)[self._skip :]
        self._skip = 0
        return [it for it in self._rest.feed(view) if len(it)] if len(view) else []


def writing(
    spool: Spool, delivery: Delivery, head: Head, transform: Transform, original: Header, edited: Edited
) -> Writing:
    """``edited`` in the place of ``original``, and behind it what follows there."""
    if is_deflated(delivery.transfer_syntax):
        return Writing(spool, delivery, head, b"", transform.deflated(original, edited))
    rest = transform.tail(original) if transform.edits_tail and not head.whole else _AsItIs()
    return Writing(spool, delivery, head, edited.data, rest)


def measured(write: Writing) -> tuple[int, bytes | None]:
    """The length of the new data set in bytes; all of it, if it is small. Blocks."""
    size = 0
    small: list[bytes] | None = []
    while not write.ended:
        piece = write.next()
        size += len(piece)
        if size > WHOLE:
            small = None
        if small is not None:
            small.append(piece)
    return size, b"".join(small) if small is not None else None


class RewrittenReading:
    """``reading.Reading`` of a new data set of ``size`` bytes."""

    __slots__ = ("_given", "_readers", "_size", "_write")

    def __init__(self, readers: Readers, write: Writing, size: int) -> None:
        self._readers = readers
        self._write = write
        self._size = size
        self._given = 0

    @property
    def ended(self) -> bool:
        """Whether the last piece has come."""
        return self._write.ended

    @property
    def further(self) -> int:
        """Bytes of the next piece, if it is not of the first MiB; about so many."""
        return min(PIECE, self._size - self._given) if self._given >= WHOLE else 0

    def next(self, done: Done) -> None:
        """The next piece; one at a time."""
        self._readers.submit(self._write.next, partial(self._came, done))

    def _came(self, done: Done, data: bytes | None, error: AsyncrouteError | None) -> None:
        self._given += len(data or b"")
        done(data, error)


class _AsItIs:
    def feed(self, data: memoryview) -> Sequence[Data]:
        return (data,)

    def finish(self) -> Sequence[Data]:
        return ()
