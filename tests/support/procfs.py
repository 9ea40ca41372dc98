"""What Linux says about a process: memory, threads, descriptors (proc(5))."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
_SPOOLED = re.compile(r"/spool/\d{6,}/\d{8,}\.dcm")


@dataclass(frozen=True)
class Usage:
    """Descriptors and threads of a process, and its resident memory in bytes.

    Files of a spool do not count: they stay open for some seconds, more or fewer of them by how many images come.
    """

    descriptors: int
    threads: int
    rss: int


def usage(pid: int) -> Usage:
    """The present usage of process ``pid``."""
    base = Path("/proc") / str(pid)
    return Usage(
        sum(not _SPOOLED.search(file) for file in descriptors(pid)),
        len(os.listdir(base / "task")),
        memory(pid, "VmRSS"),
    )


def memory(pid: int, what: str = "VmHWM") -> int:
    """A memory figure in bytes; VmHWM is the highest resident size so far."""
    for line in (Path("/proc") / str(pid) / "status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(what)


def reset_peak(pid: int) -> None:
    """Begin VmHWM anew from the present resident size."""
    (Path("/proc") / str(pid) / "clear_refs").write_text("5")


def descriptors(pid: int) -> list[str]:
    """What each descriptor is, but those that are closed while this looks."""
    folder = Path("/proc") / str(pid) / "fd"
    found = []
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(folder / name))
    return sorted(found)
