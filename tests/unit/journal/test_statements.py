"""The SQL files: every statement is found, compiles, and uses the indexes that it was written for."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator

import pytest

from asyncroute.core.model import Selection
from asyncroute.core.states import OPEN
from asyncroute.journal import select
from asyncroute.journal.bulk import LENGTHS, Rows
from asyncroute.journal.statements import load, migrations, script, split

FILES = ("write.sql", "read.sql", "admin.sql", "story.sql")
STATEMENTS = [(file, name, sql) for file in FILES for name, sql in load(file).items()]


@pytest.fixture(scope="module")
def empty() -> Iterator[sqlite3.Connection]:
    """A database with the newest schema and nothing in it, as a writing connection sees it."""
    connection = sqlite3.connect(":memory:")
    for _, text in migrations():
        for statement in split(text):
            connection.execute(statement)
    for statement in script("gates.sql"):
        connection.execute(statement)
    yield connection
    connection.close()


def plan(connection: sqlite3.Connection, sql: str) -> list[str]:
    """The lines of SQLite's query plan."""
    names = dict.fromkeys(re.findall(r":(\w+)", sql), 1)
    values: object = names or (1,) * sql.count("?")
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]  # type: ignore[arg-type]


def test_migrations_are_numbered_without_gaps() -> None:
    assert [number for number, _ in migrations()] == list(range(1, len(migrations()) + 1))


def test_split_keeps_every_statement() -> None:
    text = "-- a comment;\nCREATE TABLE a (x); -- more\nINSERT INTO a\nVALUES ('x;y');\n"
    assert [statement.split("\n")[0] for statement in split(text)] == ["CREATE TABLE a (x); -- more", "INSERT INTO a"]


@pytest.mark.parametrize(("file", "name", "sql"), STATEMENTS, ids=lambda it: it[:20])
def test_every_statement_compiles(empty: sqlite3.Connection, file: str, name: str, sql: str) -> None:
    assert not sql.endswith(";")
    assert plan(empty, sql) is not None


BIG_TABLES = re.compile(r"SCAN (instance|delivery|i|d|o|n|f)\b(?! USING COVERING INDEX delivery_open)")
FULL_SCANS_ALLOWED = {
    "insert_destination",  # foreign key check of a deferred violation, of which there are none
    "counts",  # the index of held images, which are few
    "memory",  # counts images by an index, when a person asks for one that is not there
}


@pytest.mark.parametrize(("file", "name", "sql"), STATEMENTS, ids=lambda it: it[:20])
def test_no_statement_walks_through_all_images(empty: sqlite3.Connection, file: str, name: str, sql: str) -> None:
    scans = [line for line in plan(empty, sql) if BIG_TABLES.search(line)]
    if name == "counts":
        assert all("instance_held" in line for line in scans)
    elif name not in FULL_SCANS_ALLOWED:
        assert scans == []


def test_claims_look_at_the_index_alone_until_something_is_due(empty: sqlite3.Connection) -> None:
    lines = plan(empty, load("read.sql")["claim"])
    one_strand = "(destination=? AND state=? AND priority=? AND strand=?)"
    assert f"SEARCH o USING COVERING INDEX delivery_open {one_strand}" in lines
    assert not any("SORT" in line or "ORDER BY" in line for line in lines)


@pytest.mark.parametrize(("name", "columns"), [("classes", "priority>?"), ("strands", "priority=? AND strand>?")])
def test_classes_and_strands_are_found_without_what_is_in_them(
    empty: sqlite3.Connection, name: str, columns: str
) -> None:
    lines = [line for line in plan(empty, load("read.sql")[name]) if "delivery" in line]
    assert len(lines) == 2
    assert lines[1].endswith(
        f"SEARCH delivery USING COVERING INDEX delivery_open (destination=? AND state=? AND {columns})"
    )


def steps_of_gates() -> list[str]:
    """What the triggers do, a statement each, with values in the place of the new row's."""
    bodies = [text.partition("BEGIN\n")[2].rpartition("END;")[0] for text in script("gates.sql")]
    return [re.sub(r"NEW\.\w+", "?", step).strip() for body in bodies for step in body.split(";") if step.strip()]


def test_no_gate_walks_through_all_images(empty: sqlite3.Connection) -> None:
    steps = steps_of_gates()
    assert len(steps) == 4
    for step in steps:
        assert [line for line in plan(empty, step) if BIG_TABLES.search(line)] == []


@pytest.mark.parametrize("rows", LENGTHS)
def test_results_find_their_deliveries_by_key(empty: sqlite3.Connection, rows: int) -> None:
    lines = plan(empty, Rows(load("write.sql")["settle"])._texts[rows])
    assert lines[-1] == "SEARCH delivery USING PRIMARY KEY (instance=? AND destination=?)"


@pytest.mark.parametrize(
    ("selection", "index"),
    [
        (Selection(), "delivery_open"),
        (Selection(destination="a"), "delivery_open (destination=?"),
        (Selection(study_uid="1.2"), "delivery_open"),
        (Selection(sop_instance_uid="1.2"), "instance_uid (uid_key=?)"),
        (Selection(instance_ids=[1]), "SEARCH i USING INTEGER PRIMARY KEY"),
    ],
)
def test_selections_use_an_index(empty: sqlite3.Connection, selection: Selection, index: str) -> None:
    chosen, _ = select.deliveries(selection, OPEN)
    lines = plan(empty, f"SELECT d.instance, i.id {chosen}")
    assert any(index in line for line in lines), lines
