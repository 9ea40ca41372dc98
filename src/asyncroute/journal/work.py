"""What every part of a group's writing shares: the connection, the times, what is touched and has to be counted."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter

from asyncroute.core.model import RouteHit
from asyncroute.journal import completions
from asyncroute.journal.base import Committed, Event, Group
from asyncroute.journal.bulk import Row, Rows
from asyncroute.journal.grouping import Grouping
from asyncroute.journal.later import Later
from asyncroute.journal.statements import load
from asyncroute.journal.values import clean

SQL = load("write.sql")
BULK = {name: Rows(SQL[name]) for name in ("admit", "owe", "enter", "settle")}
OF_NO_DESTINATION = 0


class Work:
    """One group's progress: what was touched, what has to be counted."""

    __slots__ = (
        "_at",
        "_careful",
        "_connection",
        "_counts",
        "_destinations",
        "_events",
        "_groups",
        "_joining",
        "_later",
        "_queued_at",
        "_since",
        "_studies",
        "_touched",
        "done",
    )

    def __init__(
        self,
        connection: sqlite3.Connection,
        destinations: dict[str, int],
        group: Group,
        since: float,
        careful: bool,
        later: Later,
    ) -> None:
        self._connection = connection
        self._destinations = destinations
        self._at = group.at or time.time()
        self._queued_at = group.at
        self._since = since
        self._careful = careful
        self._later = later
        self._joining = completions.Joining(connection, self._at, since)
        self._counts: Counter[tuple[str, int]] = Counter()
        self._touched: set[int] = set()
        self._studies: list[Row] = []
        self._events: list[Event] = []
        self._groups: Grouping | None = None
        self.done = Committed()

    def _number(self, destination: str) -> int:
        """The number of a destination, which is made if it is new."""
        known = self._destinations.get(destination)
        if known is None:
            (known,) = self._connection.execute(SQL["insert_destination"], (clean(destination),)).fetchall()[0]
            self._destinations[destination] = known
        return known

    def _owed(self, instance_id: int, hit: RouteHit, key: int, size: int, at: float, completion: int | None) -> Row:
        """The values of ``owe``; ``key``: the strand; ``at``: when it was queued; ``completion``: what it waits for."""
        facts = (hit.route, hit.priority, key, size, at, self._since, completion)
        return (instance_id, self._number(hit.destination), completion is None, *facts)

    def _run(self, name: str, rows: list[Row]) -> int:
        """Execute a statement with many rows; the number of rows changed."""
        return BULK[name].run(self._connection, list(map(cleaned, rows)) if self._careful else rows)

    def _grouping(self) -> Grouping:
        """For what concerns groups; made when it is needed."""
        if self._groups is None:
            self._groups = Grouping(self._connection, self._number, self._since, self._at)
            self.done.regrouped = self._groups.news
        return self._groups


def read_destinations(connection: sqlite3.Connection, into: dict[str, int]) -> None:
    """The numbers of all destinations by name."""
    into.clear()
    into.update(connection.execute(SQL["destinations"]).fetchall())


def cleaned(row: Row) -> Row:
    """The same, in values that SQLite takes."""
    return tuple(map(clean, row))
