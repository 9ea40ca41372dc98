"""Another program that locks a journal: a process with a SQLite transaction of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import sqlite3, sys
journal = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
if sys.argv[2] == "exclusive":
    journal.execute("PRAGMA locking_mode = EXCLUSIVE")
journal.execute("BEGIN IMMEDIATE")
journal.execute("UPDATE counter SET value = value")
print("locked", flush=True)
sys.stdin.read()
journal.execute("ROLLBACK")
journal.close()
"""


class ForeignLock:
    """Holds the journal in ``data_dir`` from its making to ``release``.

    ``exclusive``: nobody else can even read it, as with a program that opened it first; else nobody else can write.
    """

    def __init__(self, data_dir: Path, *, exclusive: bool = False) -> None:
        words = [sys.executable, "-c", _PROGRAM, str(data_dir / "journal.db"), "exclusive" if exclusive else "write"]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "locked\n", "the journal could not be locked"

    def release(self) -> None:
        """Give it free. Idempotent."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(20)

    def __enter__(self) -> ForeignLock:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()
