"""One tier's folder: is it there, and files that come into it, leave it, or are read.

A tier's folder knows its own name: ``.asyncroute/tier`` holds a UID, so that the empty mount point of a disk that is
not mounted, or another disk, is never taken for it. ``.asyncroute/part`` holds files that are being written.
Guarantees: a file gets its name only when its bytes are on stable storage, and never that of another one; ``sync``
makes names durable. Names are those of the layout: nothing leads out of the folder, symbolic links neither.
Failures: ``Absent`` (the folder is not there, or not this tier), ``OSError`` from the system.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import xxhash

from asyncroute.core.errors import StorageFault
from asyncroute.crashpoints import crash_point
from asyncroute.durable import sync_folder
from asyncroute.spool.base import Facts

OWN = ".asyncroute"
PIECE = 1 << 20
HEAD = 128 << 10
"""Bytes of a file's beginning that are looked at for its facts and for what names it."""
MOST_COPIES = 10_000
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})

FactsOf = Callable[[bytes, int], Facts | None]


class Absent(StorageFault):
    """A tier's folder is not there."""


class Folder:
    """See module. ``id``: the tier's number in the index. For one thread at a time, but ``check`` and ``free``."""

    def __init__(self, id_: int, path: Path, uid: str, durability: str) -> None:
        self.id = id_
        self.path = path
        self.uid = uid
        self._syncs = durability == "power-loss"
        self._durable: set[Path] = set()

    def check(self) -> None:
        """Raise ``Absent`` unless this is the tier."""
        found = marker(self.path)
        if found == self.uid:
            return
        if not self.path.is_dir():
            raise Absent(f"missing: there is no folder {self.path}")
        if found is None:
            raise Absent(
                f"missing: {self.path} is not the tier's folder (is its disk mounted?); if it is, write {self.uid} "
                f"into {self.path / OWN / 'tier'}"
            )
        raise Absent(f"missing: {self.path} is another tier's folder (its {OWN}/tier says {found})")

    def free(self) -> int:
        """Bytes that may still be written; 0: that cannot be told."""
        try:
            state = os.statvfs(self.path)
        except OSError:
            return 0
        return state.f_bavail * state.f_frsize

    def device(self) -> int:
        """The file system's number."""
        return self.path.stat().st_dev

    # ---- files come

    def names(self, wanted: str, taken: Callable[[int, str], bool]) -> str:
        """``wanted``, or with ``~2`` and so on the first place that nobody has."""
        place = Path(wanted)
        for n in range(1, MOST_COPIES):
            name = wanted if n == 1 else str(place.with_name(f"{place.stem}~{n}{place.suffix}"))
            if not os.path.lexists(self.path / name) and not taken(self.id, name):
                return name
        raise OSError(errno.EEXIST, f"{MOST_COPIES} files of one name", wanted)

    def link(self, name: str, make: Callable[[str], bool]) -> bool:
        """Let ``make`` give a file the name of a place; its answer: whether it could."""
        place = self._way(name)
        done = make(os.fspath(place))
        if done:
            crash_point("archive-linked")
        return done

    def link_from(self, other: Path, name: str) -> bool:
        """``link`` a file of another tier; False: that is on another file system."""
        return self.link(name, lambda place: _link(other, place))

    def write(self, name: str, pieces: Iterable[bytes], facts: Facts, spend: Callable[[int], None]) -> None:
        """A file out of ``pieces``, synced, read back and compared with ``facts`` before it gets its name.

        Raises:
            StorageFault: ``pieces`` are not what was received (``errno`` 0), or what was read back (EIO).
        """
        place, temporary = self._way(name), self.path / OWN / "part" / f"{facts.instance_id}.{os.getpid()}"
        temporary.parent.mkdir(exist_ok=True)
        parts = os.open(temporary.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # also if the disk is unmounted
        try:
            with temporary.open("wb") as file:
                digest = Digest(facts)
                for piece in pieces:
                    spend(len(piece))
                    digest.update(piece)
                    file.write(piece)
                digest.check("the file that is read")
                file.flush()
                crash_point("archive-written")
                self._settle(file.fileno())
                crash_point("archive-synced")
            self._read_back(temporary, facts)
            _name(temporary, place)
            crash_point("archive-named")
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary.name, dir_fd=parts)
            os.close(parts)

    def sync(self, names: Iterable[str]) -> None:
        """Make these files' names durable.

        Raises:
            Absent: the tier's disk has been unmounted meanwhile, so that some names may be in the folder below it.
        """
        for folder in {(self.path / name).parent for name in names}:
            self._sync_folder(folder)
        self.check()

    def _settle(self, number: int) -> None:
        if self._syncs:
            os.fdatasync(number)
            os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)  # what is read back comes from the disk

    @staticmethod
    def _read_back(path: Path, facts: Facts) -> None:
        digest = Digest(facts)
        for piece in pieces_of(path):
            digest.update(piece)
        digest.check(f"what was written to {path.parents[2]}", errno.EIO)

    def _way(self, name: str) -> Path:
        """The place, its folders made; their names are durable."""
        place = self.path / name
        if place.parent not in self._durable or not place.parent.is_dir():
            self._make(place.parent)
        return place

    def _make(self, folder: Path) -> None:
        for each in reversed([folder, *folder.parents]):
            if not each.is_relative_to(self.path) or each == self.path:
                continue
            with contextlib.suppress(FileExistsError):
                each.mkdir()
            if each.is_symlink():
                raise OSError(errno.ELOOP, "a symbolic link", str(each))
            self._sync_folder(each.parent)
        if len(self._durable) > MOST_COPIES:
            self._durable.clear()
        self._durable.add(folder)

    def _sync_folder(self, folder: Path) -> None:
        if self._syncs:
            sync_folder(folder)

    # ---- files leave

    def remove(self, name: str) -> None:
        """Remove a file, and folders that are empty then; what is missing is fine."""
        place = self.path / name
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            place.unlink()
        folder = place.parent
        self._durable.discard(folder)
        with contextlib.suppress(OSError):  # there is something else in it
            while folder != self.path and folder.is_relative_to(self.path):
                folder.rmdir()
                self._durable.discard(folder)
                folder = folder.parent

    def remove_all(self, names: Iterable[str]) -> None:
        """Remove files, durably."""
        folders: set[Path] = set()
        for name in names:
            self.remove(name)
            folders.add((self.path / name).parent)
        for folder in folders:
            there = next(each for each in (folder, *folder.parents) if each.is_dir() or each == self.path)
            self._sync_folder(there)

    def clear_parts(self) -> None:
        """Remove what a crash left half-written."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.path / OWN / "part") as entries:
            for entry in entries:
                os.unlink(entry)

    def facts(self, name: str, facts_of: FactsOf) -> Facts | None:
        """What the file at a place says about itself; None: there is none, or it is no whole image."""
        try:
            number = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise
        try:
            return facts_of(os.pread(number, HEAD, 0), os.fstat(number).st_size)
        finally:
            os.close(number)


class Digest:
    """Compares a file's bytes, as they come, with what was received."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._skip = facts.data_offset
        self._seen = 0
        self._hash = xxhash.xxh3_64()

    def update(self, piece: bytes) -> None:
        """The next bytes of the file."""
        start = min(self._skip, len(piece))
        self._skip -= start
        self._seen += len(piece)
        self._hash.update(piece[start:] if start else piece)

    def check(self, what: str, number: int = 0) -> None:
        """Raise ``StorageFault`` (with this ``errno``) unless these were all, and the right ones."""
        wanted = self._facts.data_offset + self._facts.size
        if self._seen != wanted:
            raise StorageFault(f"{what} has {self._seen} bytes, {wanted} expected", number)
        if self._hash.intdigest() != self._facts.checksum:
            raise StorageFault(f"{what} is damaged: its checksum is not the one of what was received", number)


