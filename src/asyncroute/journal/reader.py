"""The journal's read side for the event loop: aiosqlite on a read-only connection of its own.

Guarantees: coroutines that never block the loop and never hold up the writer; each verb sees one consistent state of
what is committed. Works beside a running writer (``open``) and when nothing runs (``read_stopped``), then also on a
folder that cannot be written.
Failures: ``StorageFault``: no journal there, a newer one, damage, I/O errors.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import aiosqlite

from asyncroute.core.completion import Completion
from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Delivery, Instance, RouteHit, Selection, Source, Strand
from asyncroute.core.priority import nearest
from asyncroute.core.states import OPEN, PENDING, DeliveryState
from asyncroute.core.told import QueueRow
from asyncroute.journal import completions, headers, migrate, select
from asyncroute.journal.base import Claim, Counts, Held
from asyncroute.journal.batch_reader import SqliteBatches
from asyncroute.journal.examine import look_before_opening, refuse_unfinished
from asyncroute.journal.faults import storage_fault
from asyncroute.journal.place import uri_of
from asyncroute.journal.proofs import SqliteProofs
from asyncroute.journal.replay import SqliteReplay
from asyncroute.journal.sqlite import FILE
from asyncroute.journal.statements import load
from asyncroute.journal.story import SqliteStories
from asyncroute.journal.values import as_text, clean, json_ids, unsigned

MAX_AHEAD = 3600.0
TOTALS = ("received", "delivered", "discarded", "warned")
LOCK_WAIT = 5.0

STRANDS = 256
"""Strands that are claimed from at a time."""

SHARINGS = 4
"""Times that a claim shares out its room among them, at most, while more than an eighth of it is left."""

BEFORE = -1
"""Less than the number of any strand."""

_SQL = load("read.sql")
Row = tuple[Any, ...]
Values = dict[str, Any]
_QUEUE_COLUMNS = "i.calling_aet, i.sop_instance_uid, i.study_uid, i.accession, i.patient_id, i.modality, i.size"
_ROWS = (
    "SELECT i.id, (SELECT name FROM destination WHERE id = d.destination), d.route, d.state, d.attempts, d.not_before,"
    f" d.queued_at, d.last_status, d.last_error, {_QUEUE_COLUMNS} {{chosen}}"
    " ORDER BY d.instance, d.destination LIMIT :limit"
)
_HELD_ROWS = (
    f"SELECT i.id, '', '', 'held', 0, 0.0, i.received_at, NULL, i.hold_reason, {_QUEUE_COLUMNS} {{chosen}}"
    " ORDER BY i.id LIMIT :limit"
)


class SqliteReader:
    """See module and ``journal.base.Reader``. ``max_ahead``: seconds; a retry further ahead than that counts as due.

    ``on_damage`` is told of damage that a read met.
    """

    def __init__(self, path: Path, connection: aiosqlite.Connection, max_ahead: float = MAX_AHEAD) -> None:
        """Use ``open`` or ``read_stopped``."""
        self.path = path
        self._connection = connection
        self._max_ahead = max_ahead
        self._numbers: dict[str, int] = {}
        self._turns: dict[tuple[Any, Any], int] = {}
        """By destination and class: the strand with which the last claim ended, if it did not see all."""
        self.on_damage: Callable[[StorageFault], None] = _tell_nobody
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._closed = False
        self.stories = SqliteStories(self._all)
        self.proofs = SqliteProofs(self._all)
        self.replay = SqliteReplay(self._all)
        self.batches = SqliteBatches(self._all)

    @classmethod
    async def open(cls, data_dir: Path, max_ahead: float = MAX_AHEAD) -> SqliteReader:
        """Read beside the process that has the journal of ``data_dir`` open.

        Raises:
            StorageFault: there is no journal, or it cannot be read.
        """
        path = data_dir / FILE
        return cls(path, await _connect(path, path, "mode=ro"), max_ahead)

    async def claim(self, destination: str, rooms: Mapping[int, int], now: float, exclude: Collection[int]) -> Claim:
        """See ``Reader.claim``."""
        number = await self._number(destination)
        if number is None:
            return Claim([])
        due = {"destination": number, "now": now, "ahead": now + self._max_ahead}
        found: list[Delivery] = []
        more, partial, cut = False, False, set[Strand]()
        for (priority,) in await self._all(_SQL["classes"], due):
            room = rooms.get(nearest(priority), 0)
            some = await self._claim_class(destination, due | {"priority": priority}, room, set(exclude))
            found += sorted(some.deliveries, key=lambda it: it.instance_id)
            more |= some.more
            partial |= some.partial
            cut |= some.cut
        return Claim(found, more, frozenset(cut), partial)

    async def _claim_class(self, destination: str, due: Values, room: int, exclude: set[int]) -> Claim:
        """Of one class, from the strand on at which the last claim ended."""
        if room <= 0:
            return Claim([], more=True)
        turn = (due["destination"], due["priority"])
        found: list[Delivery] = []
        cut, first, after = set[Strand](), self._turns.get(turn, BEFORE), self._turns.get(turn, BEFORE)
        around = False  # from the end of the strands to their beginning
        while room > len(found):
            most = min(STRANDS, room - len(found))
            rows = await self._all(_SQL["strands"], due | {"after": after, "most": most})
            strands = [row[0] for row in rows if not around or row[0] <= first]
            some = await self._claim_strands(destination, due, strands, room - len(found), exclude)
            found += some.deliveries
            cut |= some.cut
            after = strands[-1] if strands else after
            if len(strands) < most and (around or first == BEFORE):
                self._turns.pop(turn, None)
                return Claim(found, bool(cut), frozenset(cut))
            if len(strands) < most:
                around, after = True, BEFORE
        self._turns[turn] = after
        return Claim(found, True, frozenset(cut), partial=True)

    async def _claim_strands(
        self, destination: str, due: Values, strands: list[int], room: int, exclude: set[int]
    ) -> Claim:
        """Of each of these strands as many; what short ones leave of the room is the others'. Adds to ``exclude``."""
        found: list[Delivery] = []
        cut: dict[int, Strand] = {}
        for _ in range(SHARINGS):
            left = room - len(found)
            if not strands or left <= room // 8:
                break
            each = max(left // len(strands), 1)
            values = due | {"strands": json_ids(strands), "each": each, "room": left, "exclude": json_ids(exclude)}
            rows = await self._all(_SQL["claim"], values)
            some = [(row[0], _delivery(destination, row[1:])) for row in rows]
            counts = Counter(strand for strand, _ in some)
            full = {strand: it.strand for strand, it in dict(some).items() if counts[strand] >= each}
            cut = full if len(some) < left else cut | full
            strands = list(cut)
            found += [it for _, it in some]
            exclude.update(it.instance_id for _, it in some)
        return Claim(found, bool(cut), frozenset(cut.values()))

    async def next_due(self, destination: str, now: float, exclude: Collection[int]) -> float | None:
        """See ``Reader.next_due``."""
        number = await self._number(destination)
        if number is None:
            return None
        values = {"destination": number, "now": now, "ahead": now + self._max_ahead, "exclude": json_ids(exclude)}
        rows = await self._all(_SQL["next_due"], values)
        return float(rows[0][0]) - now if rows else None

    async def group_studies(self, limit: int) -> list[tuple[str, str, str]]:
        """See ``Reader.group_studies``."""
        return [(group, study, member) for group, study, member in await self._all(_SQL["group_studies"], (limit,))]

    async def group_owed(self, group: str, member: str, limit: int) -> list[tuple[str, int]]:
        """See ``Reader.group_owed``."""
        rows = await self._all(_SQL["group_owed"], (clean(group), clean(member), limit))
        return [(study, images) for study, images in rows]

    async def group_strays(self) -> list[tuple[str, str, str]]:
        """See ``Reader.group_strays``."""
        return [(group, study, at) for group, study, at in await self._all(_SQL["group_strays"])]

    async def counts(self) -> Counts:
        """See ``Reader.counts``."""
        holds = await self._all(_SQL["holds"]) if await self._all(_SQL["has_holds"]) else []
        counts = _counts(await self._all(_SQL["counts"]), holds)
        counts.unconfirmed = await self.proofs.counts()
        return counts

    async def completions(self) -> list[Completion]:
        """See ``Reader.completions``."""
        known = await self._all(completions.SQL["has_table"])
        return completions.told(await self._all(completions.SQL["waiting"])) if known else []

    async def rows(self, selection: Selection, limit: int, held: bool = False) -> list[QueueRow]:
        """See ``Reader.rows``."""
        if held:
            chosen, values = select.held(selection)
            found = await self._all(_HELD_ROWS.format(chosen=chosen), values | {"limit": limit})
            return [QueueRow(*row) for row in found]
        chosen, values = select.deliveries(selection, OPEN.intersection(selection.states or OPEN))
        found = await self._all(_ROWS.format(chosen=chosen), values | {"limit": limit})
        return [QueueRow(*(*row[:3], DeliveryState(row[3]).word, *row[4:])) for row in found]

    async def instance(self, instance_id: int) -> Instance | None:
        """See ``Reader.instance``."""
        rows = await self._all(_SQL["instance"], (instance_id,))
        return _instance(rows[0]) if rows else None

    async def close(self) -> None:
        """See ``Reader.close``."""
        if self._closed:
            return
        self._closed = True
        await self._connection.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    async def _number(self, destination: str) -> int | None:
        """The number of a destination; None before its first delivery."""
        known = self._numbers.get(destination)
        if known is None:
            rows = await self._all(_SQL["destination_id"], (clean(destination),))
            if rows:
                known = self._numbers[destination] = int(rows[0][0])
        return known

    async def _all(self, sql: str, values: Any = ()) -> list[Row]:
        """All rows of a statement, in one trip to the reading thread."""
        try:
            return [tuple(row) for row in await self._connection.execute_fetchall(sql, values)]
        except (sqlite3.Error, ValueError) as error:
            fault = storage_fault(error, self.path)
            if fault.errno == errno.EUCLEAN:
                self.on_damage(fault)
            raise fault from error


async def read_stopped(data_dir: Path) -> SqliteReader:
    """A reader for a journal that no process has open; nothing in ``data_dir`` needs to be writable.

    Raises:
        StorageFault: there is no journal, or it cannot be read.
    """
    path = data_dir / FILE
    try:
        return SqliteReader(path, await _connect(path, path, "mode=ro"))
    except StorageFault:
        if not path.exists() or os.access(data_dir, os.W_OK):
            raise
    if not _has_content(data_dir / f"{FILE}-wal"):
        return SqliteReader(path, await _connect(path, path, "mode=ro&immutable=1"))
    return await _read_copy(path)


async def _read_copy(path: Path) -> SqliteReader:
    """Read a copy: SQLite cannot read a write-ahead log in a folder in which it may create nothing."""
    folder = tempfile.TemporaryDirectory(prefix="asyncroute-")
    try:
        for name in (path.name, f"{path.name}-wal"):
            shutil.copyfile(path.parent / name, Path(folder.name) / name)
        copied = SqliteReader(path, await _connect(Path(folder.name) / path.name, path, "mode=rw"))
    except BaseException as error:
        folder.cleanup()
        if isinstance(error, OSError):
            raise StorageFault(f"{path}: {error.strerror}", error.errno or 0) from error
        raise
    copied._temporary = folder
    return copied


def _tell_nobody(_: StorageFault) -> None:
    """Until somebody wants to know."""


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _uri(file: Path, mode: str) -> str:
    refuse_unfinished(file.parent)
    look_before_opening(file)
    if not file.exists():
        raise StorageFault(f"{file}: there is no journal here", errno.ENOENT)
    return uri_of(file, mode)


async def _connect(file: Path, path: Path, mode: str) -> aiosqlite.Connection:
    """A connection to ``file`` that has read its schema; faults are about ``path``."""
    uri = _uri(file, mode)
    try:
        waiting = aiosqlite.connect(uri, uri=True, isolation_level=None, timeout=LOCK_WAIT)
        _make_daemon(waiting)
        connection = await waiting
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise storage_fault(error, path) from error
    try:
        await _check(connection, path)
    except BaseException as error:
        await connection.close()
        if isinstance(error, (sqlite3.Error, UnicodeDecodeError)):
            raise storage_fault(error, path) from error
        raise
    return connection


def _make_daemon(connection: aiosqlite.Connection) -> None:
    """Let the process end although a reader was left open (aiosqlite's thread would keep it alive for ever)."""
    thread = getattr(connection, "_thread", connection)
    if isinstance(thread, threading.Thread):
        thread.daemon = True


async def _check(connection: aiosqlite.Connection, path: Path) -> None:
    """Read the version, which opens the file; refuse what this program does not know."""
    version, owner, tables = [(*await connection.execute_fetchall(query),)[0][0] for query in migrate.QUESTIONS]
    if migrate.judge(version, owner, tables, path) == 0:
        raise StorageFault(f"{path}: the journal is empty")
    connection.text_factory = as_text
    for pragma in ("query_only = ON", "temp_store = MEMORY", "cache_size = -8192"):
        await connection.execute_fetchall(f"PRAGMA {pragma}")


def _delivery(destination: str, row: Row) -> Delivery:
    instance_id, route, priority, attempts, not_before, queued_at, since, *rest = row
    calling_aet, called_aet, listener, *image = rest
    sop_class_uid, sop_instance_uid, transfer_syntax, study_uid, path, data_offset, size, checksum, *more = image
    series_uid, patient_id, peer, received_at = more
    return Delivery(
        instance_id=instance_id,
        destination=destination,
        route=route,
        calling_aet=calling_aet,
        called_aet=called_aet,
        listener=listener,
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_instance_uid,
        transfer_syntax=transfer_syntax,
        study_uid=study_uid,
        path=path,
        data_offset=data_offset,
        size=size,
        checksum=unsigned(checksum),
        queued_at=queued_at,
        attempts=attempts,
        not_before=not_before,
        since=since,
        priority=nearest(priority),
        series_uid=series_uid,
        patient_id=patient_id,
        peer=peer,
        received_at=received_at,
    )


def _counts(rows: Iterable[Row], periods: Iterable[Row]) -> Counts:
    states: dict[str, dict[DeliveryState, int]] = {}
    owed: dict[str, int] = {}
    oldest: dict[str, float] = {}
    totals = dict.fromkeys(TOTALS, 0)
    delivered: dict[str, int] = {}
    holds: dict[str, list[Held]] = {}
    for name, *period in periods:
        holds.setdefault(name, []).append(Held(*period))
    held = 0
    for kind, name, state, number, size, queued_at in rows:
        if kind == "open":
            states.setdefault(name, {})[DeliveryState(state)] = number
            if state in PENDING:  # dead letters wait for a person, not for the destination
                owed[name] = owed.get(name, 0) + size
                oldest[name] = min(oldest.get(name, queued_at), queued_at)
        elif kind == "held":
            held = number
        elif kind in totals:
            totals[kind] += number
            if kind == "delivered":
                delivered[name] = number
    return Counts(states, owed, oldest, held, totals, delivered, holds)


def _instance(row: Row) -> Instance:
    id_, calling, called, listener, peer, *rest, own, hits, images, lengths, data = row
    sop_class, sop_instance, syntax, received_at, path, data_offset, size, checksum, *attributes = rest
    header = headers.unpack(id_, images, lengths, data) if own is None else headers.unpack_own(own)
    source = Source(calling, called, listener, peer)
    routes = tuple(RouteHit(route, destination) for route, destination in json.loads(hits))
    stored = (sop_class, sop_instance, syntax, received_at, path, data_offset, size, unsigned(checksum))
    made = Instance(*(id_, source, *stored, *attributes, header))
    made.hits = routes
    return made
