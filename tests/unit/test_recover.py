"""Recovery: journal and spool agree after any crash, and nothing acknowledged is lost."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Instance
from asyncroute.journal.base import Group
from asyncroute.journal.sqlite import SqliteJournal
from asyncroute.recover import Recovered, recover
from asyncroute.spool.base import Facts
from asyncroute.spool.local import LocalSpool
from tests.contract.made import T0, delivered, failed, image, retried
from tests.contract.storage_worker import content
from tests.unit.storing import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "data")
    yield made
    made.close()


def test_an_empty_folder(store: Store) -> None:
    assert store.restart() == Recovered()
    assert store.spool.allocate()[0] == 1


def test_what_agrees_is_left_alone(store: Store) -> None:
    images = [store.admitted("a") for _ in range(5)]
    store.admitted(hold_reason="no route")
    assert store.restart() == Recovered(unsettled=5, held=1)
    assert store.files() == [1, 2, 3, 4, 5, 6]
    assert store.spool.files == 6
    assert store.counts().open["a"] == {1: 5}
    for it in images:
        store.spool.verify(it.path, it.data_offset, it.size, it.checksum)


def test_ids_go_on_above_files_and_rows(store: Store) -> None:
    store.spool.start_at(50)
    store.admitted("a")
    store.spool.start_at(70)
    orphan = store.written("a")
    store.restart()
    assert store.spool.allocate()[0] == orphan.id + 1


def test_ids_go_on_above_what_was_pruned(store: Store) -> None:
    one = store.admitted("a")
    store.journal.commit(Group(settlements=[delivered(one.id, "a")]))
    store.spool.remove(one.path)
    store.journal.commit(Group(released=[one.id]))
    assert store.journal.prune(T0 + 10_000, 10) == 1
    store.restart()
    assert store.spool.allocate()[0] == one.id + 1


def test_half_written_files_are_removed(store: Store) -> None:
    store.admitted("a")
    for cut in (0, 10, 200, -1):
        half = store.file(store.written("a"))
        os.truncate(half, cut if cut >= 0 else half.stat().st_size - 1)
    instance_id, path = store.spool.allocate()
    unfinished = store.spool.incoming(image(instance_id, path=path, data_offset=0))
    unfinished.append([bytes(5000)])
    found = store.restart()
    assert (found.cleaned, found.orphans, store.files()) == (5, 0, [1])


def test_whole_files_without_a_row_are_set_aside(store: Store) -> None:
    orphan = store.written("a")
    before = store.file(orphan).read_bytes()
    found = store.restart()
    assert (found.cleaned, found.orphans, store.files(), store.spool.files) == (0, 1, [], 0)
    assert [path.read_bytes() for path in (store.folder / "orphans").iterdir()] == [before]


def test_what_was_written_over_another_image_in_part_is_removed(store: Store) -> None:
    """Under the new name, with the length that its head says: only the checksum shows that it is a mixture."""
    for offset in (10, 1000, 1499):
        mixed = store.written("a")
        with store.file(mixed).open("r+b") as file:
            file.seek(mixed.data_offset + offset)
            file.write(b"?")
    found = store.restart()
    assert (found.cleaned, found.orphans, store.files(), store.spool.files) == (3, 0, [], 0)


def test_only_so_many_strangers_are_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncroute.recover.MOST_VERIFIED", 2)
    last = [store.written("a") for _ in range(4)][-1]
    with store.file(last).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"?")
    found = store.restart()
    assert (found.cleaned, found.orphans) == (0, 4)


def test_spare_files_that_a_crash_left_are_removed(store: Store) -> None:
    done, owed = store.admitted("a"), store.admitted("a")
    (released,) = store.journal.commit(Group(settlements=[delivered(done.id, "a")])).releasable
    assert store.spool.release(released[1], released[0])
    store.journal.commit(Group(released=[done.id]))
    left = store.file(done).read_bytes()
    store.close()
    store.file(done).write_bytes(left)
    found = store.restart()
    assert (found.cleaned, found.orphans, found.unsettled, store.files()) == (1, 0, 1, [owed.id])


def overwritten(store: Store, journaled: bool = True) -> tuple[Instance, Instance]:
    """An image that is done, and one that was written over it."""
    done = store.admitted("a")
    store.journal.commit(Group(settlements=[delivered(done.id, "a")], released=[done.id] if journaled else []))
    assert store.spool.release(done.path, done.id)
    store.spool.spare([done.path])
    late = store.written("b")
    assert late.path == done.path
    return done, late


def test_an_image_that_was_written_over_another_is_found_by_its_row(store: Store) -> None:
    _, late = overwritten(store)
    store.journal.commit(Group([late]))
    store.admitted("a")
    assert store.restart() == Recovered(unsettled=2)
    store.spool.verify(late.path, late.data_offset, late.size, late.checksum)
    assert store.spool.allocate()[0] == 4


def test_a_disk_that_lied_brings_the_image_back_that_was_there_before(store: Store) -> None:
    """It called the new one's bytes safe; the old one is whole, and the wrong one."""
    done = store.admitted("a")
    before = store.file(done).read_bytes()
    store.journal.commit(Group(settlements=[delivered(done.id, "a")], released=[done.id]))
    assert store.spool.release(done.path, done.id)
    store.spool.spare([done.path])
    late = store.admitted("a")
    assert late.path == done.path
    store.file(late).write_bytes(before)
    assert len(before) != late.data_offset + late.size
    found = store.restart()
    assert (found.lost, found.unsettled, found.orphans, store.files()) == (1, 0, 0, [1])
    assert "spool file damaged" in store.rows()[0].last_error


