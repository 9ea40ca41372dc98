"""The test's handle on a disk that can lose power (``power_fs_process``)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ANSWER = 40.0


@dataclass(frozen=True)
class Lost:
    """One power cut: pieces and changes of names that were not synced, and how many of them were lost."""

    pending: int
    lost: int


@dataclass(frozen=True)
class Sync:
    """One sync of a file or folder. ``number`` tells files of one name apart."""

    path: str
    number: int
    good: bool


class PowerDisk:
    """A small file system in memory, mounted at ``path``. Use as a context manager.

    Needs /dev/fuse and fusermount3; where there are none it fails, because a skipped test shows nothing.
    """

    def __init__(self, path: Path, kind: str = "power") -> None:
        """``kind``: the type of file system that it claims to be, behind ``fuse.``."""
        self.path = path
        path.mkdir(parents=True)
        command = [sys.executable, "-m", "tests.support.power_fs_process", str(path), kind]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True
        )
        self._turn = threading.Lock()
        try:
            assert self._answer() == "mounted"
        except BaseException:
            self.close()
            raise

    def freeze(self) -> None:
        """The last moment before the cut: nothing changes any more, every change and every sync fails."""
        self._order("freeze")

    def freeze_after(self, changes: int) -> None:
        """``freeze`` by itself after so many more changes and syncs."""
        self._order("freeze_after", changes=changes)

    @property
    def frozen(self) -> bool:
        """Whether it is."""
        return bool(self._order("frozen"))

    def cut(self, seed: int | None = None) -> Lost:
        """Lose what is not synced (with ``seed``: a random part of it) and be there again. Nobody may use the disk."""
        return Lost(**self._order("cut", seed=seed))

    def fail_sync(self, pattern: str, nth: int = 1) -> None:
        """EIO from the ``nth`` sync, from now, of a path that matches the glob (relative to the disk, from "/")."""
        self._order("fail", pattern=pattern, nth=nth)

    def syncs(self, pattern: str = "*") -> list[Sync]:
        """All syncs of matching paths since the last cut."""
        return [Sync(*values) for values in self._order("syncs", pattern=pattern)]

    def close(self) -> None:
        """End the process and unmount, also when something still uses the disk."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()
        if os.path.ismount(self.path):
            subprocess.run(["fusermount3", "-u", "-q", "-z", str(self.path)], check=False)

    def _order(self, do: str, **more: Any) -> Any:
        assert self._process.stdin is not None
        with self._turn:
            self._process.stdin.write(json.dumps({"do": do, **more}).encode() + b"\n")
            self._process.stdin.flush()
            return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the file system's process died (is /dev/fuse there?)"}
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["ok"]

    def __enter__(self) -> PowerDisk:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
