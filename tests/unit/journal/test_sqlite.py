"""The SQLite journal: its settings, and what it does when the file or another program is in the way."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncroute import durable
from asyncroute.core.errors import StorageFault
from asyncroute.journal import migrate, sqlite, statements
from asyncroute.journal.base import Group
from asyncroute.journal.sqlite import CHECKPOINT_PAGES, SqliteJournal
from tests.contract.made import T0, delivered, failed, image


def setting(journal: SqliteJournal, name: str) -> object:
    """A pragma of the journal's own connection."""
    return journal._connection.execute(f"PRAGMA {name}").fetchone()[0]


def filled(folder: Path, images: int = 2000) -> Path:
    """A closed journal with ``images`` images; the path of its file."""
    journal = SqliteJournal.open(folder, "process-crash")
    for first in range(1, images + 1, 500):
        journal.commit(Group([image(n, "a", "b", header=bytes(100)) for n in range(first, first + 500)]))
    journal.commit(Group(settlements=[failed(n, "a") for n in range(1, 100)]))
    journal.close()
    return folder / "journal.db"


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("durability", "synchronous"), [("power-loss", 2), ("process-crash", 1)])
def test_settings_hold_on_the_writing_connection(tmp_path: Path, durability: str, synchronous: int) -> None:
    for _ in range(2):
        journal = SqliteJournal.open(tmp_path, durability)
        assert setting(journal, "synchronous") == synchronous
        assert setting(journal, "journal_mode") == "wal"
        assert setting(journal, "foreign_keys") == 1
        assert setting(journal, "temp_store") == 2
        assert setting(journal, "wal_autocheckpoint") == CHECKPOINT_PAGES
        journal.close()


