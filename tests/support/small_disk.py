"""Small disks for a real router: file systems of some megabytes in a mount namespace of their own.

A process holds the namespace; routers join it, and the test looks in from outside through ``/proc``. Works as root and
as any user who may make user namespaces; where neither is so, it fails.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from tests.support.router import Router, command

MIB = 1 << 20
_MOUNT = 'while [ $# -gt 1 ]; do mkdir -p "$2" && mount -t tmpfs -o "size=$1" tmpfs "$2" || exit; shift 2; done; '


class SmallDisk:
    """tmpfs mounts ``{folder: size}`` (made in the order given), seen only by routers that ``router`` makes."""

    def __init__(self, mounts: Mapping[Path, str]) -> None:
        arguments = [text for folder, size in mounts.items() for text in (size, str(folder))]
        namespace = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", _MOUNT + "echo ready; read", "-"]
        self._holder = subprocess.Popen(
            [*namespace, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._holder.stdout is not None
        said = self._holder.stdout.readline()
        assert said == "ready\n", f"no small disk can be mounted here: {said}{self._holder.stdout.read()}"

    def inside(self, path: Path) -> Path:
        """``path`` of the namespace, as this process can reach it."""
        return Path(f"/proc/{self._holder.pid}/root") / path.relative_to("/")

    def command(self, *words: object) -> list[str]:
        """A command line that runs ``words`` in the namespace."""
        join = ["nsenter", f"--target={self._holder.pid}", "--user", "--mount", "--preserve-credentials"]
        return [*join, *map(str, words)]

    def router(self, folder: Path, config: Mapping[str, Any], name: str = "router") -> Router:
        """A router whose configuration is in ``folder`` and that runs on these disks."""
        return _RouterOnDisk(self, folder, config, name)

    def close(self) -> None:
        """Let the disks go."""
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait(10)
        self._holder.stdout.close()

    def __enter__(self) -> SmallDisk:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _RouterOnDisk(Router):
    """A router in the namespace of a disk; everything that tests look at is looked at from outside."""

    def __init__(self, disk: SmallDisk, folder: Path, config: Mapping[str, Any], name: str) -> None:
        self._disk = disk
        super().__init__(folder, config, name)

    @property
    def data_dir(self) -> Path:
        """The data folder as this process sees it."""
        return self._disk.inside(super().data_dir)

    def _spawn(self, log: IO[bytes], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._disk.command(*command("serve", "-c", self.config_file)),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=self.environment(env),
            start_new_session=True,
        )


class Filler:
    """A file that takes up what is free on a disk."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "filler"

    def fill(self, leave: int = 0) -> None:
        """Take all but ``leave`` bytes of what is free now."""
        number = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            while (size := _free(self.path) - leave) > 0:
                os.write(number, bytes(min(size, MIB)))
        except OSError:
            pass  # the last page
        finally:
            os.close(number)

    def remove(self) -> None:
        """Give it all back."""
        self.path.unlink(missing_ok=True)

    def shrink(self, size: int) -> None:
        """Give ``size`` bytes back."""
        os.truncate(self.path, max(self.path.stat().st_size - size, 0))


def _free(path: Path) -> int:
    state = os.statvfs(path)
    return state.f_bavail * state.f_frsize
