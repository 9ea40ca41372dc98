"""The disk that loses power: what is synced stays, what is not is lost, and a failed sync loses for good."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.power_fs import PowerDisk, Sync
from tests.support.waiting import wait_until


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[PowerDisk]:
    with PowerDisk(tmp_path / "disk") as disk:
        yield disk


def sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_file_needs_a_sync_of_itself_and_one_of_its_folder(disk: PowerDisk) -> None:
    for name in ("both", "data", "name", "none"):
        (disk.path / name).write_bytes(b"kept or not")
    sync(disk.path / "both")
    sync(disk.path)
    (disk.path / "data2").write_bytes(b"kept or not")
    sync(disk.path / "data2")
    disk.cut()
    assert names(disk.path) == ["both", "data", "name", "none"]
    assert {p.name: p.read_bytes() for p in disk.path.iterdir() if p.stat().st_size} == {"both": b"kept or not"}


def test_later_writes_and_lengths_are_lost_without_a_sync(disk: PowerDisk) -> None:
    path = disk.path / "file"
    path.write_bytes(b"0123456789")
    sync(path)
    sync(disk.path)
    with path.open("r+b") as file:
        file.write(b"abc")
        file.truncate(5)
    assert path.read_bytes() == b"abc34"
    disk.cut()
    assert path.read_bytes() == b"0123456789"


def test_new_folders_renames_links_and_removals_need_a_sync_of_the_folder(disk: PowerDisk) -> None:
    (disk.path / "old").mkdir()
    for name in ("renamed", "linked", "removed"):
        (disk.path / "old" / name).write_bytes(b"x")
    sync(disk.path / "old")
    sync(disk.path)
    (disk.path / "new").mkdir()
    sync(disk.path / "new")
    (disk.path / "old" / "renamed").rename(disk.path / "old" / "other")
    (disk.path / "old" / "removed").unlink()
    os.link(disk.path / "old" / "linked", disk.path / "old" / "second")
    before = names(disk.path / "old")
    disk.cut()
    assert names(disk.path) == ["old"]
    assert names(disk.path / "old") == ["linked", "removed", "renamed"]
    assert before == ["linked", "other", "second"]


def test_a_rename_into_another_folder_is_lost_or_kept_as_a_whole(disk: PowerDisk) -> None:
    for name in ("a", "b"):
        (disk.path / name).mkdir()
    (disk.path / "a" / "file").write_bytes(b"x")
    sync(disk.path)
    sync(disk.path / "a")
    (disk.path / "a" / "file").rename(disk.path / "b" / "file")
    sync(disk.path / "b")
    disk.cut()
    assert (names(disk.path / "a"), names(disk.path / "b")) == ([], ["file"])


def test_a_frozen_disk_refuses_every_change_and_can_still_be_read(disk: PowerDisk) -> None:
    (disk.path / "file").write_bytes(b"x")
    disk.freeze_after(2)
    with (disk.path / "file").open("ab", buffering=0) as file:
        file.write(b"1")
        file.write(b"2")
        assert not disk.frozen
        for attempt in (lambda: file.write(b"3"), lambda: os.fsync(file.fileno()), lambda: os.mkdir(disk.path / "n")):
            with pytest.raises(OSError, match="Input/output"):
                attempt()
    assert disk.frozen
    assert (disk.path / "file").read_bytes() == b"x12"
    disk.cut()
    assert not disk.frozen
    (disk.path / "file").write_bytes(b"again")


def test_torn_writes_keep_any_part_of_what_was_not_synced(disk: PowerDisk) -> None:
    path = disk.path / "file"
    path.write_bytes(b"a" * 8192)
    sync(path)
    sync(disk.path)
    seen: Counter[bytes] = Counter()
    for seed in range(12):
        with path.open("r+b") as file:
            file.write(b"b" * 16384)
        lost = disk.cut(seed)
        data = path.read_bytes()
        assert len(data) in {8192, 16384}
        assert set(data) <= set(b"ab\0")
        seen[data] += 1
        assert lost.pending >= 4
        path.write_bytes(b"a" * 8192)
        sync(path)
    assert len(seen) > 5
    assert all(any(byte in data for data in seen) for byte in b"ab\0")


def test_torn_names_keep_any_part_of_what_was_not_synced(disk: PowerDisk) -> None:
    seen = set()
    for seed in range(6):
        for n in range(8):
            (disk.path / f"{seed}-{n}").write_bytes(b"x")
        disk.cut(seed)
        seen.add(sum(name.startswith(f"{seed}-") for name in names(disk.path)))
    assert len(seen) > 2


def test_a_synced_file_is_never_torn(disk: PowerDisk) -> None:
    path = disk.path / "file"
    content = os.urandom(50_000)
    path.write_bytes(content)
    sync(path)
    sync(disk.path)
    for seed in range(8):
        (disk.path / "other").write_bytes(b"x" * 10_000)
        disk.cut(seed)
        assert path.read_bytes() == content


def test_what_a_failed_sync_should_have_saved_is_lost_though_the_next_one_succeeds(disk: PowerDisk) -> None:
    path = disk.path / "file"
    path.write_bytes(b"first")
    sync(path)
    sync(disk.path)
    disk.fail_sync("/file")
    with path.open("r+b") as one, path.open("rb") as other:
        one.write(b"never")
        one.flush()
        for file in (one, other):  # each that was open is told once
            with pytest.raises(OSError, match="Input/output") as caught:
                os.fsync(file.fileno())
            assert caught.value.errno == errno.EIO
        os.fsync(one.fileno())
    assert path.read_bytes() == b"never"
    number = path.stat().st_ino
    assert disk.syncs("/f*")[-3:] == [Sync("/file", number, good) for good in (False, False, True)]
    disk.cut()
    assert path.read_bytes() == b"first"


def test_the_nth_sync_of_a_folder_fails(disk: PowerDisk) -> None:
    disk.fail_sync("/", nth=2)
    sync(disk.path)
    (disk.path / "lost").write_bytes(b"")
    with pytest.raises(OSError, match="Input/output"):
        sync(disk.path)
    (disk.path / "kept").write_bytes(b"")
    sync(disk.path)
    assert names(disk.path) == ["kept", "lost"]
    disk.cut()
    assert names(disk.path) == ["kept"]


@pytest.mark.parametrize("seed", [None, *range(4)])
def test_sqlite_keeps_what_was_committed_and_loses_it_without_synchronous_full(
    disk: PowerDisk, seed: int | None
) -> None:
    for mode, expected in (("FULL", 40), ("NORMAL", 0)):
        path = disk.path / f"{mode}.db"
        connection = sqlite3.connect(path, isolation_level=None)
        assert connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
        connection.execute(f"PRAGMA synchronous = {mode}")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        sync(disk.path)
        for n in range(40):
            connection.execute("INSERT INTO t VALUES (?)", (bytes(1000) + bytes([n]),))
        disk.freeze()
        connection.close()
        disk.cut(seed)
        connection = sqlite3.connect(path)
        (count,) = connection.execute("SELECT count(*) FROM t").fetchone()
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
        assert count == expected if seed is None or mode == "FULL" else count <= 40


def test_a_mount_namespace_that_has_a_copy_does_not_keep_the_disk(disk: PowerDisk) -> None:
    """Other tests on this machine may make some at any time."""
    (disk.path / "file").write_bytes(b"x")
    holder = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdin
        assert holder.stdout
        holder.stdin.write(b"there")
        holder.stdin.flush()
        assert os.read(holder.stdout.fileno(), 5) == b"there"
        disk.cut()
        assert names(disk.path) == []
        holder.stdin.close()


def test_the_disk_goes_when_its_owner_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    disk = PowerDisk(path)
    number = os.open(path / "open", os.O_CREAT | os.O_WRONLY)
    try:
        assert os.path.ismount(path)
        os.kill(disk._process.pid, signal.SIGKILL)
        wait_until(lambda: not os.path.ismount(path), 20, "unmounted after its process was killed")
    finally:
        with suppress(OSError):
            os.close(number)
        disk.close()
