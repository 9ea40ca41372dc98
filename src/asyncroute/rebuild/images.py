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
from asyncroute.core.numbered import SHARD, number_of
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
        self._ids = _Ids()
        self._used = _Ids()
        """Numbers of files that are said to have an image."""
        self._highest = 0
        """The highest number of an image or a file that was met."""
        self._unknown: dict[str, int] = {}
        """Files that tell of no image: their lengths in bytes."""

    def take_in(self) -> None:
        """See class."""
        try:
            for file in self._spool.sweep():
                self._take(file)
            for number in self._old.owed():
                self._highest = max(self._highest, number)
                if not self._ids.has(number):
                    self._without_header(number)
            for path in self._unknown:
                self._spool.set_aside(path, folder=self._evidence / SPOOL)
            self._commit()
        finally:
            self._old.close()
        self._report.damaged += _number_of_files(self._evidence / SPOOL)

    def _take(self, file: Found) -> None:
        self._highest = max(self._highest, file.number)
        facts = self._spool.facts(file.path)
        if facts is None:
            self._unknown[file.path] = file.length
            return
        self._highest = max(self._highest, facts.instance_id)
        if not self._ids.add(facts.instance_id):  # a copy, or another journal's image: orphans are looked at one by one
            self._spool.set_aside(file.path, facts.instance_id)
            return
        self._used.add(file.number)
        instance = instance_of(facts, file.path)
        self._route(instance)
        self._admit(instance, self._known(instance), self._damage(facts, file.path))

    def _without_header(self, number: int) -> None:
        """An image of the old journal whose file is damaged where it says whose it is, or missing."""
        instance = self._old.instance(number)
        if instance is None:
            return
        path = instance.path
        length = self._unknown.pop(path, None)
        place = number_of(path)
        if length is None and (place is None or self._used.has(place)):
            instance.path = self._nowhere()  # an image of which the old journal does not know is in its file
        elif place is not None:
            self._used.add(place)
        if length is not None:
            self._dead(instance, f"spool file damaged: {path} has {length} bytes and no valid header")
        else:
            self._report.missing += 1
            self._dead(instance, f"spool file missing: {path}")

    def _nowhere(self) -> str:
        """A path at which there is no file, and no image is said to be."""
        self._spool.start_at(self._highest + 1)
        self._highest, path = self._spool.allocate()
        return path

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


class _Ids:
    """A set of numbers of images or files: a byte each."""

    def __init__(self) -> None:
        self._there: dict[int, bytearray] = {}

    def has(self, number: int) -> bool:
        """Whether it is in the set."""
        found = self._there.get(number // SHARD)
        return found is not None and bool(found[number % SHARD])

    def add(self, number: int) -> bool:
        """Add it; False: it was there."""
        if self.has(number):
            return False
        self._there.setdefault(number // SHARD, bytearray(SHARD))[number % SHARD] = 1
        return True


def _number_of_files(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))
