"""The received facts inside a spool file, as Private Information (0002,0102) of its File Meta (PS3.10 7.1).

Layout, little endian: magic (8 bytes), version (2), length of the text (2), CRC-32 of all else (4), instance id (8),
data set length (8; all ones while the file is being written), XXH3-64 checksum (8), time of receipt (8, double), then
the source's four names, each with its length before it (2 bytes). The CRC covers the UIDs of the File Meta as well (not
in version 1).
Guarantees: the facts of one image have the same length before and after ``size`` and ``checksum`` are known, so that a
streamed file gets them in place; facts that are torn, not ours, or below other UIDs than their own are told from whole
ones.
Failures: none; ``unpack`` answers None.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

from asyncroute.core.model import Instance, Source

MAGIC = b"ASYNCRTE"
VERSION = 2
BEFORE_UIDS = 1
UNFINISHED = (1 << 64) - 1

_FIXED = struct.Struct("<8sHHIQQQd")
_LENGTH = struct.Struct("<H")
_LONGEST_NAME = 1024


class Packed(NamedTuple):
    """The facts as stored. ``size``: UNFINISHED while the file is being written."""

    instance_id: int
    size: int
    checksum: int
    received_at: float
    source: Source


def pack(instance: Instance, size: int = UNFINISHED, checksum: int = 0) -> bytes:
    """The facts of ``instance``; ``size`` and ``checksum`` of its data set as given. The length is even."""
    names = _names(instance.source)
    before, after = _around_uid(instance.sop_class_uid, instance.transfer_syntax, names)
    rest = (instance.id, size, checksum, instance.received_at)
    crc = crc32(
        b"".join((_FIXED.pack(MAGIC, VERSION, len(names), 0, *rest), before, _uids(instance.sop_instance_uid), after))
    )
    return _FIXED.pack(MAGIC, VERSION, len(names), crc, *rest) + names


@lru_cache(maxsize=1024)
def _around_uid(sop_class_uid: str, transfer_syntax: str, names: bytes) -> tuple[bytes, bytes]:
    """What the CRC covers before and behind an image's own UID: the same for many images."""
    return _uids(sop_class_uid) + b"\n", b"\n" + _uids(transfer_syntax) + names


def unpack(data: bytes, sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str) -> Packed | None:
    """The inverse of ``pack`` (padding behind is allowed), for a File Meta with these UIDs.

    None: these are not whole facts of ours, or those of other UIDs.
    """
    if len(data) < _FIXED.size:
        return None
    magic, version, length, crc, *rest = _FIXED.unpack_from(data)
    names = data[_FIXED.size : _FIXED.size + length]
    if magic != MAGIC or version not in (VERSION, BEFORE_UIDS) or len(names) != length:
        return None
    uids = _uids(sop_class_uid, sop_instance_uid, transfer_syntax) if version != BEFORE_UIDS else b""
    if crc != crc32(uids + names, crc32(_FIXED.pack(MAGIC, version, length, 0, *rest))):
        return None
    instance_id, size, checksum, received_at = rest
    return Packed(instance_id, size, checksum, received_at, _source(names))


def _uids(*uids: str) -> bytes:
    """UIDs as they come back from a File Meta."""
    return "\n".join([uid.strip(" \0") for uid in uids]).encode("latin-1", "replace")


@lru_cache(maxsize=1024)
def _names(source: Source) -> bytes:
    texts = (source.calling_aet, source.called_aet, source.listener, source.peer)
    values = [text.encode("utf-8", "backslashreplace")[:_LONGEST_NAME] for text in texts]
    joined = b"".join(_LENGTH.pack(len(value)) + value for value in values)
    return joined + b"\0" if len(joined) & 1 else joined


def _source(names: bytes) -> Source:
    texts: list[str] = []
    at = 0
    for _ in range(4):
        (length,) = _LENGTH.unpack_from(names, at)
        texts.append(names[at + 2 : at + 2 + length].decode("utf-8", "replace"))
        at += 2 + length
    return Source(*texts)
