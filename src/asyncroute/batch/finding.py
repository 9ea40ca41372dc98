"""What lies in a watched folder, and which of it is finished.

A sender copies under a name in progress (an extension that begins with ``tmp``, or ``part``, or a hidden name) and
renames: the entry is finished at once. One that was not seen under such a name is finished when nothing of it has
changed for ``settle`` seconds.
Guarantees: one and the same state of an entry is given once. Memory: a few numbers for each entry.
Failures: ``OSError`` where the folder cannot be listed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import monotonic

from asyncroute.batch.base import Known
from asyncroute.batch.files import hidden, signature, stamp_of, unfinished
from asyncroute.core.batches import Entry, Stamp


@dataclass(slots=True)
class Listing:
    """A folder: what may be a batch, with its inodes, and those of what is still being written."""

    entries: list[Entry] = field(default_factory=list)
    writing: set[int] = field(default_factory=set)
    inodes: dict[str, int] = field(default_factory=dict)


def listing(bases: Iterable[str], network: bool, apart: frozenset[str] = frozenset()) -> Listing:
    """Everything in these folders, by name, but for the paths in ``apart``. Blocks. Raises OSError.

    ``network``: they are on a network file system.
    """
    found = Listing()
    for base in bases:
        with os.scandir(base) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            path = os.path.join(base, name)
            if path not in apart:
                _look(found, name, path, network)
    return found


def _look(found: Listing, name: str, path: str, network: bool) -> None:
    try:
        status = os.lstat(path)
    except OSError:
        return
    if unfinished(name) or hidden(name):
        found.writing.add(status.st_ino)
    elif stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode):
        found.entries.append(Entry(name, path, stamp_of(status, network)))
        found.inodes[path] = status.st_ino


@dataclass(slots=True)
class _Candidate:
    stamp: Stamp
    signature: int
    since: float


class Finder:
    """See module. ``look`` blocks and is for one thread at a time; ``known`` is what was found before, by path."""

    def __init__(self, bases: tuple[str, ...], settle: float, known: dict[str, Known], network: bool) -> None:
        """``network``: the folder is on a network file system."""
        self.known = known
        self._bases = bases
        self._settle = settle
        self._network = network
        self._writing: set[int] = set()
        self._candidates: dict[str, _Candidate] = {}

    @property
    def settling(self) -> int:
        """Entries that may be finished soon."""
        return len(self._candidates)

    def look(self) -> list[Entry]:
        """What is finished now and was not before."""
        there = listing(self._bases, self._network)
        new = [entry for entry in there.entries if self._is_new(entry)]
        inodes = {there.inodes[entry.path] for entry in new}
        paths = {entry.path for entry in new}
        self._candidates = {path: it for path, it in self._candidates.items() if path in paths}
        ready = [entry for entry in new if self._is_ready(entry, there.inodes[entry.path] in self._writing)]
        self._writing = there.writing | (self._writing & inodes)
        return ready

    def _is_new(self, entry: Entry) -> bool:
        known = self.known.get(entry.path)
        return known is None or known.stamp != entry.stamp

    def _is_ready(self, entry: Entry, renamed: bool) -> bool:
        known = self.known.get(entry.path)
        if renamed or not self._settle:
            return not self._is_as_known(entry, known)
        now, candidate = monotonic(), self._candidates.get(entry.path)
        try:
            sign = signature(entry.path, all_=True)  # copying programs write under hidden names
        except OSError:
            return False
        if candidate is None or (candidate.stamp, candidate.signature) != (entry.stamp, sign):
            self._candidates[entry.path] = _Candidate(entry.stamp, sign, now)
            return False
        if now - candidate.since < self._settle:
            return False
        return not self._is_as_known(entry, known)

    def _is_as_known(self, entry: Entry, known: Known | None) -> bool:
        """Whether it is what was read before, though something (a name that does not count) was written beside it."""
        if known is None or known.stamp.inode != entry.stamp.inode or not known.signature:
            return False
        try:
            if signature(entry.path) != known.signature:
                return False
        except OSError:
            return True
        self.known[entry.path] = Known(entry.stamp, known.signature)
        return True
