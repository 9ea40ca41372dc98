"""A journal of an older program, read while nothing runs, and taken over by this one."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from asyncroute.core.states import DeliveryState
from asyncroute.journal import migrate, statements
from asyncroute.journal.base import Group
from asyncroute.journal.reader import read_stopped
from asyncroute.journal.sqlite import SqliteJournal
from tests.contract.made import image
from tests.unit.parts import states


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A journal without completions: what came after that table is taken out of a new one."""
    journal = SqliteJournal.open(tmp_path)
    journal.commit(Group([image(1, "a")]))
    journal.close()
    connection = sqlite3.connect(tmp_path / "journal.db")
    for statement in (
        "DROP INDEX delivery_waiting",
        "DROP TABLE completion",
        "ALTER TABLE delivery DROP COLUMN completion",
        f"PRAGMA user_version = {before_completions()}",
    ):
        connection.execute(statement)
    connection.commit()
    connection.close()
    return tmp_path


def before_completions() -> int:
    """The schema's number then."""
    return next(number for number, script in statements.migrations() if "TABLE completion" in script) - 1


def test_it_can_be_read(folder: Path) -> None:
    async def body() -> None:
        reader = await read_stopped(folder)
        try:
            assert await reader.completions() == []
            (story,) = await reader.stories.images([1])
            assert [(it.destination, it.awaited) for it in story.deliveries] == [("a", None)]
        finally:
            await reader.close()

    asyncio.run(body())


def test_it_is_taken_over(folder: Path) -> None:
    with sqlite3.connect(folder / "journal.db") as connection:
        assert migrate.check(connection, folder) == before_completions()
    connection.close()
    journal = SqliteJournal.open(folder)
    assert states(journal, "a") == {1: DeliveryState.READY.word}
    journal.close()
