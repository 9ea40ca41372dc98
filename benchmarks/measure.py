"""What a router costs: CPU seconds and memory of its whole process tree, from /proc (Linux).

The tree is everything in the session of the root process, which was started in one of its own, and all descendants.
CPU of children that ended is in their parent's; those whose parent ended first come to us (``adopt_orphans``) and are
reaped here, so that nothing is lost. Seconds come in ticks of 10 ms. Memory is the resident size; the highest sum of
four looks a second, and at least what the kernel remembers of the root process (VmHWM).
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
QUIET = 0.03
"""CPU seconds in half a second below which a router is idle."""

STEADY = 4
"""Half seconds of equal work that are taken for polling."""

_PR_SET_CHILD_SUBREAPER = 36
_PARENT, _SESSION, _TIMES, _RSS = 1, 3, slice(11, 15), 21
"""Fields of /proc/PID/stat behind the name: parent, session, user and system time (own, children's), pages."""

Stats = Mapping[int, list[str]]


def adopt_orphans() -> None:
    """Be the parent of every descendant whose parent ends, so that its CPU time can be learnt."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def machine_cpu() -> float:
    """CPU seconds that the whole machine has worked since its start."""
    fields = [int(x) / TICK for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]]
    return sum(fields[:3]) + sum(fields[5:7])


def processes() -> Stats:
    """The fields of every process' stat behind its name."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            found[int(name)] = Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
    return found


def members(root: int, stats: Stats) -> set[int]:
    """The processes of the session ``root`` and all their descendants."""
    mine = {pid for pid, fields in stats.items() if pid == root or int(fields[_SESSION]) == root}
    while more := {pid for pid, fields in stats.items() if int(fields[_PARENT]) in mine} - mine:
        mine |= more
    return mine


class Tree:
    """See module. ``sample`` must be called now and then, for the peak."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.peak = 0
        self._reaped = 0.0
        self._next = 0.0

    def sample(self) -> float:
        """CPU seconds so far."""
        stats = processes()
        cpu, rss = 0, 0
        for pid in members(self.root, stats):
            fields = stats[pid]
            if self._reap(pid, fields):
                continue
            cpu += sum(map(int, fields[_TIMES]))
            rss += int(fields[_RSS]) * PAGE
        self.peak = max(self.peak, rss, self._remembered())
        self._next = time.monotonic() + 0.25
        return cpu / TICK + self._reaped

    def look(self) -> None:
        """Sample if the last time is a quarter of a second ago."""
        if time.monotonic() >= self._next:
            self.sample()

    def _reap(self, pid: int, fields: list[str]) -> bool:
        """Whether this was an orphan of ours that has ended; its time is counted."""
        if pid == self.root or fields[0] != "Z" or int(fields[_PARENT]) != os.getpid():
            return False
        try:
            done, _, usage = os.wait4(pid, os.WNOHANG)
        except ChildProcessError:
            return False
        if done:
            self._reaped += usage.ru_utime + usage.ru_stime
        return bool(done)

    def _remembered(self) -> int:
        try:
            lines = Path(f"/proc/{self.root}/status").read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)

    def settle(self, most: float = 15.0) -> float:
        """Wait until it is idle, ``most`` seconds at most: deleting and databases are its work, too. CPU seconds then.

        Some poll while they are idle: four equal half seconds in a row are that, and are not counted.
        """
        end, seen = time.monotonic() + most, [self.sample()]
        while time.monotonic() < end:
            time.sleep(0.5)
            seen.append(self.sample())
            steps = [b - a for a, b in pairwise(seen)][-STEADY:]
            if steps[-1] < QUIET:
                break
            if len(steps) == STEADY and max(steps) - min(steps) < 0.2 * max(steps) + 0.02:
                return seen[-STEADY - 1]
        return seen[-1]

    def end(self) -> None:
        """End the processes of this session, which we started, and only those."""
        for number, patience in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)):
            until = time.monotonic() + patience
            if not self._signal(number):
                return
            while time.monotonic() < until:
                self._reap_all()
                if not self._signal(0):
                    return
                time.sleep(0.02)

    def _signal(self, number: int) -> bool:
        """Whether there is still somebody to hear it."""
        try:
            os.killpg(self.root, number)
        except ProcessLookupError:
            return False
        return True

    def _reap_all(self) -> None:
        try:
            while os.waitpid(-self.root, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


def wait_quiet(most: float) -> float:
    """Wait until others leave the machine alone, ``most`` seconds at most; cores in use at the end."""
    end = time.monotonic() + most
    while True:
        before, began = machine_cpu(), time.monotonic()
        time.sleep(0.3)
        load = (machine_cpu() - before) / (time.monotonic() - began)
        if load < 0.15 or time.monotonic() >= end:
            return load
