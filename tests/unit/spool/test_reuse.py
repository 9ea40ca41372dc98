"""Files of released images are overwritten by new ones: which, how, and when not."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncroute.core.model import Instance
from asyncroute.forward import reading
from asyncroute.spool import spare, system
from asyncroute.spool.local import LocalSpool
from asyncroute.spool.present import SHARD
from tests.contract.made import image
from tests.unit.spool.recording import EIO, ENOSPC, record

SIZE = 10_000


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalSpool]:
    """A spool whose spare files stay."""
    monkeypatch.setattr(spare, "STAY", 3600.0)
    made = LocalSpool(tmp_path / "spool")
    yield made
    made.close()


def stored(spool: LocalSpool, size: int = SIZE, letter: bytes = b"x") -> Instance:
    """A new image in a file."""
    number, path = spool.allocate()
    made = image(number, path=path, data_offset=0)
    assert spool.write([(made, [letter * size])]) == {}
    return made


def released(spool: LocalSpool, size: int = SIZE) -> Instance:
    """One whose file is spare."""
    made = stored(spool, size)
    spool.release(made.path)
    return made


def inode(spool: LocalSpool, made: Instance) -> int:
    """Which file it is."""
    return (spool.root / made.path).stat().st_ino


def names(spool: LocalSpool) -> list[str]:
    """All files."""
    return sorted(path.name for path in spool.root.glob("*/*"))


def assert_whole(spool: LocalSpool, made: Instance, letter: bytes, size: int = SIZE) -> None:
    """Its bytes, and nothing behind them."""
    spool.verify(made.path, made.data_offset, made.size, made.checksum)
    assert spool.read(made.path, made.data_offset, made.size) == letter * size
    facts = spool.facts(made.path)
    assert facts is not None
    assert facts.instance_id == made.id


@pytest.mark.parametrize("size", [SIZE, SIZE - 500, SIZE + 500, SIZE - 1, SIZE + 1])
def test_a_new_image_overwrites_a_released_one(spool: LocalSpool, size: int) -> None:
    old = released(spool)
    assert (spool.files, spool.bytes, spool.spare_files) == (0, 0, 1)
    assert spool.spare_bytes == old.data_offset + SIZE
    new = stored(spool, size, b"y")
    assert_whole(spool, new, b"y", size)
    assert names(spool) == ["00000002.dcm"]
    assert (spool.reused, spool.spare_files, spool.spare_bytes) == (1, 0, 0)
    assert (spool.files, spool.bytes) == (1, new.data_offset + size)


def test_it_is_the_same_file(spool: LocalSpool) -> None:
    old = stored(spool)
    before = inode(spool, old)
    spool.release(old.path)
    assert inode(spool, stored(spool)) == before


def test_the_order_of_an_overwritten_group(spool: LocalSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    for old in [stored(spool) for _ in range(2)]:
        spool.release(old.path)
    calls = record(monkeypatch)
    group = [image(number, path=path, data_offset=0) for number, path in (spool.allocate() for _ in range(2))]
    assert spool.write([(it, [bytes(SIZE - 100)]) for it in group]) == {}
    new = [Path(it.path).name for it in group]
    assert calls.steps == [
        *((step, name) for name in new for step in ("rename", "reopen", "write", "truncate")),
        *(("fdatasync", name) for name in new),
        ("fsync", "000000"),
    ]


def test_releasing_makes_no_call(spool: LocalSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stored(spool)
    calls = record(monkeypatch)
    spool.release(made.path)
    assert calls.steps == []


@pytest.mark.parametrize("size", [SIZE // 2, SIZE * 2, 100])
def test_another_length_needs_a_file_of_its_own(spool: LocalSpool, size: int) -> None:
    released(spool)
    made = stored(spool, size, b"y")
    assert_whole(spool, made, b"y", size)
    assert (names(spool), spool.reused, spool.spare_files) == (["00000001.dcm", "00000002.dcm"], 0, 1)


def test_kinds_of_length_are_narrow() -> None:
    lengths = range(1, spare.LONGEST + 1, 97)
    alike: dict[int, list[int]] = {}
    for length in lengths:
        alike.setdefault(spare.kind(length), []).append(length)
    assert all(max(some) <= min(some) * 9 // 8 + 4096 for some in alike.values())
    kinds = [spare.kind(length) for length in lengths]
    assert kinds == sorted(kinds)


def test_what_becomes_spare_is_read_in_one_piece() -> None:
    assert spare.LONGEST <= reading.WHOLE


def test_long_files_are_removed(spool: LocalSpool) -> None:
    released(spool, spare.LONGEST)
    assert (names(spool), spool.spare_files, spool.files, spool.bytes) == ([], 0, 0, 0)


def test_files_and_bytes_are_bounded(spool: LocalSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare, "MOST_FILES", 3)
    made = [stored(spool) for _ in range(5)]
    for it in made:
        spool.release(it.path)
    assert (spool.spare_files, len(names(spool))) == (3, 3)
    spool.tidy(everything=True)
    monkeypatch.setattr(spare, "MOST_BYTES", 2 * spool.root.stat().st_size + 2 * SIZE)
    for it in [stored(spool) for _ in range(4)]:
        spool.release(it.path)
    assert 0 < spool.spare_bytes <= spare.MOST_BYTES
    assert len(names(spool)) == spool.spare_files < 4


def test_old_ones_go(spool: LocalSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    first = released(spool)
    monkeypatch.setattr(spare, "STAY", 0.0)
    spool.tidy()
    assert (spool.root / first.path).exists() is False
    monkeypatch.setattr(spare, "STAY", 3600.0)
    released(spool)
    spool.tidy()
    assert (names(spool), spool.spare_files) == (["00000002.dcm"], 1)
    spool.close()
    assert names(spool) == []


def test_released_twice_is_spare_once(spool: LocalSpool) -> None:
    made = released(spool)
    spool.release(made.path)
    spool.release("000000/00000009.dcm")
    assert (spool.files, spool.bytes) == (0, 0)
    again = [stored(spool, letter=letter) for letter in (b"y", b"z")]
    spool.release(made.path)
    for it, letter in zip(again, (b"y", b"z"), strict=True):
        assert_whole(spool, it, letter)
    assert spool.files == 2


# --- what is not what it was ------------------------------------------------------------------------------------------


def test_a_file_with_another_name_is_never_overwritten(spool: LocalSpool, tmp_path: Path) -> None:
    old = stored(spool)
    before = (spool.root / old.path).read_bytes()
    os.link(spool.root / old.path, tmp_path / "backup")
    spool.release(old.path)
    new = stored(spool, letter=b"y")
    assert_whole(spool, new, b"y")
    assert (tmp_path / "backup").read_bytes() == before
    assert (names(spool), spool.reused) == (["00000002.dcm"], 0)


def test_a_file_of_another_length_is_not_used(spool: LocalSpool) -> None:
    old = released(spool)
    (spool.root / old.path).write_bytes(b"somebody's")
    assert_whole(spool, stored(spool, letter=b"y"), b"y")
    assert (names(spool), spool.reused, spool.spare_files) == (["00000002.dcm"], 0, 0)


@pytest.mark.parametrize("what", ["missing", "link", "folder", "pipe"])
def test_what_is_no_file_any_more_is_not_used(spool: LocalSpool, tmp_path: Path, what: str) -> None:
    old = spool.root / released(spool).path
    old.unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"theirs")
    if what == "link":
        old.symlink_to(elsewhere)
    elif what == "folder":
        old.mkdir()
    elif what == "pipe":
        os.mkfifo(old)
    assert_whole(spool, stored(spool, letter=b"y"), b"y")
    assert elsewhere.read_bytes() == b"theirs"
    assert (old.is_dir(), spool.reused, spool.spare_files) == (what == "folder", 0, 0)


@pytest.mark.parametrize("lacking", [False, True])
def test_a_file_that_has_the_new_name_already_stays(
    spool: LocalSpool, monkeypatch: pytest.MonkeyPatch, lacking: bool
) -> None:
    if lacking:
        monkeypatch.setattr(system, "_renameat2", None)
    released(spool)
    number, path = spool.allocate()
    (spool.root / path).write_bytes(b"somebody's")
    made = image(number, path=path, data_offset=0)
    assert spool.write([(made, [bytes(SIZE)])])[number].errno == errno.EEXIST
    assert (spool.root / path).read_bytes() == b"somebody's"


def test_a_system_that_cannot_rename_so_is_asked_in_two_steps(
    spool: LocalSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> int:
        ctypes.set_errno(errno.EINVAL)
        return -1

    monkeypatch.setattr(system, "_renameat2", unknown)
    released(spool)
    assert_whole(spool, stored(spool, letter=b"y"), b"y")
    assert spool.reused == 1


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_failed_sync_removes_what_was_overwritten(spool: LocalSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    old = released(spool)
    calls = record(monkeypatch)
    calls.failing = {1: EIO}
    number, path = spool.allocate()
    assert list(spool.write([(image(number, path=path, data_offset=0), [bytes(SIZE)])])) == [number]
    assert calls.of("rename", "fdatasync", "unlink") == [
        (step, Path(path).name) for step in ("rename", "fdatasync", "unlink")
    ]
    assert spool.broken is not None
    assert (names(spool), spool.files, spool.spare_files) == ([], 0, 0)
    assert not (spool.root / old.path).exists()


def test_a_broken_spool_keeps_no_more_spare_files(spool: LocalSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    made, other = stored(spool), stored(spool, 3 * SIZE)
    calls = record(monkeypatch)
    calls.failing = {1: EIO}
    number, path = spool.allocate()
    spool.write([(image(number, path=path, data_offset=0), [b"x"])])
    spool.release(made.path)
    spool.release(other.path)
    assert (spool.broken is not None, names(spool), spool.spare_files) == (True, [], 0)


def test_a_full_disk_gets_the_spare_files_back(spool: LocalSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (SIZE, 2 * SIZE, 3 * SIZE):
        released(spool, size)
    calls = record(monkeypatch)
    calls.failing = {1: ENOSPC}
    number, path = spool.allocate()
    assert list(spool.write([(image(number, path=path, data_offset=0), [bytes(SIZE)])])) == [number]
    assert (names(spool), spool.spare_files, spool.broken) == ([], 0, None)


def test_a_full_disk_makes_a_folders_sync_fatal(spool: LocalSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever syncs the same folder next is not told again."""
    calls = record(monkeypatch)
    calls.failing = {3: ENOSPC}
    number, path = spool.allocate()
    assert list(spool.write([(image(number, path=path, data_offset=0), [bytes(SIZE)])])) == [number]
    assert calls.of("fsync") == [("fsync", "spool"), ("fsync", "000000")]
    assert spool.broken is not None


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_goes_when_its_last_spare_file_is_taken(spool: LocalSpool) -> None:
    spool.start_at(SHARD - 1)
    released(spool)
    assert [path.name for path in spool.root.iterdir()] == ["000000"]
    new = stored(spool, letter=b"y")
    assert_whole(spool, new, b"y")
    assert [path.name for path in spool.root.iterdir()] == ["000001"]


