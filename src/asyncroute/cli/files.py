"""Finds the images in files and folders: what a C-STORE needs to know of each, and where its data set begins.

Guarantees: only the beginning of a file is read; every file that is left out is listed with its reason. Folders are
walked in the order of their names; links to folders are not followed.
Failures: ``OurFault`` for a path that is not there; a file that cannot be read is listed as failed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from asyncroute.core.errors import OurFault
from asyncroute.wire.header import HeaderScanner
from asyncroute.wire.part10 import CutShort, Meta, NotPart10, parse_meta

MEDIA_DIRECTORY: Final = "1.2.840.10008.1.3.10"
_STEPS: Final = (16 << 10, 1 << 20, 16 << 20)
"""Bytes that are read to find the end of the File Meta Information."""
_HEADER: Final = 64 << 10
"""Bytes of the data set in which its own UIDs are looked for."""
SOP_CLASS, SOP_INSTANCE = 0x00080016, 0x00080018
_SCANNER: Final = HeaderScanner((SOP_CLASS, SOP_INSTANCE))
_UID: Final = re.compile(r"[0-9.]{1,64}")
Reader = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image in a file. ``offset``: where its data set begins; ``size``: the data set's length in bytes."""

    path: Path
    sop_class: str
    sop_instance: str
    transfer_syntax: str
    offset: int
    size: int


@dataclass(slots=True)
class Found:
    """What was found. ``skipped`` are files that are no images, ``failed`` images that cannot be sent: with reasons."""

    images: list[ImageFile] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)


class Unsendable(Exception):
    """An image that cannot be sent, and why."""


def find(paths: Iterable[Path]) -> Found:
    """All images in ``paths``. Raises OurFault: one of them is not there."""
    paths = list(paths)
    for path in paths:
        if not os.path.lexists(path):
            raise OurFault(f"{path}: no such file or folder")
    found = Found()
    for path in dict.fromkeys(file for place in paths for file in _files(place)):
        try:
            found.images.append(examine(path))
        except NotPart10 as error:
            found.skipped.append((path, str(error)))
        except Unsendable as error:
            found.failed.append((path, str(error)))
        except OSError as error:
            found.failed.append((path, error.strerror or str(error)))
    return found


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names))


def examine(path: Path) -> ImageFile:
    """The image in a file.

    Raises:
        NotPart10: it is no DICOM file, or one that is not meant to be sent.
        Unsendable: it lacks something.
        OSError: it cannot be read.
    """
    if not path.is_file():
        if path.exists():
            raise NotPart10("not a regular file")  # a pipe would block
        raise FileNotFoundError(2, "a link to nothing")
    with path.open("rb") as file:
        meta = _meta(lambda length: os.pread(file.fileno(), length, 0))
        size = os.fstat(file.fileno()).st_size - meta.data_offset
        start = os.pread(file.fileno(), _HEADER, meta.data_offset)
    if meta.sop_class_uid == MEDIA_DIRECTORY:
        raise NotPart10("a DICOMDIR, which belongs to its medium")
    sop_class, sop_instance = _identity(meta, start, complete=len(start) == size)
    _check(sop_class, sop_instance, meta.transfer_syntax, size)
    return ImageFile(path, sop_class, sop_instance, meta.transfer_syntax, meta.data_offset, size)


def _meta(read: Reader) -> Meta:
    for length in _STEPS:
        start = read(length)
        try:
            return parse_meta(start)
        except CutShort as error:
            if len(start) < length or length == _STEPS[-1]:
                raise Unsendable(str(error)) from None
    raise AssertionError


def _identity(meta: Meta, start: bytes, complete: bool) -> tuple[str, str]:
    """SOP class and instance: receivers compare the command with the data set, not with the File Meta Information."""
    scan = _SCANNER.scan(start, meta.transfer_syntax, complete)
    found = [scan.texts(tag) if scan else () for tag in (SOP_CLASS, SOP_INSTANCE)]
    sop_class, sop_instance = (texts[0] if texts and _UID.fullmatch(texts[0]) else "" for texts in found)
    return sop_class or meta.sop_class_uid, sop_instance or meta.sop_instance_uid


def _check(sop_class: str, sop_instance: str, transfer_syntax: str, size: int) -> None:
    uids = (("SOP Class", sop_class), ("SOP Instance", sop_instance), ("Transfer Syntax", transfer_syntax))
    for name, value in uids:
        if not _UID.fullmatch(value):
            raise Unsendable(f"it has {'an invalid' if value else 'no'} {name} UID")
    if size <= 0:
        raise Unsendable("there is no data set behind its File Meta Information")
