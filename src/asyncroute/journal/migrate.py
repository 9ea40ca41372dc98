"""Bring the schema of a journal up to what this program knows, at start.

Guarantees: all missing migrations run in one transaction; a journal is either at its old version or at the newest.
Failures: a journal written by a newer program, or a database that is not a journal, is a ``StorageFault`` and is left
as it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from asyncroute.core.errors import StorageFault
from asyncroute.journal import statements
from asyncroute.journal.faults import damaged

APPLICATION_ID = 0x41525445
"""SQLite's application_id of our journals: "ARTE"."""


QUESTIONS = ("PRAGMA user_version", "PRAGMA application_id", "SELECT count(*) FROM sqlite_schema")
"""Their answers are what ``judge`` takes."""


def judge(version: int, owner: int, tables: int, path: Path) -> int:
    """The schema version of the journal at ``path`` (0: empty).

    Raises:
        StorageFault: another program's database, or a newer program's journal.
    """
    newest = statements.migrations()[-1][0]
    if (tables or version) and owner != APPLICATION_ID:
        raise StorageFault(f"{path}: this is another program's database; give asyncroute a data_dir of its own")
    if version > newest:
        raise StorageFault(
            f"{path}: written by a newer asyncroute (schema {version}, this one knows {newest}); use that version again"
        )
    if tables and version < 1:
        raise damaged(path, "it has tables, but no version")
    return version


def check(connection: sqlite3.Connection, path: Path) -> int:
    """``judge`` the database behind ``connection``."""
    version, owner, tables = (connection.execute(question).fetchone()[0] for question in QUESTIONS)
    return judge(version, owner, tables, path)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Apply what is missing, inside one transaction."""
    version = check(connection, path)
    missing = [(number, script) for number, script in statements.migrations() if number > version]
    if not missing:
        return
    connection.execute("BEGIN EXCLUSIVE")
    apply(connection, missing)
    connection.execute(f"PRAGMA user_version = {missing[-1][0]}")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("COMMIT")


def apply(connection: sqlite3.Connection, steps: Iterable[tuple[int, str]]) -> None:
    """Run migrations (number, SQL text), in order."""
    for _, script in steps:
        for statement in statements.split(script):
            connection.execute(statement)
