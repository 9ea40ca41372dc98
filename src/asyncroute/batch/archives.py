"""Zip and tar archives as batches: unpacked into a folder of ours, then read like any other.

Guarantees: nothing is written outside the target; links, devices and names that lead elsewhere are refused, as is what
has more entries, more bytes or a better compression than images have; memory is bounded. Which file is an archive is
told by its content.
Failures: ``Refused`` with one line; ``OSError`` of our own disk. What was unpacked by then is left for the caller.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from errno import EINVAL
from typing import IO, Any

MOST_ENTRIES = 100_000
MOST_BYTES = 64 << 30
MOST_RATIO = 200
FREE_OF_RATIO = 64 << 20
"""Bytes that may come out of any archive, however well it is compressed."""

HEAD = 512
LONGEST_NAME = 1024
MOST_AT_ONCE = 4 << 20
PIECE = 1 << 20
_PREAMBLE = 132

_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, EOFError)
_ODD = (RuntimeError, NotImplementedError, ValueError, OverflowError, KeyError, IndexError)


class Refused(Exception):
    """An archive that is not unpacked; one line that says why."""


def kind_at(path: str) -> str:
    """``kind_of`` the file at ``path``; empty also for a folder. Raises OSError."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return ""
    with open(path, "rb") as file:
        return kind_of(file.read(HEAD))


def kind_of(data: bytes) -> str:
    """ "zip", "tar", "gz", "bz2" or "xz" if this is how such an archive begins; else empty."""
    if data[128:_PREAMBLE] == b"DICM":
        return ""
    if data[257:262] == b"ustar":
        return "tar"
    starts = {b"PK\3\4": "zip", b"PK\5\6": "zip", b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\0": "xz"}
    return next((kind for start, kind in starts.items() if data.startswith(start)), "")


def unpack(path: str, kind: str, target: str) -> None:
    """Write the files of the archive at ``path`` below ``target``, which is made anew. Raises Refused, OSError."""
    shutil.rmtree(target, ignore_errors=True)
    os.makedirs(target, mode=0o700)
    budget = _Budget(os.path.getsize(path), shutil.disk_usage(target).free // 2)
    try:
        for name, content in _zip(path) if kind == "zip" else _tar(path, kind, budget):
            budget.entry()
            _write(target, name, content, budget)
    except _BROKEN as error:
        raise Refused(f"is a damaged archive: {error}") from None
    except OSError as error:
        if error.errno not in (None, EINVAL):  # not of the disk, but of places in the archive
            raise
        raise Refused(f"is a damaged archive: {error}") from None
    except _ODD as error:
        raise Refused(f"is an archive that cannot be read: {error}") from None


class _Budget:
    """What may still come out."""

    def __init__(self, size: int, room: int) -> None:
        self.most = min(MOST_BYTES, max(size * MOST_RATIO, FREE_OF_RATIO))
        self._room = room
        self._entries = self._bytes = 0

    def entry(self) -> None:
        self._entries += 1
        if self._entries > MOST_ENTRIES:
            raise Refused(f"is an archive of more than {MOST_ENTRIES} entries")

    def spend(self, size: int) -> None:
        self._bytes += size
        self.check(self._bytes)
        if self._bytes > self._room:
            raise Refused("is an archive that needs more than half of the space that is left")

    def check(self, size: int) -> None:
        if size > self.most:
            raise Refused("is an archive with more in it than its size allows for images")


def _zip(path: str) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise Refused(f"is an archive with a link or special file in it: {info.filename!r}")
            if not info.is_dir():
                with archive.open(info) as content:
                    yield info.filename, content


def _tar(path: str, kind: str, budget: _Budget) -> Iterator[tuple[str, IO[bytes]]]:
    with _opened(path, kind) as plain:
        bounded: Any = _Bounded(plain, budget)
        with tarfile.open(fileobj=bounded, mode="r:") as opened:
            archive: Any = opened
            for member in archive:
                if member.isdir():
                    budget.entry()
                    continue
                content = archive.extractfile(member) if member.isreg() else None
                if content is None:
                    raise Refused(f"is an archive with a link or special file in it: {member.name!r}")
                yield member.name, content
                archive.members = []  # they would all be kept


def _opened(path: str, kind: str) -> IO[bytes]:
    openers: dict[str, Any] = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}
    plain: IO[bytes] = openers.get(kind, open)(path, "rb")
    return plain


class _Bounded:
    """A file for ``tarfile`` that gives no more at a time than is needed, and in all."""

    def __init__(self, file: IO[bytes], budget: _Budget) -> None:
        self._file = file
        self._budget = budget
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MOST_AT_ONCE:
            raise Refused("is an archive with an entry that has a huge header")
        self._budget.check(self._file.tell())
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._budget.check(offset)
        return self._file.seek(offset, whence)


def _write(target: str, name: str, content: IO[bytes], budget: _Budget) -> None:
    path = os.path.join(target, *_parts(name))
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    try:
        file = open(path, "xb")  # noqa: SIM115 - closed below; its own error is told apart
    except (FileExistsError, IsADirectoryError, NotADirectoryError):
        raise Refused(f"is an archive with two entries of one name: {name!r}") from None
    with file:
        while piece := content.read(PIECE):
            budget.spend(len(piece))
            file.write(piece)


def _parts(name: str) -> list[str]:
    """A name's folders and file, all below the target."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    leads_out = name.startswith(("/", "\\")) or ".." in parts or "\0" in name or not parts
    if leads_out or len(name) > LONGEST_NAME or any(len(os.fsencode(part)) > 255 for part in parts):
        raise Refused(f"is an archive with a name that leads elsewhere: {name[:100]!r}")
    return parts
