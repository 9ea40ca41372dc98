"""Files of released images are overwritten by new ones: which, how, and when not."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncroute.core.model import Instance
from asyncroute.core.numbered import SHARD
from asyncroute.forward import reading
from asyncroute.spool import spare
from asyncroute.spool.local import LocalSpool
from asyncroute.transform.pixels import convert
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
    leave(spool, made)
    return made


def leave(spool: LocalSpool, *done: Instance) -> None:
    """These are done, and the journal knows."""
    spool.spare([it.path for it in done if spool.release(it.path, it.id)])


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
    assert (new.path, names(spool)) == (old.path, ["00000001.dcm"])
    assert (spool.reused, spool.spare_files, spool.spare_bytes) == (1, 0, 0)
    assert (spool.files, spool.bytes) == (1, new.data_offset + size)


def test_it_is_the_same_file(spool: LocalSpool) -> None:
    old = stored(spool)
    before = inode(spool, old)
    leave(spool, old)
    assert inode(spool, stored(spool)) == before


def test_nothing_is_written_over_before_the_journal_knows(spool: LocalSpool) -> None:
    old = stored(spool)
    assert spool.release(old.path, old.id)
    assert (spool.files, spool.spare_files) == (0, 1)
    second = stored(spool, letter=b"y")
    assert (spool.reused, second.path) == (0, "000000/00000002.dcm")
    spool.spare([old.path])
    assert stored(spool, letter=b"z").path == old.path
    assert_whole(spool, second, b"y")


@pytest.mark.parametrize("kept", [True, False])
def test_the_order_of_an_overwritten_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    spool = LocalSpool(tmp_path / "spool", kept=8 if kept else 0)
    leave(spool, *(stored(spool) for _ in range(2)))
    calls = record(monkeypatch)
    group = [image(number, path=path, data_offset=0) for number, path in (spool.allocate() for _ in range(2))]
    assert spool.write([(it, [bytes(SIZE - 100)]) for it in group]) == {}
    files = [Path(it.path).name for it in group]
    assert sorted(files) == ["00000001.dcm", "00000002.dcm"]
    before = () if kept else ("reopen",)
    assert calls.steps == [
        *((step, name) for name in files for step in (*before, "write", "truncate")),
        *(("fdatasync", name) for name in files),
    ]
    spool.close()


def test_new_files_and_used_ones_in_a_group(spool: LocalSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    released(spool)
    calls = record(monkeypatch)
    group = [image(number, path=path, data_offset=0) for number, path in (spool.allocate() for _ in range(2))]
    assert spool.write([(it, [bytes(SIZE)]) for it in group]) == {}
    assert [it.path for it in group] == ["000000/00000001.dcm", "000000/00000003.dcm"]
    assert calls.of("create", "fdatasync", "fsync") == [
        ("create", "00000003.dcm"),
        ("fdatasync", "00000001.dcm"),
        ("fdatasync", "00000003.dcm"),
        ("fsync", "000000"),
    ]


def test_releasing_makes_no_call(spool: LocalSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stored(spool)
    calls = record(monkeypatch)
    spool.release(made.path, made.id)
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


def test_what_becomes_spare_is_looked_at_once_more_when_it_was_converted() -> None:
    assert spare.LONGEST <= convert.USED_AGAIN


def test_long_files_are_removed(spool: LocalSpool) -> None:
    released(spool, spare.LONGEST)
    assert (names(spool), spool.spare_files, spool.files, spool.bytes) == ([], 0, 0, 0)


def test_files_and_bytes_are_bounded(spool: LocalSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare, "MOST_FILES", 3)
    made = [stored(spool) for _ in range(5)]
    leave(spool, *made)
    assert (spool.spare_files, len(names(spool))) == (3, 3)
    spool.tidy(everything=True)
    monkeypatch.setattr(spare, "MOST_BYTES", 2 * spool.root.stat().st_size + 2 * SIZE)
    leave(spool, *(stored(spool) for _ in range(4)))
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
    made = stored(spool)
    assert spool.release(made.path, made.id)
    spool.spare([made.path, made.path, "000000/00000009.dcm", "nonsense"])
    spool.spare([made.path])
    assert (spool.files, spool.bytes, spool.spare_files) == (0, 0, 1)
    again = [stored(spool, letter=letter) for letter in (b"y", b"z")]
    for it, letter in zip(again, (b"y", b"z"), strict=True):
        assert_whole(spool, it, letter)
    assert (spool.files, len(names(spool))) == (2, 2)


def test_what_is_not_there_is_not_spare(spool: LocalSpool) -> None:
    made = stored(spool)
    (spool.root / made.path).unlink()
    spool.remove(made.path)
    assert not spool.release(made.path, made.id)
    assert not spool.release("000000/00000009.dcm", 9)
    assert (spool.files, spool.spare_files) == (0, 0)


# --- what is not what it was ------------------------------------------------------------------------------------------


def test_a_file_with_another_name_is_never_overwritten(spool: LocalSpool, tmp_path: Path) -> None:
    old = stored(spool)
    before = (spool.root / old.path).read_bytes()
    os.link(spool.root / old.path, tmp_path / "backup")
    leave(spool, old)
    new = stored(spool, letter=b"y")
    assert_whole(spool, new, b"y")
    assert (tmp_path / "backup").read_bytes() == before
    assert (names(spool), spool.reused) == (["00000002.dcm"], 0)


def test_a_file_of_another_length_is_not_used(spool: LocalSpool) -> None:
    old = released(spool)
    (spool.root / old.path).write_bytes(b"somebody's")
    assert_whole(spool, stored(spool, letter=b"y"), b"y")
    assert (names(spool), spool.reused, spool.spare_files) == (["00000002.dcm"], 0, 0)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("what", ["missing", "link", "folder", "pipe", "another"])
def test_what_is_no_file_any_more_is_not_used(spool: LocalSpool, tmp_path: Path, what: str, kept: bool) -> None:
    if not kept:
        spool.keep_open(0)
    first = released(spool)
    old = spool.root / first.path
    old.unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"theirs")
    if what == "link":
        old.symlink_to(elsewhere)
    elif what == "folder":
        old.mkdir()
    elif what == "pipe":
        os.mkfifo(old)
    elif what == "another":
        old.write_bytes(bytes(first.data_offset + SIZE))
    assert_whole(spool, stored(spool, letter=b"y"), b"y")
    assert elsewhere.read_bytes() == b"theirs"
    used = what == "another" and not kept
    assert (old.is_dir(), spool.reused, spool.spare_files) == (what == "folder", int(used), 0)


def test_a_file_that_has_the_new_name_already_stays(spool: LocalSpool) -> None:
    number, path = spool.allocate()
    (spool.root / path).parent.mkdir()
    (spool.root / path).write_bytes(b"somebody's")
    made = image(number, path=path, data_offset=0)
    assert spool.write([(made, [bytes(SIZE)])])[number].errno == errno.EEXIST
    assert (spool.root / path).read_bytes() == b"somebody's"


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_failed_sync_removes_what_was_overwritten(spool: LocalSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    old = released(spool)
    calls = record(monkeypatch)
    calls.failing = {1: EIO}
    number, path = spool.allocate()
    assert list(spool.write([(image(number, path=path, data_offset=0), [bytes(SIZE)])])) == [number]
    assert calls.of("fdatasync", "unlink") == [(step, Path(old.path).name) for step in ("fdatasync", "unlink")]
    assert spool.broken is not None
    assert (names(spool), spool.files, spool.spare_files) == ([], 0, 0)
    assert not (spool.root / old.path).exists()


def test_a_broken_spool_keeps_no_more_spare_files(spool: LocalSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    made, other = stored(spool), stored(spool, 3 * SIZE)
    calls = record(monkeypatch)
    calls.failing = {1: EIO}
    number, path = spool.allocate()
    spool.write([(image(number, path=path, data_offset=0), [b"x"])])
    spool.release(made.path, made.id)
    spool.release(other.path, other.id)
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


def test_a_folder_stays_for_what_is_written_over_its_last_file(spool: LocalSpool) -> None:
    spool.start_at(SHARD - 1)
    released(spool)
    new = stored(spool, letter=b"y")
    assert_whole(spool, new, b"y")
    kept = stored(spool)
    assert sorted(path.name for path in spool.root.iterdir()) == ["000000", "000001"]
    spool.remove(new.path)
    assert [path.name for path in spool.root.iterdir()] == ["000001"]
    assert_whole(spool, kept, b"x")


def test_a_folder_goes_with_its_last_spare_file(spool: LocalSpool) -> None:
    spool.start_at(SHARD - 1)
    first = stored(spool)
    stored(spool)
    leave(spool, first)
    assert sorted(path.name for path in spool.root.iterdir()) == ["000000", "000001"]
    spool.tidy(everything=True)
    assert [path.name for path in spool.root.iterdir()] == ["000001"]


def test_a_folder_goes_with_the_spare_file_that_was_no_good(spool: LocalSpool) -> None:
    spool.start_at(SHARD - 1)
    old = released(spool)
    (spool.root / old.path).write_bytes(b"somebody's")
    stored(spool)
    assert [path.name for path in spool.root.iterdir()] == ["000001"]


def test_only_new_names_folders_are_synced(spool: LocalSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.start_at(SHARD - 2)
    kept, first = stored(spool), stored(spool)
    leave(spool, first)
    calls = record(monkeypatch)
    stored(spool)
    assert calls.of("fsync") == []
    stored(spool)
    assert calls.of("fsync") == [("fsync", "spool"), ("fsync", "000001")]
    assert (spool.root / kept.path).exists()


def test_the_folder_of_a_file_that_another_run_left_is_synced_once(
    spool: LocalSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That run may not have synced it (durability = "process-crash")."""
    left = [stored(spool) for _ in range(3)]
    assert [it.number for it in spool.sweep()] == [1, 2, 3]
    leave(spool, *left)
    calls = record(monkeypatch)
    stored(spool)
    assert calls.of("fdatasync", "fsync") == [("fdatasync", "00000003.dcm"), ("fsync", "000000")]
    stored(spool)
    assert calls.of("fsync") == [("fsync", "000000")]


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
    spool.keep_open(0)
    stored(spool)
    before = len(os.listdir("/proc/self/fd"))
    for start in range(1, 20):
        spool.start_at(start * SHARD)
        stored(spool)
    assert len(os.listdir("/proc/self/fd")) - before <= 4


