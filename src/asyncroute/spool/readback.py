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
from asyncroute.spool.base import check_sum
from asyncroute.spool.head import unlike
from asyncroute.spool.system import read_cached
from asyncroute.spool.tree import Tree, fault

LONGEST_HEAD = 64 << 10
"""Bytes that are looked at before a data set."""


def at_once(tree: Tree, delivery: Delivery) -> memoryview | None:
    """See ``Spool.at_once``."""
    number = tree.open_cached(delivery.path)
    if number < 0:
        return None
    try:
        data = read_cached(number, delivery.data_offset + delivery.size)
    finally:
        os.close(number)
    try:
        return _checked(data, delivery) if data is not None else None
    except StorageFault:
        return None


def load(tree: Tree, delivery: Delivery) -> memoryview:
    """See ``Spool.load``."""
    length = delivery.data_offset + delivery.size
    data, found = _start(tree, delivery.path, length)
    check_length(delivery.path, found, length)
    return _checked(data, delivery)


def confirm(tree: Tree, delivery: Delivery) -> None:
    """See ``Spool.confirm``."""
    offset = delivery.data_offset
    start, found = _start(tree, delivery.path, min(max(offset, 0), LONGEST_HEAD))
    check_length(delivery.path, found, offset + delivery.size)
    _check_head(start, delivery)


def _start(tree: Tree, path: str, length: int) -> tuple[bytes, int]:
    """The first ``length`` bytes of a file, and how many it has."""
    try:
        number = tree.open(path)
        try:
            return read_piece(number, 0, length), os.fstat(number).st_size
        finally:
            os.close(number)
    except (OSError, ValueError) as error:
        raise fault(error, "reading", path) from error


def _checked(data: bytes | bytearray, delivery: Delivery) -> memoryview:
    """The data set; ``data``: the whole file, of the right length. A ``StorageFault``: something is wrong with it."""
    start = delivery.data_offset
    _check_head(bytes(data[:start]), delivery)
    data_set = memoryview(data)[start : start + delivery.size]
    check_sum(delivery, xxhash.xxh3_64_intdigest(data_set))
    return data_set


def _check_head(start: bytes, delivery: Delivery) -> None:
    wrong = unlike(start, delivery)
    if wrong:
        raise StorageFault(f"spool: {delivery.path} is damaged: {wrong}")


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