def test_a_folder_goes_with_its_last_spare_file(spool: LocalSpool) -> None:
    spool.start_at(SHARD - 1)
    first = stored(spool)
    stored(spool)
    spool.release(first.path)
    assert sorted(path.name for path in spool.root.iterdir()) == ["000000", "000001"]
    spool.tidy(everything=True)
    assert [path.name for path in spool.root.iterdir()] == ["000001"]


def test_only_the_new_names_folder_is_synced(spool: LocalSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.start_at(SHARD - 2)
    kept, first = stored(spool), stored(spool)
    spool.release(first.path)
    calls = record(monkeypatch)
    stored(spool)
    assert calls.of("rename", "fsync") == [("fsync", "spool"), ("rename", "00001000.dcm"), ("fsync", "000001")]
    assert (spool.root / kept.path).exists()


def test_a_folder_that_was_replaced_is_synced_and_not_the_old_one(
    spool: LocalSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stored(spool)
    (spool.root / "000000").rename(spool.root / "old")
    (spool.root / "000000").mkdir()
    synced: list[tuple[int, int]] = []
    fsync = os.fsync

    def noting(number: int) -> None:
        found = os.fstat(number)
        synced.append((found.st_dev, found.st_ino))
        fsync(number)

    monkeypatch.setattr(os, "fsync", noting)
    stored(spool)
    found = (spool.root / "000000").stat()
    assert synced == [(found.st_dev, found.st_ino)]
    assert (spool.root / "old" / Path(made.path).name).exists()


def test_few_folders_are_kept_open(spool: LocalSpool) -> None:
    stored(spool)
    before = len(os.listdir("/proc/self/fd"))
    for start in range(1, 20):
        spool.start_at(start * SHARD)
        stored(spool)
    assert len(os.listdir("/proc/self/fd")) - before <= 4


# --- threads ----------------------------------------------------------------------------------------------------------


def test_threads_that_write_and_release_share_the_spare_files(spool: LocalSpool) -> None:
    """Each image read back whole after the next ones have been written, nothing over anybody's else."""
    wrong: list[BaseException] = []

    def work(letter: bytes) -> None:
        try:
            for turn in range(150):
                size = SIZE + 100 * (turn % 5)
                group = [
                    image(number, path=path, data_offset=0) for number, path in (spool.allocate(), spool.allocate())
                ]
                assert spool.write([(it, [letter * size]) for it in group]) == {}
                for it in group:
                    assert_whole(spool, it, letter, size)
                    spool.release(it.path)
                if turn % 50 == 49:
                    spool.tidy(everything=True)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert spool.reused > 300
    assert (spool.files, spool.bytes, len(names(spool))) == (0, 0, spool.spare_files)
    spool.tidy(everything=True)
    assert names(spool) == []
