"""The journal in SQLite: ``data_dir/journal.db``, one process, one writing connection behind a lock.

Guarantees: a group is one transaction, in WAL mode with ``synchronous=FULL`` (``durability="power-loss"``) or
``NORMAL`` (``"process-crash"``), both set and read back; only this connection ever checkpoints. One bad row does not
fail its group.
Failures: ``StorageFault`` with a one-line reason. After a full disk or a lock the next commit may succeed; after a
failed fsync or damage the journal is ``broken`` until a restart. On a full disk a journal with a reserve can still be
opened and take results, which are what frees space; images cannot have that room.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from asyncroute.core.errors import StorageFault
from asyncroute.core.groups import Move
from asyncroute.crashpoints import crash_point
from asyncroute.durable import sync_folder
from asyncroute.journal import examine, migrate
from asyncroute.journal.base import Action, Committed, Complete, Group, Unreleased
from asyncroute.journal.clock import RunClock
from asyncroute.journal.faults import ROW_FAULTS, damaged, is_fatal, storage_fault
from asyncroute.journal.place import SYNCHRONOUS, Lock, make_private, read_only, refuse_network
from asyncroute.journal.prune import Pruner
from asyncroute.journal.reserve import Reserve
from asyncroute.journal.statements import load
from asyncroute.journal.values import as_text, signed
from asyncroute.journal.write import GroupWriter

FILE = "journal.db"
OLDEST_SQLITE = (3, 37, 0)
CHECKPOINT_PAGES = 4000
LOCK_WAIT = 5.0
CACHED_STATEMENTS = 256
"""More than there are texts: those of ``bulk`` in each of its lengths, and all others."""

_SQL = load("admin.sql")
_log = logging.getLogger(__name__)


class SqliteJournal:
    """See module and ``journal.base.Writer``."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: Lock, reserve: Reserve | None = None) -> None:
        """Use ``open``."""
        self.path = path
        self.reserve = reserve
        self.broken: str | None = None
        self.fresh = False
        self._connection = connection
        self._lock_file = lock
        self._place = examine.Place(path)
        self._closed = False
        self._turn = threading.Lock()
        self._clock = RunClock(connection.execute(_SQL["clock"]).fetchone()[0])
        self._writer = GroupWriter(connection, self._clock)
        self._pruner = Pruner(connection)

    @classmethod
    def open(
        cls,
        data_dir: Path,
        durability: str = "power-loss",
        lock_wait: float = LOCK_WAIT,
        reserved: bool = False,
        lock: Lock | None = None,
    ) -> SqliteJournal:
        """Open or make the journal of ``data_dir``; ``lock_wait``: seconds to wait while another program locks it.

        ``reserved``: keep a reserve for a full disk (see ``reserve``). ``lock``: the caller's hold on ``data_dir``,
        which the journal takes over once it is open.

        Raises:
            StorageFault: a network file system, another process, another program's or a newer journal, damage.
        """
        make_private(data_dir)
        refuse_network(data_dir)
        held = lock or Lock(data_dir)
        try:
            examine.refuse_unfinished(data_dir)
            path = data_dir / FILE
            fresh = not path.exists() or not path.stat().st_size
            reserve = Reserve(data_dir) if reserved else None
            connection = _connect_somehow(path, durability, lock_wait, reserve)
            made = cls(path, connection, held, reserve)
            made.fresh = fresh
            return made
        except BaseException:
            if lock is None:
                held.close()
            raise

    def commit(self, group: Group) -> Committed:
        """See ``Writer.commit``."""
        try:
            return self._commit(group)
        except StorageFault as fault:
            if fault.errno != errno.ENOSPC or group.admits or not self._make_room():
                raise
        return self._commit(group)

    def _commit(self, group: Group) -> Committed:
        with self._guarded():
            try:
                return self._transact(group, careful=False)
            except ROW_FAULTS as error:
                _log.info("a group is written again row by row: %s", error)
                return self._transact(group, careful=True)

    def _make_room(self) -> bool:
        """The disk is full: use the reserve, and begin the write-ahead log anew in the space that it has."""
        if self.reserve is None:
            return False
        with self._turn:
            gained = self.reserve.give_up()
            try:
                busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            except sqlite3.Error:  # what was not written back stays in the log
                return gained
        return gained or not busy

    def clock(self) -> float:
        """See ``Writer.clock``."""
        return self._clock()

    def prune(self, before: float, limit: int = 1000) -> int:
        """See ``Writer.prune``. Also checkpoints, so that an error there is not hidden in a commit."""
        with self._guarded():
            forgotten = self._pruner.prune(before, limit)
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            return forgotten

    def unreleased(self, after: int, limit: int) -> list[Unreleased]:
        """See ``Writer.unreleased``."""
        with self._guarded():
            rows = self._connection.execute(_SQL["unreleased"], (after, limit)).fetchall()
        return [Unreleased(*row[:3], *map(bool, row[3:])) for row in rows]

    def was_admitted(self, instance_id: int, checksum: int | None) -> bool:
        """See ``Writer.was_admitted``."""
        values = (instance_id, signed(checksum) if checksum is not None else None)
        with self._guarded():
            found = self._connection.execute(_SQL["has_instance"], values).fetchall()
        return bool(found)

    def is_owed(self, instance_id: int) -> bool:
        """See ``Writer.is_owed``."""
        with self._guarded():
            found = self._connection.execute(_SQL["is_owed"], (instance_id,)).fetchall()
        return bool(found and found[0][0])

    def newest(self) -> float | None:
        """See ``Writer.newest``."""
        with self._guarded():
            row = self._connection.execute(_SQL["newest"]).fetchone()
        return float(row[0]) if row else None

    def last_id(self) -> int:
        """See ``Writer.last_id``."""
        with self._guarded():
            return int(self._connection.execute(_SQL["last_id"]).fetchone()[0])

    def close(self) -> None:
        """See ``Writer.close``."""
        with self._turn:
            if self._closed:
                return
            self._closed = True
            try:
                if self.broken:
                    self._leave_as_it_is()
                else:
                    if self._writer.waiting:
                        self._transact(Group(), careful=False)
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                self._connection.close()
            except (sqlite3.Error, StorageFault) as error:
                _log.warning("closing %s: %s", self.path, error)
            self._lock_file.close()

    def _leave_as_it_is(self) -> None:
        """Close without writing the log back, which the last connection would: it is evidence."""
        keeper = read_only(self.path, 0.0)
        try:
            with suppress(sqlite3.Error):
                keeper.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            self._connection.close()
        finally:
            keeper.close()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """This thread's turn at the connection; SQLite's errors come out as storage faults."""
        with self._turn:
            if self.broken or self._closed:
                raise StorageFault(self.broken or f"{self.path}: closed")
            try:
                yield
            except (sqlite3.Error, *ROW_FAULTS) as error:
                self._recover_from(error)
                raise storage_fault(error, self.path) from error

    def _transact(self, group: Group, careful: bool) -> Committed:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            crash_point("journal-begun")
            done = self._writer.write(group, careful)
            _pass_points(group, "journal-written", "settle-written", None)
            _pass_points_of(group.actions, "completion-written", "move-written")
            connection.execute("COMMIT")
            self._writer.committed()
        except BaseException:
            self._roll_back()
            raise
        _pass_points(group, "journal-committed", "settle-committed", "release-committed")
        _pass_points_of(group.actions, "completion-committed", "move-committed")
        self._refuse_removed()
        return done

    def _refuse_removed(self) -> None:
        """What is written into a file that has no name any more is as good as lost: nothing of it is answered for."""
        if self._place.left:
            self.condemn(damaged(self.path, "it was removed or replaced while asyncroute ran"))
            raise StorageFault(self.broken or "", errno.EUCLEAN)

    def _roll_back(self) -> None:
        """End the transaction, unless SQLite has done so already; without a clean end the journal is broken."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._writer.forget()
        except sqlite3.Error as error:
            self.broken = f"{self.path}: cannot undo a failed transaction ({error}); restart asyncroute"

    def _recover_from(self, error: Exception) -> None:
        if is_fatal(error):
            self.condemn(storage_fault(error, self.path))

    def condemn(self, fault: StorageFault) -> None:
        """Write nothing more; if it is for damage, the next start looks at every page."""
        if self.broken:
            return
        if fault.errno == errno.EUCLEAN:
            self.broken = f"{fault}: stop asyncroute, run it, then restart asyncroute"
            examine.Mark(self.path.parent).leave(str(fault))
        else:
            self.broken = f"{fault}; restart asyncroute after repairing the disk"
        _log.critical("%s", self.broken)


def _pass_points(group: Group, admitted: str, settled: str, released: str | None) -> None:
    if group.admits:
        crash_point(admitted)
    if group.settlements:
        crash_point(settled)
    if group.released and released:
        crash_point(released)


def _pass_points_of(actions: Sequence[Action], completed: str, moved: str) -> None:
    if any(isinstance(action, Complete) and action.ids for action in actions):
        crash_point(completed)
    if any(isinstance(action, Move) for action in actions):
        crash_point(moved)


def _connect_somehow(path: Path, durability: str, lock_wait: float, reserve: Reserve | None) -> sqlite3.Connection:
    """``_connect``, on a full disk with the room of ``reserve``."""
    try:
        return _connect(path, durability, lock_wait)
    except StorageFault as fault:
        if fault.errno != errno.ENOSPC or reserve is None or not reserve.give_up():
            raise
    return _connect(path, durability, lock_wait)


def _connect(path: Path, durability: str, lock_wait: float) -> sqlite3.Connection:
    """A checked, migrated connection with the pragmas set."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StorageFault(f"SQLite {sqlite3.sqlite_version} is too old: 3.37 or later is needed")
    connection: sqlite3.Connection | None = None
    try:
        examine.look_before_opening(path)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        _inspect(path, durability, lock_wait)
        connection = sqlite3.connect(
            path, timeout=lock_wait, isolation_level=None, check_same_thread=False, cached_statements=CACHED_STATEMENTS
        )
        connection.text_factory = as_text
        _set_up(connection, path, durability)
        migrate.migrate(connection, path)
        _begin_log_anew(connection)
        sync_folder(path.parent)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, (sqlite3.Error, UnicodeDecodeError)):
            raise storage_fault(error, path) from error
        if isinstance(error, OSError):
            raise StorageFault(f"{path}: {error.strerror}", error.errno or 0) from error
        raise
    return connection


