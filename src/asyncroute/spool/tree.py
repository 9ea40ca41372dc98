"""The folders of the spool: names, creation, syncing, removal and counting of numbered files.

Guarantees: file names come from instance ids only; a folder's name is durable before a file in it is; every file
descriptor is closed by whoever opened it, none is shared between threads; a failed sync marks the tree ``broken``,
and nothing is synced after it. With ``durability="process-crash"`` nothing is synced.
Failures: ``OSError`` from the system, which the callers turn into a ``StorageFault`` with ``fault``.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from asyncroute.core.errors import StorageFault
from asyncroute.crashpoints import crash_point
from asyncroute.spool.base import Buffer, Found

SHARD = 1000
IOV_MAX = 1024

_SHARD_NAME = re.compile(r"\d{6,}", re.ASCII)
_FILE_NAME = re.compile(r"(\d{8,})\.dcm", re.ASCII)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_log = logging.getLogger(__name__)


def shard_name(instance_id: int) -> str:
    """The folder of an image."""
    return f"{instance_id // SHARD:06d}"


def file_path(instance_id: int) -> str:
    """The path of an image below the spool folder."""
    return f"{instance_id // SHARD:06d}/{instance_id:08d}.dcm"


def fault(error: Exception, doing: str, path: str) -> StorageFault:
    """``error`` in one line; ``doing``: such as "writing"."""
    if isinstance(error, OSError):
        return StorageFault(f"spool: {doing} {path}: {error.strerror or error}", error.errno or 0)
    return StorageFault(f"spool: {doing} {path}: {type(error).__name__}: {error}")


def write_all(number: int, parts: Sequence[Buffer]) -> int:
    """Write ``parts`` to a file descriptor, whatever the system takes at a time; the bytes written."""
    waiting: list[Buffer] = list(parts)
    total = start = 0
    while start < len(waiting):
        batch = waiting[start : start + IOV_MAX]
        done = os.writev(number, batch)
        total += done
        if done == sum(map(len, batch)):
            start += len(batch)
            continue
        if not done:
            raise OSError(errno.EIO, "the system writes nothing")
        while done >= len(waiting[start]):
            done -= len(waiting[start])
            start += 1
        waiting[start] = memoryview(waiting[start])[done:]
    return total


class Tree:
    """See module. ``files`` and ``bytes``: what is there now."""

    def __init__(self, root: Path, durability: str) -> None:
        self.root = root
        self.broken: str | None = None
        self.files = 0
        self.bytes = 0
        self._syncs = durability == "power-loss"
        self._lock = threading.Lock()
        self._folder_turn = threading.Lock()
        """Folders are synced by one thread at a time: of two at once only one may hear of a failure."""
        self._live: dict[int, int] = {}
        """Files by folder; a folder that is not in it has to be made (its name synced) before use."""
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if self._syncs:
                self._sync_parents()
        except OSError as error:
            raise fault(error, "opening", str(root)) from error

    def close(self) -> None:
        """Close. Idempotent."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    # -- files

    def create(self, instance_id: int) -> int:
        """A descriptor of a new file. ``OSError``: EEXIST if there is one already."""
        self._make_folder(instance_id // SHARD)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        try:
            number = os.open(file_path(instance_id), flags, 0o600, dir_fd=self._root)
        except FileNotFoundError:  # the folder was empty and old, and has just been removed
            self._forget_folder(instance_id // SHARD)
            self._make_folder(instance_id // SHARD)
            number = os.open(file_path(instance_id), flags, 0o600, dir_fd=self._root)
        crash_point("file-created")
        return number

    def open(self, path: str) -> int:
        """A descriptor for reading."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._root)

    def sync_file(self, number: int, path: str) -> None:
        """fdatasync; its failure marks the tree broken."""
        if self._syncs:
            self._sync(os.fdatasync, number, path)
        crash_point("file-synced")

    def sync_folder(self, shard: int) -> None:
        """Make the names in a folder durable; its failure marks the tree broken."""
        if self._syncs:
            name = f"{shard:06d}"
            number = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._root)
            try:
                with self._folder_turn:
                    self._sync(os.fsync, number, name)
            finally:
                os.close(number)
        crash_point("folder-synced")

    def drop(self, instance_id: int) -> None:
        """Remove a file that was never counted; never raises."""
        try:
            os.unlink(file_path(instance_id), dir_fd=self._root)
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.warning("%s", fault(error, "removing", file_path(instance_id)))

    def remove(self, path: str) -> None:
        """Remove a counted file; a missing one is fine."""
        try:
            length = os.stat(path, dir_fd=self._root).st_size
            os.unlink(path, dir_fd=self._root)
        except FileNotFoundError:
            return
        self._uncount(path, length)

    def move(self, path: str, target: Path | str) -> None:
        """Move a counted file out of the tree."""
        length = os.stat(path, dir_fd=self._root).st_size
        os.rename(path, target, src_dir_fd=self._root)
        self._uncount(path, length)

    def take(self, file: Path, instance_id: int) -> bool:
        """Move ``file``, synced, to the place of an image and count it; False: the place is taken."""
        self._make_folder(instance_id // SHARD)
        path = file_path(instance_id)
        if os.path.lexists(self.root / path):
            return False
        number = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.sync_file(number, str(file))
            length = os.fstat(number).st_size
        finally:
            os.close(number)
        os.rename(file, path, dst_dir_fd=self._root)
        self.count([(instance_id, length)])
        return True

    def left_place(self) -> bool:
        """See ``Spool.left_place``. What is written into a folder that has no name any more is as good as lost."""
        try:
            here, there = os.fstat(self._root), os.stat(self.root)
            left = (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino)
        except OSError:
            left = True
        if left and not self.broken:
            self.broken = (
                f"the spool was removed or replaced: {self.root}; no image is taken until asyncroute is restarted"
            )
            _log.critical("%s", self.broken)
        return left

    def free_bytes(self) -> int:
        """See ``Spool.free_bytes``."""
        state = os.fstatvfs(self._root)
        return state.f_bavail * state.f_frsize

    # -- counting

    def count(self, files: Iterable[tuple[int, int]]) -> None:
        """These (instance id, length) are there."""
        with self._lock:
            for instance_id, length in files:
                shard = instance_id // SHARD
                self._live[shard] = self._live.get(shard, 0) + 1
                self.files += 1
                self.bytes += length

    def _uncount(self, path: str, length: int) -> None:
        shard = int(path.partition("/")[0])
        with self._lock:
            self.files -= 1
            self.bytes -= length
            left = self._live.get(shard, 1) - 1
            self._live[shard] = left
            if not left and shard < max(self._live):
                self._remove_folder(shard)

    def sweep(self) -> Iterator[Found]:
        """See ``Spool.sweep``."""
        self.files = self.bytes = 0
        self._live.clear()
        for shard in sorted(self._shards()):
            found = sorted(self._files(shard))
            self._live[shard] = 0
            self.count((instance_id, length) for instance_id, length in found)
            yield from (Found(file_path(instance_id), instance_id, length) for instance_id, length in found)

    def _shards(self) -> Iterator[int]:
        with os.scandir(self._root) as entries:
            for entry in entries:
                if _SHARD_NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                    yield int(entry.name)

    def _files(self, shard: int) -> Iterator[tuple[int, int]]:
        """(instance id, length) of the files in a folder that are named as ours and where they belong."""
        with os.scandir(self.root / f"{shard:06d}") as entries:
            for entry in entries:
                match = _FILE_NAME.fullmatch(entry.name)
                if match and file_path(int(match[1])) == f"{shard:06d}/{entry.name}":
                    yield int(match[1]), entry.stat(follow_symlinks=False).st_size

    # -- folders

    def _make_folder(self, shard: int) -> None:
        if shard in self._live:
            return
        with self._lock:
            if shard in self._live:
                return
            try:
                os.mkdir(f"{shard:06d}", 0o700, dir_fd=self._root)
            except FileExistsError:
                pass
            if self._syncs:
                self._sync(os.fsync, self._root, str(self.root))
            self._live[shard] = 0
            for old in [old for old, left in self._live.items() if not left and old < shard]:
                self._remove_folder(old)

    def _remove_folder(self, shard: int) -> None:
        """Remove an empty folder, if it is empty."""
        try:
            os.rmdir(f"{shard:06d}", dir_fd=self._root)
        except OSError:
            return
        self._live.pop(shard, None)

    def _forget_folder(self, shard: int) -> None:
        with self._lock:
            self._live.pop(shard, None)

    # -- syncing

    def _sync(self, how: Callable[[int], None], number: int, path: str) -> None:
        """Sync, unless a sync has failed before: what another thread's could not save, the next one may call safe."""
        if self.broken:
            raise OSError(errno.EIO, "nothing is synced after a failure", path)
        try:
            how(number)
        except OSError as error:
            if error.errno not in _FULL:
                self.broken = f"{fault(error, 'syncing', path)}; no image is taken until asyncroute is restarted"
                _log.critical("%s", self.broken)
            raise

    def _sync_parents(self) -> None:
        """Names that an earlier process made but may not have synced."""
        os.fsync(self._root)
        for folder in (self.root.parent, self.root.parent.parent):
            number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(number)
            finally:
                os.close(number)
