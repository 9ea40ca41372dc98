"""Files of a batch, read in threads: which there are, whether they are DICOM, and their bytes.

Guarantees: links are never followed and special files never opened, so that nothing outside the batch is read and
nothing waits for ever; memory is bounded by one folder's names and the buffer that is filled. The bytes of a data set
are taken as they are; preamble and File Meta of the file are not (the spool writes its own).
Failures: of single files, and of folders below, they are told in what is found or read; ``OSError`` where the batch
itself cannot be listed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import xxhash

from asyncroute.batch import archives
from asyncroute.core.batches import Stamp
from asyncroute.wire.bare import NotDicom, Start, start_of

HEAD = 64 << 10
"""Bytes of a file's beginning that are looked at."""

LONGEST_HEAD = 4 << 20
DEEPEST = 64
IN_PROGRESS = "looks unfinished (its name says that it is still being written)"
LINK = "is a link; links are not followed"
SPECIAL = "is no ordinary file"
ARCHIVE = "is an archive; archives inside a batch are not opened"
TOO_DEEP = f"lies more than {DEEPEST} folders deep"


class Found(NamedTuple):
    """A file below a batch. ``name``: relative to it; ``problem``: why it cannot be read, empty if it can.

    ``changed``: its time of change (nanoseconds), which whoever writes it may set; ``touched``: the system's own, in
    seconds.
    """

    name: str
    path: str
    size: int
    changed: int
    problem: str = ""
    hidden: bool = False
    touched: float = 0.0


@dataclass(slots=True)
class Taken:
    """A file that was read. ``lo``, ``hi``: where its data set is in the buffer.

    ``problem``: why it is no image (``start`` is None then); ``damaged``: it should be one, or cannot be read.
    """

    file: Found
    start: Start | None = None
    lo: int = 0
    hi: int = 0
    problem: str = ""
    damaged: bool = False
    archive: bool = False
    """Whether there may be images in it all the same."""


def unfinished(name: str) -> bool:
    """Whether a name says that it is still being written: an extension that begins with ``tmp``, or ``part``."""
    extension = os.path.splitext(name)[1].lower()
    return extension.startswith(".tmp") or extension == ".part"


def hidden(name: str) -> bool:
    """Whether a name is hidden: by custom a temporary one, or one of the system's own."""
    return name.startswith(".")


def stamp_of(status: os.stat_result, network: bool) -> Stamp:
    """By which an entry is known again; on a network file system not by its inode, whose number may change there."""
    return Stamp(0 if network else status.st_ino, status.st_mtime_ns)


class Walk:
    """Every file below ``root`` (or ``root`` itself, if it is one), folder by folder, by name."""

    def __init__(self, root: str, prefix: str = "", name: str = "") -> None:
        """``prefix``: what stands before all names. ``name``: of ``root`` if it is a file; empty: its own."""
        self._files = _walk(root, prefix, name)

    def next(self, number: int) -> list[Found]:
        """Up to ``number`` more of them; empty: that was all. Blocks. Raises OSError."""
        return list(islice(self._files, number))


def _walk(root: str, prefix: str, name: str) -> Iterator[Found]:
    status = os.lstat(root)
    if stat.S_ISDIR(status.st_mode):
        yield from _below(root, prefix, 0)
    else:
        own = name or os.path.basename(root)
        yield _found(prefix + own, root, status, own)


def _below(folder: str, prefix: str, depth: int) -> Iterator[Found]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        path = os.path.join(folder, name)
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            yield Found(prefix + name, path, 0, 0, _unreadable(error))
            continue
        if not stat.S_ISDIR(status.st_mode) or hidden(name):
            yield _found(prefix + name, path, status, name)
        elif depth >= DEEPEST or unfinished(name):
            yield Found(prefix + name, path, 0, 0, TOO_DEEP if depth >= DEEPEST else IN_PROGRESS)
        else:
            try:
                yield from _below(path, f"{prefix}{name}/", depth + 1)
            except OSError as error:
                yield Found(prefix + name, path, 0, 0, _unreadable(error))


def _found(name: str, path: str, status: os.stat_result, own: str) -> Found:
    problem = ""
    if stat.S_ISLNK(status.st_mode):
        problem = LINK
    elif not stat.S_ISREG(status.st_mode) and not hidden(own):
        problem = SPECIAL
    elif unfinished(own):
        problem = IN_PROGRESS
    return Found(name, path, status.st_size, status.st_mtime_ns, problem, hidden(own), status.st_ctime)


