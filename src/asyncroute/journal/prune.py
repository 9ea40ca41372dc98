"""Forgetting what is over: images released and settled, old events and studies.

Guarantees: a call looks at a bounded number of rows and is one small transaction; totals and ids survive; nothing that
is held, open or still in the spool is forgotten. Images that bear a date to come (the clock was wrong when they came)
are as old as the next one that does not.
Failures: SQLite's own errors; nothing is forgotten then.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from time import time

from asyncroute.journal import batches, completions, headers, sent
from asyncroute.journal.statements import load
from asyncroute.journal.values import json_ids

LOOK = 4000
"""Rows looked at in one call, at most."""

TOLERANCE = 3600.0
"""Seconds ahead of the clock that a date may be."""

_SQL = load("admin.sql")


class Pruner:
    """Walks through the journal from its oldest image on, over many calls. Not thread-safe."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._passed = 0
        """Images up to this id were looked at in this round and have to stay."""

    def prune(self, before: float, limit: int) -> int:
        """See ``Writer.prune``."""
        ids, passed = self._over(before, limit)
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            if ids:
                self._forget(ids)
            self._connection.execute(_SQL["prune_events"], (before, limit))
            self._connection.execute(_SQL["prune_studies"], (before, limit))
            self._connection.execute(completions.SQL["prune"], (before, limit))
            self._connection.execute(sent.SQL["prune"], (before, limit))
            batches.prune(self._connection, before, limit)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._passed = passed
        return len(ids)

    def _forget(self, ids: list[int]) -> None:
        """Images and their headers."""
        chosen = (json_ids(ids),)
        groups = [group for (group,) in self._connection.execute(_SQL["header_groups"], chosen).fetchall()]
        self._connection.execute(_SQL["prune_instances"], chosen)
        self._connection.execute(_SQL["prune_headers"], (json_ids(groups),))
        gone = frozenset(ids)
        for group in groups:
            self._take_out(group, gone)
        self._connection.execute(_SQL["prune_mark"], (ids[-1],))

    def _take_out(self, group: int, gone: Collection[int]) -> None:
        """Pack headers anew without those of ``gone``, if others are left; what is damaged stays as it is."""
        for packed in self._connection.execute(_SQL["headers_left"], (group,)).fetchall():
            left = headers.without(gone, *packed)
            if left is not None:
                self._connection.execute(_SQL["change_headers"], (*left, group))

    def _over(self, before: float, limit: int) -> tuple[list[int], int]:
        """The next ids to forget, and how far this round has come (0: to the end)."""
        values = (before, time() + TOLERANCE, self._passed, LOOK)
        rows = self._connection.execute(_SQL["prune_look"], values).fetchall()
        ids: list[int] = []
        undated: list[int] = []
        for id_, released, old, to_come, owed in rows:
            over = [id_] if released and not owed else []
            if to_come:
                undated += over
                continue
            if not old:
                return ids, 0
            ids += undated + over
            undated = []
            if len(ids) >= limit:
                return ids, id_
        return ids, rows[-1][0] if len(rows) == LOOK else 0
