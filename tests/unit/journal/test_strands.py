"""Journals of an older program, which did not number what takes turns (schema 4 and below)."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from asyncroute.core.model import Delivery
from asyncroute.core.priority import NORMAL, STAT
from asyncroute.core.states import DeliveryState
from asyncroute.journal import migrate, statements
from asyncroute.journal.base import Group
from asyncroute.journal.reader import SqliteReader
from asyncroute.journal.salvage import Salvage
from asyncroute.journal.sqlite import SqliteJournal
from asyncroute.journal.values import signed
from tests.contract.made import T0, image

IMAGE = (
    "INSERT INTO instance VALUES (?, 1, '1.2', '1', '1', '1.2.3.4', '', '', '', '', 'CT_A', 'X', '', '', 5.0, 'p', 400,"
    " 1000, ?, NULL, NULL, NULL)"
)
OWED = (
    "INSERT INTO delivery (instance, destination, state, route, size, queued_at, settled_at)"
    " VALUES (?, 1, ?, 'all', 1000, 5.0, 6.0)"
)


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images 1 to 9, of which 1 to 3 are delivered."""
    before = statements.migrations()[:3]
    with monkeypatch.context() as older:
        older.setattr(statements, "migrations", lambda: before)
        connection = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
        migrate.migrate(connection, tmp_path / "journal.db")
        connection.execute("INSERT INTO destination VALUES (1, 'a')")
        for number in range(1, 10):
            connection.execute(IMAGE, (number, signed(image(number).checksum)))
            connection.execute(OWED, (number, DeliveryState.DELIVERED if number < 4 else DeliveryState.READY))
        connection.close()
    return tmp_path


def claimed(folder: Path) -> list[Delivery]:
    async def claim() -> list[Delivery]:
        reader = await SqliteReader.open(folder)
        try:
            return (await reader.claim("a", {NORMAL: 100, STAT: 100}, T0 * 2, ())).deliveries
        finally:
            await reader.close()

    return asyncio.run(claim())


def test_what_it_queued_is_sent(old: Path) -> None:
    journal = SqliteJournal.open(old, "process-crash")
    journal.commit(Group([image(10, "a")]))
    assert [(it.instance_id, it.priority) for it in claimed(old)] == [(n, NORMAL) for n in range(4, 11)]
    journal.close()
    SqliteJournal.open(old, "process-crash").close()


def test_what_it_knew_is_salvaged(old: Path) -> None:
    salvage = Salvage(old / "journal.db")
    states = {n: [it.state for it in salvage.deliveries(n, image(n).checksum)] for n in range(1, 10)}
    assert states == {n: [DeliveryState.DELIVERED if n < 4 else DeliveryState.READY] for n in range(1, 10)}
    assert salvage.unreadable == 0
    salvage.close()
