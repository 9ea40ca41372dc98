"""The folder that holds a journal: local, ours alone, private.

Guarantees: one process at a time (``flock`` on ``data_dir/lock``, which the kernel frees when its holder dies); never
on a network file system, whose locks and syncs a journal cannot build on.
Failures: each is a one-line ``StorageFault``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from asyncroute.core.errors import StorageFault
from asyncroute.durable import sync_folder
from asyncroute.journal.values import as_text

SYNCHRONOUS = {"power-loss": ("FULL", 2), "process-crash": ("NORMAL", 1)}
"""SQLite's word and number for each ``durability``."""

# fmt: off
_NETWORK = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "9p", "afs", "ceph", "lustre", "beegfs",
        "gpfs", "gfs", "gfs2", "ocfs2", "pvfs2", "orangefs", "glusterfs", "coda", "davfs",
    }
)
_NETWORK_FUSE = frozenset(
    {
        "sshfs", "glusterfs", "ceph", "ceph-fuse", "s3fs", "rclone", "davfs", "gcsfuse", "blobfuse",
        "curlftpfs", "juicefs", "moosefs", "mfs", "smbnetfs", "goofys", "mount-s3",
    }
)
"""Types of file systems, as mountinfo has them; below FUSE without "fuse."."""
# fmt: on


def uri_of(path: Path, mode: str = "mode=ro") -> str:
    """The name of a database's file for SQLite, with how to open it."""
    return f"file:{quote(os.fsencode(path.absolute()))}?{mode}"


def read_only(path: Path, lock_wait: float = 5.0, mode: str = "mode=ro") -> sqlite3.Connection:
    """A connection that cannot write, for one thread at a time. ``lock_wait``: seconds."""
    connection = sqlite3.connect(
        uri_of(path, mode), uri=True, timeout=lock_wait, isolation_level=None, check_same_thread=False
    )
    connection.text_factory = as_text
    return connection


def _unescape(text: str) -> str:
    """A mount point as in mountinfo, where blanks and backslashes are octal (proc(5))."""
    return (
        text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1").decode("utf-8", "replace")
    )


def file_system(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system that holds ``path`` (proc(5)); empty if it cannot be told."""
    best, found = -1, ""
    for line in mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        point = Path(_unescape(before.split(" ")[4]))
        if (point == path or point in path.parents) and len(point.parts) >= best:
            best, found = len(point.parts), after.split(" ")[0]
    return found


def is_network(kind: str) -> bool:
    """Whether this type of file system is a network's."""
    return kind in _NETWORK or (kind.startswith("fuse.") and kind[5:] in _NETWORK_FUSE)


def on_network(path: str) -> bool:
    """Whether ``path`` is on a network file system; where that cannot be told, it is."""
    try:
        return is_network(file_system(Path(path).resolve()))
    except OSError:
        return True


def refuse_network(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
    """Raise ``StorageFault`` if ``path`` is on a network file system."""
    kind = file_system(path.resolve(), mountinfo)
    if is_network(kind):
        raise StorageFault(
            f"{path}: is on a network file system ({kind}), which cannot keep a journal safe; "
            "set data_dir to a folder on a local disk"
        )


def make_private(folder: Path) -> None:
    """Make ``folder`` (and parents), readable by its owner only, and make its name durable.

    The names above it are synced at each start: one that made them may have been killed before its sync. Names whose
    sync failed are taken back, for a second sync of them might succeed without a cause.
    """
    missing: list[Path] = []
    try:
        missing = [part for part in (folder, *folder.parents) if not part.exists()]
        for part in reversed(missing):
            part.mkdir(mode=0o700, exist_ok=True)
        _sync_names(folder)
    except OSError as error:
        for part in missing:
            with contextlib.suppress(OSError):
                part.rmdir()
        raise StorageFault(f"{folder}: cannot be made: {error.strerror}", error.errno or 0) from error


def _sync_names(folder: Path) -> None:
    """Make the names of ``folder`` and of the folders above it durable, within its file system."""
    device = folder.stat().st_dev
    for above in folder.absolute().parents:
        if above.stat().st_dev != device:
            return
        try:
            sync_folder(above)
        except PermissionError:  # not ours to read, so not made by us
            return


class Lock:
    """This process's hold on a ``data_dir``."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        try:
            self._number = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageFault(f"{self.path}: {error.strerror}", error.errno or 0) from error
        try:
            fcntl.flock(self._number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._number, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._number)
            text = f"{folder}: in use by another asyncroute (process {holder}); stop it or use another data_dir"
            raise StorageFault(text, error.errno or 0) from error
        self._say_who()

    def _say_who(self) -> None:
        """Our process id, for the error of another process; on a full disk it goes without."""
        try:
            os.ftruncate(self._number, 0)
            os.pwrite(self._number, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            pass

    def close(self) -> None:
        """Give the folder free. Idempotent."""
        if self._number >= 0:
            os.close(self._number)
            self._number = -1
