"""Images that wait for their study or series, in the journal: which completion each of them joins, and its end.

A completion begins with the first image of a study (or series) from one source by one route, and ends when it is
complete. What comes later begins another one, which waits likewise or is held for a person. All of it happens in the
transactions of the images themselves, so that no image can be between two completions.
Guarantees: nothing here begins or ends a transaction; a group costs two statements for each study in it, not one for
each image.
Failures: SQLite's own errors.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from asyncroute.core.completion import Completion
from asyncroute.core.model import Instance, RouteHit, Wait
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Complete, SendNow
from asyncroute.journal.select import deliveries
from asyncroute.journal.statements import load
from asyncroute.journal.values import clean, json_ids

SQL = load("completion.sql")
WAITS, COMPLETE, HELD = 0, 1, 2
LATE = "came after its {} was complete; held for a person"

Key = tuple[object, object, object]


class _Joined:
    """A completion, and what one group adds to it."""

    __slots__ = ("first_at", "first_since", "held", "id", "new", "owed", "unit")

    def __init__(self, id_: int, unit: str, held: bool, new: bool, first_at: float, first_since: float) -> None:
        self.id = id_
        self.unit = unit
        self.held = held
        self.new = new
        self.first_at = first_at
        self.first_since = first_since
        self.owed: set[tuple[int, str]] = set()


class Joining:
    """What the images of one group wait for. ``at``: now, since the epoch; ``since``: on the journal's clock."""

    def __init__(self, connection: sqlite3.Connection, at: float, since: float) -> None:
        self._connection = connection
        self._at = at
        self._since = since
        self._joined: dict[Key, _Joined] = {}

    def join(self, image: Instance, hit: RouteHit, wait: Wait) -> int:
        """The completion for which ``image`` waits by this hit; the same again if asked again."""
        key = (clean(image.unit_uid(wait)), clean(hit.route), clean(image.source.calling_aet))
        joined = self._joined.get(key)
        if joined is None:
            joined = self._joined[key] = self._current(key, wait)
        joined.owed.add((image.id, hit.destination))
        return joined.id

    def _current(self, key: Key, wait: Wait) -> _Joined:
        newest = self._connection.execute(SQL["newest"], key).fetchone()
        if newest is not None and newest[1] != COMPLETE:
            id_, state, *first = newest
            return _Joined(id_, wait.unit, state == HELD, False, *first)
        state = HELD if newest is not None and wait.hold_late else WAITS
        uid, route, calling_aet = key
        values = (route, calling_aet, wait.unit, uid, state, self._at, self._at, self._since, self._since)
        ((id_,),) = self._connection.execute(SQL["begin"], values).fetchall()
        return _Joined(id_, wait.unit, state == HELD, True, self._at, self._since)

    def finish(self) -> list[Completion]:
        """All images of the group are written: what was joined, with the images that this group added."""
        for joined in self._joined.values():
            if not joined.new:
                self._connection.execute(SQL["go_on"], (self._at, self._since, joined.id))
            if joined.held:
                self._connection.execute(SQL["say_late"], (LATE.format(joined.unit), joined.id))
        return [self._told(key, joined) for key, joined in self._joined.items()]

    def _told(self, key: Key, joined: _Joined) -> Completion:
        uid, route, calling_aet = map(str, key)
        owed: dict[str, int] = {}
        for _, destination in joined.owed:
            owed[destination] = owed.get(destination, 0) + 1
        times = (joined.first_at, self._at, joined.first_since, self._since)
        images = len({image for image, _ in joined.owed})
        return Completion(joined.id, route, calling_aet, joined.unit, uid, joined.held, *times, images, owed)


def complete(connection: sqlite3.Connection, action: Complete, at: float, since: float) -> int:
    """These completions are complete: all that waits for them is ready. The number of deliveries."""
    if not action.ids:
        return 0
    values = {"ids": json_ids(action.ids), "at": at, "since": since}
    connection.execute(SQL["complete"], values)
    return connection.execute(SQL["make_ready"], values).rowcount


def send_now(connection: sqlite3.Connection, action: SendNow, at: float, since: float) -> list[tuple[int, int]]:
    """What a person does not want to wait any longer is ready: (instance, destination's number)."""
    chosen, values = deliveries(action.selection, (DeliveryState.WAITING,))
    late = f"AND d.completion IN (SELECT id FROM completion WHERE state = {HELD})" if action.late else ""
    sql = (
        "UPDATE delivery SET state = 1, since = :since, last_error = '' WHERE (instance, destination) IN "
        f"(SELECT d.instance, d.destination {chosen} {late}) RETURNING instance, destination"
    )
    touched = connection.execute(sql, values | {"since": since}).fetchall()
    close_empty(connection, (instance for instance, _ in touched), at)
    return touched


def close_empty(connection: sqlite3.Connection, instances: Iterable[int], at: float) -> None:
    """Completions of these images for which nothing waits any more are over."""
    connection.execute(SQL["complete_empty"], {"ids": json_ids(instances), "at": at})


def told(rows: Sequence[tuple[Any, ...]]) -> list[Completion]:
    """The answer to ``waiting``."""
    found: dict[int, Completion] = {}
    for id_, route, aet, unit, uid, state, *facts, destination, number in rows:
        if id_ not in found:
            first_at, last_at, first_since, last_since, images = facts
            times = (first_at, last_at, first_since, last_since)
            found[id_] = Completion(id_, route, aet, unit, uid, state == HELD, *times, images, {})
        found[id_].owed[destination] = number
    return list(found.values())
