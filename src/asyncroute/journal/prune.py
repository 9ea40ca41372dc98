"""Forgetting what is over: images released and settled, old events and studies.

Guarantees: a call looks at a bounded number of rows and is one small transaction; totals and ids survive; nothing that
is held, open or still in the spool is forgotten.
Failures: SQLite's own errors; nothing is forgotten then.
"""

from __future__ import annotations

import sqlite3

from asyncroute.journal.statements import load
from asyncroute.journal.values import json_ids

LOOK = 4000
"""Rows looked at in one call, at most."""

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
                self._connection.execute(_SQL["prune_instances"], (json_ids(ids),))
                self._connection.execute(_SQL["prune_mark"], (ids[-1],))
            self._connection.execute(_SQL["prune_events"], (before, limit))
            self._connection.execute(_SQL["prune_studies"], (before, limit))
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._passed = passed
        return len(ids)

    def _over(self, before: float, limit: int) -> tuple[list[int], int]:
        """The next ids to forget, and how far this round has come (0: to the end)."""
        rows = self._connection.execute(_SQL["prune_look"], (before, self._passed, LOOK)).fetchall()
        ids: list[int] = []
        for id_, released, old, owed in rows:
            if not old:
                return ids, 0
            if released and not owed:
                ids.append(id_)
                if len(ids) == limit:
                    return ids, id_
        return ids, rows[-1][0] if len(rows) == LOOK else 0
