"""A record of the system calls that durability depends on, in their order; the calls themselves are made."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

Step = tuple[str, str]


@dataclass
class Calls:
    """The calls so far, as (what, file name). ``failing``: the sync, by number from 1, that answers with this errno."""

    steps: list[Step] = field(default_factory=list)
    failing: dict[int, int] = field(default_factory=dict)
    syncs: int = 0

    def of(self, *kinds: str) -> list[Step]:
        """The calls of these kinds."""
        return [step for step in self.steps if step[0] in kinds]

    def sync(self, kind: str, real: Callable[[int], None], number: int) -> None:
        """Note a sync; fail it if it is one that shall fail."""
        self.syncs += 1
        self.steps.append((kind, name_of(number)))
        if self.syncs in self.failing:
            code = self.failing[self.syncs]
            raise OSError(code, os.strerror(code))
        real(number)


def name_of(number: int) -> str:
    """The last part of the path behind a descriptor."""
    return os.path.basename(os.readlink(f"/proc/self/fd/{number}"))


def record(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Note mkdir, open for writing, writev, pwrite, ftruncate, fdatasync, fsync and unlink from now on."""
    calls = Calls()
    mkdir, opened, writev, pwrite, unlink = os.mkdir, os.open, os.writev, os.pwrite, os.unlink
    fdatasync, fsync, truncate = os.fdatasync, os.fsync, os.ftruncate

    def noting(kind: str, real: Callable[..., Any], name: Callable[..., str]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            calls.steps.append((kind, name(*args)))
            return real(*args, **more)

        return call

    def open_noted(path: str, flags: int, *args: Any, **more: Any) -> int:
        if flags & (os.O_CREAT | os.O_WRONLY):
            calls.steps.append(("create" if flags & os.O_CREAT else "reopen", os.path.basename(path)))
        return opened(path, flags, *args, **more)

    monkeypatch.setattr(os, "mkdir", noting("mkdir", mkdir, lambda path, *_: os.path.basename(path)))
    monkeypatch.setattr(os, "open", open_noted)
    monkeypatch.setattr(os, "writev", noting("write", writev, lambda number, *_: name_of(number)))
    monkeypatch.setattr(os, "pwrite", noting("write", pwrite, lambda number, *_: name_of(number)))
    monkeypatch.setattr(os, "ftruncate", noting("truncate", truncate, lambda number, *_: name_of(number)))
    monkeypatch.setattr(os, "unlink", noting("unlink", unlink, os.path.basename))
    monkeypatch.setattr(os, "fdatasync", lambda number: calls.sync("fdatasync", fdatasync, number))
    monkeypatch.setattr(os, "fsync", lambda number: calls.sync("fsync", fsync, number))
    return calls


def short_writes(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Let each writev take ``most`` bytes at the most, as a busy or nearly full disk may."""
    real = os.writev

    def writev(number: int, parts: Sequence[bytes]) -> int:
        taken: list[memoryview] = []
        room = most
        for part in parts:
            taken.append(memoryview(part)[:room])
            room -= len(taken[-1])
            if not room:
                break
        return real(number, taken)

    monkeypatch.setattr(os, "writev", writev)


EIO = errno.EIO
ENOSPC = errno.ENOSPC
