"""A stored data set with another header, piece by piece: what lanes send instead of what was received.

Guarantees: everything behind the header is what was received, byte for byte (deflated: after inflating), but for what
the transform's ``Tail`` changes; the checksum is of what was received, and the last piece comes only if it is right.
Memory: a few pieces of ``PIECE`` bytes, and the header.
Failures: the spool's ``StorageFault``; ``Refused``, for a deflated stream that is none.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Protocol

import xxhash

from asyncroute.core.errors import AsyncrouteError
from asyncroute.core.model import Delivery
from asyncroute.forward.heads import Head, Inflater, is_deflated, pieces_of
from asyncroute.forward.reading import PIECE, WHOLE, Data, Done, Readers
from asyncroute.spool.base import Spool, check_sum
from asyncroute.transform.base import Header, Tail, Transform


class _Rest(Protocol):
    """What becomes of the stored bytes behind those that are skipped."""

    def feed(self, data: memoryview) -> Sequence[Data]: ...
    def finish(self) -> Sequence[Data]: ...


class Writing:
    """The new data set of ``delivery``, made while the old one is read. ``next`` blocks; for one thread at a time."""

    def __init__(self, spool: Spool, delivery: Delivery, head: Head, header: Data, rest: _Rest) -> None:
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
    spool: Spool, delivery: Delivery, head: Head, transform: Transform, original: Header, header: Data
) -> Writing:
    """``header`` in the place of ``original``, and behind it what follows there."""
    tail = transform.tail(original) if transform.edits_tail and not head.whole else None
    if is_deflated(delivery.transfer_syntax):
        return Writing(spool, delivery, head, b"", _Deflated(len(head.header), header, tail))
    return Writing(spool, delivery, head, header, tail if tail is not None else _AsItIs())


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


class _Deflated:
    """Inflated, ``skip`` bytes replaced by ``header``, and deflated again (PS3.5 A.5: to an even length)."""

    def __init__(self, skip: int, header: Data, tail: Tail | None) -> None:
        self._inflater = Inflater()
        self._deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        self._skip = skip
        self._header: Data = header
        self._tail: _Rest = tail if tail is not None else _AsItIs()
        self._size = 0

    def feed(self, data: memoryview) -> Sequence[Data]:
        out: list[Data] = []
        for plain in self._inflater.feed(data):
            out += self._deflated(self._behind_header(plain))
        return self._counted(out)

    def finish(self) -> Sequence[Data]:
        out = self._deflated(self._behind_header(self._inflater.end()))
        out += self._deflated(self._tail.finish())
        out += self._counted([self._deflater.flush()])
        return [*out, b"\0"] if self._size % 2 else out

    def _behind_header(self, plain: bytes) -> Sequence[Data]:
        view = memoryview(plain)[self._skip :]
        self._skip -= len(plain) - len(view)
        header, self._header = self._header, b""
        return (header, *self._tail.feed(view)) if len(view) else (header,)

    def _deflated(self, plain: Iterable[Data]) -> list[Data]:
        return self._counted([self._deflater.compress(it) for it in plain])

    def _counted(self, out: list[Data]) -> list[Data]:
        self._size += sum(map(len, out))
        return out
