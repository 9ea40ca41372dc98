"""What batches need of the journal, as a Protocol."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from asyncroute.core.batches import Batch, BatchState, Stamp, Tally, Trouble


class Known(NamedTuple):
    """What was a batch already, as it looked when it was read last; ``signature`` 0: it was not read to its end."""

    stamp: Stamp
    signature: int = 0


class Copy(NamedTuple):
    """An image that a batch has given already: its file, and its data set's bytes and checksum."""

    file: str
    size: int
    checksum: int


class Admitted(NamedTuple):
    """A file whose image was admitted: the size of its data set, and when it was (seconds since the epoch)."""

    size: int
    at: float


class BatchFilter(NamedTuple):
    """Which batches: all that is given must hold. ``since``: queued then or later (seconds since the epoch)."""

    watch: str | None = None
    name: str | None = None
    run: int | None = None
    state: BatchState | None = None
    since: float | None = None


class Batches(Protocol):
    """What the journal knows of batches (``core.batches``)."""

    async def stopped(self) -> set[str]:
        """The names of watches that a person stopped."""
        ...

    async def known(self, watch: str) -> dict[str, Known]:
        """By path, what was a batch already and may still be there, as it looked when it was read last."""
        ...

    async def next(self, watch: str, exclude: Collection[int], limit: int) -> list[Batch]:
        """Open batches, none of ``exclude``: those under way first, then the longest queued."""
        ...

    async def owed(self, watch: str) -> list[Batch]:
        """Those whose source is still to be moved or deleted."""
        ...

    async def open(self) -> dict[tuple[str, BatchState], int]:
        """How many are in which open state, by watch."""
        ...

    async def errors(self) -> dict[str, int]:
        """How many ended in error and wait for a person, by watch."""
        ...

    async def unfinished(self) -> set[str]:
        """The names of watches that have batches which are not over, or ended in error."""
        ...

    async def one(self, batch: int) -> Batch | None:
        """One of them."""
        ...

    async def list(self, which: BatchFilter, limit: int) -> list[Batch]:
        """The last ``limit``, the newest first."""
        ...

    async def troubles(self, batch: int, limit: int) -> Sequence[Trouble]:
        """Errors and warnings, errors first."""
        ...

    async def admitted(self, batch: int, files: Iterable[str]) -> dict[str, Admitted]:
        """Those of these files whose images are admitted."""
        ...

    async def copies(self, batch: int, uids: Iterable[str]) -> dict[str, Sequence[Copy]]:
        """By SOP Instance UID, the images that the batch has given already."""
        ...

    async def pending(self, batch: int, after: int) -> int | None:
        """The first image with an id of ``after`` or above that is neither delivered nor has failed; None: there is
        none."""
        ...

    async def tally(self, batch: int) -> Tally:
        """What became of its images by now: looks at all of them."""
        ...

    async def many(self, batch: int) -> tuple[int, int, int]:
        """Of how many patients, studies and accession numbers its images are."""
        ...

    async def unwell(self, batch: int, after: int, limit: int) -> tuple[Sequence[int], Sequence[int]]:
        """The next ``limit`` images after this one that are held, and that have dead letters."""
        ...

    async def failures(self, batch: int, limit: int) -> Sequence[tuple[str, str, str]]:
        """(file, destination, reason) of its dead letters."""
        ...

    async def days(self, watch: str | None, since: float | None) -> Sequence[dict[str, Any]]:
        """Figures of the batches that ended, by day and watch."""
        ...
