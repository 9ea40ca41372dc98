"""Journal and spool of one folder, without a router around them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from asyncroute.core.model import Instance, Selection
from asyncroute.core.told import QueueRow
from asyncroute.journal.base import Counts, Group
from asyncroute.journal.reader import SqliteReader
from asyncroute.journal.sqlite import SqliteJournal
from asyncroute.recover import Recovered, recover
from asyncroute.spool.local import LocalSpool
from tests.contract.made import image
from tests.contract.storage_worker import content

T = TypeVar("T")


class Store:
    """Journal and spool of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = SqliteJournal.open(folder)
        self.spool = LocalSpool(folder / "spool")

    def restart(self) -> Recovered:
        """As after a stop: close, open, recover."""
        self.close()
        self.journal = SqliteJournal.open(self.folder)
        self.spool = LocalSpool(self.folder / "spool")
        return recover(self.journal, self.spool)

    def close(self) -> None:
        """Close both."""
        self.journal.close()
        self.spool.close()

    def written(self, *destinations: str, **changes: object) -> Instance:
        """A file in the spool without a journal row."""
        instance_id, path = self.spool.allocate()
        made = image(instance_id, *destinations, **{"path": path, "data_offset": 0} | changes)
        assert self.spool.write([(made, [content(instance_id)])]) == {}
        return made

    def admitted(self, *destinations: str, **changes: object) -> Instance:
        """A file and its row."""
        made = self.written(*destinations, **changes)
        assert self.journal.commit(Group([made])).refused == {}
        return made

    def file(self, instance: Instance) -> Path:
        """Where the image's file is."""
        return self.spool.root / instance.path

    def files(self) -> list[int]:
        """Ids of the files in the spool."""
        return sorted(int(path.stem) for path in self.spool.root.glob("*/*"))

    def counts(self) -> Counts:
        """What status would show."""
        return self._read(SqliteReader.counts)

    def rows(self, held: bool = False) -> list[QueueRow]:
        """What queue list would show."""
        return self._read(lambda reader: reader.rows(Selection(), 10_000, held))

    def _read(self, ask: Callable[[SqliteReader], Coroutine[Any, Any, T]]) -> T:
        async def read() -> T:
            reader = await SqliteReader.open(self.folder)
            try:
                return await ask(reader)
            finally:
                await reader.close()

        return asyncio.run(read())
