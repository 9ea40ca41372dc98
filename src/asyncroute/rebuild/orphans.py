"""Files that were set aside, taken into a sound journal.

Guarantees: a file's place in the spool is durable before its row is; an interrupted run leaves files that the next
start sets aside again. What the journal has already is never queued twice. Failures: ``StorageFault``.
"""

from __future__ import annotations

from pathlib import Path

from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Instance, Selection
from asyncroute.core.numbered import file_path
from asyncroute.journal.base import Group, Retry, Writer
from asyncroute.rebuild.images import Writing, instance_of
from asyncroute.rebuild.report import Evidence, Report
from asyncroute.recover import unreleased
from asyncroute.route import Router
from asyncroute.spool.base import Facts
from asyncroute.spool.local import LocalSpool, free_name, orphans

PIECE = 1 << 20


class Orphans(Writing):
    """Files that were set aside, into a sound journal."""

    def __init__(self, journal: Writer, spool: LocalSpool, router: Router, report: Report) -> None:
        super().__init__(journal, spool, router, report)
        self._data_dir = spool.root.parent
        self._evidence = Evidence(self._data_dir, report)

    def take_in(self) -> None:
        """See class."""
        try:
            for _, file in sorted(orphans(self._data_dir)):
                self._take(file)
            self._commit()
        except OSError as error:
            raise StorageFault(
                f"{error.filename}: {error.strerror or error}; run it again", error.errno or 0
            ) from error

    def _take(self, file: Path) -> None:
        facts = self._spool.facts_outside(file)
        if facts is None:
            self._set_aside(file)
            self._report.damaged += 1
        elif not self._journal.was_admitted(facts.instance_id, None):
            self._adopt(file, facts)
        elif self._journal.was_admitted(facts.instance_id, facts.checksum):
            self._give_back(file, facts)
        else:
            self._adopt_as_another(file, facts)

    def _set_aside(self, file: Path) -> None:
        file.rename(free_name(self._evidence.folder("orphans"), file.name))

    def _give_back(self, file: Path, facts: Facts) -> None:
        """The journal has this very image: if it still waits for its file, here it is."""
        row = unreleased(self._journal, facts.instance_id) if self._journal.is_owed(facts.instance_id) else None
        if row is not None and self._spool.take_in(file, row.path):
            self._spool.sync_folders([row.path])
            self._journal.commit(Group(actions=[Retry(Selection(instance_ids=[facts.instance_id]))]))
            self._report.orphans += 1
            return
        self._set_aside(file)
        self._report.known += 1

    def _adopt(self, file: Path, facts: Facts) -> None:
        """Back to its place in the spool, and into the queue."""
        path = file_path(facts.instance_id)
        if self._spool.take_in(file, path):
            self._queue(instance_of(facts, path))
        else:
            self._adopt_as_another(file, facts)

    def _adopt_as_another(self, file: Path, facts: Facts) -> None:
        """Its number belongs to another image: a copy gets a new one."""
        number, path = self._spool.allocate()
        copy = instance_of(facts, path)
        copy.id, copy.data_offset = number, 0
        incoming = self._spool.incoming(copy)
        try:
            with file.open("rb") as opened:
                opened.seek(facts.data_offset)
                while piece := opened.read(PIECE):
                    incoming.append([piece])
            incoming.finish()
        except BaseException:
            incoming.abandon()
            raise
        self._set_aside(file)
        self._queue(copy)

    def _queue(self, instance: Instance) -> None:
        self._route(instance)
        self._report.orphans += 1
        self._admit(instance)

    def _commit(self) -> None:
        self._spool.sync_folders(instance.path for instance in self._admits)
        super()._commit()
