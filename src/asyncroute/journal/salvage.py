"""What a journal that cannot be trusted any more still says, read row by row.

Guarantees: nothing is changed in the journal and its log; an error costs only the rows that it hides. A delivery
counts as over only where the table and the index of open deliveries both say so: what is doubtful is sent again.
Failures: none; what cannot be read is unknown.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from asyncroute.core.model import Instance, Source
from asyncroute.core.priority import NORMAL, nearest
from asyncroute.core.states import OPEN, DeliveryState
from asyncroute.journal import headers
from asyncroute.journal.place import read_only
from asyncroute.journal.statements import load
from asyncroute.journal.values import signed, unsigned

ROWS = 1000
_SQL = load("salvage.sql")
_MODES = ("mode=ro", "mode=ro&immutable=1")
"""With its log; if that cannot be read, without."""

_log = logging.getLogger(__name__)


class Old(NamedTuple):
    """A delivery as the old journal has it."""

    destination: str
    route: str
    state: DeliveryState
    attempts: int
    status: int | None
    error: str
    at: float
    priority: int = NORMAL
    unproven: bool = False


class Salvage:
    """See module. One thread. ``unreadable``: errors met so far."""

    def __init__(self, path: Path) -> None:
        self.unreadable = 0
        self._connection = _open(path)
        self._as_written = "" if self._connection is None or _has_strands(self._connection) else "_without_strands"
        self._proves = bool(self._ask("proves", ()))  # journals of older programs know nothing of proof

    def close(self) -> None:
        """Close. Idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def deliveries(self, instance_id: int, checksum: int) -> list[Old]:
        """The deliveries of an image, if its row is that of the same bytes; empty: unknown, or there are none."""
        if self._ask("same", (instance_id, signed(checksum))):
            rows = self._ask(f"deliveries{self._as_written}", (instance_id,))
            return [self._judged(instance_id, row) for row in rows if isinstance(row[1], str)]
        return []

    def instance(self, instance_id: int) -> Instance | None:
        """An image that was not released and is still owed or held; None: it was not, or that is unknown."""
        rows = self._ask("instance", (instance_id,))
        return _instance(rows[0], self._header(instance_id, rows[0])) if rows else None

    def owed(self) -> Iterator[int]:
        """The ids of images that were not released, ascending, as far as they can be told."""
        asked = [*self._ask("highest", ()), *self._ask("highest_by_file", ())]  # either may be damaged at its end
        highest = max((row[0] or 0 for row in asked), default=0)
        after = 0
        while after < highest:
            before = self.unreadable
            found = [row[0] for row in self._ask("unreleased", (after, ROWS))]
            if self.unreadable > before:
                found = [id_ for id_ in range(after + 1, min(after + ROWS, highest) + 1) if self._ask("one", (id_,))]
                after += ROWS
            else:
                after = found[-1] if len(found) == ROWS else highest
            yield from found

    def _header(self, instance_id: int, row: tuple[Any, ...]) -> bytes | None:
        """Its header, as far as that can be read; older journals keep it in the row itself."""
        own = row[-2]
        if own is not None:
            return headers.unpack_own(own)
        found = self._ask("headers", (instance_id,))
        return headers.unpack(instance_id, *found[0]) if found else None

    def _judged(self, instance_id: int, row: tuple[Any, ...]) -> Old:
        """``row`` with the state that table and index agree on, else READY."""
        number, name, route, state, attempts, status, error, at, *place = row
        known = DeliveryState(state) if state in iter(DeliveryState) else DeliveryState.READY
        before = self.unreadable
        indexed = [found[0] for found in self._ask(f"indexed{self._as_written}", (number, *place, instance_id))]
        agrees = indexed == ([int(known)] if known in OPEN else [])
        if not agrees or self.unreadable > before or (known not in OPEN and at is None):
            known = DeliveryState.READY
        unproven = self._proves and known is DeliveryState.DELIVERED and self._unproven(instance_id, number)
        return Old(name, route, known, attempts, status, error, at or 0.0, _priority(place[0]), unproven)

    def _unproven(self, instance_id: int, number: int) -> bool:
        """Whether the destination has yet to prove it, or that cannot be told."""
        before = self.unreadable
        return bool(self._ask("unproven", (instance_id, number))) or self.unreadable > before

    def _ask(self, name: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        if self._connection is None:
            return []
        try:
            return self._connection.execute(_SQL[name], values).fetchall()
        except (sqlite3.Error, ValueError, OverflowError) as error:
            self.unreadable += 1
            _log.debug("the old journal cannot tell %s of %s: %s", name, values, error)
            return []


def _open(path: Path) -> sqlite3.Connection | None:
    if not path.exists() or not path.stat().st_size:  # SQLite deletes the log of an empty file
        return None
    for mode in _MODES:
        connection = read_only(path, mode=mode)
        try:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except (sqlite3.Error, ValueError) as error:
            _log.debug("%s (%s): %s", path, mode, error)
            connection.close()
        else:
            return connection
    return None


def _has_strands(connection: sqlite3.Connection) -> bool:
    """Whether deliveries have a ``strand``: not before schema 5."""
    try:
        return bool(connection.execute("SELECT 1 FROM pragma_table_info('delivery') WHERE name = 'strand'").fetchall())
    except (sqlite3.Error, ValueError):
        return True


def _priority(found: object) -> int:
    return nearest(found) if isinstance(found, int) else NORMAL


def _instance(row: tuple[Any, ...], header: bytes | None) -> Instance:
    id_, calling, called, listener, peer, *facts, _, checksum = row
    values = (id_, Source(calling, called, listener, peer), *facts[:7], unsigned(checksum), *facts[7:], header)
    return Instance(*values)