def test_a_setting_that_does_not_hold_is_a_fault(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    with pytest.raises(StorageFault, match=r"does not do PRAGMA synchronous"):
        sqlite._pragma(connection, tmp_path, "synchronous", 77)
    connection.close()


def test_the_folder_is_synced_after_journal_and_log_are_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []

    def sync(folder: Path) -> None:
        seen.append(set(os.listdir(folder)))
        durable.sync_folder(folder)

    monkeypatch.setattr(sqlite, "sync_folder", sync)
    for _ in range(2):
        SqliteJournal.open(tmp_path).close()
    assert len(seen) == 2
    assert all({"journal.db", "journal.db-wal"} <= names for names in seen)


def test_closing_leaves_everything_in_one_file(tmp_path: Path) -> None:
    filled(tmp_path, 500)
    assert sorted(os.listdir(tmp_path)) == ["journal.db", "lock"]


def test_the_log_does_not_grow_without_end(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path, "process-crash")
    chance = random.Random(7)
    for first in range(1, 30_000, 100):
        journal.commit(Group([image(n, "a", header=chance.randbytes(300)) for n in range(first, first + 100)]))
    assert (tmp_path / "journal.db-wal").stat().st_size < 3 * CHECKPOINT_PAGES * 4096
    assert (tmp_path / "journal.db").stat().st_size > 8 << 20
    journal.close()


# --- versions ---------------------------------------------------------------------------------------------------------


def alter(path: Path, *statements: str) -> bytes:
    """Run ``statements`` on a closed journal; its bytes afterwards."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()
    return path.read_bytes()


def test_a_newer_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = filled(tmp_path, 500)
    before = alter(path, "PRAGMA user_version = 99")
    with pytest.raises(StorageFault, match=r"written by a newer asyncroute \(schema 99, this one knows \d+\)"):
        SqliteJournal.open(tmp_path)
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    before = alter(path, "CREATE TABLE theirs (x)")
    with pytest.raises(StorageFault, match="another program's database"):
        SqliteJournal.open(tmp_path)
    assert path.read_bytes() == before


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = statements.migrations()
    bad = (real[-1][0] + 1, "CREATE TABLE half (x);\nCREATE TABLE instance (id);\n")
    monkeypatch.setattr(statements, "migrations", lambda: [*real, bad])
    with pytest.raises(StorageFault, match="instance already exists"):
        SqliteJournal.open(tmp_path)
    monkeypatch.undo()
    connection = sqlite3.connect(tmp_path / "journal.db")
    assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    connection.close()
    SqliteJournal.open(tmp_path).close()


def test_migrations_of_an_older_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path, 500)
    real = statements.migrations()
    new = (real[-1][0] + 1, "ALTER TABLE instance ADD COLUMN more TEXT;\n")
    monkeypatch.setattr(statements, "migrations", lambda: [*real, new])
    for _ in range(2):
        journal = SqliteJournal.open(tmp_path)
        assert setting(journal, "user_version") == new[0]
        assert setting(journal, "application_id") == migrate.APPLICATION_ID
        assert journal.last_id() == 500
        journal.close()


def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "OLDEST_SQLITE", (99, 0, 0))
    with pytest.raises(StorageFault, match="too old"):
        SqliteJournal.open(tmp_path)


# --- damage -----------------------------------------------------------------------------------------------------------


def spoil_pages(path: Path) -> None:
    """Overwrite a hundred random pages, not the first."""
    chance = random.Random(7)
    data = bytearray(path.read_bytes())
    for page in chance.sample(range(1, len(data) // 4096), 100):
        data[page * 4096 : (page + 1) * 4096] = chance.randbytes(4096)
    path.write_bytes(data)


def spoil_one_page(path: Path) -> None:
    """Overwrite the header of one page of a table."""
    data = bytearray(path.read_bytes())
    data[40 * 4096 : 40 * 4096 + 8] = b"\xff" * 8
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "hundred pages": spoil_pages,
    "one page": spoil_one_page,
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2 // 4096 * 4096),
    "cut inside a page": lambda path: os.truncate(path, path.stat().st_size // 2 + 100),
    "first page": lambda path: path.write_bytes(b"\0" * 4096 + path.read_bytes()[4096:]),
    "text": lambda path: path.write_text("Hello, I am no database at all.\n" * 1000),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_journal_is_refused_and_kept(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    path = filled(tmp_path)
    damage(path)
    evidence = path.read_bytes()
    for _ in range(2):
        with pytest.raises(StorageFault, match="damaged") as caught:
            SqliteJournal.open(tmp_path)
        assert "\n" not in str(caught.value)
        assert caught.value.errno == errno.EUCLEAN
    assert path.read_bytes() == evidence


def test_refusing_a_damaged_journal_leaves_its_log_alone(tmp_path: Path) -> None:
    running, folder = tmp_path / "running", tmp_path / "data"
    filled(running)
    journal = SqliteJournal.open(running)
    journal.commit(Group(settlements=[delivered(n, "b") for n in range(1, 100)]))
    folder.mkdir()
    for name in ("journal.db", "journal.db-wal"):
        shutil.copyfile(running / name, folder / name)
    journal.close()
    spoil_pages(folder / "journal.db")
    evidence = [(folder / name).read_bytes() for name in ("journal.db", "journal.db-wal")]
    with pytest.raises(StorageFault, match="damaged"):
        SqliteJournal.open(folder)
    assert [(folder / name).read_bytes() for name in ("journal.db", "journal.db-wal")] == evidence


def test_damage_met_while_running_stops_writing_for_good(tmp_path: Path) -> None:
    path = filled(tmp_path)
    journal = SqliteJournal.open(tmp_path)
    spoil_pages(path)
    with pytest.raises(StorageFault, match="damaged"):
        journal.commit(Group(settlements=[delivered(n, "a") for n in range(1, 2000)]))
    assert journal.broken is not None
    assert "\n" not in journal.broken
    with pytest.raises(StorageFault, match="restart"):
        journal.commit(Group([image(9999, "a")]))
    with pytest.raises(StorageFault, match="restart"):
        journal.last_id()
    journal.close()


def test_an_unreadable_journal_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "journal.db").mkdir()
    with pytest.raises(StorageFault, match=r"journal\.db"):
        SqliteJournal.open(tmp_path)


# --- another program at the file --------------------------------------------------------------------------------------


def test_a_journal_locked_by_another_program_is_a_fault_until_it_is_free(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path, lock_wait=0.05)
    journal.commit(Group([image(1, "a")]))
    other = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(StorageFault, match="another program has locked it") as caught:
        journal.commit(Group([image(2, "a")], [delivered(1, "a")]))
    assert caught.value.errno == errno.EBUSY
    assert time.monotonic() - began < 5
    other.execute("ROLLBACK")
    other.close()
    assert journal.broken is None
    assert journal.commit(Group([image(2, "a")], [delivered(1, "a")])).releasable == [(1, image(1).path)]
    journal.close()


def test_a_journal_locked_at_start_is_a_fault(tmp_path: Path) -> None:
    filled(tmp_path, 500)
    other = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StorageFault, match="another program has locked it"):
        SqliteJournal.open(tmp_path, lock_wait=0.05)
    other.close()
    SqliteJournal.open(tmp_path, lock_wait=0.05).close()


# --- errors inside a transaction --------------------------------------------------------------------------------------


def test_a_group_that_fails_altogether_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = SqliteJournal.open(tmp_path)
    monkeypatch.setattr(journal._writer, "write", _write_and_fail(journal))
    with pytest.raises(StorageFault):
        journal.commit(Group([image(1, "new")]))
    monkeypatch.undo()
    assert journal.last_id() == 0
    assert journal.commit(Group([image(1, "new")])).refused == {}
    assert [row.id for row in journal.unreleased(0, 9)] == [1]
    journal.close()


def _write_and_fail(journal: SqliteJournal) -> Callable[..., None]:
    real = journal._writer.write

    def write(group: Group, careful: bool = False) -> None:
        real(group, careful)
        raise sqlite3.OperationalError("disk I/O error")

    return write


def test_times_are_kept_for_each_delivery(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path)
    journal.commit(Group([image(1, "a")]))
    columns = "queued_at, first_try_at, settled_at"

    def times() -> tuple[object, ...]:
        found: tuple[object, ...] = journal._connection.execute(f"SELECT {columns} FROM delivery").fetchone()
        return found

    assert times() == (T0 + 1, None, None)
    journal.commit(Group(settlements=[failed(1, "a")]))
    assert times() == (T0 + 1, T0 + 1000, T0 + 1000)
    journal.close()


def test_studies_are_counted_per_source(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path)
    journal.commit(Group([image(n, "a") for n in (3, 1, 2)] + [image(9, "a", study_uid="")]))
    journal.commit(Group([image(n, "a", study_uid="1.2.3.4" if n % 2 else "7") for n in (4, 5)]))
    rows = journal._connection.execute("SELECT study_uid, first_at, last_at, images FROM study ORDER BY 1").fetchall()
    journal.close()
    assert rows == [("1.2.3.4", T0 + 1, T0 + 5, 4), ("7", T0 + 4, T0 + 4, 1)]


def test_events_are_kept_and_pruned(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path)
    same = {"sop_instance_uid": "1.2.3"}
    journal.commit(Group([image(1, "a", **same), image(2, "a", **same)], at=T0))
    rows = journal._connection.execute("SELECT kind, text, instance FROM event").fetchall()
    assert rows == [("conflict", "this SOP Instance UID was received before with other bytes (image 1)", 2)]
    journal.prune(T0 + 1, 10)
    assert journal._connection.execute("SELECT count(*) FROM event").fetchone() == (0,)
    journal.close()


def test_pruning_comes_past_what_has_to_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncroute.journal.prune.LOOK", 10)
    journal = SqliteJournal.open(tmp_path, "process-crash")
    journal.commit(Group([image(n, "a") for n in range(1, 41)]))
    journal.commit(Group(settlements=[delivered(n, "a") for n in range(31, 41)], released=range(31, 41)))
    forgotten = [journal.prune(T0 + 1000, 100) for _ in range(5)]
    journal.close()
    assert forgotten == [0, 0, 0, 10, 0]
