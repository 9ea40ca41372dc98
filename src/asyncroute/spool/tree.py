"""The folders of the spool: names, creation, syncing, reuse, removal and counting of numbered files.

Guarantees: file names come from numbers only; a folder's name is durable before a file in it is; a descriptor is used
by one thread at a time;
a failed sync marks the tree ``broken``, and nothing is synced after it. With ``durability="process-crash"`` nothing is
synced.

A released file becomes a spare one (``spare``): it keeps its name, and ``reuse`` gives it to a new image, whose bytes
then take the place of its own. That this is safe needs no more of the file system than POSIX promises:
- A file is ready for reuse only after the journal has committed the release of its image: nobody is owed what is
  overwritten, and of all images that the journal has not released at most one is in a file, whatever a crash undoes.
- The facts in a file name its image. After a crash they are those of the old image, which the journal knows to be done;
  or those of the new one, which was never acknowledged, unless the journal has it: that takes a sync of the file.
- Whose a file is, is known from when it is given away: an image that is released once more by then takes nothing from
  the next one (``_left``).
- A mixture that has the new image's head and length was never acknowledged either. Recovery and ``rebuild`` compare the
  checksum before they take a file for a whole one, lanes before they send its last byte.
- The name was durable before the first image in the file was acknowledged, so it needs no sync again.
- What has the name is looked at before it is written: one name, of the length that it had, and the file that is open,
  if its descriptor is kept (``kept``). Of a file that has been linked elsewhere, as a backup may do, only the name is
  taken away.
- A journal that has lost its end may owe an image whose file has another one in it. Recovery reads the
  files that were written after the last image of which the journal knows. What is in it is set aside, ``rebuild`` takes
  it in.
- Where the journal is lost, a spare file that a crash left is as good as any other whole file: sent again. Where it
  forgot the image (pruned within seconds of its release), it is set aside as an orphan.
Failures: ``OSError`` from the system, which the callers turn into a ``StorageFault`` with ``fault``.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import monotonic

from asyncroute.core.errors import StorageFault
from asyncroute.core.numbered import SHARD, SHARD_NAME, file_path, number_of
from asyncroute.crashpoints import crash_point
from asyncroute.spool import spare
from asyncroute.spool.base import Found
from asyncroute.spool.kept import Descriptor, Kept, Writing, as_it_was, identity
from asyncroute.spool.present import Folder, Present
from asyncroute.spool.spare import Spare, Spares
from asyncroute.spool.system import open_cached, start_writing

OPEN_FOLDERS = 4
"""Folders whose descriptors are kept for the next sync."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_log = logging.getLogger(__name__)


def fault(error: Exception, doing: str, path: str) -> StorageFault:
    """``error`` in one line; ``doing``: such as "writing"."""
    if isinstance(error, OSError):
        return StorageFault(f"spool: {doing} {path}: {error.strerror or error}", error.errno or 0)
    return StorageFault(f"spool: {doing} {path}: {type(error).__name__}: {error}")


