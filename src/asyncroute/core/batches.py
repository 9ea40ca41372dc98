"""Batches: sets of images that are found in folders, and their life, as plain data.

A batch is one entry (a folder, or a file) of a watched folder. ``queued`` -> ``reading`` (its images are admitted) ->
``processing`` (they are delivered) -> ``done``, ``empty`` (there was no image) or ``error``, which a person may retry.
Guarantees: pure. Failures: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple


class BatchState(IntEnum):
    """The states, with the numbers that the journal stores (never renumber)."""

    QUEUED = 0
    READING = 1
    PROCESSING = 2
    DONE = 3
    EMPTY = 4
    ERROR = 5

    @property
    def word(self) -> str:
        """The state's name, for people."""
        return self.name.lower()


OPEN = (BatchState.QUEUED, BatchState.READING, BatchState.PROCESSING)
"""States in which a batch is still on its way."""

MOST_PROBLEMS = 1000
"""Errors and warnings that are kept with a batch; beyond, they are counted."""


def plain(name: str) -> str:
    """The name of a file as the journal has it: what UTF-8 cannot hold is escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


class Leftover(IntEnum):
    """What is still to be done with a batch's source, as the journal stores it (never renumber)."""

    LEFT = 0
    OWED = 1
    GONE = 2


@dataclass(frozen=True, slots=True)
class Terms:
    """How one ``[[watch]]`` works. ``bases``: where batches are looked for. ``settle``, ``poll``: seconds.

    ``stream``: what appears there is a batch by itself; else a person starts them. ``after``: what becomes of the
    source of a batch that is done: "leave", "delete" or "move", then to ``move_to``. ``max_spool``: bytes in the spool
    beyond which nothing more is read in; 0: no own limit. ``calling_aet``: as whose the images count.
    """

    name: str
    stream: bool
    bases: tuple[Path, ...]
    workers: int = 4
    settle: float = 5.0
    poll: float = 30.0
    strict: bool = False
    after: str = "leave"
    move_to: Path | None = None
    max_spool: int = 0
    calling_aet: str = "ASYNCROUTE"


class Stamp(NamedTuple):
    """By which an entry is known again: its inode, and when it was changed last (nanoseconds since the epoch)."""

    inode: int
    changed: int


class Entry(NamedTuple):
    """Something that is to be a batch: its name, its path, and what it looks like."""

    name: str
    path: str
    stamp: Stamp


class Origin(NamedTuple):
    """Which file of which batch an image is."""

    batch: int
    file: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing worth telling of a file of a batch (of all of it, where ``file`` is empty)."""

    file: str
    text: str
    error: bool = False


@dataclass(slots=True)
class Counts:
    """What was found in a batch. ``files``: all of them, of which ``not_dicom`` and ``skipped`` are no images;
    ``duplicates``: the same bytes again; ``discarded``: no route matches and the configuration says so; ``bad``: could
    not be taken. ``bytes``: of the images. ``errors``, ``warnings``: how many there were in all."""

    files: int = 0
    images: int = 0
    bytes: int = 0
    not_dicom: int = 0
    skipped: int = 0
    duplicates: int = 0
    discarded: int = 0
    bad: int = 0
    errors: int = 0
    warnings: int = 0


class Tally(NamedTuple):
    """What became of a batch's images. ``pending``: still on their way; ``unproven``: delivered, but not confirmed."""

    images: int = 0
    bytes: int = 0
    pending: int = 0
    delivered: int = 0
    held: int = 0
    failed: int = 0
    discarded: int = 0
    unproven: int = 0


@dataclass(slots=True)
class Batch:
    """One batch as the journal has it. Times are seconds since the epoch; None: not yet."""

    id: int
    watch: str
    name: str
    run: int
    path: str
    stamp: Stamp
    state: BatchState
    leftover: Leftover
    after: str
    queued_at: float
    begun_at: float | None = None
    read_at: float | None = None
    ended_at: float | None = None
    signature: int = 0
    cancelled: bool = False
    dismissed: bool = False
    reason: str = ""
    counts: Counts = field(default_factory=Counts)
    tally: Tally = field(default_factory=Tally)

    @property
    def label(self) -> str:
        """The batch for people: ``incoming/study-7``, its run behind it where it is not the first."""
        return f"{self.watch}/{self.name}" + (f" (run {self.run})" if self.run > 1 else "")


# --- to the journal ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Enqueue:
    """These entries become batches of ``watch``, in this order; those that are or were, with the same stamp, do not."""

    watch: str
    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class BeginBatch:
    """It is being read; ``stamp``: what its source looks like now."""

    batch: int
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class BatchRead:
    """All its images are admitted; what was found. ``signature``: of all its files, as they were read."""

    batch: int
    counts: Counts
    troubles: Sequence[Trouble]
    signature: int


@dataclass(frozen=True, slots=True)
class EndBatch:
    """It is over. ``after``: what is to be done with its source now: "delete", "move:DIR", or nothing (empty)."""

    batch: int
    state: BatchState
    reason: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class SourceLeft:
    """What was to be done with its source is done; ``trouble``: it could not be, and stays where it is."""

    batch: int
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class RetryBatch:
    """A person's word: one that ended in error is queued again."""

    batch: int


@dataclass(frozen=True, slots=True)
class CancelBatch:
    """A person's word: a queued one ends, one that is read is read no further, one in error needs nobody any more."""

    batch: int


@dataclass(frozen=True, slots=True)
class SetWatch:
    """A person's word: this watch begins nothing new until it is started again; or it is."""

    watch: str
    stopped: bool


BatchAction = Enqueue | BeginBatch | BatchRead | EndBatch | SourceLeft | RetryBatch | CancelBatch | SetWatch
