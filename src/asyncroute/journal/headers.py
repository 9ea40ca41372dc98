"""Headers of images as the journal keeps them: those of one group compressed together, alike ones next to each other.

Neighbours of a series differ in a few bytes, so that all headers of a group take little more room, and time, than one.
Guarantees: what ``unpack`` returns is the header that ``packed`` was given, or None: damage (a checksum tells it) costs
a header and nothing else. A pack holds at most ``MOST_IMAGES`` headers of ``MOST_BYTES`` bytes in all, before
compression; a larger one stands alone.
Failures: none.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterable, Mapping
from itertools import accumulate
from typing import NamedTuple

from asyncroute.core.model import Instance
from asyncroute.journal.values import json_ids

MOST_IMAGES = 64
MOST_BYTES = 2 << 20
_LEVEL = 1


class Pack(NamedTuple):
    """A row of ``header_group`` but for its number: JSON lists of instance ids and of lengths in bytes, zlib data."""

    images: str
    lengths: str
    data: bytes


def packed(images: Iterable[Instance]) -> Pack:
    """The headers of ``images``, all of which have one."""
    return _packed({it.id: it.header or b"" for it in sorted(images, key=_likeness)})


def _likeness(image: Instance) -> tuple[str, str, int]:
    return image.study_uid, image.series_uid, image.id


def unpack(instance_id: int, images: object, lengths: object, data: object) -> bytes | None:
    """The header of one image out of a row of ``header_group``; None: it is damaged, or there is no such row."""
    return unpack_all(images, lengths, data).get(instance_id)


def without(gone: Collection[int], images: object, lengths: object, data: object) -> Pack | None:
    """A row of ``header_group`` without the headers of ``gone``; None: none would be left, or it is damaged."""
    left = {id_: header for id_, header in unpack_all(images, lengths, data).items() if id_ not in gone}
    return _packed(left) if left else None


def _packed(headers: Mapping[int, bytes]) -> Pack:
    data = zlib.compress(b"".join(headers.values()), _LEVEL)
    return Pack(json_ids(headers), json_ids(map(len, headers.values())), data)


def unpack_all(images: object, lengths: object, data: object) -> dict[int, bytes]:
    """The headers of a row by instance id; empty if it is damaged."""
    if not (isinstance(images, str) and isinstance(lengths, str) and isinstance(data, bytes)):
        return {}
    try:
        sizes = [int(size) for size in json.loads(lengths)]
        joined = _inflated(data, sum(sizes))
        ends = list(accumulate(sizes))
        ids = [int(id_) for id_ in json.loads(images)]
        return {id_: joined[end - size : end] for id_, size, end in zip(ids, sizes, ends, strict=True)}
    except (zlib.error, ValueError, TypeError, OverflowError, RecursionError):
        return {}


def unpack_own(data: object) -> bytes | None:
    """The header of an image of an older journal, which has one of its own; None: it has not, or it is damaged."""
    if not isinstance(data, bytes):
        return None
    try:
        return _inflated(data, None)
    except (zlib.error, ValueError):
        return None


def _inflated(data: bytes, length: int | None) -> bytes:
    """``data`` inflated, if that is whole and of ``length`` bytes; no more than ``MOST_BYTES`` where none is known."""
    most = MOST_BYTES if length is None else length
    machine = zlib.decompressobj()
    found = machine.decompress(data, most + 1)
    if not machine.eof or len(found) > most or length not in (None, len(found)):
        raise ValueError("not what was packed")
    return found
