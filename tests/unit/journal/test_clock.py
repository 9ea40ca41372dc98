"""The journal's own clock: it runs while a router runs, never jumps, and ages are measured on it."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from asyncroute.core.model import Delivery, RouteHit, Selection
from asyncroute.core.priority import NORMAL
from asyncroute.core.states import DeliveryState
from asyncroute.journal import clock, migrate, statements
from asyncroute.journal.base import Group, Reroute, Retry
from asyncroute.journal.reader import SqliteReader
from asyncroute.journal.sqlite import SqliteJournal
from tests.contract.made import T0, failed, image


class Time:
    """A steady clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(clock, "monotonic", lambda: self.now)

    def passes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def claimed(folder: Path) -> dict[int, Delivery]:
    """What is due for "a"."""

    async def claim() -> list[Delivery]:
        reader = await SqliteReader.open(folder)
        try:
            return (await reader.claim("a", {NORMAL: 100}, T0 * 2, ())).deliveries
        finally:
            await reader.close()

    return {it.instance_id: it for it in asyncio.run(claim())}


def test_it_stands_while_no_router_runs(tmp_path: Path, steady: Time) -> None:
    journal = SqliteJournal.open(tmp_path, "process-crash")
    assert journal.clock() == 0
    steady.passes(100)
    journal.commit(Group([image(1, "a")]))
    journal.close()
    steady.passes(1e6)  # switched off, or another boot: the steady clock begins anywhere
    journal = SqliteJournal.open(tmp_path, "process-crash")
    assert journal.clock() == 100
    steady.passes(11)
    journal.commit(Group([image(2, "a")]))
    assert {number: it.since for number, it in claimed(tmp_path).items()} == {1: 100, 2: 111}
    journal.close()


def test_it_is_written_now_and_then_only(tmp_path: Path, steady: Time) -> None:
    journal = SqliteJournal.open(tmp_path, "process-crash")
    written = []
    for number in range(1, 30):
        steady.passes(1)
        journal.commit(Group([image(number, "a")]))
        rows = journal._connection.execute("SELECT value FROM counter WHERE name = 'clock'").fetchall()
        written.append(rows[0][0] if rows else 0)
    journal.close()
    assert sorted(set(written)) == [0, 10, 20]


def test_the_wall_clock_does_not_move_it(tmp_path: Path, steady: Time) -> None:
    journal = SqliteJournal.open(tmp_path, "process-crash")
    for number, jump in enumerate((0, 1e9, -1e9), 1):
        steady.passes(5)
        journal.commit(Group([image(number, "a", received_at=T0 + jump)], at=T0 + jump))
    assert [it.since for it in claimed(tmp_path).values()] == [5, 10, 15]
    journal.close()


def test_a_persons_word_begins_an_age_anew(tmp_path: Path, steady: Time) -> None:
    journal = SqliteJournal.open(tmp_path, "process-crash")
    journal.commit(Group([image(1, "a"), image(2, hold_reason="no route")], [failed(1, "a")]))
    journal.commit(Group(settlements=[failed(1, "a")]))
    steady.passes(500)
    journal.commit(Group(actions=[Retry(Selection((DeliveryState.FAILED,)))]))
    steady.passes(500)
    journal.commit(Group(actions=[Reroute(2, (RouteHit("all", "a"),))]))
    assert {number: it.since for number, it in claimed(tmp_path).items()} == {1: 500, 2: 1000}
    journal.close()


def test_what_an_older_program_queued_is_as_old_as_the_clock(
    tmp_path: Path, steady: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = statements.migrations()[:1]
    with monkeypatch.context() as older:
        older.setattr(statements, "migrations", lambda: first)
        make_old_journal(tmp_path)
    journal = SqliteJournal.open(tmp_path, "process-crash")
    steady.passes(30)
    journal.commit(Group([image(2, "a")]))
    assert {number: it.since for number, it in claimed(tmp_path).items()} == {1: 0, 2: 30}
    journal.close()


def make_old_journal(folder: Path) -> None:
    """A journal of the first schema with one image for "a"; its program knew no clock."""
    connection = sqlite3.connect(folder / "journal.db", isolation_level=None)
    migrate.migrate(connection, folder / "journal.db")
    connection.execute("INSERT INTO destination (id, name) VALUES (1, 'a')")
    text = "'1.2', '1.2', '1.2', '1.2', '1.2', '', '', 'CT', 'A', 'B', 'L', 'P'"
    columns = "?, 5, " + text + ", ?, '000000/00000001.dcm', 400, 1000, 7, NULL, NULL"
    connection.execute(f"INSERT INTO instance VALUES ({columns})", (1, T0))
    connection.execute(
        "INSERT INTO delivery (instance, destination, state, route, size, queued_at) VALUES (1, 1, 1, 'all', 1000, ?)",
        (T0,),
    )
    connection.close()
