"""A committer over a real spool and journal that fail where a test says so, and what it told."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from asyncroute.commit import Committer
from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Settlement
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Committed, Group
from asyncroute.journal.sqlite import SqliteJournal
from asyncroute.link.buffers import ImageBytes, Memory
from asyncroute.receive.base import Received
from asyncroute.release import Releaser
from asyncroute.spool.local import LocalSpool
from tests.unit.parts import command, files_in, instance, noise, until

NO_SPACE = StorageFault("journal.db: no space left on the disk", 28)


class Doubtful:
    """The real journal; ``fails``: errors of the next commits; ``gate``: shut, commits wait."""

    def __init__(self, real: SqliteJournal) -> None:
        self._real = real
        self.fails: list[Exception] = []
        self.gate = threading.Event()
        self.gate.set()
        self.groups: list[Group] = []
        self.threads: set[str] = set()

    def commit(self, group: Group) -> Committed:
        self.groups.append(group)
        self.threads.add(threading.current_thread().name)
        assert self.gate.wait(20)
        if self.fails:
            raise self.fails.pop(0)
        return self._real.commit(group)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class Bench:
    """A committer, what it told, and what is on the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spool = LocalSpool(folder / "spool", "process-crash")
        self.journal = SqliteJournal.open(folder, "process-crash")
        self.writer = Doubtful(self.journal)
        self.memory = Memory(1 << 30)
        self.committer = Committer(self.spool, self.writer)
        self.stored: list[int] = []
        self.refused: dict[int, str] = {}
        self.settled: list[Settlement] = []
        self.troubles: list[bool] = []
        self.order: list[str] = []
        self.check: Callable[[Received], None] = lambda received: None
        self.committer.on_stored = self._stored
        self.committer.on_refused = self._refused
        self.committer.on_settled = self._settled
        self.committer.on_trouble = self.troubles.append
        self.spare: list[list[str]] = []
        """What was ready to be written over, as it came."""
        ready = self.spool.spare

        def noting(paths: Iterable[str]) -> None:
            self.spare.append(list(paths))
            ready(self.spare[-1])

        self.spool.spare = noting  # type: ignore[method-assign]
        self.releaser = Releaser(self.spool, self.committer.release)
        self.committer.on_releasable = self.releaser.release
        self.committer.on_released = self.releaser.committed
        self._reading = sqlite3.connect(folder / "journal.db")

    def _stored(self, received: Received) -> None:
        self.check(received)
        self.stored.append(received.instance.id)
        self.order.append(f"stored {received.instance.id}")
        if received.image is not None:
            received.image.unpin()

    def _refused(self, received: Received, why: str) -> None:
        self.refused[received.instance.id] = why
        if received.image is not None:
            received.image.unpin()

    def _settled(self, settlements: list[Settlement]) -> None:
        self.settled += settlements
        self.order += [f"settled {s.instance_id}" for s in settlements]

    def received(self, size: int = 1000, *destinations: str, **more: Any) -> Received:
        """An image in memory, in two slices."""
        number, path = self.spool.allocate()
        made = instance(number, *(destinations or ("pacs",)), path=path, data_offset=0, size=size, header=b"head")
        for name, value in more.items():
            setattr(made, name, value)
        received = Received(self, command(), 1, made)  # type: ignore[arg-type]
        received.image = image = ImageBytes()
        buffer = self.memory.take(size)
        buffer.view[:size] = noise(size, number)
        image.buffers, image.size = [buffer], size
        image.parts = [part for part in (buffer.view[: size // 2], buffer.view[size // 2 : size]) if len(part)]
        return received

    def admit(self, count: int, size: int = 1000) -> list[Received]:
        made = [self.received(size) for _ in range(count)]
        for received in made:
            self.committer.admit(received)
        return made

    def rows(self, sql: str = "SELECT id FROM instance ORDER BY id") -> list[Any]:
        """What is committed: a connection of its own sees nothing else."""
        found = self._reading.execute(sql).fetchall()
        self._reading.rollback()
        return [row[0] if len(row) == 1 else row for row in found]

    def files(self) -> dict[str, bytes]:
        return files_in(self.spool.root)

    async def answered(self, count: int) -> None:
        await until(lambda: len(self.stored) + len(self.refused) >= count, f"{count} answers")
        assert len(self.stored) + len(self.refused) == count

    def close(self) -> None:
        self.writer.gate.set()
        self.releaser.close()
        self.committer.close()
        self._reading.close()
        self.journal.close()
        self.spool.close()


@asynccontextmanager
async def committing(folder: Path) -> AsyncIterator[Bench]:
    bench = Bench(folder)
    try:
        yield bench
        assert bench.memory.used == 0, "an image was not let go"
    finally:
        bench.close()


def result(number: int, state: DeliveryState = DeliveryState.DELIVERED, attempts: int = 1) -> Settlement:
    return Settlement(number, "pacs", state, attempts, time.time(), 0)
