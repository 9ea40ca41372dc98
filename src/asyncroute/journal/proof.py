"""What groups change of delivery proof, as statements inside an open transaction.

Guarantees: as ``journal.write``: nothing here begins or ends a transaction. A delivery is confirmed or set back only
while it waits for proof, so that a report that comes twice, or late, changes nothing the second time.
Failures: SQLite's own errors.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from asyncroute.core.proof import Ask, Asked, Overdue, Pledge, ProofAction, Proven, Redeem, Setback, Unask, Waive
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Event
from asyncroute.journal.statements import load
from asyncroute.journal.values import clean, json_ids

SQL = load("proof.sql")
KEPT: Final = 1000
"""Transactions of a destination that are remembered when they are over."""


class Changed(NamedTuple):
    """What an action did: deliveries touched; images that may be releasable now; by destination's number,
    deliveries that are none any more."""

    touched: int = 0
    images: Sequence[int] = ()
    undelivered: Mapping[int, int] = {}
    events: Sequence[Event] = ()


def expect(connection: sqlite3.Connection, delivered: Sequence[tuple[int, int]]) -> None:
    """These deliveries (instance, number of the destination) need a proof, if they are delivered."""
    connection.execute(SQL["expect"], (json.dumps(delivered),))


def act(connection: sqlite3.Connection, action: ProofAction, number: Callable[[str], int], at: float) -> Changed:
    """Carry out ``action``; ``number``: of a destination, by name. ``at``: seconds since the epoch, now."""
    work = _Work(connection, at)
    match action:
        case Ask():
            return work.ask(action, number(action.destination))
        case Asked():
            return Changed(connection.execute(SQL["asked"], (action.due, action.transaction_uid)).rowcount)
        case Unask():
            return work.unask(action)
        case Overdue():
            return work.overdue(action, number(action.destination))
        case Proven():
            return work.proven(action, number(action.destination))
        case Waive():
            return work.waive(number(action.destination))
        case Pledge():
            return work.pledge(action)
        case Redeem():
            return Changed(connection.execute(SQL["redeem"], (action.pledge_id,)).rowcount)


class _Work:
    __slots__ = ("_at", "_connection")

    def __init__(self, connection: sqlite3.Connection, at: float) -> None:
        self._connection = connection
        self._at = at

    def ask(self, action: Ask, destination: int) -> Changed:
        ids = json_ids(action.instance_ids)
        row = (clean(action.transaction_uid), destination, action.due, ids)
        ((inquiry,),) = self._connection.execute(SQL["ask"], row).fetchall()
        self._connection.execute(SQL["forget"], {"destination": destination, "keep": KEPT})
        values = {"inquiry": inquiry, "destination": destination, "ids": ids}
        return Changed(self._connection.execute(SQL["asking"], values).rowcount)

    def unask(self, action: Unask) -> Changed:
        touched = 0
        for inquiry, destination in self._number(action.transaction_uid):
            touched += self._again(destination, inquiry)
            self._connection.execute(SQL["over" if action.heard else "unheard"], (inquiry,))
        return Changed(touched)

    def overdue(self, action: Overdue, destination: int) -> Changed:
        values = {"destination": destination, "now": action.now, "ahead": action.ahead, "unsure": action.unsure}
        touched = 0
        for (inquiry,) in self._connection.execute(SQL["overdue"], values).fetchall():
            touched += self._again(destination, inquiry)
            self._connection.execute(SQL["over"], (inquiry,))
        return Changed(touched)

    def proven(self, action: Proven, destination: int) -> Changed:
        values = {"destination": destination, "ids": json_ids(action.confirmed)}
        confirmed = [id_ for (id_,) in self._connection.execute(SQL["confirm"], values).fetchall()]
        back = [it for it in action.setbacks if self._set_back(it, destination)]
        over = json_ids([*confirmed, *(it.instance_id for it in back)])
        self._connection.execute(SQL["proven"], {"destination": destination, "ids": over})
        for inquiry, _ in self._number(action.transaction_uid):
            self._connection.execute(SQL["answered"], {"destination": destination, "inquiry": inquiry})
        events = (*self._good(action, confirmed), *self._bad(action, back))
        return Changed(len(confirmed) + len(back), confirmed, {destination: len(back)}, events)

    def waive(self, destination: int) -> Changed:
        ids = [id_ for (id_,) in self._connection.execute(SQL["waive"], (destination,)).fetchall()]
        self._connection.execute(SQL["end_inquiries"], (destination,))
        return Changed(len(ids), ids)

    def pledge(self, action: Pledge) -> Changed:
        row = (action.transaction_uid, action.calling_aet, action.called_aet, action.until)
        cleaned = (*map(clean, row), json.dumps(action.references))
        return Changed(self._connection.execute(SQL["pledge"], cleaned).rowcount)

    def _number(self, transaction_uid: str) -> list[tuple[int, int]]:
        return self._connection.execute(SQL["number"], (clean(transaction_uid),)).fetchall()

    def _again(self, destination: int, inquiry: int) -> int:
        return self._connection.execute(SQL["ask_again"], (destination, inquiry)).rowcount

    def _set_back(self, it: Setback, destination: int) -> bool:
        values = {
            "destination": destination,
            "instance": it.instance_id,
            "state": int(it.state),
            "not_before": it.not_before,
            "status": it.reason,
            "error": clean(it.error),
            "settled_at": self._at if it.state is DeliveryState.FAILED else None,
        }
        return bool(self._connection.execute(SQL["set_back"], values).fetchall())

    def _good(self, action: Proven, ids: Iterable[int]) -> Iterable[Event]:
        return (Event(self._at, "confirmed", action.how, id_, action.destination) for id_ in ids)

    def _bad(self, action: Proven, back: Iterable[Setback]) -> Iterable[Event]:
        kinds = {DeliveryState.FAILED: "failed", DeliveryState.READY: "unconfirmed"}
        return (Event(self._at, kinds[it.state], it.error, it.instance_id, action.destination) for it in back)