def signature(root: str, name: str = "", all_: bool = False) -> int:
    """A hash over names, sizes and times of change of all files: the same as long as nothing changes. Raises OSError.

    Hidden files count only for ``all_``: other programs keep their own there. ``name``: see ``Walk``.
    """
    digest = xxhash.xxh3_64()
    walk = Walk(root, name=name)
    while some := walk.next(256):
        for file in some:
            if all_ or not file.hidden:
                digest.update(f"{file.name}\0{file.size}\0{file.changed}\n".encode("utf-8", "surrogateescape"))
    return digest.intdigest()


# --- reading ----------------------------------------------------------------------------------------------------------


def read(files: Sequence[Found], view: memoryview) -> list[Taken]:
    """Read files, whole, into ``view``, one after the other; it has room for them all."""
    taken: list[Taken] = []
    at = 0
    for file in files:
        taken.append(_read_one(file, view[: at + file.size], at))
        at += file.size
    return taken


def _read_one(file: Found, view: memoryview, at: int) -> Taken:
    try:
        with Opened(file) as opened:
            opened.fill(view[at:], 0)
            opened.unchanged()
        start = _start(view[at:])
    except (NotDicom, OSError) as error:
        return refused(file, error, bytes(view[at : at + archives.HEAD]))
    return Taken(file, start, at + start.data_offset, len(view))


def _start(whole: memoryview) -> Start:
    for length in (HEAD, LONGEST_HEAD):
        start = start_of(bytes(whole[:length]), len(whole), last=length == LONGEST_HEAD)
        if start is not None:
            return start
    raise AssertionError("start_of must tell at last")


def refused(file: Found, error: NotDicom | OSError, beginning: bytes) -> Taken:
    """Why ``file`` is no image; ``beginning``: its first bytes, as far as they are known."""
    if isinstance(error, NotDicom):
        if not error.damaged and archives.kind_of(beginning):
            return Taken(file, problem=ARCHIVE, archive=True)
        return Taken(file, problem=str(error), damaged=error.damaged)
    return Taken(file, problem=_unreadable(error), damaged=True)


def _unreadable(error: OSError) -> str:
    return f"cannot be read: {(error.strerror or str(error)).lower()}"


class Opened:
    """A file of a batch while it is read. Raises OSError, also if it is another one than was found."""

    def __init__(self, file: Found) -> None:
        self._file = file
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        self._number = os.open(file.path, flags)
        status = os.fstat(self._number)
        if not stat.S_ISREG(status.st_mode) or (status.st_size, status.st_mtime_ns) != (file.size, file.changed):
            self.close()
            raise _changed()

    def start(self) -> Start:
        """What its beginning says. Raises NotDicom."""
        for length in (HEAD, LONGEST_HEAD):
            beginning = os.pread(self._number, length, 0)
            start = start_of(beginning, self._file.size, last=length == LONGEST_HEAD)
            if start is not None:
                return start
        raise AssertionError("start_of must tell at last")

    def fill(self, view: memoryview, offset: int) -> int:
        """Read bytes from ``offset`` on into all of ``view``; their number."""
        done = 0
        while done < len(view):
            n = os.preadv(self._number, [view[done:]], offset + done)
            if n == 0:
                raise _changed()
            done += n
        return done

    def unchanged(self) -> None:
        """Raise OSError if the file has been written to since it was found."""
        status = os.fstat(self._number)
        if (status.st_size, status.st_mtime_ns) != (self._file.size, self._file.changed):
            raise _changed()

    def close(self) -> None:
        """Idempotent."""
        if self._number >= 0:
            os.close(self._number)
            self._number = -1

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _changed() -> OSError:
    return OSError(0, "it changed while it was read")


def beginning(file: Found, size: int) -> bytes:
    """Up to so many bytes; none if it cannot be read."""
    try:
        with Opened(file) as opened:
            view = memoryview(bytearray(min(size, file.size)))
            opened.fill(view, 0)
            return bytes(view)
    except OSError:
        return b""


def checksum(file: Found, data_offset: int) -> int:
    """The XXH3 (64 bits) of a file's data set. Raises OSError."""
    digest = xxhash.xxh3_64()
    piece = memoryview(bytearray(1 << 20))
    with Opened(file) as opened:
        for at in range(data_offset, file.size, len(piece)):
            n = opened.fill(piece[: min(len(piece), file.size - at)], at)
            digest.update(piece[:n])
    return digest.intdigest()
