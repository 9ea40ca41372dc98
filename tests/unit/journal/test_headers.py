"""Headers that are compressed together: each comes back as it went in, or not at all."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
import zlib
from pathlib import Path

import pytest

from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Instance
from asyncroute.journal import headers, migrate, statements
from asyncroute.journal.base import Event, Group
from asyncroute.journal.later import MOST_WAITING, Later
from asyncroute.journal.reader import SqliteReader
from asyncroute.journal.salvage import Salvage
from asyncroute.journal.sqlite import SqliteJournal
from asyncroute.journal.write import _Work
from tests.contract.made import T0, delivered, image

COMMON = random.Random(3).randbytes(2000)


def header(number: int) -> bytes:
    """A header that differs from its neighbours' in a few bytes."""
    return COMMON[:1000] + b"%08d" % number + COMMON[1000:]


def packs(images: list[Instance]) -> list[tuple[headers.Pack, list[Instance]]]:
    """What a group of ``images`` writes, and whose headers are in it."""
    later = Later(7)
    numbers = {it.id: later.place(it) for it in images}
    return [(made, [it for it in images if numbers[it.id] == number]) for number, made in later.write()[0]]


def unpacked(images: list[Instance]) -> dict[int, bytes | None]:
    """What comes back of all packs."""
    return {it.id: headers.unpack(it.id, *made) for made, some in packs(images) for it in some}


def read(folder: Path, *numbers: int) -> list[bytes | None]:
    """The headers of images as the reader has them."""

    async def ask() -> list[bytes | None]:
        reader = await SqliteReader.open(folder)
        try:
            found = [await reader.instance(number) for number in numbers]
        finally:
            await reader.close()
        return [it.header for it in found if it is not None]

    return asyncio.run(ask())