class Tree:
    """See module. ``reused``: files that have been given to new images."""

    def __init__(self, root: Path, durability: str, kept: int) -> None:
        self.root = root
        self.broken: str | None = None
        self.reused = 0
        self._syncs = durability == "power-loss"
        self._lock = threading.Lock()
        self._present = Present()
        """Whose folders it does not know have to be made (their names synced) before use."""
        self._unsure: set[int] = set()
        """Folders that were swept: an earlier run may not have synced the names in them."""
        self._spares = Spares()
        self._kept = Kept(kept)
        self._folder_turn = threading.Lock()
        """Folders are synced by one thread at a time: of two at once only one may hear of a failure."""
        self._open_folders: dict[int, tuple[int, tuple[int, int]]] = {}
        """Folder: descriptor, and which folder that is. In ``_folder_turn``."""
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if self._syncs:
                self._sync_parents()
        except OSError as error:
            raise fault(error, "opening", str(root)) from error

    def close(self) -> None:
        """Remove what is spare, and close. Idempotent."""
        if self._root < 0:
            return
        self.tidy(everything=True)
        self.keep_open(0)
        with self._folder_turn:
            while self._open_folders:
                self._close_folder(next(iter(self._open_folders)))
        os.close(self._root)
        self._root = -1

    @property
    def files(self) -> int:
        """See ``Spool.files``."""
        return self._present.files

    @property
    def bytes(self) -> int:
        """See ``Spool.bytes``."""
        return self._present.bytes

    @property
    def spare_files(self) -> int:
        """See ``Spool.spare_files``."""
        return self._spares.files

    @property
    def spare_bytes(self) -> int:
        """See ``Spool.spare_bytes``."""
        return self._spares.bytes

    def keep_open(self, most: int) -> None:
        """How many descriptors may stay open."""
        self._kept.limit(most)

    @property
    def open_files(self) -> int:
        """See ``Spool.open_files``."""
        return len(self._kept)

    # -- files

    def create(self, number: int) -> Writing:
        """A new file. ``OSError``: EEXIST if there is one already."""
        path = file_path(number)
        self._make_folder(number // SHARD)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        try:
            opened = os.open(path, flags, 0o600, dir_fd=self._root)
        except FileNotFoundError:  # the folder was empty and old, and has just been removed
            self._make_folder(number // SHARD, missing=True)
            opened = os.open(path, flags, 0o600, dir_fd=self._root)
        crash_point("file-created")
        return Writing(number, path, Descriptor(opened, identity(os.fstat(opened))), -1)

    def reuse(self, length: int, owner: int) -> Writing | None:
        """A spare file to be overwritten by image ``owner``, whose it is from now on.

        None: there is none for ``length`` bytes, or it was not as it should be.
        """
        with self._lock:
            taken = self._spares.take(length)
            if taken is not None:
                self._present.own(taken.number, owner)
        if taken is None:
            return None
        path = file_path(taken.number)
        descriptor = self._checked(taken, path)
        if descriptor is None:
            self.drop(taken.number)
            self._spare_left(taken.number)
            return None
        crash_point("spare-taken")
        return Writing(taken.number, path, descriptor, taken.length)

    def over(self, file: Writing, length: int) -> None:
        """It is written, with so many bytes: its descriptor is kept if another image may follow."""
        if self.broken or length > spare.LONGEST:
            file.close()
        else:
            self._kept.keep(file.number, file.descriptor)

    def written(self, file: Writing, length: int, owner: int) -> None:
        """The image in it may stay: count it."""
        with self._lock:
            self._present.add(file.number, length, owner)
            if not file.new:
                self.reused += 1
                folder = self._present.folders[file.number // SHARD]
                folder.spares = max(folder.spares - 1, 0)

    def undo(self, file: Writing) -> None:
        """Remove it, uncounted as it is; never raises."""
        self.drop(file.number)
        if not file.new:
            self._spare_left(file.number)

    def open(self, path: str) -> int:
        """A descriptor for reading."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._root)

    def open_cached(self, path: str) -> int:
        """A descriptor for reading, or -1: see ``system.open_cached``."""
        return open_cached(path, self._root)

    def start_writing(self, number: int) -> None:
        """A sync of this file will follow, after others."""
        if self._syncs:
            start_writing(number)

    def sync_file(self, number: int, path: str) -> None:
        """fdatasync; its failure marks the tree broken."""
        if self._syncs:
            self._sync(os.fdatasync, number, path, fatal=False)
        crash_point("file-synced")

    def sync_folder(self, shard: int) -> None:
        """Make the names in a folder durable; its failure marks the tree broken."""
        if self._syncs:
            with self._folder_turn:
                self._sync(os.fsync, self._folder(shard), f"{shard:06d}")
        self._unsure.discard(shard)
        crash_point("folder-synced")

    def has_durable_name(self, file: Writing) -> bool:
        """Whether the folder of ``file`` need not be synced for it."""
        return not file.new and file.number // SHARD not in self._unsure

    def drop(self, number: int) -> None:
        """Remove a file that was never counted; never raises."""
        self._kept.close(number)
        try:
            os.unlink(file_path(number), dir_fd=self._root)
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.warning("%s", fault(error, "removing", file_path(number)))

    def release(self, path: str, owner: int) -> bool:
        """Take the file of image ``owner``, which is done, out of the count; True: it will be a spare one, False: it is
        removed. An image may be released more than once: what is spare or another's by then stays as it is."""
        number = number_of(path)
        if number is None or self._left(number, owner):
            return False
        if not self.broken and self._spared(number):
            return True
        self.remove(path)
        return False

    def _left(self, number: int, owner: int) -> bool:
        """Whether that image has left the file before."""
        with self._lock:
            return self._spares.has(number) or self._present.owner(number) not in (0, owner)

    def remove_of(self, path: str, owner: int) -> None:
        """Remove the file of image ``owner``, unless that image has left it before."""
        number = number_of(path)
        if number is None or not self._left(number, owner):
            self.remove(path)

    def ready(self, paths: Iterable[str]) -> None:
        """See ``Spool.spare``."""
        with self._lock:
            for path in paths:
                number = number_of(path)
                if number is not None:
                    self._spares.ready(number)

    def remove(self, path: str) -> None:
        """Remove a file; a missing one is fine."""
        try:
            os.unlink(path, dir_fd=self._root)
        except FileNotFoundError:
            pass
        self._gone(path)

    def link(self, path: str, target: str) -> bool:
        """See ``Spool.link``."""
        try:
            os.link(path, target, src_dir_fd=self._root, follow_symlinks=False)
        except OSError as error:
            if error.errno in NO_LINKS:
                return False
            raise
        return True

    def move(self, path: str, target: Path | str) -> None:
        """Move a file out of the tree."""
        os.rename(path, target, src_dir_fd=self._root)
        self._gone(path)

    def tidy(self, everything: bool = False) -> None:
        """Remove files that have been spare for long, and close what has been open for as long; or all of them."""
        before = float("inf") if everything else monotonic() - spare.STAY
        with self._lock:
            old = self._spares.take_old(before)
        self._kept.close_old(before)
        for one in old:
            self.drop(one.number)
            self._spare_left(one.number)

    def take(self, file: Path, path: str) -> bool:
        """Move ``file``, synced, to this place and count it; False: the place is taken, or is none."""
        place = number_of(path)
        if place is None:
            return False
        self._make_folder(place // SHARD)
        if os.path.lexists(self.root / path):
            return False
        number = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.sync_file(number, str(file))
            length = os.fstat(number).st_size
        finally:
            os.close(number)
        os.rename(file, path, dst_dir_fd=self._root)
        self.count([(place, length)])
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

    # -- spare files

    def _spared(self, number: int) -> bool:
        """Make a file that is there a spare one; False: it has to be removed."""
        with self._lock:
            folder = self._present.folders.get(number // SHARD)
            length = folder.lengths[number % SHARD] - 1 if folder is not None else -1
            if folder is None or length < 0 or not self._spares.give(Spare(number, length, monotonic())):
                return False
            self._present.drop(number)
            folder.spares += 1
            return True

    def _checked(self, taken: Spare, path: str) -> Descriptor | None:
        """A descriptor, at the beginning, of what was a spare file, if that is what has the name; else None."""
        descriptor = self._kept.take(taken.number)
        try:
            if descriptor is None:
                flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                opened = os.open(path, flags, dir_fd=self._root)
                found = os.fstat(opened)
                descriptor = Descriptor(opened, identity(found))
            else:
                found = os.stat(path, dir_fd=self._root, follow_symlinks=False)
                os.lseek(descriptor.number, 0, os.SEEK_SET)
            if as_it_was(found, taken.length) and identity(found) == descriptor.identity:
                return descriptor
        except OSError as error:
            _log.debug("%s", fault(error, "reusing", path))
        if descriptor is not None:
            os.close(descriptor.number)
        return None

    def _spare_left(self, number: int) -> None:
        shard = number // SHARD
        with self._lock:
            folder = self._present.folders.get(shard)
            if folder is not None and folder.spares:
                folder.spares -= 1
                self._remove_folder_if_over(shard)

    # -- counting

    def count(self, files: Iterable[tuple[int, int]], owner: int = 0) -> None:
        """These (number, length) are there; with that image in them, if it is known."""
        with self._lock:
            for number, length in files:
                self._present.add(number, length, owner)

    def _gone(self, path: str) -> None:
        """A file of that name is not there any more."""
        number = number_of(path)
        if number is not None:
            self._kept.close(number)
            with self._lock:
                if self._present.drop(number) is not None:
                    self._remove_folder_if_over(number // SHARD)

    def sweep(self) -> Iterator[Found]:
        """See ``Spool.sweep``."""
        self.tidy(everything=True)
        self._present.clear()
        for shard in sorted(self._shards()):
            found = sorted(self._files(shard))
            self._present.folders[shard] = Folder()
            self.count((number, length) for number, length, _ in found)
            self._unsure.add(shard)
            yield from (Found(file_path(number), number, length, at) for number, length, at in found)

    def _shards(self) -> Iterator[int]:
        with os.scandir(self._root) as entries:
            for entry in entries:
                if SHARD_NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                    yield int(entry.name)

    def _files(self, shard: int) -> Iterator[tuple[int, int, float]]:
        """(number, length, time of the last change) of a folder's files that are named as ours and belong there."""
        with os.scandir(self.root / f"{shard:06d}") as entries:
            for entry in entries:
                number = number_of(f"{shard:06d}/{entry.name}")
                if number is not None and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    yield number, status.st_size, status.st_mtime

    # -- folders

    def _make_folder(self, shard: int, missing: bool = False) -> None:
        """Make a folder that is not known, or that is known but ``missing``."""
        if shard in self._present.folders and not missing:
            return
        with self._lock:
            if shard in self._present.folders and not missing:
                return
            try:
                os.mkdir(f"{shard:06d}", 0o700, dir_fd=self._root)
            except FileExistsError:
                pass
            else:
                self._present.forget(shard)
            if self._syncs:
                self._sync(os.fsync, self._root, str(self.root))
            self._present.folders.setdefault(shard, Folder())
            for old in [old for old in self._present.folders if old < shard]:
                self._remove_folder_if_over(old)

    def _remove_folder_if_over(self, shard: int) -> None:
        """Remove an empty, old folder; in ``_lock``. One in which there is something else after all stays."""
        if self._present.over(shard):
            try:
                os.rmdir(f"{shard:06d}", dir_fd=self._root)
            except OSError:
                return
            self._present.forget(shard)

    def _folder(self, shard: int) -> int:
        """A descriptor of a folder, kept for the next time unless its name is another folder's by then.

        One that is kept from before its names change is told of every failure to write them.
        """
        name = f"{shard:06d}"
        known = self._open_folders.get(shard)
        found = os.stat(name, dir_fd=self._root)
        if known is not None and known[1] == (found.st_dev, found.st_ino):
            return known[0]
        if known is not None:
            self._close_folder(shard)
        elif len(self._open_folders) >= OPEN_FOLDERS:
            self._close_folder(min(self._open_folders))
        number = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._root)
        found = os.fstat(number)
        self._open_folders[shard] = number, (found.st_dev, found.st_ino)
        return number

    def _close_folder(self, shard: int) -> None:
        os.close(self._open_folders.pop(shard)[0])

    # -- syncing

    def _sync(self, how: Callable[[int], None], number: int, path: str, fatal: bool = True) -> None:
        """Sync, unless a sync has failed before: what another thread's could not save, the next one may call safe.

        A full disk is not ``fatal`` where nobody else syncs what is behind this descriptor.
        """
        if self.broken:
            raise OSError(errno.EIO, "nothing is synced after a failure", path)
        try:
            how(number)
        except OSError as error:
            if fatal or error.errno not in FULL:
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
