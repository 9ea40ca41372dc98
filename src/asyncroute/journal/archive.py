"""The archive's index in SQLite: ``data_dir/archive.db``.

A database of its own: what is archived outlives the journal's history, and receiving never waits for it. Commands read
and write it while a router runs (orders to it are rows, too), so SQLite's own locks order them.
Guarantees: each verb is one transaction, in WAL mode, as durable as the journal's (``durability``).
Failures: ``StorageFault`` with a one-line reason; a damaged index can be made again from the files ("asyncroute
rebuild").
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from time import time
from typing import Any

from asyncroute.archive.base import (
    Arrival,
    FoundStudy,
    Holding,
    Intent,
    Kept,
    Leftover,
    Replay,
    Request,
    TierRow,
    Total,
    Wanted,
)
from asyncroute.core.errors import OurFault, StorageFault
from asyncroute.durable import sync_folder
from asyncroute.journal.faults import storage_fault
from asyncroute.journal.place import SYNCHRONOUS, make_private, read_only, refuse_network
from asyncroute.journal.statements import load, script
from asyncroute.journal.values import as_text, clean, signed, uid_key, unsigned
from asyncroute.spool.base import Facts

FILE = "archive.db"
APPLICATION_ID = 0x41525441
"""SQLite's application_id of our indexes: "ARTA"."""
VERSION = 1
LOCK_WAIT = 10.0
EVER = 1e300
REQUESTS_STAY = 30 * 86400.0
_PATIENT, _ACCESSION, _DATE = 1, 2, 3
_SQL = load("archive.sql")

_Values = Sequence[Any] | Mapping[str, Any]
_Run = Callable[..., sqlite3.Cursor]


