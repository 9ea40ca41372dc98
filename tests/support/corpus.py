"""Real images: every storable file that pydicom and pydicom-data bring along, with the exact bytes of its data set.

Nothing is downloaded and nothing is patched: a file's data set is what stands behind its File Meta, to the last byte.
A file is storable when it has a File Meta with a transfer syntax, and its data set names its SOP class and instance;
``unstorable()`` says of each other file what it lacks.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import data_store
import pydicom
from pydicom.uid import UID

from tests.support.images import FileSource, Image

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
_LONG = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV"})
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_NOT_DICOM = frozenset({".py", ".pyc", ".txt", ".md", ".json", ".icc", ".gz", ".dump"})


class NotStorable(Exception):
    """Why a file cannot be sent as it is."""


@dataclass(frozen=True)
class Meta:
    """What File Meta says, and at which byte the data set begins."""

    sop_instance: str
    transfer_syntax: str
    offset: int


def roots() -> list[Path]:
    """The folders with the packages' own files."""
    return [Path(str(pydicom.__file__)).parent / "data", Path(str(data_store.__file__)).parent / "data"]


@lru_cache(maxsize=1)
def storable() -> tuple[Image, ...]:
    """All storable files, sorted by path. Several share a SOP Instance UID and differ in their bytes."""
    return tuple(found for _, found in _examined() if isinstance(found, Image))


@lru_cache(maxsize=1)
def unstorable() -> dict[str, str]:
    """{file name: why it is not storable} for the other DICOM-like files."""
    return {path.name: found for path, found in _examined() if isinstance(found, str)}


def named(*names: str) -> list[Image]:
    """The storable files with these names, in this order.

    Raises:
        KeyError: there is none of that name.
    """
    by_name = {image.name: image for image in storable()}
    return [by_name[name] for name in names]


def path_of(image: Image) -> Path:
    """The file that ``image`` was read from."""
    assert isinstance(image.source, FileSource)
    return image.source.path


@lru_cache(maxsize=1)
def _examined() -> tuple[tuple[Path, Image | str], ...]:
    return tuple((path, _examine(path)) for path in _files())


def _files() -> Iterator[Path]:
    for root in roots():
        yield from sorted(p for p in root.rglob("*") if p.is_file() and _may_be_dicom(p))


def _may_be_dicom(path: Path) -> bool:
    return path.suffix not in _NOT_DICOM and path.name != "README"


def _examine(path: Path) -> Image | str:
    try:
        return image_of(path)
    except NotStorable as reason:
        return str(reason)


def image_of(path: Path) -> Image:
    """The image in a file. Raises `NotStorable`."""
    meta = read_meta(path.read_bytes())
    sop_class, sop_instance, modality = _header(path)
    if not sop_class or not sop_instance:
        raise NotStorable("its data set has no SOP Class UID or no SOP Instance UID")
    if not _UID.fullmatch(sop_instance):
        sop_instance = meta.sop_instance
    size = path.stat().st_size - meta.offset
    source = FileSource(path, meta.offset)
    return Image(path.name, sop_class, sop_instance, meta.transfer_syntax, size, source, modality)


def _header(path: Path) -> tuple[str, str, str]:
    """SOP class, SOP instance and modality, each empty where the data set has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tags = ["SOPClassUID", "SOPInstanceUID", "Modality"]
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(tags))
        values = [str(header.get(tag) or "") for tag in tags]
    return values[0], values[1], values[2]


def read_meta(data: bytes) -> Meta:
    """Walk the File Meta of a Part 10 file (PS3.10 7.1), whatever its group length says.

    Raises:
        NotStorable: there is none, or it lacks what a C-STORE needs.
    """
    if data[128:132] != b"DICM":
        raise NotStorable("no File Meta")
    values, offset = _meta_elements(data)
    if values.get(0x0002) == MEDIA_STORAGE_DIRECTORY:
        raise NotStorable("a DICOMDIR is not a storage SOP class")
    syntax = values.get(0x0010, "")
    if not _UID.fullmatch(syntax):
        raise NotStorable("its File Meta names no transfer syntax")
    return Meta(values.get(0x0003, ""), syntax, offset)


def _meta_elements(data: bytes) -> tuple[dict[int, str], int]:
    at, values = 132, {}
    while data[at : at + 2] == b"\2\0":
        element, vr, size = struct.unpack_from("<H2sH", data, at + 2)
        at += 8
        if vr in _LONG:
            (size,) = struct.unpack_from("<I", data, at)
            at += 4
        values[element] = data[at : at + size].decode("ascii", "replace").strip("\0 ")
        at += size
    return values, at


def compressed(image: Image) -> bool:
    """Whether the pixel data of ``image`` is encapsulated."""
    return UID(image.transfer_syntax).is_compressed
