"""Crash points: named, counted, and nothing at all in ordinary runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from asyncroute import crashpoints

SRC = Path(crashpoints.__file__).parents[1]
PASS_FOUR = """
from asyncroute.crashpoints import crash_point
for n in range(4):
    print(n, flush=True)
    crash_point("answered")
"""
USED_BY_STORAGE = (
    *("file-created", "file-written", "file-synced", "folder-synced", "stream-partly-written", "stream-finished"),
    *("spare-taken", "spare-overwritten"),
    *("journal-begun", "journal-written", "journal-committed", "settle-written", "settle-committed"),
    *("release-committed", "move-written", "move-committed"),
)


def run(spec: str | None, program: str = PASS_FOUR) -> subprocess.CompletedProcess[str]:
    """Run a program with the crash variable set."""
    kept = {name: value for name, value in os.environ.items() if name != crashpoints.VARIABLE}
    more = {} if spec is None else {crashpoints.VARIABLE: spec}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=kept | more | {"PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(("spec", "passed"), [("answered", 1), ("answered:1", 1), ("answered:3", 3)])
def test_the_process_is_killed_at_the_nth_pass(spec: str, passed: int) -> None:
    done = run(spec)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == [str(n) for n in range(passed)]


@pytest.mark.parametrize("spec", [None, "", "answered:5", "file-created"])
def test_other_passes_go_on(spec: str | None) -> None:
    assert run(spec).returncode == 0


@pytest.mark.parametrize("spec", ["anwsered", "answered:", "answered:0", "answered:x", "answered:-1", ":1", " "])
def test_a_misspelt_point_ends_the_import(spec: str) -> None:
    done = run(spec)
    assert done.returncode == 1
    assert "ASYNCROUTE_CRASH" in done.stderr


def test_the_module_prints_the_names() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "asyncroute.crashpoints"],
        env=os.environ | {"PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.split() == list(crashpoints.POINTS)


def test_an_ordinary_run_has_idle_points() -> None:
    assert crashpoints.crash_point is crashpoints._idle


def test_every_point_of_storage_stands_somewhere_in_the_code() -> None:
    text = "".join(
        path.read_text("utf-8") for path in (SRC / "asyncroute").rglob("*.py") if path.name != "crashpoints.py"
    )
    assert [name for name in USED_BY_STORAGE if f'"{name}"' not in text] == []


def test_every_point_in_the_code_has_a_name() -> None:
    text = "".join(path.read_text("utf-8") for path in (SRC / "asyncroute").rglob("*.py"))
    named = set(re.findall(r'crash_point\("([^"]*)"\)', text))
    assert named <= set(crashpoints.POINTS)
    assert named
