"""Named places at which a test may kill the process, one per step of persistence.

Purpose: show that a crash between any two steps loses no acknowledged image. ``crash_point(name)`` stands in the code
at each step. ``python -m asyncroute.crashpoints`` prints the names, one a line.
Guarantees: without the environment variable ``ASYNCROUTE_CRASH`` a crash point is a function that returns at once.
With ``ASYNCROUTE_CRASH=NAME`` or ``NAME:N``, as set when this module was imported, the process ends by SIGKILL at the
N-th (first: 1) pass of that point.
Failures: a name or number that is none ends the import with ``ValueError``, so that a misspelt test cannot pass.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable

POINTS = (
    "file-created",
    "spare-taken",
    "spare-overwritten",
    "file-written",
    "file-synced",
    "folder-synced",
    "stream-partly-written",
    "stream-finished",
    "journal-begun",
    "journal-written",
    "journal-committed",
    "admitted-unanswered",
    "answered",
    "sent-unsettled",
    "settle-written",
    "settle-committed",
    "file-removed",
    "release-committed",
    "completion-written",
    "completion-committed",
    "move-written",
    "move-committed",
    "proof-unasked",
    "proof-asked",
    "proof-reported",
    "proof-taken",
    "archive-intended",
    "archive-linked",
    "archive-written",
    "archive-synced",
    "archive-named",
    "archive-known",
    "tier-intended",
    "tier-moved",
    "tier-removed",
    "tier-ended",
    "batch-begun",
    "batch-offered",
    "batch-read",
    "batch-ended",
    "batch-source-aside",
    "batch-source-checked",
    "batch-source-gone",
)

VARIABLE = "ASYNCROUTE_CRASH"


def _idle(name: str) -> None:
    """A crash point while none is asked for."""


def _armed(spec: str) -> Callable[[str], None]:
    """The crash point that ``spec`` (NAME or NAME:N) asks for."""
    wanted, colon, number = spec.partition(":")
    last = int(number) if number.isdecimal() else 0 if colon else 1
    if wanted not in POINTS or last < 1:
        raise ValueError(f"{VARIABLE}={spec}: want NAME or NAME:N; python -m asyncroute.crashpoints prints the names")
    passes = itertools.count(1)

    def crash(name: str) -> None:
        if name == wanted and next(passes) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    return crash


def _chosen(spec: str) -> Callable[[str], None]:
    return _armed(spec) if spec else _idle


crash_point = _chosen(os.environ.get(VARIABLE, ""))

if __name__ == "__main__":
    print("\n".join(POINTS))
