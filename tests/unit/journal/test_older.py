"""A journal of an older program, read while nothing runs, and taken over by this one."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from asyncroute.core.states import DeliveryState
from asyncroute.journal import migrate, statements
from asyncroute.journal.reader import read_stopped
from asyncroute.journal.sqlite import SqliteJournal
from tests.unit.parts import states


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A journal without completions, as a program of that time left it: one image, owed to "a"."""
    SqliteJournal.open(tmp_path).close()
    file = tmp_path / "journal.db"
    file.unlink()
    connection = sqlite3.connect(file)
    migrate.apply(connection, [step for step in statements.migrations() if step[0] <= before_completions()])
    connection.execute(f"PRAGMA user_version = {before_completions()}")
    connection.execute(f"PRAGMA application_id = {migrate.APPLICATION_ID}")
    connection.execute("INSERT INTO destination (id, name) VALUES (1, 'a')")
    connection.execute(
        "INSERT INTO instance VALUES (1, 1, '1.2.3.1', '1.2', '1.2.840.10008.1.2', '1.2.3', '1.2.3', '', '', 'CT',"
        " 'CT_A', 'ROUTER', 'in', '127.0.0.1', 1.0, '000000/00000001.dcm', 400, 1000, 0, NULL, NULL, NULL)"
    )
    connection.execute(
        "INSERT INTO delivery (instance, destination, state, route, size, queued_at) VALUES (1, 1, 1, 'all', 1000, 1.0)"
    )
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
