"""Images as the bench sends them: UIDs and the exact bytes of the data set, from a file, from memory or just made."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from tests.support import ul


class Source(Protocol):
    """Where the bytes of a data set come from."""

    def chunks(self, size: int) -> Iterator[bytes]:
        """The bytes in order, ``size`` at a time; only the last piece may be shorter."""
        ...


@dataclass(frozen=True)
class BytesSource:
    """A data set held in memory."""

    data: bytes

    def chunks(self, size: int) -> Iterator[bytes]:
        """See ``Source``."""
        for at in range(0, len(self.data), size):
            yield self.data[at : at + size]


@dataclass(frozen=True)
class FileSource:
    """The bytes of a file from ``offset`` to its end."""

    path: Path
    offset: int

    def chunks(self, size: int) -> Iterator[bytes]:
        """See ``Source``."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            while piece := file.read(size):
                yield piece


@dataclass(frozen=True)
class Image:
    """One SOP instance to send. ``size``: bytes of its data set. ``modality``: empty where it has none."""

    name: str
    sop_class: str
    sop_instance: str
    transfer_syntax: str
    size: int
    source: Source
    modality: str = ""

    @cached_property
    def sha256(self) -> str:
        """The digest of the data set's bytes, in hex."""
        digest = hashlib.sha256()
        for piece in self.source.chunks(1 << 20):
            digest.update(piece)
        return digest.hexdigest()

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """SOP class, SOP instance, transfer syntax and digest: what must be the same at every destination."""
        return self.sop_class, self.sop_instance, self.transfer_syntax, self.sha256

    def chunks(self, size: int) -> Iterator[bytes]:
        """See ``Source``."""
        return self.source.chunks(size)


def pairs(images: Iterable[Image]) -> list[tuple[str, str]]:
    """The distinct (SOP class, transfer syntax) pairs of ``images``, in order of first use."""
    return list(dict.fromkeys((image.sop_class, image.transfer_syntax) for image in images))


def write_part10(image: Image, folder: Path) -> Path:
    """Write ``image`` behind a preamble and File Meta (PS3.10 7.1); returns the file."""
    path = folder / f"{image.sop_instance}.dcm"
    with path.open("wb") as file:
        file.write(part10_head(image.sop_class, image.sop_instance, image.transfer_syntax))
        for piece in image.chunks(1 << 20):
            file.write(piece)
    return path


def part10_head(sop_class: str, sop_instance: str, transfer_syntax: str) -> bytes:
    """Preamble, prefix and File Meta."""
    elements = _meta(0x0001, b"OB", b"\0\1") + _meta(0x0002, b"UI", sop_class.encode())
    elements += _meta(0x0003, b"UI", sop_instance.encode())
    elements += _meta(0x0010, b"UI", transfer_syntax.encode())
    elements += _meta(0x0012, b"UI", ul.IMPLEMENTATION_UID.encode())
    return bytes(128) + b"DICM" + _meta(0, b"UL", struct.pack("<I", len(elements))) + elements


def _meta(element: int, vr: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) & 1)
    if vr == b"OB":
        return struct.pack("<HH2sxxI", 2, element, vr, len(value)) + value
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value