class ArchiveIndex:
    """See module and ``archive.base.Index``."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Use ``open``."""
        self.path = path
        self._connection = connection
        self._turn = threading.RLock()
        self._closed = False

    @classmethod
    def open(cls, data_dir: Path, durability: str = "power-loss") -> ArchiveIndex:
        """Open or make the index of ``data_dir``.

        Raises:
            StorageFault: a network file system, damage, a newer program's, the disk.
        """
        make_private(data_dir)
        refuse_network(data_dir)
        path = data_dir / FILE
        connection: sqlite3.Connection | None = None
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(path, timeout=LOCK_WAIT, isolation_level=None, check_same_thread=False)
            _set_up(connection, path, durability)
            sync_folder(data_dir)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.Error):
                raise _fault(error, path) from error
            if isinstance(error, OSError):
                raise StorageFault(f"{path}: {error.strerror}", error.errno or 0) from error
            raise
        return cls(path, connection)

    @classmethod
    def existing(cls, data_dir: Path, durability: str = "power-loss") -> ArchiveIndex:
        """The same, for commands: there has to be one.

        Raises:
            OurFault: there is none.
        """
        if not (data_dir / FILE).exists():
            raise OurFault(f"{data_dir}: there is no archive here yet")
        return cls.open(data_dir, durability)

    @classmethod
    def looking(cls, data_dir: Path) -> ArchiveIndex:
        """The same for whoever only looks, and may not be allowed more; nothing is made or changed.

        Raises:
            OurFault: there is none. StorageFault: it cannot be read.
        """
        path = data_dir / FILE
        if not path.exists():
            raise OurFault(f"{data_dir}: there is no archive here yet")
        try:
            return cls(path, _look(path, "mode=ro"))
        except StorageFault:
            wal = path.with_name(f"{FILE}-wal")
            if os.access(data_dir, os.W_OK) or (wal.exists() and wal.stat().st_size):
                raise
            return cls(path, _look(path, "mode=ro&immutable=1"))

    # ---- tiers

    def tiers(self) -> list[TierRow]:
        """See ``Index.tiers``."""
        return [TierRow(row[0], row[1], row[2], bool(row[3])) for row in self._all("tiers")]

    def add_tier(self, uid: str, path: str, unindexed: bool) -> TierRow:
        """See ``Index.add_tier``."""
        with self._writing() as run:
            run(_SQL["add_tier"], {"uid": uid, "path": path, "unindexed": unindexed})
            row = run(_SQL["tier"], (uid,)).fetchone()
        return TierRow(row[0], row[1], row[2], bool(row[3]))

    def damaged(self) -> bool:
        """Whether something in it is not as it was written. Looks at every page."""
        try:
            with self._reading():
                rows = self._connection.execute("PRAGMA quick_check(1)").fetchall()
        except StorageFault as fault:
            if fault.errno != errno.EUCLEAN:
                raise
            return True
        return rows != [("ok",)]

    def indexed(self, tier: int) -> None:
        """Every file of this tier is known now."""
        self._write("indexed", [(tier,)])

    def setting(self, key: str) -> float | None:
        """See ``Index.setting``."""
        rows = self._all("setting", (key,))
        return float(rows[0][0]) if rows else None

    def note(self, key: str, value: float) -> None:
        """See ``Index.note``."""
        self._write("note", [(key, value)])

    # ---- images come, move and go

    def taken(self, tier: int, path: str) -> bool:
        """See ``Index.taken``."""
        return bool(self._all("taken", {"tier": tier, "path": clean(path)})[0][0])

    def alike(self, facts: Facts) -> list[Kept]:
        """See ``Index.alike``."""
        uid = str(clean(facts.sop_instance_uid))
        values = {"key": uid_key(uid), "uid": uid, "syntax": clean(facts.transfer_syntax), "size": facts.size}
        return _kept(self._all("alike", values | {"checksum": signed(facts.checksum)}))

    def intend(self, places: Sequence[tuple[int, str, int | None]]) -> list[int]:
        """See ``Index.intend``."""
        with self._writing() as run:
            return [int(run(_SQL["intend"], place).lastrowid or 0) for place in places]

    def intents(self, tier: int) -> list[Intent]:
        """See ``Index.intents``."""
        return [Intent(*row) for row in self._all("intents", (tier,))]

    def withdraw(self, intents: Sequence[int]) -> None:
        """See ``Index.withdraw``."""
        self._write("withdraw", [(each,) for each in intents])

    def arrived(self, arrivals: Sequence[tuple[int | None, Arrival]]) -> None:
        """See ``Index.arrived``."""
        with self._writing() as run:
            for intent, arrival in arrivals:
                _insert(run, arrival)
                if intent is not None:
                    run(_SQL["withdraw"], (intent,))

    def moved(self, moves: Sequence[tuple[int, int]]) -> None:
        """See ``Index.moved``."""
        with self._writing() as run:
            for intent, image in moves:
                run(_SQL["leave_behind"], (image,))
                run(_SQL["move"], {"intent": intent, "image": image})
                run(_SQL["withdraw"], (intent,))

    def leftovers(self, tier: int, limit: int) -> list[Leftover]:
        """See ``Index.leftovers``."""
        return [Leftover(*row) for row in self._all("leftovers", (tier, limit))]

    def cleared(self, leftovers: Sequence[int]) -> None:
        """See ``Index.cleared``."""
        self._write("cleared", [(each,) for each in leftovers])

    def blame(self, image: int, wrong: str) -> None:
        """See ``Index.blame``."""
        self._write("blame", [{"id": image, "wrong": clean(wrong)}])

    # ---- studies

    def oldest(self, tier: int, limit: int, before: float) -> list[Holding]:
        """See ``Index.oldest``."""
        return [Holding(*row) for row in self._all("oldest", {"tier": tier, "before": before, "most": limit})]

    def holding(self, study: int, tier: int) -> Holding | None:
        """See ``Index.holding``."""
        rows = self._all("holding", (study, tier))
        return Holding(*rows[0]) if rows else None

    def newest(self) -> float | None:
        """See ``Index.newest``."""
        found = self._all("newest")[0][0]
        return float(found) if found is not None else None

    def images(self, study: int, tier: int | None = None, limit: int = -1) -> list[Kept]:
        """See ``Index.images``."""
        if tier is None:
            return _kept(self._all("images_of_study", (study, limit)))
        return _kept(self._all("images_of_study_on", (study, tier, limit)))

    def ending(self, before: float, limit: int) -> list[Holding]:
        """See ``Index.ending``."""
        return [Holding(*row) for row in self._all("ending", {"before": before, "most": limit})]

    def end(self, study: int) -> int:
        """See ``Index.end``."""
        with self._writing() as run:
            run(_SQL["leave_study"], (study,))
            images = run(_SQL["end_images"], (study,)).rowcount
            run(_SQL["forget_moves"], (study,))
            run(_SQL["end_study"], (study,))
        return images

    def moving(self, tier: int) -> list[int]:
        """See ``Index.moving``."""
        return [row[0] for row in self._all("moving", (tier,))]

    def begin_move(self, study: int, tier: int) -> None:
        """See ``Index.begin_move``."""
        self._write("begin_move", [{"tier": tier, "study": study}])

    def end_move(self, study: int, tier: int) -> None:
        """See ``Index.end_move``."""
        self._write("end_move", [{"tier": tier, "study": study}])

    # ---- for people

    def totals(self) -> list[Total]:
        """See ``Index.totals``."""
        return [Total(*row) for row in self._all("totals")]

    def find(self, wanted: Wanted, limit: int) -> list[FoundStudy]:
        """See ``Index.find``."""
        with self._reading():
            found = (self._study(row, wanted) for row in self._candidates(wanted, limit))
            return [study for study in found if study is not None][:limit]

    def _candidates(self, wanted: Wanted, limit: int) -> list[tuple[Any, ...]]:
        """Studies by what narrows most; the rest is compared one by one."""
        if wanted.study_uid is not None:
            return self._all("find_uid", {"uid": wanted.study_uid})
        several = sum(value is not None for value in (wanted.accession, wanted.patient_id, wanted.date)) > 1
        most = -1 if several else limit
        for kind, value in ((_ACCESSION, wanted.accession), (_PATIENT, wanted.patient_id), (_DATE, wanted.date)):
            if value is not None:
                low, high = _range(value) if kind == _DATE else (value, value)
                return self._all("find_label", {"kind": kind, "low": low, "high": high, "most": most})
        return self._all("find_last", {"most": limit})

    def _study(self, row: tuple[Any, ...], wanted: Wanted) -> FoundStudy | None:
        study, uid, first_at, last_at = row
        labels: dict[int, list[str]] = {_PATIENT: [], _ACCESSION: [], _DATE: []}
        for kind, value in self._all("labels", (study,)):
            labels[kind].append(value)
        if not _fits(wanted, labels):
            return None
        held = self._all("holdings", (study,))
        return FoundStudy(
            uid,
            tuple(labels[_PATIENT]),
            tuple(labels[_ACCESSION]),
            tuple(labels[_DATE]),
            first_at,
            last_at,
            sum(images for _, images, _ in held),
            sum(size for _, _, size in held),
            {path: images for path, images, _ in held},
            self._all("wrong_of_study", (study,))[0][0],
        )

    def after(self, image: int, tier: int | None, limit: int) -> list[Kept]:
        """See ``Index.after``."""
        if tier is None:
            return _kept(self._all("after", (image, limit)))
        return _kept(self._all("after_on", (image, tier, limit)))

    def image(self, image: int) -> Kept | None:
        """See ``Index.image``."""
        found = _kept(self._all("image", (image,)))
        return found[0] if found else None

    # ---- sending again

    def ask(self, what: str, target: str, studies: Sequence[str], since: float | None, until: float | None) -> Request:
        """See ``Index.ask``."""
        now = time()
        with self._writing() as run:
            run(_SQL["forget_requests"], {"before": now - REQUESTS_STAY})
            request = int(run(_SQL["ask"], (now, clean(what), clean(target))).lastrowid or 0)
            times = {"request": request, "since": since if since is not None else -EVER}
            times["until"] = until if until is not None else EVER
            for study in self._named(run, studies):
                run(_SQL["ask_study"], times | {"study": study})
            if not studies:
                run(_SQL["ask_time"], times)
            run(_SQL["asked"], (request,))
            found = Request(*run(_SQL["request"], (request,)).fetchone())
            if not found.images:
                run(_SQL["take_back"], (request,))
        return found

    @staticmethod
    def _named(run: _Run, names: Sequence[str]) -> list[int]:
        found: dict[int, None] = {}
        for name in names:
            rows = run(_SQL["study"], (name,)).fetchall() or run(_SQL["study_by_accession"], (name,)).fetchall()
            found.update(dict.fromkeys(row[0] for row in rows))
        return list(found)

    def replays(self, limit: int, after: int = 0) -> list[Replay]:
        """See ``Index.replays``."""
        return [Replay(*row) for row in self._all("replays", (after, limit))]

    def replayed(self, done: Sequence[int]) -> None:
        """See ``Index.replayed``."""
        self._write("replayed", [(each,) for each in done])

    def not_replayed(self, replay: int, why: str) -> None:
        """See ``Index.not_replayed``."""
        with self._writing() as run:
            run(_SQL["not_replayed"], {"id": replay, "why": clean(why)})
            run(_SQL["replayed"], (replay,))

    def requests(self) -> list[Request]:
        """See ``Index.requests``."""
        return [Request(*row) for row in self._all("requests")]

    def close(self) -> None:
        """See ``Index.close``."""
        with self._turn:
            if not self._closed:
                self._closed = True
                with suppress(sqlite3.Error):
                    self._connection.close()

    # ---- the connection

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._turn:
            if self._closed:
                raise StorageFault(f"{self.path}: closed")
            try:
                yield
            except sqlite3.Error as error:
                raise _fault(error, self.path) from error

    @contextmanager
    def _writing(self) -> Iterator[_Run]:
        """One transaction."""
        with self._reading():
            run = self._connection.execute
            run("BEGIN IMMEDIATE")
            try:
                yield run
                run("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    run("ROLLBACK")
                raise

    def _all(self, name: str, values: _Values = ()) -> list[tuple[Any, ...]]:
        with self._reading():
            return self._connection.execute(_SQL[name], values).fetchall()

    def _write(self, name: str, rows: Iterable[_Values]) -> None:
        with self._writing() as run:
            for row in rows:
                run(_SQL[name], row)


def _look(path: Path, mode: str) -> sqlite3.Connection:
    connection: sqlite3.Connection | None = None
    try:
        connection = read_only(path, LOCK_WAIT, mode)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise _fault(error, path) from error
    if version > VERSION:
        connection.close()
        raise _newer(path, version)
    return connection


def _newer(path: Path, version: int) -> StorageFault:
    return StorageFault(f"{path}: written by a newer asyncroute (schema {version}); use that version again")


def _set_up(connection: sqlite3.Connection, path: Path, durability: str) -> None:
    connection.text_factory = as_text
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    if version and owner != APPLICATION_ID:
        raise StorageFault(f"{path}: this is another program's database")
    if version > VERSION:
        raise _newer(path, version)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS[durability][0]}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA cache_size = -8192")
    if version:
        return
    connection.execute("BEGIN EXCLUSIVE")
    if not connection.execute("PRAGMA user_version").fetchone()[0]:  # nobody was quicker
        for statement in script("archive_schema.sql"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("COMMIT")


def _fault(error: sqlite3.Error, path: Path) -> StorageFault:
    fault = storage_fault(error, path)
    if fault.errno != errno.EUCLEAN:
        return fault
    remedy = 'stop asyncroute, then "asyncroute rebuild" makes it again from the archive\'s files'
    return StorageFault(f"{path}: the archive's index is damaged ({error}); {remedy}", errno.EUCLEAN)


def _insert(run: _Run, arrival: Arrival) -> None:
    facts, uid = arrival.facts, str(clean(arrival.facts.sop_instance_uid))
    study_uid = clean(arrival.study_uid) or uid
    run(_SQL["study_seen"], {"uid": study_uid, "at": arrival.kept_at})
    study = run(_SQL["study"], (study_uid,)).fetchone()[0]
    labels = ((_PATIENT, arrival.patient_id), (_ACCESSION, arrival.accession), (_DATE, arrival.study_date))
    for kind, value in labels:
        if value:
            run(_SQL["label"], (kind, clean(value), study))
    place = (study, arrival.tier, clean(arrival.path), uid_key(uid), uid, clean(facts.transfer_syntax))
    when = (facts.instance_id, facts.received_at, arrival.kept_at)
    run(_SQL["image_comes"], (*place, *when, facts.data_offset, facts.size, signed(facts.checksum)))


def _kept(rows: Iterable[tuple[Any, ...]]) -> list[Kept]:
    return [replace(Kept(*row), checksum=unsigned(row[11])) for row in rows]


def _range(date: str) -> tuple[str, str]:
    """``20260101`` or ``20260101-20260131`` (either end may be missing) as DICOM writes them."""
    low, dash, high = date.partition("-")
    return (low, high or "99999999") if dash else (date, date)


def _fits(wanted: Wanted, labels: dict[int, list[str]]) -> bool:
    exact = ((wanted.patient_id, _PATIENT), (wanted.accession, _ACCESSION))
    if any(value is not None and value not in labels[kind] for value, kind in exact):
        return False
    low, high = _range(wanted.date) if wanted.date is not None else ("", "")
    return wanted.date is None or any(low <= date <= high for date in labels[_DATE])
