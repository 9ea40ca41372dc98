"""The local spool: the order of its syncs, and what it does when the disk fails it."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Instance
from asyncroute.core.numbered import SHARD
from asyncroute.spool.kept import IOV_MAX, write_all
from asyncroute.spool.local import LocalSpool
from tests.contract.made import image
from tests.unit.spool.recording import EIO, ENOSPC, record, short_writes


def fresh(spool: LocalSpool, count: int = 1) -> list[Instance]:
    """New images."""
    return [image(number, path=path, data_offset=0) for number, path in (spool.allocate() for _ in range(count))]


def write(spool: LocalSpool, images: Sequence[Instance], size: int = 100) -> dict[int, StorageFault]:
    """Write a group."""
    return spool.write([(it, [b"x" * size]) for it in images])


def files(spool: LocalSpool) -> list[int]:
    """The ids of the files that are there."""
    return sorted(int(path.stem) for path in spool.root.glob("*/*"))


def descriptors() -> int:
    """Open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


# --- order ------------------------------------------------------------------------------------------------------------


def test_a_group_is_written_then_synced_then_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = LocalSpool(tmp_path / "spool")
    calls = record(monkeypatch)
    assert write(spool, fresh(spool, 3)) == {}
    names = [f"0000000{n}.dcm" for n in (1, 2, 3)]
    assert calls.steps == [
        ("mkdir", "000000"),
        ("fsync", "spool"),
        *(step for name in names for step in (("create", name), ("write", name))),
        *(("fdatasync", name) for name in names),
        ("fsync", "000000"),
    ]
    calls.steps.clear()
    assert write(spool, fresh(spool, 1)) == {}
    assert calls.of("mkdir", "fsync") == [("fsync", "000000")]


def test_a_group_over_two_folders_syncs_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = LocalSpool(tmp_path / "spool")
    spool.start_at(SHARD - 2)
    calls = record(monkeypatch)
    assert write(spool, fresh(spool, 5)) == {}
    assert calls.of("fsync") == [("fsync", "spool"), ("fsync", "spool"), ("fsync", "000000"), ("fsync", "000001")]
    assert calls.steps.index(("mkdir", "000001")) < calls.steps.index(("create", "00001000.dcm"))


def test_a_streamed_file_is_synced_before_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = LocalSpool(tmp_path / "spool")
    (large,) = fresh(spool)
    calls = record(monkeypatch)
    incoming = spool.incoming(large)
    for _ in range(5):
        incoming.append([bytes(5 << 20)])
    incoming.finish()
    assert spool.write([(large, ())]) == {}
    name = "00000001.dcm"
    assert calls.steps == [
        ("mkdir", "000000"),
        ("fsync", "spool"),
        ("create", name),
        *[("write", name)] * 5,
        ("fdatasync", name),
        ("write", name),
        ("write", name),
        ("fdatasync", name),
        ("fsync", "000000"),
    ]


def test_names_of_an_earlier_process_are_synced_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = record(monkeypatch)
    LocalSpool(tmp_path / "data" / "spool")
    assert calls.of("fsync") == [("fsync", "spool"), ("fsync", "data"), ("fsync", tmp_path.name)]


def test_process_crash_syncs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = record(monkeypatch)
    spool = LocalSpool(tmp_path / "spool", "process-crash")
    assert write(spool, fresh(spool, 3)) == {}
    (large,) = fresh(spool)
    incoming = spool.incoming(large)
    incoming.append([bytes(20 << 20)])
    incoming.finish()
    assert spool.write([(large, ())]) == {}
    assert calls.of("fsync", "fdatasync") == []
    assert files(spool) == [1, 2, 3, 4]


# --- failing syncs ----------------------------------------------------------------------------------------------------


def test_a_failed_file_sync_fails_what_is_not_yet_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = LocalSpool(tmp_path / "spool")
    write(spool, fresh(spool))
    before = descriptors()
    calls = record(monkeypatch)
    calls.failing = {2: EIO}
    images = fresh(spool, 4)
    failed = write(spool, images)
    assert sorted(failed) == [it.id for it in images]
    assert {fault.errno for fault in failed.values()} == {EIO}
    assert calls.of("fdatasync") == [("fdatasync", "00000002.dcm"), ("fdatasync", "00000003.dcm")]
    assert calls.of("fsync") == []
    assert files(spool) == [1]
    assert (spool.files, descriptors()) == (1, before)


