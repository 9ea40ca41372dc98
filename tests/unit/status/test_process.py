"""What the process says of itself, held against what it really has."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from asyncroute.status import process

BEFORE_AND_AFTER = """
import asyncio, os, threading
from asyncroute.status import process

async def main():
    loop, done = asyncio.get_running_loop(), threading.Event()
    first = process.figures(loop)
    sleepers = [asyncio.create_task(asyncio.sleep(60)) for _ in range(3)]
    for _ in range(2):
        threading.Thread(target=done.wait).start()
    os.pipe()
    second = process.figures(loop)
    done.set()
    print(*(second[key] - first[key] for key in ("tasks", "threads", "descriptors")))

asyncio.run(main())
"""
"""Run in a process of its own: here threads of other tests may still be ending."""


def look() -> process.Figures:
    async def ask() -> process.Figures:
        return process.figures(asyncio.get_running_loop())

    return asyncio.run(ask())


def number(value: float | None) -> float:
    assert value is not None
    return value


def test_each_new_task_thread_and_descriptor_counts() -> None:
    done = subprocess.run([sys.executable, "-c", BEFORE_AND_AFTER], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "2", "2"]


def test_the_figures_are_this_process() -> None:
    found = look()
    assert found["pid"] == os.getpid()
    used = resource.getrusage(resource.RUSAGE_SELF)
    slack = 8 << 20  # the kernel counts resident pages per CPU and adds them up late
    assert 5 << 20 < number(found["rss_bytes"]) <= used.ru_maxrss * 1024 + slack
    assert 0 < number(found["cpu_s"]) <= used.ru_utime + used.ru_stime + 0.1


def test_what_the_system_does_not_tell_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "_SELF", tmp_path / "gone")
    found = look()
    assert (found["threads"], found["descriptors"], found["rss_bytes"]) == (None, None, None)
    assert number(found["tasks"]) >= 1
