"""The backends of the journal, and their read side without an event loop in the tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from asyncroute.core.completion import Completion
from asyncroute.core.model import Delivery, Instance, Selection
from asyncroute.core.priority import PRIORITIES
from asyncroute.core.told import QueueRow
from asyncroute.journal.base import Claim, Counts, Proofs, Reader, Stories, Writer
from asyncroute.journal.reader import SqliteReader
from asyncroute.journal.sqlite import SqliteJournal
from tests.contract.made import T0

NOW = T0 + 2000
Answer = TypeVar("Answer")

OpenReader = Callable[[], Coroutine[Any, Any, Reader]]


class Blocking:
    """A Reader whose verbs are called without await, on an event loop of its own."""

    def __init__(self, open_reader: OpenReader) -> None:
        self._runner = asyncio.Runner()
        self._reader = self._runner.run(open_reader())

    def claim(self, destination: str, limit: int, now: float, exclude: Collection[int]) -> list[Delivery]:
        rooms = dict.fromkeys(PRIORITIES.values(), limit)
        return self._runner.run(self._reader.claim(destination, rooms, now, exclude)).deliveries

    def claim_rooms(self, destination: str, rooms: Mapping[int, int], exclude: Collection[int] = ()) -> Claim:
        return self._runner.run(self._reader.claim(destination, rooms, NOW, exclude))

    def next_due(self, destination: str, now: float, exclude: Collection[int]) -> float | None:
        return self._runner.run(self._reader.next_due(destination, now, exclude))

    def counts(self) -> Counts:
        return self._runner.run(self._reader.counts())

    def completions(self) -> list[Completion]:
        return self._runner.run(self._reader.completions())

    def rows(self, selection: Selection, limit: int, held: bool = False) -> list[QueueRow]:
        return self._runner.run(self._reader.rows(selection, limit, held))

    def group_studies(self) -> list[tuple[str, str, str]]:
        return self._runner.run(self._reader.group_studies(100))

    def group_owed(self, group: str, member: str) -> list[tuple[str, int]]:
        return self._runner.run(self._reader.group_owed(group, member, 100))

    def group_strays(self) -> list[tuple[str, str, str]]:
        return self._runner.run(self._reader.group_strays())

    def instance(self, instance_id: int) -> Instance | None:
        return self._runner.run(self._reader.instance(instance_id))

    def tell(self, question: Callable[[Stories], Coroutine[Any, Any, Answer]]) -> Answer:
        """What ``Reader.stories`` answers to a question."""
        return self._runner.run(question(self._reader.stories))

    def ask(self, question: Callable[[Proofs], Coroutine[Any, Any, Answer]]) -> Answer:
        """What ``Reader.proofs`` answers to a question."""
        return self._runner.run(question(self._reader.proofs))

    def close(self) -> None:
        """Close the reader twice, which must be fine, and end the loop."""
        for _ in range(2):
            self._runner.run(self._reader.close())
        self._runner.close()


class Journal:
    """A backend's two sides, open on one folder."""

    def __init__(self, open_writer: Callable[[], Writer], open_reader: OpenReader) -> None:
        self._open_writer = open_writer
        self._open_reader = open_reader
        self.writer = open_writer()
        self.reader = Blocking(open_reader)

    def reopen(self) -> None:
        """As after a restart."""
        self.close()
        self.writer = self._open_writer()
        self.reader = Blocking(self._open_reader)

    def close(self) -> None:
        """Close both sides."""
        self.reader.close()
        self.writer.close()

    def proofs(self, question: Callable[[Proofs], Coroutine[Any, Any, Answer]]) -> Answer:
        """What ``Reader.proofs`` answers to a question."""
        return self.reader.ask(question)

    def ids(self, destination: str, now: float = NOW, limit: int = 100, exclude: Collection[int] = ()) -> list[int]:
        """Instance ids that ``claim`` hands out."""
        return [it.instance_id for it in self.reader.claim(destination, limit, now, exclude)]


def sqlite(folder: Path) -> Journal:
    """The SQLite backend."""
    return Journal(lambda: SqliteJournal.open(folder, "process-crash"), lambda: SqliteReader.open(folder))


BACKENDS = {"sqlite": sqlite}