def test_after_a_failed_sync_nothing_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = LocalSpool(tmp_path / "spool")
    calls = record(monkeypatch)
    calls.failing = {2: EIO}
    first, second, third = fresh(spool, 3)
    assert list(write(spool, [first])) == [first.id]
    assert spool.broken is not None
    assert "restart" in spool.broken
    assert "\n" not in spool.broken
    before = list(calls.steps)
    assert list(write(spool, [second])) == [second.id]
    with pytest.raises(StorageFault, match="restart"):
        spool.incoming(third)
    assert calls.steps == before
    assert files(spool) == []


def test_after_a_failed_folder_sync_no_other_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = LocalSpool(tmp_path / "spool")
    spool.start_at(SHARD - 2)
    write(spool, fresh(spool, 1))
    calls = record(monkeypatch)
    images = fresh(spool, 3)
    calls.failing = {5: EIO}  # the new folder's name, three files, then the first folder
    failed = write(spool, images)
    assert list(failed) == [SHARD - 1, SHARD, SHARD + 1]
    assert spool.broken is not None
    assert calls.syncs == 5
    assert files(spool) == [SHARD - 2]
    assert spool.files == 1


def test_another_threads_group_is_not_called_safe_after_a_failed_folder_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second sync would succeed: Linux tells of lost writes once."""
    spool = LocalSpool(tmp_path / "spool")
    write(spool, fresh(spool))
    calls = record(monkeypatch)
    calls.failing = {2: EIO}
    (large,) = fresh(spool)
    with monkeypatch.context() as patch:  # the other group fails between this one's file and its folder
        close = os.close

        def close_late(number: int) -> None:
            patch.undo()
            write(spool, fresh(spool))
            close(number)

        patch.setattr(os, "close", close_late)
        failed = write(spool, [large])
    assert list(failed) == [large.id]
    assert calls.syncs == 2


def test_a_failed_sync_of_a_new_folders_name_fails_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = LocalSpool(tmp_path / "spool")
    calls = record(monkeypatch)
    calls.failing = {1: EIO}
    (one,) = fresh(spool)
    assert list(write(spool, [one])) == [one.id]
    assert calls.of("create") == []
    assert spool.broken is not None


def test_a_failed_folder_sync_removes_a_streamed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = LocalSpool(tmp_path / "spool")
    (large,) = fresh(spool)
    incoming = spool.incoming(large)
    incoming.append([b"large"])
    incoming.finish()
    assert spool.files == 1
    calls = record(monkeypatch)
    calls.failing = {1: EIO}
    assert list(spool.write([(large, ())])) == [large.id]
    assert (files(spool), spool.files, spool.bytes) == ([], 0, 0)


def test_a_failed_sync_while_streaming_breaks_the_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = LocalSpool(tmp_path / "spool")
    (large,) = fresh(spool)
    incoming = spool.incoming(large)
    calls = record(monkeypatch)
    calls.failing = {1: EIO}
    with pytest.raises(StorageFault, match="Input/output"):
        incoming.append([bytes(16 << 20)])
    assert spool.broken is not None
    incoming.abandon()
    assert files(spool) == []


def test_no_space_at_a_sync_fails_the_group_but_not_the_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = LocalSpool(tmp_path / "spool")
    write(spool, fresh(spool))
    calls = record(monkeypatch)
    calls.failing = {1: ENOSPC}
    images = fresh(spool, 2)
    assert sorted(write(spool, images)) == [it.id for it in images]
    assert spool.broken is None
    assert write(spool, fresh(spool)) == {}


# --- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 7, 450, 1000])
def test_short_writes_are_carried_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    spool = LocalSpool(tmp_path / "spool", "process-crash")
    short_writes(monkeypatch, most)
    (one,) = fresh(spool)
    parts = [bytes([n % 251]) * (n % 9) for n in range(1500)]
    assert spool.write([(one, parts)]) == {}
    spool.verify(one.path, one.data_offset, one.size, one.checksum)
    assert spool.read(one.path, one.data_offset, one.size) == b"".join(parts)


@pytest.mark.parametrize("count", [IOV_MAX - 1, IOV_MAX, IOV_MAX + 1, 3 * IOV_MAX + 5])
def test_more_slices_than_one_call_takes(tmp_path: Path, count: int) -> None:
    with (tmp_path / "file").open("wb") as file:
        assert write_all(file.fileno(), [b"%d," % n for n in range(count)]) == file.tell()
    assert (tmp_path / "file").read_bytes() == b"".join(b"%d," % n for n in range(count))


def test_a_system_that_writes_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "writev", lambda number, parts: 0)
    spool = LocalSpool(tmp_path / "spool")
    (one,) = fresh(spool)
    assert write(spool, [one])[one.id].errno == EIO


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes: the system writes in part, then refuses (EFBIG)."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def test_one_image_that_cannot_be_written_fails_alone(tmp_path: Path) -> None:
    spool = LocalSpool(tmp_path / "spool", kept=0)
    before = descriptors()
    small, large, last = fresh(spool, 3)
    with largest_file(100_000):
        failed = spool.write([(small, [b"x"]), (large, [bytes(99_000), bytes(99_000)]), (last, [b"y"])])
    assert (list(failed), failed[large.id].errno) == ([large.id], errno.EFBIG)
    assert "000000/00000002.dcm" in str(failed[large.id])
    assert (files(spool), spool.files, descriptors()) == ([1, 3], 2, before + 1)  # that of the folder
    assert spool.broken is None


def test_one_image_that_cannot_be_described_fails_alone(tmp_path: Path) -> None:
    spool = LocalSpool(tmp_path / "spool", kept=0)
    before = descriptors()
    first, odd, last = fresh(spool, 3)
    odd.sop_instance_uid = "1" * 70_000  # longer than an element of File Meta can be
    assert list(write(spool, [first, odd, last])) == [odd.id]
    with pytest.raises(StorageFault, match="writing"):
        spool.incoming(odd)
    assert (files(spool), spool.files, descriptors()) == ([1, 3], 2, before + 1)  # that of the folder


def test_a_file_says_itself_which_image_it_is(tmp_path: Path) -> None:
    spool = LocalSpool(tmp_path / "spool")
    one, two = fresh(spool, 2)
    write(spool, [one])
    (spool.root / one.path).rename(spool.root / two.path)
    facts = spool.facts(two.path)
    assert facts is not None
    assert facts.instance_id == one.id


def test_a_stream_that_cannot_be_written_is_abandoned(tmp_path: Path) -> None:
    spool = LocalSpool(tmp_path / "spool")
    before = descriptors()
    (large,) = fresh(spool)
    incoming = spool.incoming(large)
    with largest_file(100_000), pytest.raises(StorageFault, match="too large"):
        incoming.append([bytes(200_000)])
    incoming.abandon()
    assert (files(spool), spool.files, descriptors()) == ([], 0, before)


def test_a_stream_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    spool = LocalSpool(tmp_path / "spool")
    before = descriptors()
    (large,) = fresh(spool)
    with largest_file(100), pytest.raises(StorageFault, match="too large"):
        spool.incoming(large)
    assert (files(spool), descriptors()) == ([], before)


def test_an_image_whose_file_exists_fails_and_the_file_stays(tmp_path: Path) -> None:
    spool = LocalSpool(tmp_path / "spool")
    one, two = fresh(spool, 2)
    spool.root.joinpath(one.path).parent.mkdir()
    spool.root.joinpath(one.path).write_bytes(b"somebody's")
    failed = write(spool, [one, two])
    assert failed[one.id].errno == errno.EEXIST
    assert spool.root.joinpath(one.path).read_bytes() == b"somebody's"
    assert files(spool) == [1, 2]


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    spool = LocalSpool(tmp_path / "spool")
    (one,) = fresh(spool)
    spool.root.joinpath(one.path).parent.mkdir()
    spool.root.joinpath(one.path).symlink_to(tmp_path / "elsewhere")
    assert list(write(spool, [one])) == [one.id]
    assert not (tmp_path / "elsewhere").exists()


# --- folders and counts -----------------------------------------------------------------------------------------------


def test_old_empty_folders_go(tmp_path: Path) -> None:
    spool = LocalSpool(tmp_path / "spool", "process-crash")
    for start in (SHARD - 1, 2 * SHARD - 1, 3 * SHARD - 1):
        spool.start_at(start)
        images = fresh(spool, 2)
        assert write(spool, images) == {}
        for it in images:
            spool.remove(it.path)
    assert sorted(path.name for path in spool.root.iterdir()) == ["000003"]


def test_folders_left_empty_by_an_earlier_process_go(tmp_path: Path) -> None:
    first = LocalSpool(tmp_path / "spool", "process-crash")
    (one,) = fresh(first)
    write(first, [one])
    first.remove(one.path)
    spool = LocalSpool(tmp_path / "spool", "process-crash")
    assert list(spool.sweep()) == []
    spool.start_at(SHARD)
    assert write(spool, fresh(spool)) == {}
    assert [path.name for path in spool.root.iterdir()] == ["000001"]


def test_a_folder_removed_under_us_is_made_again(tmp_path: Path) -> None:
    spool = LocalSpool(tmp_path / "spool")
    one, two = fresh(spool, 2)
    write(spool, [one])
    spool.remove(one.path)
    (spool.root / "000000").rmdir()
    assert write(spool, [two]) == {}
    assert files(spool) == [2]


def test_strange_names_are_left_alone(tmp_path: Path) -> None:
    spool = LocalSpool(tmp_path / "spool")
    write(spool, fresh(spool))
    strange = ["lost+found/x", "000001x/00001001.dcm", "note"]
    strange += [f"000000/{name}" for name in ("1.dcm", "00000001.dcm~", "00001001.dcm")]
    for name in strange:
        path = spool.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"?")
    assert [found.path for found in spool.sweep()] == ["000000/00000001.dcm"]
    assert spool.files == 1
    assert all((spool.root / name).exists() for name in strange)


def test_orphans_are_never_overwritten(tmp_path: Path) -> None:
    for n in range(3):
        spool = LocalSpool(tmp_path / "spool")
        (one,) = fresh(spool)
        spool.write([(one, [b"%d" % n])])
        spool.set_aside(one.path)
    orphans = sorted((tmp_path / "orphans").iterdir())
    assert [path.name for path in orphans] == ["00000001.dcm", "00000001.dcm.1", "00000001.dcm.2"]
    assert [path.read_bytes()[-1:] for path in orphans] == [b"0", b"1", b"2"]


def test_files_are_private(tmp_path: Path) -> None:
    spool = LocalSpool(tmp_path / "spool")
    (one,) = fresh(spool)
    write(spool, [one])
    paths = [spool.root / one.path, (spool.root / one.path).parent, spool.root]
    assert [path.stat().st_mode & 0o077 for path in paths] == [0, 0, 0]


def test_a_spool_that_cannot_be_made_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFault, match="file/spool"):
        LocalSpool(tmp_path / "file" / "spool")


def test_closing_twice_is_fine(tmp_path: Path) -> None:
    before = descriptors()
    spool = LocalSpool(tmp_path / "spool")
    spool.close()
    spool.close()
    assert descriptors() == before


def test_odd_text_in_the_source_is_kept_in_the_file(tmp_path: Path) -> None:
    spool = LocalSpool(tmp_path / "spool")
    (one,) = fresh(spool)
    odd = image(one.id, path=one.path, data_offset=0)
    odd.source = type(odd.source)("Mül\udcff", "x" * 5000, "", "\0\n")
    assert spool.write([(odd, [b"data set"])]) == {}
    facts = spool.facts(odd.path)
    assert facts is not None
    assert facts.source == type(odd.source)("Mül\\udcff", "x" * 1024, "", "\0\n")
