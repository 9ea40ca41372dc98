"""What transforms have made of images, in the journal: for proof of deliveries, and for people.

Guarantees: the row of a delivery is what went out last; it is written with the delivery's result. What was changed is
stored once for all images of which the same was changed. Failures: SQLite's own errors.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

import xxhash

from asyncroute.core.model import Sent, Settlement
from asyncroute.core.states import DeliveryState
from asyncroute.journal.bulk import Rows
from asyncroute.journal.faults import storage_fault
from asyncroute.journal.place import read_only
from asyncroute.journal.statements import load
from asyncroute.journal.values import clean, signed

SQL = load("sent.sql")

_ENTER, _ENTER_EDIT = Rows(SQL["enter"]), Rows(SQL["enter_edit"])
_MADE = frozenset({DeliveryState.DELIVERED, DeliveryState.FAILED})


class SentBooks:
    """Writes both tables. ``used``: whether there are rows, so that where nothing is transformed nothing is asked."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.used = bool(connection.execute(SQL["any"]).fetchall())

    def enter(self, settlements: Iterable[Settlement], destinations: Mapping[str, int]) -> None:
        """These results came; ``destinations``: their numbers."""
        changed: list[tuple[Settlement, int, Sent, int]] = []
        plain: list[tuple[int, int]] = []
        for it in settlements:
            number = destinations.get(it.destination)
            if number is not None and it.sent is not None and it.state in _MADE:
                changed.append((it, number, it.sent, _number_of(it.sent.transform, it.sent.changes)))
            elif number is not None and it.state is DeliveryState.DELIVERED:
                plain.append((it.instance_id, number))
        if self.used and plain:
            self._connection.execute(SQL["leave"], (json.dumps(plain),))
        if changed:
            self.used = True
            self._enter(changed)

    def _enter(self, changed: Sequence[tuple[Settlement, int, Sent, int]]) -> None:
        edits = {edit: (edit, it.at, clean(sent.transform), clean(sent.changes)) for it, _, sent, edit in changed}
        _ENTER_EDIT.run(self._connection, list(edits.values()))
        rows = [(it.instance_id, number, edit, *map(clean, sent[1:5])) for it, number, sent, edit in changed]
        _ENTER.run(self._connection, rows)


@lru_cache(256)
def _number_of(transform: str, changes: str) -> int:
    return signed(xxhash.xxh3_64_intdigest(f"{transform}\0{changes}".encode("utf-8", "surrogatepass")))


def told(rows: Iterable[tuple[Any, ...]]) -> dict[tuple[int, str], Sent]:
    """Rows of ``of_images``, by instance and destination."""
    found = {}
    for instance, name, sop_class_uid, sop_instance_uid, study_uid, series_uid, transform, changes in rows:
        found[instance, name] = Sent(transform, sop_class_uid, sop_instance_uid, study_uid, series_uid, changes)
    return found


def originals(journal: Path, uid: str) -> list[tuple[str, float]]:
    """SOP Instance UIDs of what went out as ``uid``, and when it was received; also while a router runs.

    Raises:
        StorageFault: the journal cannot be read.
    """
    if not journal.exists():
        return []
    try:
        with closing(read_only(journal)) as reading:
            if not reading.execute(SQL["exists"]).fetchall():
                return []
            return [(original, at) for original, at in reading.execute(SQL["originals"], (uid,)) if original != uid]
    except sqlite3.Error as error:
        raise storage_fault(error, journal) from error
