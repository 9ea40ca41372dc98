"""A new journal in the place of one that is no good, in phases that an interrupted run can go on from.

moving: the old journal goes to the evidence folder; building: the new one is made there, in ``new``; placing: it is
moved to ``data_dir``. Guarantees: from the first file moved to the last a mark keeps every router away; before a phase
is written down, what it did is durable. Failures: ``StorageFault``; the mark stays.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from asyncroute.core.errors import StorageFault
from asyncroute.durable import sync_folder
from asyncroute.journal.examine import DAMAGED_MARK, REBUILDING_MARK
from asyncroute.journal.salvage import Salvage
from asyncroute.journal.sqlite import FILE, SqliteJournal
from asyncroute.rebuild.images import Spooled
from asyncroute.rebuild.report import SPOOL, Report, new_evidence
from asyncroute.route import Router
from asyncroute.spool.local import LocalSpool

JOURNAL_FILES = (FILE, f"{FILE}-wal", f"{FILE}-shm", DAMAGED_MARK)
_MOVING, _BUILDING, _PLACING = "moving", "building", "placing"


class _Mark:
    """How far a new journal has come: a file in ``data_dir`` that keeps routers away; two lines, folder and phase."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / REBUILDING_MARK

    def read(self) -> tuple[str, str] | None:
        """(name of the evidence folder, phase); None: nothing has begun."""
        try:
            name, phase = self._path.read_text("utf-8").split()
        except FileNotFoundError:
            return None
        return name, phase

    def write(self, name: str, phase: str) -> None:
        """Set it, durably and at once."""
        beside = self._path.with_suffix(".part")
        with beside.open("w", encoding="utf-8") as file:
            file.write(f"{name}\n{phase}\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        sync_folder(self._path.parent)

    def remove(self) -> None:
        """The new journal is in its place."""
        self._path.unlink()
        sync_folder(self._path.parent)


class Renewal:
    """One new journal, from its first file moved to the last; goes on where an interrupted one ended."""

    def __init__(self, data_dir: Path, router: Router, report: Report) -> None:
        self._data_dir = data_dir
        self._router = router
        self._report = report
        self._mark = _Mark(data_dir)

    def run(self, reason: str) -> None:
        """All phases that are not done."""
        self._report.reason = reason
        try:
            self._run()
        except OSError as error:
            name = error.filename or self._data_dir
            raise StorageFault(f"{name}: {error.strerror or error}; run it again", error.errno or 0) from error

    def _run(self) -> None:
        name, phase = self._mark.read() or (new_evidence(self._data_dir).name, "")
        evidence = self._data_dir / name
        self._report.evidence = str(evidence)
        if phase in ("", _MOVING):
            self._mark.write(name, _MOVING)
            self._move(evidence)
            self._mark.write(name, phase := _BUILDING)
        if phase == _BUILDING:
            self._build(evidence)
            self._mark.write(name, _PLACING)
        self._place(evidence)
        self._mark.remove()

    def _move(self, evidence: Path) -> None:
        """The old journal goes; names that an interrupted run moved are no longer there."""
        for name in JOURNAL_FILES:
            if (self._data_dir / name).exists():
                (self._data_dir / name).rename(evidence / name)
        sync_folder(evidence)
        sync_folder(self._data_dir)

    def _build(self, evidence: Path) -> None:
        """A whole journal in a folder of its own; what an interrupted run left of one does not count."""
        made = evidence / "new"
        shutil.rmtree(made, ignore_errors=True)
        journal = SqliteJournal.open(made, "process-crash")
        try:
            spool = LocalSpool(self._data_dir / SPOOL)
            try:
                Spooled(journal, spool, Salvage(evidence / FILE), evidence, self._router, self._report).take_in()
            finally:
                spool.close()
        finally:
            journal.close()
        _sync(made / FILE)
        sync_folder(made)

    def _place(self, evidence: Path) -> None:
        made = evidence / "new"
        if (made / FILE).exists():
            (made / FILE).replace(self._data_dir / FILE)
            sync_folder(self._data_dir)
        shutil.rmtree(made, ignore_errors=True)


def _sync(file: Path) -> None:
    number = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)
