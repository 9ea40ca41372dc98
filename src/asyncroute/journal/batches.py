"""What groups change of batches, as statements inside an open transaction.

Guarantees: as ``journal.write``: nothing here begins or ends a transaction. Every action may come twice, and changes
nothing the second time. Failures: SQLite's own errors.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from asyncroute.core.batches import (
    MOST_PROBLEMS,
    BatchAction,
    BatchRead,
    BatchState,
    BeginBatch,
    CancelBatch,
    EndBatch,
    Enqueue,
    Leftover,
    RetryBatch,
    SetWatch,
    SourceLeft,
    Tally,
    Trouble,
)
from asyncroute.journal.bulk import Rows
from asyncroute.journal.statements import load
from asyncroute.journal.values import clean, json_ids, signed, uid_key

SQL = load("batches.sql")
LONGEST_TEXT = 1000
_LINK = Rows(SQL["link"])


def link(connection: sqlite3.Connection, images: Iterable[tuple[int, int, str, str]]) -> None:
    """Which files of which batches admitted images are: (instance, batch, file, SOP Instance UID)."""
    rows = [(instance, batch, clean(file), uid_key(uid)) for instance, batch, file, uid in images]
    _LINK.run(connection, rows)


def act(connection: sqlite3.Connection, action: BatchAction, at: float) -> int:
    """Carry out ``action`` at ``at`` (seconds since the epoch); how many batches or watches it changed."""
    work = _Work(connection, at)
    match action:
        case Enqueue():
            return work.enqueue(action)
        case BeginBatch():
            stamp = {"inode": signed(action.stamp.inode), "changed": action.stamp.changed}
            return work.change("begin", batch=action.batch, **stamp)
        case BatchRead():
            return work.read(action)
        case EndBatch():
            return work.end(action)
        case SourceLeft():
            return work.left(action)
        case RetryBatch():
            return connection.execute(SQL["retry"], (action.batch,)).rowcount
        case CancelBatch():
            return work.cancel(action)
        case SetWatch():
            values = {"watch": clean(action.watch), "stopped": action.stopped}
            return connection.execute(SQL["set_watch"], values).rowcount


def reopen(connection: sqlite3.Connection, instances: Iterable[int]) -> None:
    """A person has changed what becomes of these images: batches of them that ended in error are under way again."""
    connection.execute(SQL["reopen"], (json_ids(instances),))


def prune(connection: sqlite3.Connection, before: float, limit: int) -> None:
    """Forget batches that ended before then and whose source is gone; the others have to be known again."""
    connection.execute(SQL["prune"], (before, limit))


class _Work:
    __slots__ = ("_at", "_connection")

    def __init__(self, connection: sqlite3.Connection, at: float) -> None:
        self._connection = connection
        self._at = at

    def change(self, statement: str, /, **values: Any) -> int:
        return self._connection.execute(SQL[statement], values | {"at": self._at}).rowcount

    def enqueue(self, action: Enqueue) -> int:
        return sum(
            self.change(
                "enqueue",
                watch=clean(action.watch),
                name=clean(entry.name),
                path=os.fsencode(entry.path),
                inode=signed(entry.stamp.inode),
                changed=entry.stamp.changed,
            )
            for entry in action.entries
        )

    def read(self, action: BatchRead) -> int:
        counts = asdict(action.counts)
        touched = self.change("read", batch=action.batch, signature=signed(action.signature), **counts)
        if touched:
            self._connection.execute(SQL["forget_troubles"], (action.batch,))
            self._tell(action.batch, action.troubles[:MOST_PROBLEMS])
        return touched

    def end(self, action: EndBatch) -> int:
        tally = Tally(*self._connection.execute(SQL["tally"], (action.batch,)).fetchone())
        owed = action.state is BatchState.DONE and bool(action.after)
        return self.change(
            "end",
            batch=action.batch,
            state=int(action.state),
            reason=str(clean(action.reason))[:LONGEST_TEXT],
            after=clean(action.after),
            leftover=int(Leftover.OWED if owed else Leftover.LEFT),
            delivered=tally.delivered,
            held=tally.held,
            failed=tally.failed,
            given_up=tally.discarded,
        )

    def left(self, action: SourceLeft) -> int:
        leftover = Leftover.LEFT if action.trouble else Leftover.GONE
        touched = self.change("left", batch=action.batch, leftover=int(leftover), more=int(bool(action.trouble)))
        if touched and action.trouble:
            self._tell(action.batch, [Trouble("", action.trouble)])
        return touched

    def cancel(self, action: CancelBatch) -> int:
        one = (action.batch,)
        return (
            self.change("cancel_queued", batch=action.batch)
            or self._connection.execute(SQL["cancel_reading"], one).rowcount
            or self._connection.execute(SQL["dismiss"], one).rowcount
        )

    def _tell(self, batch: int, troubles: Sequence[Trouble]) -> None:
        ((number,),) = self._connection.execute(SQL["next_trouble"], (batch,)).fetchall()
        rows = [
            (batch, number + n, it.error, clean(it.file), str(clean(it.text))[:LONGEST_TEXT])
            for n, it in enumerate(troubles)
        ]
        self._connection.executemany(SQL["trouble"], rows)