# --- descriptors ------------------------------------------------------------------------------------------------------


def open_files(spool: LocalSpool) -> int:
    """Descriptors of images' files."""
    links = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/self/fd/{number}"))
    return sum(link.startswith(str(spool.root)) and ".dcm" in link for link in links)


def test_descriptors_are_kept_up_to_a_number(spool: LocalSpool) -> None:
    spool.keep_open(3)
    made = [stored(spool, letter=b"%d" % turn) for turn in range(5)]
    assert open_files(spool) == 3
    leave(spool, *made)
    for turn in range(5):
        assert_whole(spool, stored(spool, letter=b"%d" % turn), b"%d" % turn)
    assert (spool.reused, open_files(spool)) == (5, 3)
    spool.keep_open(1)
    assert open_files(spool) == 1


def test_no_descriptor_stays_open_of_a_file_that_has_gone(spool: LocalSpool, tmp_path: Path) -> None:
    removed, aside, spare_one = stored(spool), stored(spool), stored(spool)
    spool.remove(removed.path)
    spool.set_aside(aside.path)
    leave(spool, spare_one)
    assert open_files(spool) == 1
    spool.tidy(everything=True)
    assert open_files(spool) == 0
    stored(spool, spare.LONGEST + 1)
    assert open_files(spool) == 0


def test_no_descriptor_is_kept_for_long(spool: LocalSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [stored(spool) for _ in range(3)]
    spool.tidy()
    assert (spool.open_files, open_files(spool)) == (3, 3)
    monkeypatch.setattr(spare, "STAY", 0.0)
    spool.tidy()
    assert (spool.open_files, open_files(spool), spool.files) == (0, 0, 3)
    leave(spool, *made)
    assert_whole(spool, stored(spool, letter=b"y"), b"y")
    assert (spool.reused, spool.open_files) == (1, 1)


@pytest.mark.parametrize("code", [EIO, ENOSPC])
def test_no_descriptor_stays_open_of_a_file_that_failed(
    spool: LocalSpool, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    released(spool)
    calls = record(monkeypatch)
    calls.failing = {1: code, 2: code}
    number, path = spool.allocate()
    assert list(spool.write([(image(number, path=path, data_offset=0), [bytes(SIZE)])])) == [number]
    assert (open_files(spool), names(spool)) == (0, [])


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
                    leave(spool, it)
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
