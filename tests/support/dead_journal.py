"""What the journal of a router that was killed says, read from a copy: the evidence stays as it is."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

OWED = (0, 1, 2)
DELIVERED = 3
ROWS = """
SELECT i.id, i.sop_instance_uid, coalesce(i.path, ''), n.name, d.state
FROM instance AS i LEFT JOIN delivery AS d ON d.instance = i.id LEFT JOIN destination AS n ON n.id = d.destination
WHERE i.id >= ?
"""
Row = tuple[int, str, str, str | None, int | None]


@dataclass
class DeadJournal:
    """Images by SOP Instance UID. ``owed`` and ``delivered``: by destination; ``files``: of images that are owed."""

    admitted: set[str] = field(default_factory=set)
    owed: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    delivered: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    other: set[str] = field(default_factory=set)
    """Neither owed nor delivered at some destination: dead letters and the like."""

    files: dict[str, str] = field(default_factory=dict)
    oldest_owed: int = 0
    """The lowest id of an image that is owed; without one, that of the next image."""


def read(data_dir: Path, first: int = 0) -> DeadJournal:
    """The journal of ``data_dir``, from image ``first`` on; empty if it was never made."""
    with tempfile.TemporaryDirectory(dir=data_dir.parent) as folder:
        for name in ("journal.db", "journal.db-wal"):
            if (data_dir / name).exists():
                shutil.copy(data_dir / name, folder)
        return _sorted_out(_rows(Path(folder) / "journal.db", first), first)


def _rows(path: Path, first: int) -> list[Row]:
    with closing(sqlite3.connect(path)) as journal:
        if not journal.execute("SELECT 1 FROM sqlite_master WHERE name = 'delivery'").fetchall():
            return []  # killed before it was made
        return journal.execute(ROWS, (first,)).fetchall()


def _sorted_out(rows: Iterable[Row], first: int) -> DeadJournal:
    found = DeadJournal()
    owed = []
    highest = first - 1
    for number, uid, path, destination, state in rows:
        found.admitted.add(uid)
        highest = max(highest, number)
        if destination is None:
            found.other.add(uid)
        elif state in OWED:
            found.owed[destination].add(uid)
            found.files[uid] = path
            owed.append(number)
        elif state == DELIVERED:
            found.delivered[destination].add(uid)
        else:
            found.other.add(uid)
    found.oldest_owed = min(owed, default=highest + 1)
    return found