@pytest.mark.parametrize("journaled", [True, False])
def test_an_image_that_was_written_over_another_and_not_acknowledged_is_set_aside(
    store: Store, journaled: bool
) -> None:
    """Whether the journal knows that the other one has left, or lost that with the power."""
    done, late = overwritten(store, journaled)
    found = store.restart()
    assert (found.orphans, found.cleaned, found.lost) == (1, 0, 0)
    assert found.releasable == ([] if journaled else [(done.id, done.path)])
    assert store.files() == []
    assert [path.name for path in (store.folder / "orphans").iterdir()] == [f"{late.id:08d}.dcm"]
    assert store.spool.allocate()[0] == late.id + 1


def test_an_image_in_the_file_of_one_that_is_owed_by_a_journal_that_lost_its_end_is_set_aside(store: Store) -> None:
    """It has the length that the other one had."""
    one = store.admitted("a")
    assert store.spool.release(one.path, one.id)
    store.spool.spare([one.path])
    store.spool.start_at(60)
    number, path = store.spool.allocate()
    late = image(number, "b", path=path, data_offset=0)
    assert store.spool.write([(late, [content(one.id)])]) == {}
    assert (late.path, late.size) == (one.path, one.size)
    found = store.restart()
    assert (found.orphans, found.lost, found.unsettled, store.files()) == (1, 1, 0, [])
    assert "another image was in 000000/00000001.dcm" in store.rows()[0].last_error
    assert [path.name for path in (store.folder / "orphans").iterdir()] == [f"{late.id:08d}.dcm"]
    assert store.spool.allocate()[0] == late.id + 1


def test_only_files_that_the_journal_may_not_know_any_more_are_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    old, last = store.admitted("a", received_at=now - 3600), store.admitted("a", received_at=now)
    os.utime(store.file(old), (now - 3600, now - 3600))
    looked: list[str] = []
    facts = LocalSpool.facts

    def noting(spool: LocalSpool, path: str) -> Facts | None:
        looked.append(path)
        return facts(spool, path)

    monkeypatch.setattr(LocalSpool, "facts", noting)
    assert store.restart() == Recovered(unsettled=2)
    assert looked == [last.path]


def test_a_done_image_under_another_name_is_harmless(store: Store) -> None:
    done = store.admitted("a")
    store.journal.commit(Group(settlements=[delivered(done.id, "a")]))
    store.file(done).rename(store.file(done).with_name("00000009.dcm"))
    found = store.restart()
    assert (found.cleaned, found.orphans, found.releasable) == (1, 0, [(done.id, done.path)])


@pytest.mark.parametrize("kept", [10, 300, 1200])
def test_what_was_written_in_part_over_an_image_that_is_done_is_removed(store: Store, kept: int) -> None:
    """The first ``kept`` bytes are the new image's: less than its header, its header, some of its data set."""
    done = store.admitted("a")
    before = store.file(done).read_bytes()
    late = store.written("b")
    mixed = store.file(late).read_bytes()[:kept] + before[kept:]
    store.journal.commit(Group(settlements=[delivered(done.id, "a")], released=[done.id]))
    store.spool.remove(late.path)
    store.file(done).write_bytes(mixed)
    found = store.restart()
    assert (found.cleaned, found.orphans, store.files()) == (1, 0, [])


