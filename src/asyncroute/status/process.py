"""What the process itself takes up: what to look at when something seems to grow (proc(5)).

Guarantees: three small reads from ``/proc/self``, so that it may be asked every second.
Failures: none. What the system does not tell at this moment (no descriptor is left to read it with) is None.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

Figures = dict[str, int | float | None]

_SELF = Path("/proc/self")


def figures(loop: asyncio.AbstractEventLoop) -> Figures:
    """Process id; tasks of ``loop``, threads, open descriptors; resident bytes; seconds of CPU since its start.

    On the loop's thread. The task that asks, and its connection, are among them.
    """
    threads, rss = _memory()
    return {
        "pid": os.getpid(),
        "tasks": len(asyncio.all_tasks(loop)),
        "threads": threads,
        "descriptors": _descriptors(),
        "rss_bytes": rss,
        "cpu_s": round(time.process_time(), 3),
    }


def _descriptors() -> int | None:
    """Open descriptors, without the one that reads the folder."""
    try:
        return len(os.listdir(_SELF / "fd")) - 1
    except OSError:
        return None


def _memory() -> tuple[int | None, int | None]:
    """Threads and resident bytes."""
    try:
        lines = (_SELF / "status").read_text("ascii", "replace").splitlines()
    except OSError:
        return None, None
    found = dict(line.split(":", 1) for line in lines)
    return int(found["Threads"]), int(found["VmRSS"].split()[0]) * 1024
