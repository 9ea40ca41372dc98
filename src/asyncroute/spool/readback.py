"""Reading back what a spool file has, and whether that is what was received.

Guarantees: what ``load`` and ``at_once`` return is the whole data set of that delivery's image: the file's own header
is the one it was written with (``head.unlike``), its length and its checksum are those that the journal knows.
Failures: ``StorageFault`` that says what is wrong; without ``errno`` the file is damaged. ``OSError`` from
``read_piece``.
"""

from __future__ import annotations

import os

import xxhash

from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Delivery
from asyncroute.spool.base import other_checksum
from asyncroute.spool.head import unlike
from asyncroute.spool.system import read_cached
from asyncroute.spool.tree import Tree, fault


def at_once(tree: Tree, delivery: Delivery) -> memoryview | None:
    """See ``Spool.at_once``."""
    number = tree.open_cached(delivery.path)
    if number < 0:
        return None
    try:
        data = read_cached(number, delivery.data_offset + delivery.size)
    finally:
        os.close(number)
    return None if data is None or _wrong(data, delivery) else _data_set(data, delivery)


def load(tree: Tree, delivery: Delivery) -> memoryview:
    """See ``Spool.load``."""
    path, length = delivery.path, delivery.data_offset + delivery.size
    try:
        number = tree.open(path)
        try:
            data = bytearray(length + 1)
            found = _read_into(number, data)
            if found > length:
                found = os.fstat(number).st_size
        finally:
            os.close(number)
    except OSError as error:
        raise fault(error, "reading", path) from error
    check_length(path, found, length)
    wrong = _wrong(data, delivery)
    if wrong:
        raise StorageFault(wrong)
    return _data_set(data, delivery)


def _data_set(data: bytearray, delivery: Delivery) -> memoryview:
    """``data``: the whole file, and one byte more."""
    return memoryview(data)[delivery.data_offset : -1]


def _wrong(data: bytearray, delivery: Delivery) -> str:
    """What is wrong with the file, which has the right length; empty: nothing."""
    wrong = unlike(bytes(data[: delivery.data_offset]), delivery)
    if wrong:
        return f"spool: {delivery.path} is damaged: {wrong}"
    if xxhash.xxh3_64_intdigest(_data_set(data, delivery)) != delivery.checksum:
        return other_checksum(delivery.path)
    return ""


def _read_into(number: int, data: bytearray) -> int:
    """Fill ``data`` from the beginning of a file; fewer bytes only at its end."""
    done = 0
    with memoryview(data) as view:
        while read := os.preadv(number, [view[done:]], done):
            done += read
    return done


def read_piece(number: int, offset: int, length: int) -> bytes:
    """Up to ``length`` bytes; fewer only at the end of the file."""
    data = os.pread(number, length, offset)
    if len(data) == length or not data:
        return data
    pieces = [data]
    while data and (missing := length - sum(map(len, pieces))):
        data = os.pread(number, missing, offset + length - missing)
        pieces.append(data)
    return b"".join(pieces)


def check_length(path: str, found: int, expected: int) -> None:
    """Raise a ``StorageFault`` unless a file has the bytes that it should have."""
    if found != expected:
        word = "shorter" if found < expected else "longer"
        raise StorageFault(f"spool: {path} is {word} than it was: {found} bytes, {expected} expected")
