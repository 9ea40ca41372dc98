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
from collections.abc import Iterable, Sequence

from asyncroute.core.model import Instance, RouteHit, Settlement
from asyncroute.core.states import DeliveryState
from asyncroute.journal import batches, proof
from asyncroute.journal.acts import Acts
from asyncroute.journal.base import (
    Committed,
    Event,
    Group,
)
from asyncroute.journal.bulk import Row
from asyncroute.journal.clock import RunClock
from asyncroute.journal.faults import ROW_FAULTS
from asyncroute.journal.later import Later
from asyncroute.journal.sent import SentBooks
from asyncroute.journal.statements import script
from asyncroute.journal.values import json_ids, signed, strand, uid_key
from asyncroute.journal.work import OF_NO_DESTINATION, SQL, cleaned, read_destinations

LONGEST_TEXT = 1000

_DONE = frozenset({DeliveryState.DELIVERED, DeliveryState.CONFIRMED, DeliveryState.DISCARDED})
_log = logging.getLogger(__name__)

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
        self._sent = SentBooks(connection)
        self.forget()

    def forget(self) -> None:
        """A transaction has been rolled back: what it made, such as destinations, is not there."""
        self._later.undone()
        read_destinations(self._connection, self._destinations)

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
            if self._sent.used or any(it.sent is not None for it in group.settlements):
                self._sent.enter(group.settlements, self._destinations)
        for action in group.actions:
            work.done.acted.append(work.act(action))
        work.finish(group.released, group.events, now=not group.later or self._later.full)
        clock = self._clock.due()
        if clock is not None:
            self._connection.execute(SQL["set_clock"], (clock,))
        return work.done


class _Work(Acts):
    """One group's progress: what was touched, what has to be counted."""

    __slots__ = ()

    # -- admission

    def admit(self, images: Sequence[Instance]) -> None:
        """Instances with their deliveries, studies, counters; conflicts with earlier copies."""
        if self._careful:
            self._join(images)
            images = [image for image in images if self._is_admitted(image)]
        else:
            self._insert(images)
            self._enter(images)
        self._counts["received", OF_NO_DESTINATION] += len(images)
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
        """The images, then what is owed of them."""
        self._run("admit", [_row(image, self._later.place(image)) for image in images])
        owed: list[Row] = []
        for image in images:
            key, at = strand(image.source.calling_aet, image.study_uid), self._queued_at or image.received_at
            owed += [self._owed(image.id, hit, key, image.size, at, self._completion(image, hit)) for hit in image.hits]
        if owed:
            self._run("owe", owed)

    def _enter(self, images: Sequence[Instance]) -> None:
        """What groups and batches have to know of these images."""
        grouped = [(image.id, hit) for image in images for hit in image.hits if hit.groups]
        if grouped:
            self._grouping().enter(grouped)
        read = [(image.id, *image.origin, image.sop_instance_uid) for image in images if image.origin is not None]
        if read:
            batches.link(self._connection, read)

    def _is_admitted(self, image: Instance) -> bool:
        """Careful mode: whether this one image could be written; if not, it is refused."""
        self._connection.execute("SAVEPOINT one")
        try:
            self._insert([image])
            self._enter([image])
        except ROW_FAULTS as error:
            self._connection.execute("ROLLBACK TO one")
            self._later.take_back(image)
            read_destinations(self._connection, self._destinations)
            self.done.refused[image.id] = f"the journal cannot hold this image: {error}"
        self._connection.execute("RELEASE one")
        return image.id not in self.done.refused

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
            self._connection.execute(SQL["insert_event"], cleaned(row))
        except ROW_FAULTS as error:
            _log.warning("an event could not be journaled: %s: %r", error, event)


def _row(image: Instance, pack: int | None) -> Row:
    """The values of ``admit``; ``pack``: where its header will be."""
    source = image.source
    return (
        image.id,
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
        image.received_at,
        image.path,
        image.data_offset,
        image.size,
        signed(image.checksum),
        image.hold_reason,
        pack,
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
