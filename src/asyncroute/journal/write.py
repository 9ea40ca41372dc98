"""What one group changes, as statements inside an open transaction.

Guarantees: nothing here begins or ends a transaction. What a group has many of (images, deliveries, results, files
released) goes in one statement; counters and studies are written once per group, not per image.
Failures: SQLite's own errors. In careful mode a row that cannot be written is left out and named in
``Committed.refused``; otherwise it fails the transaction, and the caller starts again in careful mode.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from asyncroute.core.groups import EndStudies, Move
from asyncroute.core.model import Instance, RouteHit, Selection, Settlement
from asyncroute.core.proof import ProofAction
from asyncroute.core.states import DeliveryState
from asyncroute.journal import completions, proof, select
from asyncroute.journal.base import (
    Action,
    Committed,
    Complete,
    Discard,
    Event,
    FileLost,
    Group,
    Hold,
    Redirect,
    Release,
    Reroute,
    Retry,
    SendNow,
)
from asyncroute.journal.bulk import Row, Rows
from asyncroute.journal.clock import RunClock
from asyncroute.journal.faults import ROW_FAULTS
from asyncroute.journal.grouping import Grouping
from asyncroute.journal.later import Later
from asyncroute.journal.statements import load, script
from asyncroute.journal.values import clean, json_ids, signed, strand, uid_key

SQL = load("write.sql")
LONGEST_TEXT = 1000
MOST_HOLDS = 100
"""Ended holds of a destination that are remembered."""

_DONE = frozenset({DeliveryState.DELIVERED, DeliveryState.CONFIRMED, DeliveryState.DISCARDED})
_RETRIED = frozenset({DeliveryState.FAILED, DeliveryState.READY})
_DISCARDED = frozenset({DeliveryState.WAITING, DeliveryState.READY, DeliveryState.FAILED})
_OF_NO_DESTINATION = 0
_AGAIN = "state = 1, attempts = 0, not_before = 0, settled_at = NULL, since = :since"
_log = logging.getLogger(__name__)

_BULK = {name: Rows(SQL[name]) for name in ("admit", "enter", "settle", "insert_delivery")}
_TO_NOBODY: Row = (None,) * 5
_AS_BEFORE: Row = (None,) * 19
_NO_STUDY: Row = (None,) * 5


class GroupWriter:
    """Writes groups through one connection; knows the numbers of destinations. Not thread-safe."""

    def __init__(self, connection: sqlite3.Connection, clock: RunClock) -> None:
        self._connection = connection
        self._clock = clock
        self._destinations: dict[str, int] = {}
        for statement in script("gates.sql"):
            connection.execute(statement)
        self._later = Later(connection.execute(SQL["next_pack"]).fetchone()[0])
        self.forget()

    def forget(self) -> None:
        """A transaction has been rolled back: what it made, such as destinations, is not there."""
        self._later.undone()
        _read_destinations(self._connection, self._destinations)

    def committed(self) -> None:
        """The transaction is durable."""
        self._later.committed()

    @property
    def waiting(self) -> bool:
        """Whether a group is still to write what earlier ones left for later."""
        return self._later.waiting

    def write(self, group: Group, careful: bool = False) -> Committed:
        """Everything that ``group`` asks for."""
        work = _Work(self._connection, self._destinations, group, self._clock(), careful, self._later)
        if group.admits:
            work.admit(group.admits)
        if group.settlements:
            work.settle(group.settlements)
        for action in group.actions:
            work.done.acted.append(work.act(action))
        work.finish(group.released, group.events, now=not group.later or self._later.full)
        clock = self._clock.due()
        if clock is not None:
            self._connection.execute(SQL["set_clock"], (clock,))
        return work.done


class _Work:
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

    # -- admission

    def admit(self, images: Sequence[Instance]) -> None:
        """Instances with their deliveries, studies, counters; conflicts with earlier copies."""
        if self._careful:
            self._join(images)
            images = [image for image in images if self._is_admitted(image)]
        else:
            self._insert(images)
            self._enter(images)
        self._counts["received", _OF_NO_DESTINATION] += len(images)
        self._studies = _studies(images)
        self._touched.update(image.id for image in images if not image.hits and image.hold_reason is None)

    def _join(self, images: Sequence[Instance]) -> None:
        """What they wait for has to be there before the first of them: it stays, also where an image is refused."""
        for image in images:
            for hit in image.hits:
                self._completion(image, hit)

    def _completion(self, image: Instance, hit: RouteHit) -> int | None:
        return None if hit.wait is None else self._joining.join(image, hit, hit.wait)

    def _insert(self, images: Sequence[Instance]) -> None:
        rows: list[Row] = []
        for image in images:
            rows += self._rows(image)
        self._run("admit", rows)

    def _rows(self, image: Instance) -> list[Row]:
        """An image with its first delivery, if it has one; its other ones."""
        pack = self._later.place(image)
        key = strand(image.source.calling_aet, image.study_uid)
        facts = (image.id, image.size, self._queued_at or image.received_at, key)
        owed = [
            (*facts, self._number(hit.destination), hit.route, hit.priority, self._since, self._completion(image, hit))
            for hit in image.hits
        ]
        first = owed[0] if owed else (*facts, *_TO_NOBODY)
        return [(*first, image.received_at, pack, *_identity(image)), *((*more, *_AS_BEFORE) for more in owed[1:])]

    def _enter(self, images: Iterable[Instance]) -> None:
        """What groups have to know of these images."""
        grouped = [(image.id, hit) for image in images for hit in image.hits if hit.groups]
        if grouped:
            self._grouping().enter(grouped)

    def _grouping(self) -> Grouping:
        """For what concerns groups; made when it is needed."""
        if self._groups is None:
            self._groups = Grouping(self._connection, self._number, self._since, self._at)
            self.done.regrouped = self._groups.news
        return self._groups

    def _run(self, name: str, rows: list[Row]) -> int:
        """Execute a statement with many rows; the number of rows changed."""
        return _BULK[name].run(self._connection, list(map(_cleaned, rows)) if self._careful else rows)

    def _is_admitted(self, image: Instance) -> bool:
        """Careful mode: whether this one image could be written; if not, it is refused."""
        self._connection.execute("SAVEPOINT one")
        try:
            self._insert([image])
            self._enter([image])
        except ROW_FAULTS as error:
            self._connection.execute("ROLLBACK TO one")
            self._later.take_back(image)
            _read_destinations(self._connection, self._destinations)
            self.done.refused[image.id] = f"the journal cannot hold this image: {error}"
        self._connection.execute("RELEASE one")
        return image.id not in self.done.refused

    def _number(self, destination: str) -> int:
        """The number of a destination, which is made if it is new."""
        known = self._destinations.get(destination)
        if known is None:
            (known,) = self._connection.execute(SQL["insert_destination"], (clean(destination),)).fetchall()[0]
            self._destinations[destination] = known
        return known

    # -- settlement

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Results of attempts. Only open deliveries change, and only those are counted."""
        alike: dict[tuple[str, DeliveryState, bool], list[Settlement]] = {}
        unproven: list[tuple[int, int]] = []
        for it in settlements:
            if it.unproven:
                unproven.append((it.instance_id, self._number(it.destination)))
            warned = bool(it.status) and it.state in _DONE
            alike.setdefault((it.destination, it.state, warned), []).append(it)
            if it.state in _DONE:
                self._touched.add(it.instance_id)
        for (destination, state, warned), some in alike.items():
            number = self._destinations.get(destination)
            if number is not None:
                self._settle_alike(number, state, warned, some)
        if unproven:
            proof.expect(self._connection, unproven)

    def _settle_alike(self, number: int, state: DeliveryState, warned: bool, alike: Sequence[Settlement]) -> None:
        rows = [_settlement_row(it, number) for it in alike]
        if len({it.instance_id for it in alike}) == len(alike):
            changed = self._run("settle", rows)
        else:
            changed = sum(self._run("settle", [row]) for row in rows)
        if state is DeliveryState.DISCARDED:
            self._counts["discarded", number] += changed
        elif state in _DONE:
            self._counts["delivered", number] += changed
            self._counts["warned", number] += changed if warned else 0

    # -- a person's actions, and recovery's

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
        return len(touched)

    def _note_held(self, kind: str, text: str, ids: Sequence[int]) -> None:
        values = {"at": self._at, "kind": kind, "text": text, "ids": json_ids(ids)}
        self._connection.execute(SQL["insert_words_held"], values)

    def _discard_held(self, action: Discard) -> int:
        chosen, values = select.held(action.selection)
        gone = [id_ for (id_,) in self._connection.execute(f"SELECT i.id {chosen}", values).fetchall()]
        self._note_held("discarded", "given up at a person's word", gone)
        self._connection.execute(SQL["end_holds"], (json_ids(gone),))
        self._counts["discarded", _OF_NO_DESTINATION] += len(gone)
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
        facts = (size, strand(calling_aet, study_uid), self._at, self._since)
        rows = [
            (action.instance_id, self._number(hit.destination), hit.route, hit.priority, *facts) for hit in action.hits
        ]
        _BULK["insert_delivery"].run(self._connection, list(map(_cleaned, rows)))
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

    # -- the end of a group

    def finish(self, released: Sequence[int], events: Sequence[Event], now: bool) -> None:
        """Files released, studies, counters; what has become releasable; events.

        ``now``: also headers and conflicts with earlier copies, of this group and of those before.
        """
        counts = [(name, number, value) for (name, number), value in self._counts.items() if value]
        if counts or released or self._studies:
            once = (json_ids(released), json.dumps(counts))
            first, *more = self._studies or [_NO_STUDY]
            self._run("enter", [(*once, *first), *((None, None, *study) for study in more)])
        self.done.completions = self._joining.finish()
        packs, admitted = self._later.write() if now else ([], [])
        for number, pack in packs:
            self._connection.execute(SQL["insert_pack"], (number, *pack))
        if self._touched or admitted:
            self._look_at_outcome(admitted)
        for event in (*events, *self._events):
            self._write_event(event)

    def _look_at_outcome(self, admitted: list[int]) -> None:
        values = {"touched": json_ids(self._touched), "admitted": json_ids(admitted)}
        ((releasable, conflicts),) = self._connection.execute(SQL["outcome"], values).fetchall()
        self.done.releasable = [(id_, path) for id_, path in json.loads(releasable)]
        pairs = json.loads(conflicts)
        if pairs:
            self._note_conflicts(pairs, set(admitted))

    def _note_conflicts(self, pairs: Iterable[tuple[int, int]], mine: set[int]) -> None:
        found = [(new, old) for new, old in pairs if old < new or old not in mine]
        self.done.conflicts += [new for new, _ in found]
        text = "this SOP Instance UID was received before with other bytes (image {})"
        self._events[:0] = [Event(self._at, "conflict", text.format(old), new) for new, old in found]

    def _write_event(self, event: Event) -> None:
        row = (event.at, event.kind, event.text[:LONGEST_TEXT], event.instance_id, event.destination)
        try:
            self._connection.execute(SQL["insert_event"], _cleaned(row))
        except ROW_FAULTS as error:
            _log.warning("an event could not be journaled: %s: %r", error, event)


