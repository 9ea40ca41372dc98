"""What a damaged journal still says, and that what is doubtful counts as owed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from asyncroute.core.proof import Proven
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Group
from asyncroute.journal.salvage import Old, Salvage
from asyncroute.journal.sqlite import SqliteJournal
from tests.contract.made import T0, delivered, failed, image

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """2,000 images owed to "a" and "b"; the first thousand delivered to "a"; 500 released."""
    journal = SqliteJournal.open(tmp_path, "process-crash")
    journal.commit(Group([image(n, "a", "b", header=bytes(200)) for n in range(1, 2001)]))
    journal.commit(Group(settlements=[delivered(n, "a") for n in range(1, 1001)]))
    journal.commit(Group(settlements=[delivered(n, "b") for n in range(1, 501)]))
    journal.commit(Group(settlements=[failed(n, "b", "no") for n in range(501, 511)]))
    journal.commit(Group(released=range(1, 501)))
    journal.close()
    return tmp_path / "journal.db"


def states(salvage: Salvage, number: int) -> dict[str, DeliveryState]:
    return {old.destination: old.state for old in salvage.deliveries(number, image(number).checksum)}


S = DeliveryState


def test_a_sound_one_tells_all(path: Path) -> None:
    salvage = Salvage(path)
    assert states(salvage, 700) == {"a": S.DELIVERED, "b": S.READY}
    assert states(salvage, 1700) == {"a": S.READY, "b": S.READY}
    assert Old("b", "all", S.FAILED, 3, 0xA900, "no", T0 + 1000) in salvage.deliveries(505, image(505).checksum)
    assert list(salvage.owed()) == list(range(501, 2001))
    made = salvage.instance(1500)
    assert made is not None
    assert (made.id, made.checksum, made.path, made.study_uid) == (
        1500,
        image(1500).checksum,
        image(1500).path,
        "1.2.3.4",
    )
    assert salvage.instance(7) is None
    salvage.close()
    salvage.close()


def test_other_bytes_are_another_image(path: Path) -> None:
    assert Salvage(path).deliveries(700, 12345) == []


@pytest.mark.parametrize("content", [None, b"", b"a letter\n" * 1000, bytes(40_000)])
def test_nothing_to_tell(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "journal.db").write_bytes(content)
    salvage = Salvage(tmp_path / "journal.db")
    assert (list(salvage.owed()), salvage.instance(1), salvage.deliveries(1, 1)) == ([], None, [])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE delivery SET state = 3, settled_at = 5.0 WHERE instance = 1700",
        "UPDATE delivery SET state = 6, settled_at = 5.0 WHERE instance = 1700",
        "UPDATE delivery SET state = 77 WHERE instance = 1700",
        "UPDATE delivery SET state = 5 WHERE instance = 1700",
    ],
)
def test_what_table_and_index_do_not_agree_about_is_owed(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    index = connection.execute("SELECT * FROM sqlite_schema WHERE name = 'delivery_open'").fetchone()
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("DELETE FROM sqlite_schema WHERE name = 'delivery_open'")
    connection.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", index)
    connection.close()
    assert states(Salvage(path), 1700) == {"a": S.READY, "b": S.READY}


def test_an_error_costs_only_what_it_hides(path: Path) -> None:
    """Every eighth page is noise: the rest is told, nothing is told wrongly, and ids do not end at the first hole."""
    connection = sqlite3.connect(path)
    (last_root,) = connection.execute("SELECT max(rootpage) FROM sqlite_schema").fetchone()
    connection.close()
    with path.open("r+b") as file:
        for page in range(last_root + 1, path.stat().st_size // PAGE, 8):
            file.seek(page * PAGE)
            file.write(b"\xa5\x00\xff\x11" * (PAGE // 4))
    before = path.read_bytes()
    salvage = Salvage(path)
    told = {number: states(salvage, number) for number in range(501, 2001)}
    assert salvage.unreadable
    assert sum(bool(found) for found in told.values()) > 500
    for number, found in told.items():
        assert found.get("a") in ({None, S.READY} if number > 1000 else {None, S.READY, S.DELIVERED})
        assert found.get("b") in ({None, S.READY} if number > 510 else {None, S.READY, S.FAILED})
    owed = list(salvage.owed())
    assert owed == sorted(set(owed))
    assert set(owed) <= set(range(501, 2001))
    assert len(owed) > 700
    assert owed[-1] > 1900
    assert path.read_bytes() == before


def test_what_a_destination_has_yet_to_prove_is_told(path: Path) -> None:
    journal = SqliteJournal.open(path.parent, "process-crash")
    unproven = [delivered(n, "b")._replace(unproven=True) for n in (700, 701)]
    journal.commit(Group(settlements=unproven, actions=[Proven("b", "", [701], [], "")]))
    journal.close()
    salvage = Salvage(path)
    told = {n: [old for old in salvage.deliveries(n, image(n).checksum) if old.destination == "b"] for n in (700, 701)}
    assert told[700] == [Old("b", "all", S.DELIVERED, 1, 0, "", T0 + 1000, unproven=True)]
    assert told[701] == [Old("b", "all", S.CONFIRMED, 1, 0, "", T0 + 1000)]
    salvage.close()


def test_a_journal_of_an_older_program_knows_nothing_of_proof(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE proof")
    connection.close()
    salvage = Salvage(path)
    assert states(salvage, 700) == {"a": S.DELIVERED, "b": S.READY}
    assert salvage.unreadable == 0
    salvage.close()
