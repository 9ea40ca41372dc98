"""The archive's statements: each compiles, and none looks at all images or studies."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator

import pytest

from asyncroute.journal.statements import load, script

STATEMENTS = sorted(load("archive.sql").items())
SCANS_ALLOWED = {"find_last": "study", "after": "image", "ending": "s"}
"""What is asked for by the order of an index, or a few rows that were found by one."""


@pytest.fixture(scope="module")
def empty() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    for statement in script("archive_schema.sql"):
        connection.execute(statement)
    yield connection
    connection.close()


@pytest.mark.parametrize(("name", "sql"), STATEMENTS, ids=lambda it: it[:20])
def test_every_statement_finds_by_an_index(empty: sqlite3.Connection, name: str, sql: str) -> None:
    names = dict.fromkeys(re.findall(r":(\w+)", sql), 1)
    values: object = names or (1,) * sql.count("?")
    plan = [row[3] for row in empty.execute(f"EXPLAIN QUERY PLAN {sql}", values)]  # type: ignore[arg-type]
    scanned = {found[1] for line in plan if (found := re.match(r"SCAN (image|study|label|holding|s|h|l)\b", line))}
    assert scanned <= {SCANS_ALLOWED.get(name)}, plan
