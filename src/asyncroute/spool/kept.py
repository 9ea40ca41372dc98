"""Files being written, and descriptors that stay open for the next image that is written over the one in a file.

Guarantees of ``Kept``: at most ``most`` are open, the eldest are closed first; whoever takes one is its only owner.
Where images wait for long, or none come, ``close_old`` leaves none open. Safe in any thread. Failures: none.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile
from time import monotonic
from typing import NamedTuple

from asyncroute.spool.base import Buffer

IOV_MAX = 1024


class Descriptor(NamedTuple):
    """An open file: its descriptor, and which file that is (st_dev, st_ino)."""

    number: int
    identity: tuple[int, int]


class Writing(NamedTuple):
    """A file that is being written, from its beginning.

    ``path``: below the spool folder; ``before``: the length of what was in it, -1: it is new.
    """

    number: int
    path: str
    descriptor: Descriptor
    before: int

    @property
    def new(self) -> bool:
        """Whether its name is new, too."""
        return self.before < 0

    def close(self) -> None:
        """Nothing is written to it any more."""
        os.close(self.descriptor.number)


def identity(found: os.stat_result) -> tuple[int, int]:
    """Which file that is."""
    return found.st_dev, found.st_ino


def as_it_was(found: os.stat_result, length: int) -> bool:
    """Whether that is a file of this length without another name."""
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_size == length


def write_all(number: int, parts: Sequence[Buffer]) -> int:
    """Write ``parts`` to a file descriptor, whatever the system takes at a time; the bytes written."""
    waiting: list[Buffer] = list(parts)
    total = start = 0
    while start < len(waiting):
        batch = waiting[start : start + IOV_MAX]
        done = os.writev(number, batch)
        total += done
        if done == sum(map(len, batch)):
            start += len(batch)
            continue
        if not done:
            raise OSError(errno.EIO, "the system writes nothing")
        while done >= len(waiting[start]):
            done -= len(waiting[start])
            start += 1
        waiting[start] = memoryview(waiting[start])[done:]
    return total


class Kept:
    """See module."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._open: dict[int, tuple[Descriptor, float]] = {}
        """By number: the descriptor, since when it is here (monotonic); the eldest first."""

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def keep(self, file: int, descriptor: Descriptor) -> None:
        """``descriptor`` is of the file of that number; its owner gives it away."""
        with self._lock:
            before = self._open.pop(file, None)
            self._open[file] = descriptor, monotonic()
            eldest = self._open.pop(next(iter(self._open))) if len(self._open) > self._most else None
        _close(before)
        _close(eldest)

    def limit(self, most: int) -> None:
        """Keep no more than ``most`` from now on."""
        with self._lock:
            self._most = most
            over = [self._open.pop(file) for file in list(self._open)[: max(len(self._open) - most, 0)]]
        for one in over:
            _close(one)

    def take(self, file: int) -> Descriptor | None:
        """The descriptor of that file, for the caller to close or give back; None: it is not open."""
        found = self._taken(file)
        return found[0] if found is not None else None

    def close(self, file: int) -> None:
        """That file is not written again."""
        _close(self._taken(file))

    def _taken(self, file: int) -> tuple[Descriptor, float] | None:
        with self._lock:
            return self._open.pop(file, None)

    def close_old(self, before: float) -> None:
        """Close what is here since before then."""
        with self._lock:
            old = list(takewhile(lambda file: self._open[file][1] < before, self._open))
            over = [self._open.pop(file) for file in old]
        for one in over:
            _close(one)


def _close(kept: tuple[Descriptor, float] | None) -> None:
    if kept is not None:
        with suppress(OSError):
            os.close(kept[0].number)
