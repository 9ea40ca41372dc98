"""Files of the spool as rows of a journal.

Guarantees: an image is queued as it was received, by its file's own facts; a file whose data set is damaged becomes a
dead letter, never a queued image; what is no image at all is set aside. Failures: ``StorageFault``.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable
from pathlib import Path

from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Instance, RouteHit, Settlement
from asyncroute.core.states import PENDING, DeliveryState
from asyncroute.journal.base import Action, FileLost, Group, Writer
from asyncroute.journal.salvage import Salvage
from asyncroute.rebuild.report import SPOOL, Report
from asyncroute.route import FULL_HEADER, UNROUTED, Router
from asyncroute.spool.base import Facts, Found
from asyncroute.spool.local import LocalSpool

TOGETHER = 200
"""Images of one transaction."""

HEADS = (64 << 10, FULL_HEADER)
"""Bytes that are looked at for the routes; more where the first are not enough."""


def instance_of(facts: Facts, path: str) -> Instance:
    """An image as its file tells of it."""
    return Instance(
        id=facts.instance_id,
        source=facts.source,
        sop_class_uid=facts.sop_class_uid,
        sop_instance_uid=facts.sop_instance_uid,
        transfer_syntax=facts.transfer_syntax,
        received_at=facts.received_at,
        path=path,
        data_offset=facts.data_offset,
        size=facts.size,
        checksum=facts.checksum,
    )


class Writing:
    """Images on their way into a journal, a group at a time."""

    def __init__(self, journal: Writer, spool: LocalSpool, router: Router, report: Report) -> None:
        self._journal = journal
        self._spool = spool
        self._router = router
        self._report = report
        self._group = Group()
        self._begin()

    def _begin(self) -> None:
        self._admits: list[Instance] = []
        self._settlements: list[Settlement] = []
        self._actions: list[Action] = []

    def _route(self, instance: Instance) -> None:
        """Set the destinations that the image would have if it were received today."""
        for most in HEADS:
            length = min(instance.size, most)
            head = self._spool.read(instance.path, instance.data_offset, length)
            instance.hold_reason = None
            self._router.route(instance, None, head, length == instance.size)
            if length == instance.size or instance.hold_reason is None:
                break

    def _admit(self, instance: Instance, settlements: Iterable[Settlement] = (), lost: str = "") -> None:
        """Queue (or hold) an image; ``lost``: why its file is no good, which makes it a dead letter."""
        if not instance.hits and instance.hold_reason is None:
            instance.hold_reason = UNROUTED
        settled = list(settlements)
        self._admits.append(instance)
        self._settlements += settled
        if lost:
            self._actions.append(FileLost(instance.id, lost, time.time()))
        self._count(instance, settled, bool(lost))
        if len(self._admits) >= TOGETHER:
            self._commit()

    def _count(self, instance: Instance, settled: list[Settlement], lost: bool) -> None:
        report = self._report
        report.images += 1
        report.held += instance.hold_reason is not None
        ended = {it.destination: it.state for it in settled}
        report.over += sum(state is not DeliveryState.FAILED for state in ended.values())
        for hit in instance.hits:
            if ended.get(hit.destination) is DeliveryState.FAILED or (lost and hit.destination not in ended):
                report.failed += 1
            elif hit.destination not in ended:
                report.queued[hit.destination] = report.queued.get(hit.destination, 0) + 1

    def _commit(self) -> None:
        """Write what has gathered.

        Raises:
            StorageFault: the journal does not take it.
        """
        if not self._admits:
            return
        done = self._journal.commit(Group(self._admits, self._settlements, actions=self._actions))
        for why in done.refused.values():
            raise StorageFault(why)
        self._begin()


class Spooled(Writing):
    """Every file of the spool, and every image that the old journal was still owed, into an empty journal."""

    def __init__(
        self,
        journal: Writer,
        spool: LocalSpool,
        old: Salvage,
        evidence: Path,
        router: Router,
        report: Report,
    ) -> None:
        super().__init__(journal, spool, router, report)
        self._old = old
        self._evidence = evidence

    def take_in(self) -> None:
        """See class."""
        try:
            owed = self._old.owed()
            missing = next(owed, None)
            for file in self._spool.sweep():
                while missing is not None and missing <= file.instance_id:
                    if missing < file.instance_id:
                        self._missing(missing)
                    missing = next(owed, None)
                self._take(file)
            while missing is not None:
                self._missing(missing)
                missing = next(owed, None)
            self._commit()
        finally:
            self._old.close()
        self._report.damaged += _number_of_files(self._evidence / SPOOL)

    def _take(self, file: Found) -> None:
        facts = self._spool.facts(file.path)
        if facts is None:
            self._not_whole(file)
            return
        instance = instance_of(facts, file.path)
        self._route(instance)
        self._admit(instance, self._known(instance), self._damage(facts, file.path))

    def _not_whole(self, file: Found) -> None:
        """Half-written, or an image whose header is damaged: that the old journal may know."""
        instance = self._old.instance(file.instance_id)
        if instance is None:
            self._spool.set_aside(file.path, self._evidence / SPOOL)
        else:
            self._dead(instance, f"spool file damaged: {file.path} has {file.length} bytes and no valid header")

    def _missing(self, instance_id: int) -> None:
        """An image of the old journal without a file."""
        instance = self._old.instance(instance_id)
        if instance is not None:
            self._report.missing += 1
            self._dead(instance, f"spool file missing: {instance.path}")

    def _dead(self, instance: Instance, why: str) -> None:
        settlements = self._known(instance)
        if instance.hits or instance.hold_reason:
            self._admit(instance, settlements, why)

    def _damage(self, facts: Facts, path: str) -> str:
        try:
            self._spool.verify(path, facts.data_offset, facts.size, facts.checksum)
        except StorageFault as fault:
            if fault.errno not in (0, errno.EIO):
                raise
            return str(fault)
        return ""

    def _known(self, instance: Instance) -> list[Settlement]:
        """What the old journal tells of an image: further destinations are added, what is over is returned."""
        settlements = []
        named = {hit.destination for hit in instance.hits}
        for old in self._old.deliveries(instance.id, instance.checksum):
            if old.destination not in named:
                instance.hits += (RouteHit(old.route, old.destination, old.priority),)
            if old.state not in PENDING:
                result = (old.state, old.attempts, old.at, old.status, old.error)
                settlements.append(Settlement(instance.id, old.destination, *result, unproven=old.unproven))
        if instance.hits:
            instance.hold_reason = None
        return settlements


def _number_of_files(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))
