"""The program with one of its promises broken: ``python -m tests.support.broken_build WHAT serve -c FILE``.

A test that claims to see losses, repeats or leaks has to see those of each of these builds. Nothing of this is in the
product.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Any
from unittest import mock

from asyncroute.admit import Admission
from asyncroute.cli import main
from asyncroute.commit import Committer
from asyncroute.core.model import Settlement
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Committed, Group
from asyncroute.journal.sqlite import SqliteJournal
from asyncroute.journal.write import GroupWriter
from asyncroute.queue.channel import Channel
from asyncroute.receive.base import Received

MODULE = "tests.support.broken_build"
AGAIN = """
UPDATE delivery SET state = 1 WHERE state = 3 AND instance IN (SELECT id FROM instance WHERE path IS NOT NULL)
"""


class Silent:
    """Has answered already."""

    def answer(self, *_: object) -> None:
        """Do nothing."""


def replace(owner: object, name: str, other: object) -> None:
    """Another attribute, for as long as this process lives."""
    mock.patch.object(owner, name, other).start()


def answer_before_commit() -> None:
    """Success is answered before the image is written."""
    whole = Committer.admit

    def admit(self: Committer, received: Received) -> None:
        received.owner.answer(received, 0, "")
        received.owner = Silent()
        whole(self, received)

    replace(Committer, "admit", admit)


def settle_before_answer() -> None:
    """A delivery counts as delivered when it is given to a lane."""
    whole = Channel._give

    def give(self: Channel, lane: Any, *what: Any) -> None:
        whole(self, lane, *what)
        ledger: Any = self._ledger
        ledger._settle(Settlement(self.sending[lane].instance_id, self.name, DeliveryState.DELIVERED, 1, time()))

    replace(Channel, "_give", give)


def release_before_commit() -> None:
    """Files are removed in the transaction that settles their last delivery, not after it."""
    whole = GroupWriter.write

    def write(self: GroupWriter, group: Group, careful: bool = False) -> Committed:
        done = whole(self, group, careful)
        spool = _file_of(self._connection).parent / "spool"
        for _, path in done.releasable:
            with contextlib.suppress(FileNotFoundError):
                (spool / path).unlink()
        return done

    replace(GroupWriter, "write", write)


def settled_again() -> None:
    """What is delivered but not yet released is sent again after a start."""
    whole = SqliteJournal.open

    def opened(*arguments: Any, **more: Any) -> SqliteJournal:
        journal = whole(*arguments, **more)
        journal._connection.execute(AGAIN)
        return journal

    replace(SqliteJournal, "open", opened)


def leak() -> None:
    """One KiB is kept for each image."""
    whole = Admission._stored
    kept: list[bytes] = []

    def stored(self: Admission, received: Received) -> None:
        kept.append(os.urandom(1024))
        whole(self, received)

    replace(Admission, "_stored", stored)


def _file_of(connection: sqlite3.Connection) -> Path:
    paths = {name: path for _, name, path in connection.execute("PRAGMA database_list").fetchall()}
    return Path(paths["main"])


BREACHES: dict[str, Callable[[], None]] = {
    "answer-before-commit": answer_before_commit,
    "settle-before-answer": settle_before_answer,
    "release-before-commit": release_before_commit,
    "settled-again": settled_again,
    "leak": leak,
}

if __name__ == "__main__":
    BREACHES[sys.argv.pop(1)]()
    main()
