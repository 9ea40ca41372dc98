"""What journal and spool do on a full disk: programs for ``disks.run_on_small_disk`` that end with 0 if all is well."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import pytest

from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Instance
from asyncroute.journal.base import Counts, Group
from asyncroute.journal.reader import SqliteReader
from asyncroute.journal.sqlite import SqliteJournal
from asyncroute.recover import recover
from asyncroute.spool.base import Spool
from asyncroute.spool.local import LocalSpool
from tests.contract.made import delivered, image


def fresh(spool: Spool) -> Instance:
    """A new image."""
    instance_id, path = spool.allocate()
    return image(instance_id, "a", path=path, data_offset=0)


def fill(folder: Path) -> Path:
    """Leave no byte free."""
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with pytest.raises(OSError, match="No space left"):
                write_without_end(file, size)
    return filler


def write_without_end(file: FileIO, size: int) -> None:
    """Write ``size`` bytes at a time until the system refuses."""
    while True:
        file.write(bytes(size))


@contextmanager
def no_space() -> Iterator[None]:
    """What is inside has to fail for want of space."""
    with pytest.raises(StorageFault, match=r"(?i)no space left") as caught:
        yield
    assert caught.value.errno == errno.ENOSPC


def spool_full(folder: Path) -> None:
    """Of a group only what does not fit fails; nothing half-written stays; space that comes back is used."""
    spool = LocalSpool(folder / "spool")
    group = [fresh(spool) for _ in range(5)]
    sizes = [100, 100, 4 << 20, 100, 100]
    failed = spool.write([(it, [bytes(size)]) for it, size in zip(group, sizes, strict=True)])
    assert list(failed) == [group[2].id], failed
    assert failed[group[2].id].errno == errno.ENOSPC
    assert [it.number for it in spool.sweep()] == [it.id for n, it in enumerate(group) if n != 2]
    assert spool.broken is None
    filler = fill(folder)
    blocked = [fresh(spool) for _ in range(3)]
    failed = spool.write([(it, [bytes(5000)]) for it in blocked])
    assert sorted(failed) == [it.id for it in blocked], failed
    assert spool.files == len(list(spool.sweep())) == 4
    filler.unlink()
    again = fresh(spool)
    assert spool.write([(again, [bytes(5000)])]) == {}
    spool.verify(again.path, again.data_offset, again.size, again.checksum)


def stream_full(folder: Path) -> None:
    """A streamed image that no longer fits is abandoned without a trace."""
    spool = LocalSpool(folder / "spool")
    incoming = spool.incoming(fresh(spool))
    with no_space():
        for _ in range(100):
            incoming.append([bytes(1 << 18)])
    incoming.abandon()
    assert list(spool.sweep()) == []
    fill(folder)
    with no_space():
        spool.incoming(fresh(spool))
    assert list(spool.sweep()) == []
    assert spool.broken is None


def journal_full(folder: Path) -> None:
    """A commit that fails leaves nothing of its group, and the next one with space works."""
    journal = SqliteJournal.open(folder)
    journal.commit(Group([image(n, "a") for n in range(1, 1001)]))  # more than the migrations left room for in the log
    before = counts(folder)
    filler = fill(folder)
    groups = [Group([image(2000 + n, "a", header=bytes(4000))], [delivered(n, "a")]) for n in range(1, 3)]
    for group in groups:
        for _ in range(2):
            with no_space():
                journal.commit(group)
    assert counts(folder) == before
    assert journal.broken is None
    filler.unlink()
    for group in groups:
        assert journal.commit(group).refused == {}
    assert counts(folder).totals["received"] == 1002
    assert counts(folder).totals["delivered"] == 2
    journal.close()


def journal_unopened(folder: Path) -> None:
    """No journal can be made on a full disk; with space it can."""
    filler = fill(folder)
    with no_space():
        SqliteJournal.open(folder)
    filler.unlink()
    journal = SqliteJournal.open(folder)
    assert recover(journal, LocalSpool(folder / "spool")).lost == 0
    journal.commit(Group([image(1, "a")]))
    journal.close()
    filler = fill(folder)
    with no_space():
        SqliteJournal.open(folder)
    filler.unlink()
    SqliteJournal.open(folder).close()
    assert counts(folder).totals["received"] == 1


def counts(folder: Path) -> Counts:
    """What a reader sees."""

    async def read() -> Counts:
        reader = await SqliteReader.open(folder)
        try:
            return await reader.counts()
        finally:
            await reader.close()

    return asyncio.run(read())


PROGRAMS = (spool_full, stream_full, journal_full, journal_unopened)

if __name__ == "__main__":
    os.umask(0)
    {program.__name__: program for program in PROGRAMS}[sys.argv[2]](Path(sys.argv[1]))