# --- packs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 64, 65, 200])
def test_each_comes_back(count: int) -> None:
    images = [image(n, header=header(n)[: n * 11]) for n in range(count)]
    assert unpacked(images) == {n: header(n)[: n * 11] for n in range(count)}
    assert len(packs(images)) == -(-count // headers.MOST_IMAGES)


def test_only_those_that_have_one() -> None:
    assert unpacked([image(1), image(2, header=b""), image(3, header=b"x"), image(4)]) == {2: b"", 3: b"x"}
    assert packs([image(1), image(2)]) == []


def test_a_pack_is_bounded_and_one_that_is_larger_stands_alone() -> None:
    sizes = [headers.MOST_BYTES // 2, headers.MOST_BYTES // 2, 1, headers.MOST_BYTES + 1, 5]
    images = [image(n, header=bytes(size)) for n, size in enumerate(sizes)]
    assert [[it.id for it in some] for _, some in packs(images)] == [[0, 1], [2], [3], [4]]
    assert {n: len(found or b"") for n, found in unpacked(images).items()} == dict(enumerate(sizes))


def test_alike_ones_are_neighbours() -> None:
    """Two studies whose images come by turns: a header is looked for 32 KiB back at most."""
    chance = random.Random(5)
    kinds = [chance.randbytes(20_000) for _ in range(2)]
    images = [image(n, study_uid=f"1.{n % 2}", header=kinds[n % 2] + bytes([n])) for n in range(20)]
    ((made, _),) = packs(images)
    assert json.loads(made.images) == [*range(0, 20, 2), *range(1, 20, 2)]
    assert len(made.data) < 45_000


@pytest.mark.parametrize("spoil", ["images", "lengths", "data", "length", "other", "cut", "longer", "bomb"])
def test_damage_costs_a_header_and_nothing_else(spoil: str) -> None:
    ((made, _),) = packs([image(n, header=header(n)) for n in range(5)])
    spoiled = {
        "images": made._replace(images=made.images[:-1]),
        "lengths": made._replace(lengths='{"a": 1}'),
        "data": made._replace(data=made.data[:300] + b"\xff\0\xff" + made.data[303:]),
        "length": made._replace(lengths=made.lengths.replace("2008", "2007", 1)),
        "other": made._replace(images="[10, 11, 12, 13, 14]"),
        "cut": made._replace(data=made.data[:-1]),
        "longer": made._replace(lengths="[2008, 2008, 2008, 2008, 9000000000000]"),
        "bomb": made._replace(data=zlib.compress(bytes(8 << 20), 1)),
    }[spoil]
    assert headers.unpack(2, *made) == header(2)
    assert headers.unpack(2, *spoiled) is None


def test_no_row_is_no_header() -> None:
    assert headers.unpack(1, None, None, None) is None


@pytest.mark.parametrize("data", [None, b"", b"header", zlib.compress(header(1))[:-1], zlib.compress(bytes(8 << 20))])
def test_an_own_one_that_is_damaged(data: bytes | None) -> None:
    assert headers.unpack_own(data) is None
    assert headers.unpack_own(zlib.compress(header(1), 1)) == header(1)


# --- in a journal -----------------------------------------------------------------------------------------------------


def filled(folder: Path, count: int = 10) -> SqliteJournal:
    journal = SqliteJournal.open(folder, "process-crash")
    journal.commit(Group([image(n, "a", header=header(n)) for n in range(1, count + 1)]))
    return journal


def ask(journal: SqliteJournal, statement: str) -> list[tuple[object, ...]]:
    return journal._connection.execute(statement).fetchall()


def test_a_group_has_one_row(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    assert ask(journal, "SELECT count(*), sum(length(data)) < 3000 FROM header_group") == [(1, 1)]
    journal.close()
    assert read(tmp_path, *range(1, 11)) == [header(n) for n in range(1, 11)]


def test_those_of_refused_images_leave_nothing_behind(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    done = journal.commit(Group([image(n, "a", header=header(n)) for n in (11, 5, 12)]))
    assert list(done.refused) == [5]
    assert ask(journal, "SELECT images FROM header_group WHERE id > 1 ORDER BY id") == [("[11,12]",)]
    journal.close()
    assert read(tmp_path, 5, 11, 12) == [header(5), header(11), header(12)]


def test_they_are_forgotten_with_the_last_of_their_images(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    journal.commit(Group([image(n, "a", header=header(n)) for n in (11, 12)]))
    for over, left in (([1, 2, 3, 11, 12], 1), ([4, 5, 6, 7, 8, 9], 1), ([10], 0)):
        journal.commit(Group(settlements=[delivered(n, "a") for n in over], released=over))
        assert sum(journal.prune(T0 + 1000, 2) for _ in range(10)) == len(over)
        assert ask(journal, "SELECT count(*) FROM header_group") == [(left,)]
    journal.close()


def test_a_forgotten_image_leaves_nothing_of_its_header(tmp_path: Path) -> None:
    """Others of its group may stay for long, and headers tell of patients."""
    journal = filled(tmp_path)
    over = [1, 2, 3, 7]
    journal.commit(Group(settlements=[delivered(n, "a") for n in over], released=over))
    assert journal.prune(T0 + 1000, 100) == 4
    ((images, _, data),) = ask(journal, "SELECT images, lengths, data FROM header_group")
    journal.close()
    assert isinstance(data, bytes)
    assert (images, zlib.decompress(data)) == ("[4,5,6,8,9,10]", b"".join(map(header, (4, 5, 6, 8, 9, 10))))
    assert read(tmp_path, 4, 8) == [header(4), header(8)]


@pytest.mark.parametrize("gone", [{1, 2, 3}, set(range(5))])
def test_taking_out_of_what_is_damaged_or_of_all(gone: set[int]) -> None:
    ((made, _),) = packs([image(n, header=header(n)) for n in range(5)])
    assert (headers.without(gone, *made) is None) == (len(gone) == 5)
    assert headers.without(gone, *made._replace(data=made.data[:-1])) is None


def test_a_damaged_list_does_not_keep_the_pruning_from_going_on(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    ask(journal, "UPDATE header_group SET images = '[1, 2'")
    journal.commit(Group(settlements=[delivered(1, "a")], released=[1]))
    assert journal.prune(T0 + 1000, 10) == 1
    journal.close()
    assert read(tmp_path, 2) == [None]


def test_damage_keeps_no_image_from_being_sent(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    ask(journal, "UPDATE header_group SET data = x'00'")
    journal.close()
    SqliteJournal.open(tmp_path).close()
    assert read(tmp_path, 3) == [None]
    salvage = Salvage(tmp_path / "journal.db")
    found = salvage.instance(3)
    salvage.close()
    assert found is not None
    assert (found.path, found.header) == (image(3).path, None)


def test_salvage_reads_them(tmp_path: Path) -> None:
    filled(tmp_path).close()
    salvage = Salvage(tmp_path / "journal.db")
    found = [salvage.instance(n) for n in (1, 7)]
    salvage.close()
    assert [it and it.header for it in found] == [header(1), header(7)]


def test_salvage_goes_on_without_their_table(tmp_path: Path) -> None:
    filled(tmp_path).close()
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        connection.execute("DROP TABLE header_group")
    connection.close()
    salvage = Salvage(tmp_path / "journal.db")
    found = salvage.instance(3)
    assert salvage.unreadable == 1
    salvage.close()
    assert found is not None
    assert found.header is None


# --- older journals ---------------------------------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journal of the second schema with two images, whose headers are in their rows; the second's is damaged."""
    known = statements.migrations()[:2]
    with monkeypatch.context() as older:
        older.setattr(statements, "migrations", lambda: known)
        connection = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
        migrate.migrate(connection, tmp_path / "journal.db")
    text = "'1.2', '1.2', '1.2', '1.2', '1.2', '', '', 'CT', 'A', 'B', 'L', 'P'"
    for number, data in ((1, zlib.compress(header(1), 1)), (2, b"\x78\x01nothing")):
        columns = f"{number}, 5, {text}, {T0}, '000000/0000000{number}.dcm', 400, 1000, 7, 'held', ?"
        connection.execute(f"INSERT INTO instance VALUES ({columns})", (data,))
    connection.close()
    return tmp_path


def test_an_older_journals_headers_are_read(old: Path) -> None:
    journal = SqliteJournal.open(old)
    journal.commit(Group([image(3, "a", header=header(3))]))
    journal.close()
    assert read(old, 1, 2, 3) == [header(1), None, header(3)]


def test_an_older_journals_images_are_forgotten(old: Path) -> None:
    journal = SqliteJournal.open(old)
    ask(journal, "UPDATE instance SET hold_reason = NULL")
    journal.commit(Group(released=[1, 2]))
    assert journal.prune(T0 + 10, 100) == 2
    journal.close()


def test_an_older_journals_headers_are_salvaged(old: Path) -> None:
    salvage = Salvage(old / "journal.db")
    found = [salvage.instance(n) for n in (1, 2)]
    assert salvage.unreadable == 0
    salvage.close()
    assert [it is not None and it.header for it in found] == [header(1), None]


# --- written later ----------------------------------------------------------------------------------------------------


def test_what_waits_is_written_with_the_next_group_that_does_not(tmp_path: Path) -> None:
    """Headers of several groups share a pack, and copies are compared over all of them."""
    journal = SqliteJournal.open(tmp_path, "process-crash")
    for n in (1, 2):
        done = journal.commit(Group([image(n, "a", header=header(n), sop_instance_uid="1.5", size=n)], later=True))
        assert done.conflicts == []
    assert ask(journal, "SELECT count(*) FROM header_group") == [(0,)]
    assert journal.commit(Group(settlements=[delivered(1, "a")])).conflicts == [2]
    assert ask(journal, "SELECT images FROM header_group") == [("[1,2]",)]
    assert journal.commit(Group(settlements=[delivered(2, "a")])).conflicts == []
    journal.close()
    assert read(tmp_path, 1, 2) == [header(1), header(2)]


def test_not_many_wait(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path, "process-crash")
    for n in range(1, 200):
        journal.commit(Group([image(n, "a", header=header(n))], later=True))
        assert len(journal._writer._later._waiting) < MOST_WAITING
    assert ask(journal, "SELECT count(*) FROM header_group") == [(3,)]
    journal.close()
    assert read(tmp_path, *range(1, 200)) == [header(n) for n in range(1, 200)]


def test_a_group_that_fails_leaves_nothing_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it wrote what waited, or would have waited itself: images of a failed group are refused."""
    journal = SqliteJournal.open(tmp_path, "process-crash")
    journal.commit(Group([image(1, "a", header=header(1))], later=True))
    with monkeypatch.context() as patch:
        patch.setattr(_Work, "_write_event", failing)
        for later in (True, False):
            with pytest.raises(StorageFault):
                journal.commit(Group([image(2, "a", header=header(2))], events=[Event(T0, "x", "")], later=later))
    journal.commit(Group([image(3, "a", header=header(3))]))
    assert ask(journal, "SELECT images FROM header_group") == [("[1]",), ("[3]",)]
    journal.close()
    assert read(tmp_path, 1, 3) == [header(1), header(3)]


def failing(*_: object) -> None:
    raise sqlite3.OperationalError("database or disk is full")


def test_a_crash_costs_headers_alone_and_no_other_image_gets_them(tmp_path: Path) -> None:
    """The number of a pack that was never written is given again."""
    journal = SqliteJournal.open(tmp_path, "process-crash")
    journal.commit(Group([image(1, "a", header=header(1))], later=True))
    shutil.copytree(tmp_path, tmp_path / "crashed")
    journal.close()
    journal = SqliteJournal.open(tmp_path / "crashed", "process-crash")
    journal.commit(Group([image(2, "a", header=header(2))]))
    journal.close()
    assert read(tmp_path / "crashed", 1, 2) == [None, header(2)]
