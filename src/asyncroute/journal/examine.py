"""What is looked at before a journal is trusted, at every start, and what is said when it is damaged.

SQLite keeps no checksums of its pages: a check of their structure misses bytes that changed inside a row. So the two
copies that a journal has of what matters are compared as well: every open delivery and every image not yet released
stands in a table and in an index. What is in one copy only (all else about an image) is compared with the facts in its
spool file, when it is read.
Guarantees: nothing is changed; a log (write-ahead log) that lost its beginning, or frames in its middle, is told from
one that a crash cut off. Cost: a second for 300,000 open deliveries; pages are checked one by one up to
``CHECKED_BYTES``, or at any size once damage has been met while running (``Mark``).
Failures: ``StorageFault`` (EUCLEAN) with the command that helps.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

from asyncroute.core.errors import StorageFault
from asyncroute.journal import migrate, statements
from asyncroute.journal.faults import damaged

CHECKED_BYTES = 256 << 20
"""Journals up to this size are checked page by page at start (some 0.5 s); larger ones as they are read."""

DAMAGED_MARK = "journal.damaged"
REBUILDING_MARK = "journal.rebuilding"

_WAL_HEADER = struct.Struct(">II8xQQ")
_WAL_FRAME = struct.Struct(">IIQ")
_WAL_MAGIC = (0x377F0682, 0x377F0683)
_WAL_START = 32
_FRAME_START = 24
_SQL = statements.load("examine.sql")
_log = logging.getLogger(__name__)


def refuse_unfinished(folder: Path) -> None:
    """Raise ``StorageFault`` if a rebuild of the journal in ``folder`` was begun and not ended."""
    if (folder / REBUILDING_MARK).exists():
        text = f'{folder}: a rebuild of the journal was interrupted; run "asyncroute rebuild" again, which finishes it'
        raise StorageFault(text, errno.EUCLEAN)


class Mark:
    """A file beside the journal that says: damage was met while running; check all of it at the next start."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / DAMAGED_MARK

    @property
    def set(self) -> bool:
        """Whether it is there."""
        return self._path.exists()

    def leave(self, why: str) -> None:
        """Make it; on a disk that takes nothing there is none."""
        try:
            self._path.write_text(why + "\n", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            _log.error("%s: %s", self._path, error.strerror)

    def clear(self) -> None:
        """The whole journal was found sound."""
        if self.set:
            _log.warning("%s: damage was met while running, but none is found now", self._path)
            self._path.unlink(missing_ok=True)


class Place:
    """The files of an open journal, and whether they are still where they were."""

    def __init__(self, path: Path) -> None:
        self._files = [str(path), f"{path}-wal"]
        self._known = self._numbers()

    @property
    def left(self) -> bool:
        """Whether one of them has been removed, renamed or replaced."""
        return self._numbers() != self._known

    def _numbers(self) -> list[tuple[int, int] | None]:
        return [_number(file) for file in self._files]


def _number(file: str) -> tuple[int, int] | None:
    try:
        state = os.stat(file)
    except FileNotFoundError:
        return None
    return state.st_dev, state.st_ino


def look_before_opening(path: Path) -> None:
    """What SQLite would silently take for a new journal, and delete the log of."""
    log = Path(f"{path}-wal")
    if _length(path) <= 0 and _length(log) > 0:
        raise damaged(path, f"it is missing or empty, but there is {log.name}")


def examine(connection: sqlite3.Connection, path: Path, synced: bool) -> None:
    """Refuse a journal that is not ours, newer, or damaged. ``synced``: each commit was (``power-loss``).

    Raises:
        StorageFault: it is.
        sqlite3.Error: SQLite found out by itself.
    """
    version = migrate.check(connection, path)
    lost = log_damage(path) if synced else ""
    if lost:
        raise damaged(path, lost)
    mark = Mark(path.parent)
    if mark.set or _length(path) <= CHECKED_BYTES:
        (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if answer != "ok":
            raise damaged(path, answer)
    if version:
        _check_schema(connection, path, version)
    if version == statements.migrations()[-1][0]:
        _check_copies(connection, path)
    mark.clear()


def _check_schema(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """The definitions of tables and indexes are data of the first pages, and can be damaged as any."""
    found = dict(_definitions(connection))
    with memory() as model:
        migrate.apply(model, [step for step in statements.migrations() if step[0] <= version])
        for name, text in _definitions(model):
            if found.get(name) != text:
                raise damaged(path, f"{name} is not defined as it was")


def memory() -> _Closing:
    """An empty database in memory."""
    return _Closing(":memory:", isolation_level=None)


class _Closing(sqlite3.Connection):
    """A connection that a ``with`` closes."""

    def __exit__(self, *_: object) -> None:  # type: ignore[override]
        self.close()


def _definitions(connection: sqlite3.Connection) -> list[tuple[str, str | None]]:
    return connection.execute("SELECT type || ' ' || name, sql FROM sqlite_schema").fetchall()


def _check_copies(connection: sqlite3.Connection, path: Path) -> None:
    """Tables against indexes, for everything that is still owed."""
    indexed, agreeing = connection.execute(_SQL["open_by_index"]).fetchone()
    held, owed = connection.execute(_SQL["open_by_table"]).fetchone()
    (held_indexed,) = connection.execute(_SQL["held_by_index"]).fetchone()
    (names,) = connection.execute(_SQL["destinations_unlike_their_index"]).fetchone()
    if not indexed == agreeing == owed:
        raise damaged(path, f"of {indexed} open deliveries in its index, {agreeing} are so in its table of {owed}")
    if held != held_indexed:
        raise damaged(path, f"{held_indexed} held images in its index, {held} in its table")
    if names:
        raise damaged(path, "the names of destinations are not those of their index")


# --- the write-ahead log (https://www.sqlite.org/fileformat2.html#the_write_ahead_log) --------------------------------


def log_damage(path: Path) -> str:
    """What is wrong with the log of the journal at ``path``, which a connection must have read; empty: nothing.

    SQLite reads the log up to the first frame whose checksum is wrong, and takes the rest for what a crash cut off. Of
    what a crash cuts off at most the last transaction is there; where two or more whole ones follow, it was damage.
    """
    log = Path(f"{path}-wal")
    if _length(log) < _WAL_START + _FRAME_START:
        return ""
    with log.open("rb") as file:
        start = file.read(_WAL_START)
        magic, _, salts, sums = _WAL_HEADER.unpack(start)
        if magic not in _WAL_MAGIC or _sums(start[:24], magic & 1 == 1) != sums:
            return f"the beginning of {log.name}"
        valid = _valid_frames(path, salts)
        if valid is None:
            return ""
        page = int.from_bytes(start[8:12], "big")
        behind = sum(1 for commit in _frames(file.fileno(), page, valid, salts) if commit)
    return f"in the middle of {log.name}, before its last {behind} transactions" if behind > 1 else ""


def _valid_frames(path: Path, salts: int) -> int | None:
    """The number of frames that SQLite took for good, from the shared-memory index it keeps; None: it cannot be told.

    https://www.sqlite.org/walformat.html#the_wal_index_header
    """
    try:
        with Path(f"{path}-shm").open("rb") as file:
            index = file.read(48)
    except OSError:
        return None
    if len(index) < 48 or not index[12]:
        return None
    valid = int(struct.unpack_from("=I", index, 16)[0])
    return valid if not valid or index[32:40] == salts.to_bytes(8, "big") else None


def _frames(number: int, page: int, first: int, salts: int) -> Iterator[bool]:
    """For each frame of this generation behind the ``first`` ones whether it ends a transaction."""
    step = _FRAME_START + page
    at = _WAL_START + first * step
    while len(head := os.pread(number, 16, at)) == 16:
        of_page, size, found = _WAL_FRAME.unpack(head)
        if of_page and found == salts:
            yield size > 0
        at += step


def _sums(data: bytes, big: bool) -> int:
    """The log's checksum over a few bytes, both halves in one number."""
    words = struct.unpack(f"{'>' if big else '<'}{len(data) // 4}I", data)
    a = b = 0
    for first, second in zip(words[::2], words[1::2], strict=True):
        a = (a + first + b) & 0xFFFFFFFF
        b = (b + second + a) & 0xFFFFFFFF
    return a << 32 | b


def _length(path: Path) -> int:
    """Bytes of a file; -1 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1