def test_a_copy_in_the_spool_is_removed_and_the_image_stays(store: Store) -> None:
    owed = store.admitted("a")
    store.file(owed).with_name("00000009.dcm").write_bytes(store.file(owed).read_bytes())
    found = store.restart()
    assert (found.cleaned, found.unsettled, store.files()) == (1, 1, [owed.id])


def test_a_file_under_another_name_shows_that_something_is_wrong(store: Store) -> None:
    owed = store.admitted("a")
    store.file(owed).rename(store.file(owed).with_name("00000009.dcm"))
    with pytest.raises(
        StorageFault, match=r"image 1 is said to be in '000000/00000001.dcm', but is in '000000/0000000"
    ):
        store.restart()
    assert store.files() == [9]


def test_two_images_in_one_file_show_that_the_journal_is_damaged(store: Store) -> None:
    store.admitted("a")
    store.admitted("a")
    store.journal._connection.execute("UPDATE instance SET path = '000000/00000001.dcm' WHERE id = 2")
    with pytest.raises(StorageFault, match=r"two images, one of them 2, are said to be in '000000/00000001\.dcm'"):
        store.restart()
    assert store.files() == [1, 2]


@pytest.mark.parametrize("path", ["", "../x", "000001/00000001.dcm", "000000/1.dcm"])
def test_a_path_that_is_none_shows_that_the_journal_is_damaged(store: Store, path: str) -> None:
    store.admitted("a")
    store.journal._connection.execute("UPDATE instance SET path = ? WHERE id = 1", (path,))
    with pytest.raises(StorageFault, match="image 1 is said to be in "):
        store.restart()
    assert store.files() == [1]


def test_the_spool_of_another_journal_is_set_aside(store: Store) -> None:
    for _ in range(3):
        store.admitted("a")
    store.close()
    (store.folder / "journal.db").unlink()
    found = store.restart()
    assert (found.orphans, found.unsettled, store.files()) == (3, 0, [])
    assert len(list((store.folder / "orphans").iterdir())) == 3


def test_a_released_file_that_came_back_is_removed(store: Store) -> None:
    one = store.admitted("a")
    store.journal.commit(Group(settlements=[delivered(one.id, "a")]))
    store.journal.commit(Group(released=[one.id]))
    found = store.restart()
    assert (found.cleaned, found.orphans, store.files()) == (1, 0, [])
    assert not (store.folder / "orphans").exists()


