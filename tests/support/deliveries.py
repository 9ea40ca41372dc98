"""What a router's journal says of its deliveries, read from the file itself."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing

from tests.support.router import Router


def attempts(router: Router, destination: str) -> Counter[int]:
    """How many deliveries of ``destination`` have been charged so many attempts (a delivered one has at least 1)."""
    question = (
        "SELECT attempts FROM delivery JOIN destination ON destination.id = delivery.destination "
        "WHERE destination.name = ?"
    )
    with closing(sqlite3.connect(f"file:{router.data_dir / 'journal.db'}?mode=ro", uri=True, timeout=20)) as journal:
        return Counter(row[0] for row in journal.execute(question, (destination,)))
