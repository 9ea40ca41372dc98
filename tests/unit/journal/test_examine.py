"""What is looked at before a journal is trusted: both copies of what matters, the schema, the log, its place."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from asyncroute.core.errors import StorageFault
from asyncroute.journal import examine
from asyncroute.journal.base import Group
from asyncroute.journal.examine import DAMAGED_MARK, Mark, Place, log_damage
from asyncroute.journal.sqlite import SqliteJournal
from tests.contract.made import delivered, failed, image

PAGE, HEAD, FRAME = 4096, 32, 24
LOG = "journal.db-wal"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed journal: 300 images for two destinations, some of it over, some held."""
    journal = SqliteJournal.open(tmp_path)
    journal.commit(Group([image(n, "a", "b", header=bytes(50)) for n in range(1, 301)]))
    journal.commit(Group([image(n, hold_reason="no route") for n in range(301, 304)]))
    journal.commit(Group(settlements=[delivered(n, "a") for n in range(1, 101)]))
    journal.commit(Group(settlements=[failed(n, "a") for n in range(101, 111)]))
    journal.close()
    return tmp_path


def refused(folder: Path) -> str:
    """Why the journal is refused."""
    with pytest.raises(StorageFault) as caught:
        SqliteJournal.open(folder)
    text = str(caught.value)
    assert "asyncroute rebuild" in text
    assert "\n" not in text
    return text


def flip_in_page_of(path: Path, table: str, old: bytes, new: bytes) -> None:
    """Change a value in the pages of one table or index only, as a flipped bit does."""
    assert len(old) == len(new)
    connection = sqlite3.connect(path)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    connection.close()
    data = bytearray(path.read_bytes())
    at = data.rindex(old, (root - 1) * PAGE, root * PAGE)
    data[at : at + len(old)] = new
    path.write_bytes(data)


def alter(path: Path, *statements: str) -> None:
    """Change what a journal would never change, without its indexes noticing."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA writable_schema = ON")
    for statement in statements:
        connection.execute(statement)
    connection.close()


HIDE = "DELETE FROM sqlite_schema WHERE name = 'delivery_open'"
DISAGREEMENTS = {
    "a state": "UPDATE delivery SET state = 3 WHERE instance = 200",
    "a dead letter": "UPDATE delivery SET state = 1 WHERE state = 5 AND instance = 105",
    "a delivery": "DELETE FROM delivery WHERE instance = 200 AND destination = 2",
    "a destination": "UPDATE delivery SET destination = 3 WHERE instance = 200 AND destination = 2",
    "a time": "UPDATE delivery SET not_before = 9e12 WHERE instance = 200",
    "a size": "UPDATE delivery SET size = 7 WHERE instance = 200",
}


def without_index(path: Path, index: str, statement: str) -> None:
    """Run ``statement`` while ``index`` is not there, then put the index back as it was: it does not know."""
    connection = sqlite3.connect(path, isolation_level=None)
    row = connection.execute("SELECT * FROM sqlite_schema WHERE name = ?", (index,)).fetchone()
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("DELETE FROM sqlite_schema WHERE name = ?", (index,))
    connection.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute(statement)
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", row)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


@pytest.mark.parametrize("checked", [examine.CHECKED_BYTES, 0], ids=["all pages", "too large for that"])
@pytest.mark.parametrize("statement", DISAGREEMENTS.values(), ids=DISAGREEMENTS)
def test_a_row_that_its_index_does_not_know(
    folder: Path, monkeypatch: pytest.MonkeyPatch, statement: str, checked: int
) -> None:
    monkeypatch.setattr(examine, "CHECKED_BYTES", checked)
    without_index(folder / "journal.db", "delivery_open", statement)
    text = refused(folder)
    assert checked or "open deliveries in its index" in text


@pytest.mark.parametrize(
    ("index", "statement", "words"),
    [
        ("instance_file", "UPDATE instance SET path = NULL WHERE id = 200", "open deliveries"),
        ("instance_held", "UPDATE instance SET hold_reason = NULL WHERE id = 302", "3 held images in its index, 2"),
        ("instance_held", "UPDATE instance SET hold_reason = 'x' WHERE id = 200", "3 held images in its index, 4"),
    ],
)
def test_an_image_that_its_index_does_not_know(
    folder: Path, monkeypatch: pytest.MonkeyPatch, index: str, statement: str, words: str
) -> None:
    monkeypatch.setattr(examine, "CHECKED_BYTES", 0)
    without_index(folder / "journal.db", index, statement)
    assert words in refused(folder)


def test_a_name_of_a_destination_that_its_index_does_not_know(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "CHECKED_BYTES", 0)
    flip_in_page_of(folder / "journal.db", "destination", b"b", b"c")
    assert "the names of destinations" in refused(folder)


@pytest.mark.parametrize(
    ("old", "new"), [(b"state IN (0, 1, 2, 5)", b"state IN (0, 1, 2, 4)"), (b"path IS NOT NULL", b"size IS NOT NULL")]
)
def test_a_definition_that_was_changed(folder: Path, old: bytes, new: bytes) -> None:
    path = folder / "journal.db"
    data = bytearray(path.read_bytes())
    at = data.index(old)
    data[at : at + len(old)] = new
    path.write_bytes(data)
    refused(folder)


def test_tables_without_a_version(folder: Path) -> None:
    alter(folder / "journal.db", "PRAGMA user_version = 0")
    assert "it has tables, but no version" in refused(folder)


# --- damage met while running -----------------------------------------------------------------------------------------


def test_a_mark_makes_the_next_start_look_at_every_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "CHECKED_BYTES", 0)
    without_index(folder / "journal.db", "instance_uid", "UPDATE instance SET uid_key = 5 WHERE id = 7")
    SqliteJournal.open(folder).close()
    Mark(folder).leave("seen")
    assert "instance_uid" in refused(folder)
    assert (folder / DAMAGED_MARK).read_text() == "seen\n"


def test_a_mark_goes_when_all_is_sound(folder: Path) -> None:
    Mark(folder).leave("seen")
    SqliteJournal.open(folder).close()
    assert not Mark(folder).set


def test_damage_while_running_leaves_a_mark_and_the_log(folder: Path) -> None:
    journal = SqliteJournal.open(folder)
    journal.commit(Group(settlements=[delivered(n, "b") for n in range(1, 20)]))
    evidence = (folder / LOG).read_bytes()
    assert evidence
    journal.condemn(StorageFault("it is so", 117))
    assert Mark(folder).set
    with pytest.raises(StorageFault, match="stop asyncroute, run it, then restart"):
        journal.commit(Group([image(999, "a")]))
    journal.close()
    assert (folder / LOG).read_bytes() == evidence


@pytest.mark.parametrize("name", ["journal.db", LOG])
@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_nothing_is_answered_for_in_a_file_without_a_name(folder: Path, name: str, how: str) -> None:
    journal = SqliteJournal.open(folder)
    journal.commit(Group([image(500, "a")]))
    if how == "replaced":
        shutil.copyfile(folder / name, folder / "copy")
        os.replace(folder / "copy", folder / name)
    else:
        (folder / name).unlink()
    with pytest.raises(StorageFault, match="it was removed or replaced while asyncroute ran"):
        journal.commit(Group([image(501, "a")]))
    with pytest.raises(StorageFault, match="restart"):
        journal.commit(Group([image(502, "a")]))
    journal.close()


def test_a_place_that_is_kept(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    place = Place(tmp_path / "x")
    assert not place.left
    (tmp_path / "x").write_text("more")
    assert not place.left
    (tmp_path / "x").unlink()
    assert place.left


# --- the log ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def crashed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with ten transactions in its log alone."""
    copy = tmp_path_factory.mktemp("crashed")
    journal = SqliteJournal.open(folder)
    for number in range(1000, 1010):
        journal.commit(Group([image(number, "a")]))
    for name in ("journal.db", LOG):
        shutil.copyfile(folder / name, copy / name)
    journal.close()
    return copy


