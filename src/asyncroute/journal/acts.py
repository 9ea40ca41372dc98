"""A person's actions, and recovery's, as statements inside a group's transaction.

Guarantees: an action touches only what it selects and what its states allow; each is noted as an event of the images
that it touched. Failures: SQLite's own errors.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from asyncroute.core.batches import BatchAction
from asyncroute.core.groups import EndStudies, Move
from asyncroute.core.model import Selection
from asyncroute.core.proof import ProofAction
from asyncroute.core.states import DeliveryState
from asyncroute.journal import batches, completions, proof, select
from asyncroute.journal.base import (
    Action,
    Complete,
    Discard,
    Event,
    FileLost,
    Hold,
    Redirect,
    Release,
    Reroute,
    Retry,
    SendNow,
)
from asyncroute.journal.values import clean, json_ids, strand
from asyncroute.journal.work import BULK, OF_NO_DESTINATION, SQL, Work, cleaned

MOST_HOLDS = 100
"""Ended holds of a destination that are remembered."""

_RETRIED = frozenset({DeliveryState.FAILED, DeliveryState.READY})
_DISCARDED = frozenset({DeliveryState.WAITING, DeliveryState.READY, DeliveryState.FAILED})
_AGAIN = "state = 1, attempts = 0, not_before = 0, settled_at = NULL, since = :since"


class Acts(Work):
    """Work that knows actions."""

    __slots__ = ()

    def act(self, action: Action) -> int:
        """The number of deliveries or images that ``action`` touched."""
        match action:
            case Retry():
                return self._note("retried", "sent again at a person's word", self._change(action, _AGAIN))
            case Discard():
                return self._discard_held(action) if action.held else self._discard(action)
            case Reroute() | Redirect():
                return self._reroute(action) if isinstance(action, Reroute) else self._redirect(action)
            case FileLost():
                return self._lose(action)
            case Hold() | Release():
                return self._hold(action) if isinstance(action, Hold) else self._release(action)
            case Complete() | SendNow():
                return self._end_wait(action)
            case Move() | EndStudies():
                touched, freed = self._grouping().act(action)
                self._touched.update(freed)
                return touched
            case _:
                return self._more(action)

    def _more(self, action: ProofAction | BatchAction) -> int:
        if isinstance(action, BatchAction):
            return batches.act(self._connection, action, self._at)
        return self._prove(action)

    def _prove(self, action: ProofAction) -> int:
        done = proof.act(self._connection, action, self._number, self._at)
        self._touched.update(done.images)
        self._counts.update({("delivered", number): -n for number, n in done.undelivered.items()})
        self._events += done.events
        return done.touched

    def _change(self, action: Retry | Discard, assignments: str) -> list[tuple[int, int]]:
        """Set columns of the selected deliveries; their (instance, destination number)s."""
        selection = action.selection
        allowed = _RETRIED if isinstance(action, Retry) else _DISCARDED
        states = tuple(allowed.intersection(selection.states or (DeliveryState.FAILED,)))
        chosen, values = select.deliveries(selection, states)
        sql = (
            f"UPDATE delivery SET {assignments} WHERE (instance, destination) IN "
            f"(SELECT d.instance, d.destination {chosen}) RETURNING instance, destination"
        )
        return self._connection.execute(sql, values | {"at": self._at, "since": self._since}).fetchall()

    def _discard(self, action: Discard) -> int:
        gone = self._change(action, "state = 6, not_before = 0, settled_at = :at")
        self._close_empty(action.selection, gone)
        self._counts.update(("discarded", destination) for _, destination in gone)
        self._touched.update(instance for instance, _ in gone)
        return self._note("discarded", "given up at a person's word", gone)

    def _close_empty(self, selection: Selection, gone: Sequence[tuple[int, int]]) -> None:
        """If these waited for a completion, it may be over now."""
        if DeliveryState.WAITING in selection.states:
            completions.close_empty(self._connection, (instance for instance, _ in gone), self._at)

    def _note(self, kind: str, text: str, touched: Sequence[tuple[int, int]]) -> int:
        """Events for what a person's word has touched; how many that is."""
        if touched:
            values = {"at": self._at, "kind": kind, "text": text, "touched": json.dumps(touched)}
            self._connection.execute(SQL["insert_words"], values)
            batches.reopen(self._connection, (instance for instance, _ in touched))
        return len(touched)

    def _note_held(self, kind: str, text: str, ids: Sequence[int]) -> None:
        values = {"at": self._at, "kind": kind, "text": text, "ids": json_ids(ids)}
        self._connection.execute(SQL["insert_words_held"], values)
        batches.reopen(self._connection, ids)

    def _discard_held(self, action: Discard) -> int:
        chosen, values = select.held(action.selection)
        gone = [id_ for (id_,) in self._connection.execute(f"SELECT i.id {chosen}", values).fetchall()]
        self._note_held("discarded", "given up at a person's word", gone)
        self._connection.execute(SQL["end_holds"], (json_ids(gone),))
        self._counts["discarded", OF_NO_DESTINATION] += len(gone)
        self._touched.update(gone)
        return len(gone)

    def _reroute(self, action: Reroute) -> int:
        if not action.hits:
            if action.hold_reason is None:
                return 0
            values = (clean(action.hold_reason), action.instance_id)
            return self._connection.execute(SQL["change_hold"], values).rowcount
        self._note_held("routed", "routed again at a person's word", [action.instance_id])
        found = self._connection.execute(SQL["end_hold"], (action.instance_id,)).fetchall()
        if not found:
            return 0
        (size, calling_aet, study_uid) = found[0]
        key = strand(calling_aet, study_uid)
        rows = [self._owed(action.instance_id, hit, key, size, self._at, None) for hit in action.hits]
        BULK["owe"].run(self._connection, list(map(cleaned, rows)))
        if any(hit.groups for hit in action.hits):
            self._grouping().enter((action.instance_id, hit) for hit in action.hits if hit.groups)
        return 1

    def _redirect(self, action: Redirect) -> int:
        states = tuple(_DISCARDED.intersection(action.selection.states or (DeliveryState.FAILED,)))
        chosen, values = select.deliveries(action.selection, states)
        values |= {"target": self._number(action.destination)}
        sql = f"SELECT d.instance, d.destination {chosen} AND {select.NOT_THERE}"
        touched = self._connection.execute(sql, values).fetchall()
        values = {"target": values["target"], "touched": json.dumps(touched), "at": self._at, "since": self._since}
        self._connection.execute(SQL["redirect"], values)
        self._connection.execute(SQL["redirected"], values)
        self._close_empty(action.selection, touched)
        return self._note("rerouted", f"goes to {action.destination} instead, at a person's word", touched)

    def _lose(self, action: FileLost) -> int:
        values = {"instance": action.instance_id, "reason": action.reason, "at": action.at}
        touched = self._connection.execute(SQL["lose_deliveries"], values).rowcount
        if touched:
            completions.close_empty(self._connection, [action.instance_id], self._at)
        touched += self._connection.execute(SQL["lose_held"], values).rowcount
        if touched:
            self._events.append(Event(action.at, "file-lost", action.reason, action.instance_id))
        return touched

    def _hold(self, action: Hold) -> int:
        number = self._number(action.destination)
        self._connection.execute(SQL["forget_holds"], {"destination": number, "keep": MOST_HOLDS})
        begun = self._connection.execute(SQL["begin_hold"], (number, self._at, self._since)).rowcount
        return self._told(begun, "hold", "a person holds this destination", action.destination)

    def _release(self, action: Release) -> int:
        number = self._destinations.get(action.destination)
        ended = self._connection.execute(SQL["end_hold_of"], (self._since, number)).rowcount
        return self._told(ended, "release", "a person releases this destination", action.destination)

    def _end_wait(self, action: Complete | SendNow) -> int:
        if isinstance(action, Complete):
            return completions.complete(self._connection, action, self._at, self._since)
        touched = completions.send_now(self._connection, action, self._at, self._since)
        return self._note("released", "waits no longer, at a person's word", touched)

    def _told(self, touched: int, kind: str, text: str, destination: str) -> int:
        if touched:
            self._events.append(Event(self._at, kind, text, destination=destination))
        return touched