def pieces_of(path: Path) -> Iterator[bytes]:
    """A file's bytes."""
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while piece := os.read(number, PIECE):
            yield piece
    finally:
        os.close(number)


def marker(path: Path) -> str | None:
    """What a tier's folder calls itself; None: nothing."""
    try:
        return (path / OWN / "tier").read_text("utf-8", "replace")[:100].strip() or None
    except OSError:
        return None


def has_files(path: Path) -> bool:
    """Whether there is anything in a tier's folder but the archive's own."""
    with os.scandir(path) as entries:
        return any(entry.name != OWN for entry in entries)


def found(path: Path, durability: str) -> str:
    """Make a folder a tier's; what it calls itself from now on. Raises ``OSError``."""
    (path / OWN).mkdir(parents=True, exist_ok=True)
    uid = uuid.uuid4().hex
    temporary = path / OWN / f"tier.{uid}"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(f"{uid}\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path / OWN / "tier")
    if durability == "power-loss":
        for folder in (path / OWN, path, path.parent):
            sync_folder(folder)
    return uid


def _link(other: Path, place: str) -> bool:
    try:
        os.link(other, place, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_LINKS:
            return False
        raise
    return True


def _name(temporary: Path, place: Path) -> None:
    """Give a file a name that nobody has; FAT and some others know no links."""
    if not _link(temporary, os.fspath(place)):
        if os.path.lexists(place):
            raise FileExistsError(errno.EEXIST, "file exists", str(place))
        temporary.rename(place)