def _set_up(connection: sqlite3.Connection, path: Path, durability: str) -> None:
    name, number = SYNCHRONOUS[durability]
    _pragma(connection, path, "journal_mode = WAL", "wal")
    _pragma(connection, path, f"synchronous = {name}", None)
    _pragma(connection, path, "synchronous", number)
    _pragma(connection, path, "foreign_keys = ON", None)
    _pragma(connection, path, "foreign_keys", 1)
    # In memory: SQLite would otherwise write a temporary file for each multi-row update (3 times the CPU).
    _pragma(connection, path, "temp_store = MEMORY", None)
    _pragma(connection, path, f"wal_autocheckpoint = {CHECKPOINT_PAGES}", CHECKPOINT_PAGES)
    _pragma(connection, path, f"journal_size_limit = {64 << 20}", 64 << 20)
    _pragma(connection, path, "cache_size = -16384", None)
    _pragma(connection, path, "cell_size_check = ON", None)


def _pragma(connection: sqlite3.Connection, path: Path, text: str, expected: object) -> None:
    """Run a pragma; if ``expected`` is not None, its answer has to be that."""
    rows = connection.execute(f"PRAGMA {text}").fetchall()
    if expected is not None and (not rows or rows[0][0] != expected):
        raise StorageFault(f"{path}: SQLite does not do PRAGMA {text} here (it answers {rows})")


def _begin_log_anew(connection: sqlite3.Connection) -> None:
    """What a power cut left of its last transaction must not look like damage to a later start."""
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    except sqlite3.OperationalError as error:  # a full disk: it stays in the log
        _log.info("the log was not written back: %s", error)


def _inspect(path: Path, durability: str, lock_wait: float) -> None:
    """Refuse a journal that is not ours, newer, or damaged.

    Through a connection of its own that cannot write: closing the one that can would change the evidence.
    """
    connection = read_only(path, lock_wait)
    try:
        examine.examine(connection, path, durability == "power-loss")
    finally:
        connection.close()
