"""The rules that keep the code easy to find one's way in: who may import whom, and how long things may get.

The import rules themselves are in pyproject.toml ([tool.importlinter]). Every rule is shown to fail on a small tree
that breaks it, so that a contract which matches nothing cannot pass for a kept one.
"""

from __future__ import annotations

import ast
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_MEDIAN_LINES = 8
FEW_ABOVE_LINES = 30
FEW = 0.10

Function = ast.FunctionDef | ast.AsyncFunctionDef


# --- imports ----------------------------------------------------------------------------------------------------------


def lint_imports(source_root: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter with the project's contracts over the ``asyncroute`` package below ``source_root``."""
    program = "import importlinter.cli as c; c.lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache", "--no-logo", "--config", str(ROOT / "pyproject.toml")],
        cwd=source_root,
        env=os.environ | {"PYTHONPATH": str(source_root), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_import_contracts_are_kept() -> None:
    result = lint_imports(SRC)
    assert result.returncode == 0, result.stdout + result.stderr


TREE = (
    *("__main__", "app", "admit", "commit", "crashpoints", "recover", "release", "route", "settle"),
    *("cli.__init__", "cli.serve", "config.__init__", "config.model", "core.__init__", "core.model"),
    *("forward.__init__", "forward.base", "forward.dicom", "journal.__init__", "journal.base", "journal.sqlite"),
    *("link.__init__", "link.negotiate", "link.stream", "queue.__init__", "queue.channel"),
    *("receive.__init__", "receive.listener", "spool.__init__", "spool.base", "spool.local"),
    *("status.__init__", "status.snapshot", "wire.__init__", "wire.header"),
)


def plant(root: Path, module: str, line: str) -> None:
    """Make a package of empty modules in which ``module`` holds ``line``."""
    package = root / "asyncroute"
    for name in ("__init__", *TREE, module):
        path = package / (name.replace(".", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (package / (module.replace(".", "/") + ".py")).write_text(line + "\n")


ALLOWED = [
    ("core.model", "import dataclasses"),
    ("wire.header", "import asyncroute.core.model, pydicom"),
    ("link.negotiate", "import pynetdicom.pdu"),
    ("link.stream", "import asyncio, asyncroute.wire.header, asyncroute.core.model"),
    ("config.model", "import pydantic, asyncroute.core.model"),
    ("admit", "import asyncroute.journal.base, asyncroute.spool.base, asyncroute.link.stream"),
    ("admit", "import asyncroute.commit, asyncroute.route, asyncroute.crashpoints"),
    ("journal.sqlite", "import sqlite3, aiosqlite, asyncroute.journal.base"),
    ("app", "import asyncroute.journal.sqlite, asyncroute.receive.listener, asyncroute.config.model, asyncroute.admit"),
    ("cli.serve", "import asyncroute.app, asyncroute.config.model"),
]

FORBIDDEN = [
    ("core.model", "import asyncio", "core is pure"),
    ("core.__init__", "import sqlite3", "core is pure"),
    ("core.model", "from pydicom import uid", "core is pure"),
    ("core.model", "import asyncroute.wire.header", "Imports point inward"),
    ("wire.header", "import asyncio", "wire is sans-io"),
    ("wire.header", "import asyncroute.link.stream", "Imports point inward"),
    ("wire.header", "import asyncroute.config.model", "Imports point inward"),
    ("link.stream", "import asyncroute.config.model", "Imports point inward"),
    ("link.stream", "import asyncroute.receive.listener", "Imports point inward"),
    ("link.stream", "import pynetdicom", "Only link/negotiate.py"),
    ("receive.listener", "from pynetdicom import AE", "Only link/negotiate.py"),
    ("receive.listener", "import asyncroute.forward.dicom", "Imports point inward"),
    ("forward.dicom", "import asyncroute.spool.local", "Imports point inward"),
    ("journal.sqlite", "import asyncroute.spool.local", "Imports point inward"),
    ("status.snapshot", "import asyncroute.journal.sqlite", "Imports point inward"),
    ("admit", "import asyncroute.journal.sqlite", "Imports point inward"),
    ("settle", "import asyncroute.admit", "Imports point inward"),
    ("commit", "import asyncroute.spool.local", "Imports point inward"),
    ("settle", "import asyncroute.app", "Imports point inward"),
    ("forward.base", "import asyncroute.forward.dicom", "Protocols"),
    ("config.model", "import asyncroute.wire.header", "The configuration knows only core"),
    ("cli.serve", "import asyncroute.journal.sqlite", "Only app.py imports concrete parts"),
    ("settle", "import sqlite3", "Only journal knows SQLite"),
    ("brand_new_room", "", "Imports point inward"),
]


@pytest.mark.parametrize(("module", "line"), ALLOWED)
def test_contracts_allow(tmp_path: Path, module: str, line: str) -> None:
    plant(tmp_path, module, line)
    result = lint_imports(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(("module", "line", "contract"), FORBIDDEN)
def test_contracts_forbid(tmp_path: Path, module: str, line: str, contract: str) -> None:
    plant(tmp_path, module, line)
    result = lint_imports(tmp_path)
    broken = [text for text in result.stdout.splitlines() if text.rstrip().endswith("BROKEN")]
    assert result.returncode == 1, result.stdout + result.stderr
    assert any(text.startswith(contract) for text in broken), result.stdout


def test_contracts_do_not_need_every_room(tmp_path: Path) -> None:
    (tmp_path / "asyncroute").mkdir()
    (tmp_path / "asyncroute" / "__init__.py").touch()
    result = lint_imports(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Dotted names of everything that a module imports, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_apps(text: str) -> bool:
    """Whether a module imports pynetdicom.apps, which joins UIDs from the network into paths."""
    return any(f"{name}.".startswith("pynetdicom.apps.") for name in imports_of(ast.parse(text)))


def python_files(*folders: str) -> list[Path]:
    """Every Python file below the given folders of the checkout; at least one, or the rule would check nothing."""
    files = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    assert files
    return files


def test_pynetdicom_apps_is_never_imported() -> None:
    guilty = [str(path) for path in python_files("src", "tests") if imports_apps(path.read_text("utf-8"))]
    assert guilty == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import pynetdicom.apps.common", True),
        ("from pynetdicom import apps", True),
        ("def f():\n    from pynetdicom.apps.storescp import main", True),
        ("from pynetdicom import AE, evt", False),
        ("import apps", False),
    ],
)
def test_imports_apps(text: str, found: bool) -> None:
    assert imports_apps(text) is found


# --- SQL --------------------------------------------------------------------------------------------------------------

SQL = re.compile(
    r"""\s*(?:
        select\s.*\sfrom\s | insert\s+(?:or\s+\w+\s+)?into\s | replace\s+into\s | update\s+(?:or\s+\w+\s+)?\w+\s+set\s
        | delete\s+from\s | with\s+(?:recursive\s+)?\w+(?:\s*\([^)]*\))?\s+as\s+(?:not\s+)?(?:materialized\s*)?\(
        | (?:create|drop|alter)\s+(?:unique\s+|temp\s+|virtual\s+)*(?:table|index|view|trigger)\s
        | pragma\s+\w+ | begin\s+(?:immediate|exclusive|deferred)\b | attach\s+(?:database\s+)?'
    )""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)


def docstrings_of(tree: ast.AST) -> set[int]:
    """Identities of the nodes that are docstrings (or other strings that stand alone)."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def sql_in(text: str) -> list[int]:
    """Line numbers of string literals that begin like an SQL statement. A heuristic: prose may need other words."""
    tree = ast.parse(text)
    skip = docstrings_of(tree)
    strings = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [node.lineno for node in strings if id(node) not in skip and SQL.match(str(node.value))]


def test_sql_stays_in_journal() -> None:
    journal = SRC / "asyncroute" / "journal"
    others = [path for path in python_files("src") if not path.is_relative_to(journal)]
    guilty = [f"{path}:{line}" for path in others for line in sql_in(path.read_text("utf-8"))]
    guilty += [str(path) for path in SRC.rglob("*.sql") if not path.is_relative_to(journal)]
    assert guilty == []


@pytest.mark.parametrize(
    "text",
    [
        'x = "SELECT id FROM delivery WHERE state = 1"',
        'x = """\n  select a,\n b\n from t """',
        'x = f"INSERT OR IGNORE INTO {table} VALUES (?)"',
        'db.execute("UPDATE delivery SET state = 2 WHERE id = ?")',
        'x = "delete from event where at < ?"',
        'x = "CREATE UNIQUE INDEX i ON t (a)"',
        'x = "PRAGMA synchronous"',
        'x = "BEGIN IMMEDIATE"',
        'x = "with a as (select 1) select * from a"',
    ],
)
def test_sql_in_finds(text: str) -> None:
    assert sql_in(text)


@pytest.mark.parametrize(
    "text",
    [
        '"""Select the images from the journal."""',
        'x = "cannot select the route from this"',
        'x = "Update the destination: set its port"',
        'x = "begin with a letter"',
    ],
)
def test_sql_in_leaves_prose_alone(text: str) -> None:
    assert sql_in(text) == []


# --- sizes ------------------------------------------------------------------------------------------------------------


def is_stub(function: Function) -> bool:
    """Whether a function has no code of its own (a Protocol's method, an overload): it would flatter the median."""
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in function.body)


def functions_in(text: str) -> list[tuple[str, int, int]]:
    """(name, first line, lines) of each function with a body, from ``def`` to its end: docstring and all."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, Function) and not is_stub(node)]
    return [(node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1) for node in nodes]


def lengths() -> dict[str, int]:
    """Lines of every function in src, by its place."""
    return {
        f"{path.relative_to(SRC)}:{line} {name}": length
        for path in python_files("src")
        for name, line, length in functions_in(path.read_text("utf-8"))
    }


def above(limit: int) -> dict[str, int]:
    """The functions longer than ``limit`` lines."""
    return {place: length for place, length in lengths().items() if length > limit}


def test_files_are_short() -> None:
    counted = {str(path.relative_to(SRC)): len(path.read_bytes().splitlines()) for path in python_files("src")}
    assert {name: count for name, count in counted.items() if count > MAX_FILE_LINES} == {}


def test_no_function_is_long() -> None:
    assert above(MAX_FUNCTION_LINES) == {}


def test_most_functions_are_small() -> None:
    found = lengths()
    assert found
    assert statistics.median(found.values()) <= MAX_MEDIAN_LINES
    many = above(FEW_ABOVE_LINES - 1)
    assert len(many) <= FEW * len(found), many


def test_functions_in_counts() -> None:
    text = "class A:\n    @x\n    def f(self):\n        '''Doc.'''\n\n        return 1\n\n    async def g(self): ...\n"
    assert functions_in(text) == [("f", 3, 4)]
