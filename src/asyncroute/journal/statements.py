"""The SQL statements, by name, from the ``.sql`` files beside this module.

Guarantees: a file is a series of statements, each below a line ``-- name: NAME`` and up to its semicolon; other comment
lines are dropped. Migrations are ``NNNN_*.sql`` with NNNN rising from 0001 without gaps.
Failures: a name that is not there is a ``KeyError`` at import.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from importlib import resources

_FOLDER = resources.files("asyncroute.journal") / "sql"
_MARK = "-- name: "


def _code(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--")).strip()


def load(file: str) -> dict[str, str]:
    """The statements of ``file`` (such as ``read.sql``) by name, without their semicolons."""
    blocks = (_FOLDER / file).read_text(encoding="utf-8").split(_MARK)[1:]
    named = (block.partition("\n") for block in blocks)
    return {name.strip(): _code(body).rstrip(";") for name, _, body in named}


def script(file: str) -> Iterator[str]:
    """The statements of ``file``, which have no names there, one by one."""
    return split((_FOLDER / file).read_text(encoding="utf-8"))


def migrations() -> list[tuple[int, str]]:
    """(number, SQL text) of every migration, by number."""
    files = (entry for entry in _FOLDER.iterdir() if entry.name[:4].isdecimal() and entry.name.endswith(".sql"))
    return sorted((int(entry.name[:4]), entry.read_text(encoding="utf-8")) for entry in files)


def split(script: str) -> Iterator[str]:
    """The statements of a script, one by one."""
    statement = ""
    for line in _code(script).splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
