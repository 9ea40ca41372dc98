"""The header of a stored data set, for transforms: where it ends, and its bytes (deflated: inflated).

The header is what stands before group 7FE0: pixel data and what follows them are never looked at. It may be as long as
``MOST_HEADER``, because functional groups of many frames are.
Guarantees: what a damaged or odd data set hides is not guessed. Failures: ``Refused``, for what has no header that can
be told; the spool's ``StorageFault``.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from asyncroute.core.model import Delivery
from asyncroute.forward.reading import PIECE, WHOLE, Data
from asyncroute.spool.base import Spool
from asyncroute.transform.base import Refused
from asyncroute.wire.elements import MAX_NESTED, PIXELS, Odd, Walk
from asyncroute.wire.lenient import actual_encoding
from asyncroute.wire.syntax import EXPLICIT_LE, Encoding, is_deflated, syntax_of

MOST_HEADER = 64 << 20
"""Bytes of a header that may be changed: an image with a longer one is held."""

_FIRST = 1 << 16
_NESTED = 5_000_000
"""Headers inside of sequences, where a thread of its own looks at them."""


@dataclass(slots=True)
class Head:
    """``header``: up to the pixel data, plain. ``whole``: nothing follows it.

    ``start``: the bytes of the data set that have been read, as stored; ``skip``: how many of them are the header
    (deflated: nothing was read, nothing is skipped). ``parts``: the data set, where it is in memory, and checked.
    """

    header: Data
    whole: bool
    start: Data
    skip: int
    parts: Sequence[memoryview] | None = None


def head_of(parts: Sequence[memoryview], transfer_syntax: str, known: int = 0) -> Head:
    """Of a data set in memory that is not deflated. Quick: for the loop, too. ``known``: its length, if not 0."""
    encoding = _encoding(transfer_syntax)
    first = parts[0] if parts else memoryview(b"")
    end = known if 0 < known <= len(first) else _end(first, encoding, len(parts) <= 1)
    if end is None:
        first = memoryview(b"".join(parts))
        parts = (first,)
        end = _end(first, encoding, True)
    assert end is not None
    return Head(first[:end], end == len(first) and len(parts) <= 1, first, end, parts)


def stored_head(spool: Spool, delivery: Delivery) -> Head:
    """Of a data set in the spool. Blocks."""
    encoding = _encoding(delivery.transfer_syntax)
    deflated = is_deflated(delivery.transfer_syntax)
    if delivery.size <= WHOLE and not deflated:
        return head_of((spool.load(delivery),), delivery.transfer_syntax)
    spool.confirm(delivery)
    return _inflated_head(spool, delivery) if deflated else _large_head(spool, delivery, encoding)


def pieces_of(spool: Spool, delivery: Delivery, offset: int = 0) -> Iterator[bytes]:
    """The data set as stored, piece by piece."""
    while offset < delivery.size:
        length = min(PIECE, delivery.size - offset)
        yield spool.read(delivery.path, delivery.data_offset + offset, length)
        offset += length


def _large_head(spool: Spool, delivery: Delivery, encoding: Encoding) -> Head:
    data = bytearray()
    tried = 0
    for piece in pieces_of(spool, delivery):
        data += piece
        complete = len(data) == delivery.size
        if len(data) >= 2 * tried or complete:
            tried = len(data)
            end = _end(memoryview(bytes(data)), encoding, complete, _NESTED)
            if end is not None and end <= MOST_HEADER:
                start = memoryview(bytes(data))
                return Head(start[:end], end == delivery.size, start, end)
        if len(data) > MOST_HEADER:
            break
    raise _too_long()


def _inflated_head(spool: Spool, delivery: Delivery) -> Head:
    inflater = Inflater()
    data = bytearray()
    tried = _FIRST // 2
    for piece in pieces_of(spool, delivery):
        for plain in inflater.feed(piece):
            data += plain
            if len(data) >= 2 * tried:
                tried = len(data)
                end = _end(memoryview(bytes(data)), EXPLICIT_LE, False, _NESTED)
                if end is not None and end <= MOST_HEADER:
                    return Head(bytes(data[:end]), False, b"", 0)
            if len(data) > MOST_HEADER:
                raise _too_long()
    data += inflater.end()
    end = _end(memoryview(bytes(data)), EXPLICIT_LE, True, _NESTED)
    return Head(bytes(data[:end]), end == len(data), b"", 0)


class Inflater:
    """A deflated data set (PS3.5 A.5) made plain, in pieces of bounded size. Failures: ``Refused``."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)

    def feed(self, data: Data) -> Iterator[bytes]:
        """What ``data`` says."""
        while len(data) and not self._inflater.eof:
            try:
                yield self._inflater.decompress(data, PIECE)
            except zlib.error as error:
                raise Refused(f"its data set cannot be inflated: {error}") from None
            data = self._inflater.unconsumed_tail

    def end(self) -> bytes:
        """What is left, when all was fed: the stream has to be whole."""
        try:
            left = b"" if self._inflater.eof else self._inflater.flush()
        except zlib.error as error:
            raise Refused(f"its data set cannot be inflated: {error}") from None
        if not self._inflater.eof:
            raise Refused("its data set cannot be inflated: it ends in the middle of the deflated stream")
        return left


def _encoding(transfer_syntax: str) -> Encoding:
    syntax = syntax_of(transfer_syntax)
    if syntax is None:
        raise Refused(f"how data sets of transfer syntax {transfer_syntax} are encoded is not known")
    return syntax.encoding


def _end(view: memoryview, encoding: Encoding, complete: bool, nested: int = MAX_NESTED) -> int | None:
    """The offset of the first element from group 7FE0 on; None: more of the data set is needed."""
    walk = Walk(view, len(view), frozenset(), PIXELS - 1, 0, -1)
    walk.nested = nested
    try:
        over = walk.run(actual_encoding(view, encoding))
    except Odd as odd:
        raise Refused(f"its header cannot be read: {odd.reason}") from None
    if over or (complete and walk.pos == len(view)):
        return walk.pos
    if complete:
        raise Refused("its header cannot be read: the data set ends inside of an element")
    return None


def _too_long() -> Refused:
    return Refused(f"its header is longer than {MOST_HEADER >> 20} MiB")
