"""What a rebuild tells, and the folder in which it sets things aside.

Guarantees: an evidence folder is new and empty when it is made. Failures: ``OSError``, mapped by the callers.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from asyncroute.durable import sync_folder
from asyncroute.spool.local import free_name

SPOOL = "spool"


@dataclass(slots=True)
class Report:
    """What was done.

    ``reason``: why there is a new journal; empty: the old one is sound. ``evidence``: where things were set aside;
    empty: nothing was. ``images``: taken in, ``orphans`` of them; ``queued``: deliveries by destination; ``held``:
    images; ``over``: deliveries known to be delivered or discarded; ``failed``: dead letters, kept or made because the
    file is damaged or missing; ``missing``: images of the old journal without a file; ``damaged``: files set aside
    because they are no whole images; ``known``: orphans set aside because the journal is done with them.
    ``archived``: images taken into the archive's index; None: that was sound. ``strange``: files in the archive that
    are no whole images of ours.
    """

    reason: str = ""
    evidence: str = ""
    images: int = 0
    orphans: int = 0
    queued: dict[str, int] = field(default_factory=dict)
    held: int = 0
    over: int = 0
    failed: int = 0
    missing: int = 0
    damaged: int = 0
    known: int = 0
    archived: int | None = None
    strange: int = 0


class Evidence:
    """A folder ``damaged-<time>`` beside the journal, made when it is first needed."""

    def __init__(self, data_dir: Path, report: Report) -> None:
        self._data_dir = data_dir
        self._report = report
        self._folder: Path | None = Path(report.evidence) if report.evidence else None

    def folder(self, name: str) -> Path:
        """The folder ``name`` in it."""
        if self._folder is None:
            self._folder = new_evidence(self._data_dir)
            self._report.evidence = str(self._folder)
        return self._folder / name


def new_evidence(data_dir: Path) -> Path:
    """A new folder ``damaged-<time>``."""
    found = free_name(data_dir, f"damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    found.mkdir(mode=0o700)
    sync_folder(data_dir)
    return found
