"""SQLite's errors, told apart by whose fault they are and said in one line.

Guarantees: a bad row (``ROW_FAULTS``) is never taken for bad storage; every other SQLite error becomes a
``StorageFault`` with a system error number; damage is told together with the command that helps.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from asyncroute.core.errors import StorageFault

ROW_FAULTS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    ValueError,
    TypeError,
)
"""What one bad row raises: the rest of its group can still be written."""

_TEXTS = {
    sqlite3.SQLITE_FULL: (errno.ENOSPC, "no space left on the disk"),
    sqlite3.SQLITE_IOERR: (errno.EIO, "the disk reports an I/O error"),
    sqlite3.SQLITE_BUSY: (errno.EBUSY, "another program has locked it"),
    sqlite3.SQLITE_LOCKED: (errno.EBUSY, "another program has locked it"),
    sqlite3.SQLITE_READONLY: (errno.EROFS, "it is read-only"),
    sqlite3.SQLITE_CANTOPEN: (errno.EACCES, "it cannot be opened"),
    sqlite3.SQLITE_PERM: (errno.EACCES, "it cannot be opened"),
    sqlite3.SQLITE_CORRUPT: (errno.EUCLEAN, "it is damaged"),
    sqlite3.SQLITE_NOTADB: (errno.EUCLEAN, "it is damaged, or not a journal at all"),
}

_FATAL = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
}
_SMALLEST_FREE = 64 << 10
_FATAL_EXTENDED = {sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC}


def _code(error: BaseException) -> int:
    if isinstance(error, UnicodeDecodeError):  # the text of SQLite's own error, out of a damaged schema
        return sqlite3.SQLITE_CORRUPT
    return int(getattr(error, "sqlite_errorcode", 0) or 0)


def is_fatal(error: BaseException) -> bool:
    """Whether the journal cannot be trusted after ``error``: damage, or a failed fsync (what it lost is unknown)."""
    code = _code(error)
    return code & 0xFF in _FATAL or code in _FATAL_EXTENDED or isinstance(error, UnicodeDecodeError)


def _told(code: int, path: Path | str) -> int:
    """The primary code; SQLite reports some full disks (of its shared memory file) as I/O errors."""
    if code & 0xFF != sqlite3.SQLITE_IOERR or code in _FATAL_EXTENDED:
        return code & 0xFF
    try:
        state = os.statvfs(Path(path).parent)
    except OSError:
        return sqlite3.SQLITE_IOERR
    full = state.f_bavail * state.f_frsize < _SMALLEST_FREE
    return sqlite3.SQLITE_FULL if full else sqlite3.SQLITE_IOERR


def storage_fault(error: BaseException, path: Path | str) -> StorageFault:
    """``error`` from the journal at ``path``, as one line."""
    number, text = _TEXTS.get(_told(_code(error), path), (errno.EIO, "it cannot be used"))
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if number == errno.EUCLEAN:
        return damaged(path, f"{name}: {error}", f"{text} (")
    return StorageFault(f"{path}: {text} ({name}: {' '.join(str(error).split())})", number)


def damaged(path: Path | str, what: str, text: str = "it is damaged (") -> StorageFault:
    """The journal at ``path`` is damaged; ``what`` shows it."""
    shown = " ".join(what.split())
    remedy = f'{text}{shown}); "asyncroute rebuild" keeps it as evidence and makes a new one from the spool'
    return StorageFault(f"{path}: {remedy}", errno.EUCLEAN)
