"""Many rows in one execution of a statement.

SQLite's Python module gives up the interpreter's lock and takes it again at every step of a statement, which other
threads make a costly affair. So rows go together: ``VALUES (?, ?)`` becomes ``VALUES (?, ?), (?, ?), ...``.
Guarantees: rows are written in their order, as if one by one. Texts of statements are few (``LENGTHS``), so that the
connection's statement cache holds them.
Failures: SQLite's own errors; then none of the rows of that execution is written.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain

LENGTHS = (*range(1, 17), 20, 24, 28, 32, 40, 48, 64)
"""Rows of one execution. The widest statement with the most of them has to stay below SQLite's 32,766 parameters."""

_ROW = re.compile(r"(?<=VALUES )\([^()]+\)")

Row = tuple[object, ...]


class Rows:
    """A statement that has one ``VALUES (?, ...)``, for any number of rows."""

    def __init__(self, sql: str) -> None:
        """``sql``: with the placeholders of one row."""
        (row,) = _ROW.findall(sql)
        self._texts = {length: sql.replace(row, ", ".join([row] * length)) for length in LENGTHS}

    def run(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> int:
        """Execute it with ``rows``; the number of rows changed."""
        return sum(
            connection.execute(self._texts[len(some)], list(chain.from_iterable(some))).rowcount
            for some in _pieces(rows)
        )


def _pieces(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """``rows`` in pieces of the lengths that there are, the longest first."""
    if len(rows) in LENGTHS:
        yield rows
        return
    at = 0
    while at < len(rows):
        length = max(n for n in LENGTHS if n <= len(rows) - at)
        yield rows[at : at + length]
        at += length