def _identity(image: Instance) -> Row:
    """The columns of ``admission`` that only an image's first row has."""
    source = image.source
    return (
        uid_key(image.sop_instance_uid),
        image.sop_instance_uid,
        image.sop_class_uid,
        image.transfer_syntax,
        image.study_uid,
        image.series_uid,
        image.patient_id,
        image.accession,
        image.modality,
        source.calling_aet,
        source.called_aet,
        source.listener,
        source.peer,
        image.path,
        image.data_offset,
        signed(image.checksum),
        image.hold_reason,
    )


def _studies(images: Sequence[Instance]) -> list[Row]:
    """For each source and study: first time, last time, number of images."""
    times: dict[tuple[str, str], list[float]] = {}
    for image in images:
        if image.study_uid:
            times.setdefault((image.source.calling_aet, image.study_uid), []).append(image.received_at)
    return [(aet, uid, min(at), max(at), len(at)) for (aet, uid), at in times.items()]


def _settlement_row(it: Settlement, number: int) -> Row:
    """The values of ``settle`` at the destination of that number."""
    error = it.error[:LONGEST_TEXT]
    settled_at = None if it.state is DeliveryState.READY else it.at
    return (it.instance_id, number, int(it.state), it.attempts, it.status, error, it.not_before, it.at, settled_at)


def _read_destinations(connection: sqlite3.Connection, into: dict[str, int]) -> None:
    into.clear()
    into.update(connection.execute(SQL["destinations"]).fetchall())


def _cleaned(row: Row) -> Row:
    return tuple(map(clean, row))