def test_settled_images_are_to_be_released(store: Store) -> None:
    with_file, without_file, owed = (store.admitted("a", "b") for _ in range(3))
    settled = [delivered(it.id, name) for it in (with_file, without_file) for name in ("a", "b")]
    store.journal.commit(Group(settlements=[*settled, delivered(owed.id, "a")]))
    store.spool.remove(without_file.path)
    found = store.restart()
    assert found.releasable == [(with_file.id, with_file.path), (without_file.id, without_file.path)]
    assert (found.lost, found.cleaned, found.unsettled) == (0, 0, 1)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def extend(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


@pytest.mark.parametrize(("spoil", "words"), [(Path.unlink, "missing"), (truncate, "damaged"), (extend, "damaged")])
def test_a_lost_file_is_said_and_nothing_else_is_touched(
    store: Store, spoil: Callable[[Path], object], words: str
) -> None:
    lost, fine = store.admitted("a", "b"), store.admitted("a")
    store.journal.commit(Group(settlements=[retried(lost.id, "b", T0 + 9e9)]))
    spoil(store.file(lost))
    found = store.restart()
    assert (found.lost, found.unsettled, found.orphans, found.cleaned, found.releasable) == (1, 1, 0, 0, [])
    rows = {(row.instance_id, row.destination): row for row in store.rows()}
    assert [rows[lost.id, name].state for name in ("a", "b")] == ["failed", "failed"]
    assert f"spool file {words}" in rows[lost.id, "a"].last_error
    assert rows[fine.id, "a"].state == "ready"
    assert store.journal._connection.execute("SELECT kind, instance FROM event").fetchall() == [("file-lost", lost.id)]
    assert store.restart().lost == 0


def test_a_lost_file_of_a_dead_letter_keeps_its_reason(store: Store) -> None:
    one = store.admitted("a")
    store.journal.commit(Group(settlements=[failed(one.id, "a", "refused by the peer")]))
    store.file(one).unlink()
    assert store.restart().lost == 0
    assert store.rows()[0].last_error == "refused by the peer"


def test_a_lost_file_of_a_held_image_is_said(store: Store) -> None:
    one = store.admitted(hold_reason="no route")
    store.file(one).unlink()
    assert [store.restart().lost for _ in range(2)] == [1, 0]
    assert "spool file missing" in store.rows(held=True)[0].last_error


def test_ids_go_on_above_orphans(store: Store) -> None:
    store.spool.start_at(50)
    store.written("a")
    store.restart()
    assert store.spool.allocate()[0] == 51
    store.close()
    (store.folder / "journal.db").unlink()
    store.restart()
    assert store.spool.allocate()[0] == 51


def test_half_a_file_without_any_journal_is_kept(store: Store) -> None:
    """Nothing tells whether its image was acknowledged."""
    half = store.file(store.admitted("a"))
    os.truncate(half, 300)
    store.close()
    (store.folder / "journal.db").unlink()
    found = store.restart()
    assert (found.cleaned, found.orphans) == (0, 1)
    assert [path.stat().st_size for path in (store.folder / "orphans").iterdir()] == [300]


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE instance SET path = '000000/00000003.dcm' WHERE id = 1", "image 1 is said to be in"),
        ("UPDATE instance SET data_offset = data_offset + 1 WHERE id = 1", "image 1 is said to have"),
    ],
)
def test_a_whole_file_shows_that_the_journal_is_damaged(store: Store, statement: str, words: str) -> None:
    store.admitted("a")
    store.journal._connection.execute(statement)
    with pytest.raises(StorageFault, match=f'{words}.*; "asyncroute rebuild --anew" makes a new one'):
        store.restart()
    assert store.files() == [1]


def test_an_image_that_is_owed_but_not_listed_is_never_taken_for_a_stranger(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.admitted("a")
    monkeypatch.setattr(SqliteJournal, "unreleased", lambda *_: [])  # as with a damaged index
    with pytest.raises(StorageFault, match="image 1 is not listed with those that are owed"):
        store.restart()
    assert store.files() == [1]


def test_many_of_everything(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncroute.recover.ROWS", 7)
    monkeypatch.setattr("asyncroute.recover.LOST_IN_ONE_GROUP", 4)
    chance = random.Random(3)
    expected = Recovered()
    for start in (1, 990, 2500):
        store.spool.start_at(start)
        for _ in range(60):
            match chance.choice(["fine", "orphan", "half", "lost", "done"]):
                case "fine":
                    store.admitted("a")
                    expected.unsettled += 1
                case "orphan":
                    store.written("a")
                    expected.orphans += 1
                case "half":
                    os.truncate(store.file(store.written("a")), 300)
                    expected.cleaned += 1
                case "lost":
                    store.file(store.admitted("a")).unlink()
                    expected.lost += 1
                case "done":
                    one = store.admitted("a")
                    store.journal.commit(Group(settlements=[delivered(one.id, "a")]))
                    expected.releasable.append((one.id, one.path))
    assert store.restart() == expected
    assert store.spool.files == expected.unsettled + len(expected.releasable)
    again = store.restart()
    assert (again.unsettled, again.orphans, again.cleaned, again.lost) == (expected.unsettled, 0, 0, 0)


@pytest.mark.parametrize("journal", ["whole", "lost"])
def test_work_for_one_file_does_not_grow_with_their_number(tmp_path: Path, journal: str) -> None:
    few, many = (_calls(tmp_path / f"{count}", count, journal == "lost") for count in (100, 1000))
    assert few > 1, "it looks at each"
    assert many < 1.2 * few


def _calls(folder: Path, count: int, lost: bool) -> float:
    """Functions called by a start with ``count`` images that are owed, for each of them."""
    store, calls = Store(folder), 0
    for _ in range(count):
        store.admitted("a")
    store.close()
    if lost:
        for file in folder.glob("journal.db*"):
            file.unlink()
    store = Store(folder)

    def count_calls(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count_calls)
    try:
        found = recover(store.journal, store.spool)
    finally:
        sys.setprofile(None)
        store.close()
    assert (found.unsettled, found.orphans) == ((0, count) if lost else (count, 0))
    return calls / count