def frames(folder: Path) -> int:
    return ((folder / LOG).stat().st_size - HEAD) // (FRAME + PAGE)


def spoil_frame(folder: Path, number: int) -> None:
    with (folder / LOG).open("r+b") as file:
        file.seek(HEAD + number * (FRAME + PAGE) + FRAME + 100)
        file.write(b"\xa5" * 64)


def test_a_whole_log_is_read(crashed: Path) -> None:
    journal = SqliteJournal.open(crashed)
    assert journal.last_id() == 1009
    journal.close()


@pytest.mark.parametrize("back", [1, 2])
def test_what_a_crash_cut_off_is_no_damage(crashed: Path, back: int) -> None:
    os.truncate(crashed / LOG, (crashed / LOG).stat().st_size - back * (FRAME + PAGE) + 10)
    journal = SqliteJournal.open(crashed)
    assert journal.last_id() == 1008
    journal.close()


def test_a_torn_last_transaction_is_no_damage(crashed: Path) -> None:
    """Its last frame was written, one before it was not: a power cut does that."""
    spoil_frame(crashed, frames(crashed) - 2)
    journal = SqliteJournal.open(crashed)
    assert journal.last_id() == 1008
    journal.close()


def test_cuts_one_after_the_other_are_no_damage(crashed: Path) -> None:
    for _ in range(4):
        spoil_frame(crashed, frames(crashed) - 2)
        journal = SqliteJournal.open(crashed)
        for number in range(3):
            journal.commit(Group([image(journal.last_id() + 1 + number, "a")]))
        copy = {name: (crashed / name).read_bytes() for name in ("journal.db", LOG)}
        journal.close()
        for name, data in copy.items():
            (crashed / name).write_bytes(data)


def test_damage_in_the_middle_of_the_log(crashed: Path) -> None:
    spoil_frame(crashed, frames(crashed) // 2)
    before = (crashed / LOG).read_bytes()
    assert "in the middle of journal.db-wal" in refused(crashed)
    assert (crashed / LOG).read_bytes() == before


@pytest.mark.parametrize("at", [0, 8, 17, 26])
def test_a_damaged_beginning_of_the_log(crashed: Path, at: int) -> None:
    data = bytearray((crashed / LOG).read_bytes())
    data[at] ^= 0x10
    (crashed / LOG).write_bytes(data)
    assert "the beginning of journal.db-wal" in refused(crashed)


def test_a_log_is_not_looked_through_where_commits_are_not_synced(crashed: Path) -> None:
    spoil_frame(crashed, frames(crashed) // 2)
    SqliteJournal.open(crashed, "process-crash").close()


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_log_without_its_journal_is_kept(crashed: Path, how: str) -> None:
    if how == "missing":
        (crashed / "journal.db").unlink()
    else:
        os.truncate(crashed / "journal.db", 0)
    before = (crashed / LOG).read_bytes()
    assert "it is missing or empty, but there is journal.db-wal" in refused(crashed)
    assert (crashed / LOG).read_bytes() == before


def test_no_log(folder: Path) -> None:
    assert log_damage(folder / "journal.db") == ""
