"""The journal's folder: local, locked, private."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from asyncroute.core.errors import StorageFault
from asyncroute.journal.place import Lock, file_system, make_private, refuse_network
from asyncroute.journal.sqlite import SqliteJournal

ROOT = Path(__file__).resolve().parents[3]

MOUNTS = r"""22 27 0:21 / / rw,relatime - ext4 /dev/vda rw
23 22 0:22 / /proc rw,relatime shared:5 - proc proc rw
30 22 0:40 / /mnt/nas rw,relatime - nfs4 nas:/export rw
31 30 8:1 / /mnt/nas/local rw,relatime - xfs /dev/sdb1 rw
32 22 0:41 / /mnt/my\040share rw - cifs //server/share rw
33 22 0:42 / /mnt/caf\303\251 rw - fuse.sshfs host:/ rw
34 22 0:43 / /mnt/fuse rw - fuse.power fuse rw
35 22 0:44 / /mnt/over rw - ext4 /dev/sdc rw
36 22 0:45 / /mnt/over rw - nfs nas:/over rw
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/var/lib", "ext4"),
        ("/mnt/nas", "nfs4"),
        ("/mnt/nas/deep/er", "nfs4"),
        ("/mnt/nas/local/x", "xfs"),
        ("/mnt/nasty", "ext4"),
        ("/mnt/my share/x", "cifs"),
        ("/mnt/café/x", "fuse.sshfs"),
        ("/mnt/fuse", "fuse.power"),
        ("/mnt/over/x", "nfs"),
    ],
)
def test_file_system(mounts: Path, path: str, kind: str) -> None:
    assert file_system(Path(path), mounts) == kind


@pytest.mark.parametrize("path", ["/mnt/nas/x", "/mnt/my share", "/mnt/café", "/mnt/over"])
def test_network_file_systems_are_refused(mounts: Path, path: str) -> None:
    with pytest.raises(StorageFault, match="network file system") as caught:
        refuse_network(Path(path), mounts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["/srv", "/mnt/nas/local", "/mnt/fuse"])
def test_local_file_systems_are_fine(mounts: Path, path: str) -> None:
    refuse_network(Path(path), mounts)


def test_this_machines_mounts_can_be_read(tmp_path: Path) -> None:
    assert file_system(tmp_path.resolve())
    refuse_network(tmp_path)


def test_folders_are_made_private(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    make_private(folder)
    make_private(folder)
    assert [stat.st_mode & 0o777 for stat in (folder.stat(), folder.parent.stat())] == [0o700, 0o700]


def test_a_folder_that_cannot_be_made_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFault, match="cannot be made"):
        make_private(tmp_path / "file" / "below")


def test_nothing_of_the_journal_is_readable_by_others(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path / "data")
    modes = {path.name: path.stat().st_mode & 0o077 for path in (tmp_path / "data").iterdir()}
    journal.close()
    assert {"journal.db", "journal.db-wal", "lock"} <= set(modes)
    assert set(modes.values()) == {0}


# --- one process at a time --------------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from asyncroute.journal.sqlite import SqliteJournal
journal = SqliteJournal.open(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    """Another process that has the journal of ``folder`` open."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def test_a_second_process_is_refused_by_name(tmp_path: Path) -> None:
    with hold(tmp_path) as other:
        with pytest.raises(StorageFault, match=rf"in use by another asyncroute \(process {other.pid}\)") as caught:
            SqliteJournal.open(tmp_path)
        assert "\n" not in str(caught.value)
        other.kill()


def test_a_killed_process_gives_the_folder_free(tmp_path: Path) -> None:
    with hold(tmp_path) as other:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    SqliteJournal.open(tmp_path).close()


def test_a_second_opening_in_one_process_is_refused(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path)
    with pytest.raises(StorageFault, match=f"process {os.getpid()}"):
        SqliteJournal.open(tmp_path)
    journal.close()
    SqliteJournal.open(tmp_path).close()


def test_a_failed_opening_gives_the_folder_free(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StorageFault, match="damaged"):
        SqliteJournal.open(tmp_path)
    (tmp_path / "journal.db").unlink()
    SqliteJournal.open(tmp_path).close()


def test_a_lock_file_that_cannot_be_made_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(StorageFault, match="directory"):
        Lock(tmp_path)


def test_closing_a_lock_twice_is_fine(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    lock.close()
    lock.close()
    assert Lock(tmp_path).path == tmp_path / "lock"


def test_what_could_not_be_made_whole_is_taken_back(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"")
    with pytest.raises(StorageFault, match="cannot be made"):
        make_private(tmp_path / "a" / "file" / "data")
    with pytest.raises(StorageFault, match="cannot be made"):
        make_private(tmp_path / "b" / ("x" * 300))
    assert not (tmp_path / "b").exists()
