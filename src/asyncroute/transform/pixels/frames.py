"""Where a data set's parts are in its file, and its frames one by one: native or encapsulated (PS3.5 §A.4).

Guarantees: reads what is asked for and no more; a frame is the largest thing in memory.
Failures: ``Broken`` where the file is not what it says.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from asyncroute.transform.pixels.errors import Broken, NotPossible
from asyncroute.transform.pixels.image import Image
from asyncroute.wire.elements import UNDEFINED
from asyncroute.wire.header import header_end
from asyncroute.wire.syntax import Encoding

OFFSETS, LENGTHS = 0x7FE00001, 0x7FE00002
_GROUP = 0x7FE0
LONGEST_HEADER = 256 << 20
MOST_FRAGMENTS = 4_000_000
_LONGEST_TABLE = 8 * MOST_FRAGMENTS
_FIRST = 128 << 10
_MOST_FRAME = 1 << 29
_ITEM = struct.Struct("<HHI")
_BEGINNINGS = (b"\xff\xd8\xff", b"\xff\x4f\xff")
_RLE = bytes((0, 0, 0, 64, 0, 0, 0))
"""Behind the number of segments: the first one is behind the header (PS3.5 §G.5)."""


class Source:
    """A data set within a file."""

    def __init__(self, path: str, offset: int, size: int) -> None:
        self._number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._offset = offset
        self.size = size

    def read(self, at: int, length: int) -> bytes:
        """Exactly so many bytes.

        Raises:
            Broken: it is shorter.
        """
        if at + length > self.size:
            raise Broken(f"the image ends after {self.size} bytes; {at + length} are needed")
        pieces, end = [], at + length
        while at < end:
            piece = os.pread(self._number, end - at, self._offset + at)
            if not piece:
                raise Broken(f"the image's file ends after {at} bytes")
            pieces.append(piece)
            at += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """No more of it."""
        os.close(self._number)


class Memory(Source):
    """Bytes that were read already."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, at: int, length: int) -> bytes:
        """As `Source.read`."""
        if at + length > self.size:
            raise Broken(f"the pixel data end after {self.size} bytes; {at + length} are needed")
        return self._data[at : at + length]

    def close(self) -> None:
        """Nothing to do."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """An element of group 7FE0 that holds pixels: its value is at ``value``, up to ``end``; ``undefined``: in fragments
    (the end is unknown then). ``vr``: empty in implicit VR."""

    tag: int
    vr: str
    value: int
    end: int
    undefined: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """A data set in parts: the header ends where the pixels' group begins; what follows the pixels, for native ones.

    ``offsets``: the Extended Offset Table.
    """

    header: bytes
    pixels: Pixels | None
    offsets: tuple[int, ...]


def layout(source: Source, syntax: str, encoding: Encoding) -> Layout:
    """The parts of a data set, which is not deflated.

    Raises:
        NotPossible: its header is odd. Broken: it is cut off.
    """
    length = min(_FIRST, source.size)
    while True:
        data = source.read(0, length)
        end = header_end(data, syntax, complete=length == source.size)
        if end is not None:
            break
        if length in (source.size, LONGEST_HEADER):
            raise NotPossible("its header cannot be read, or has elements out of order")
        length = min(2 * length, source.size, LONGEST_HEADER)
    offsets: tuple[int, ...] = ()
    at = end
    while at + 8 <= source.size:
        found = _pixels(source, at, encoding)
        if found is None or found.undefined or found.tag > OFFSETS + 1:
            return Layout(data[:end], found, offsets)
        if found.tag == OFFSETS:
            table = source.read(found.value, min(found.end - found.value, _LONGEST_TABLE))
            offsets = struct.unpack(f"<{len(table) // 8}Q", table[: len(table) // 8 * 8])
        at = found.end
    return Layout(data[:end], None, offsets)


def _pixels(source: Source, at: int, encoding: Encoding) -> Pixels | None:
    head = source.read(at, min(12, source.size - at))
    if encoding.implicit:
        group, element, length = encoding.header(head, 0)
        vr, value = "", at + 8
    else:
        group, element, number, length = encoding.header(head, 0)
        vr, value = encoding.vr_name(number), at + encoding.forms[number]
        if value == at or len(head) < 12:
            raise Broken("the pixel data have no VR")
        if value == at + 12:
            (length,) = encoding.length(head, 8)
    if group != _GROUP:
        return None
    undefined = length == UNDEFINED
    if not undefined and value + length > source.size:
        raise Broken(f"the pixel data have {source.size - value} bytes instead of {length}")
    return Pixels(group << 16 | element, vr, value, source.size if undefined else value + length, undefined)


# --- Fragments --------------------------------------------------------------------------------------------------------


class Fragments:
    """Encapsulated frames. ``end``: where what follows them begins. ``size``: bytes of all of them."""

    def __init__(self, source: Source, where: Layout, image: Image) -> None:
        assert where.pixels is not None
        self._source = source
        self._items: list[tuple[int, int]] = []
        self.end = self._find(where.pixels.value)
        if not self._items:
            raise Broken("the pixel data have no fragments")
        (at, length), *self._items = self._items
        self.size = sum(each for _, each in self._items)
        table = source.read(at, min(length, _LONGEST_TABLE))
        basic = struct.unpack(f"<{length // 4}I", table[: length // 4 * 4])
        self._frames = self._grouped(image.frames, where.offsets or basic)

    def __iter__(self) -> Iterator[bytes]:
        for first, last in self._frames:
            pieces = self._items[first:last]
            if sum(length for _, length in pieces) > _MOST_FRAME:
                raise NotPossible("a frame is larger than 512 MiB")
            yield b"".join(self._source.read(at, length) for at, length in pieces)

    def _find(self, at: int) -> int:
        while True:
            if at + 8 > self._source.size:
                raise Broken("the pixel data end without a delimiter")
            group, element, length = _ITEM.unpack(self._source.read(at, 8))
            at += 8
            if (group, element) == (0xFFFE, 0xE0DD):
                return at
            if (group, element) != (0xFFFE, 0xE000) or length == UNDEFINED:
                raise Broken(f"({group:04X},{element:04X}) instead of a fragment of the pixel data")
            if len(self._items) > MOST_FRAGMENTS:
                raise NotPossible(f"the pixel data have more than {MOST_FRAGMENTS} fragments")
            if at + length > self._source.size:
                raise Broken("a fragment of the pixel data is cut off")
            self._items.append((at, length))
            at += length

    def _grouped(self, frames: int, offsets: tuple[int, ...]) -> list[tuple[int, int]]:
        """The fragments of each frame (first, behind the last)."""
        count = len(self._items)
        if count < frames:
            raise Broken(f"the pixel data have {count} fragments for {frames} frames")
        if frames == 1:
            if count > 1 and max(len(offsets), len(self._by_markers())) > 1:
                raise NotPossible("it has one frame by its Number of Frames, but more by its pixel data")
            return [(0, count)]
        if count == frames:
            return [(n, n + 1) for n in range(frames)]
        starts = self._by_table(offsets) if len(offsets) == frames else self._by_markers()
        if len(starts) != frames:
            raise Broken(f"cannot tell which of {count} fragments make which of {frames} frames")
        return list(zip(starts, [*starts[1:], count], strict=True))

    def _by_table(self, offsets: tuple[int, ...]) -> list[int]:
        base = self._items[0][0] - 8
        places = {at - 8 - base: n for n, (at, _) in enumerate(self._items)}
        found = [places.get(offset, -1) for offset in offsets]
        if -1 in found or found != sorted(set(found)) or found[0]:
            raise Broken("the table of offsets does not fit the fragments of the pixel data")
        return found

    def _by_markers(self) -> list[int]:
        """Frames of JPEG, JPEG 2000 and RLE begin as nothing else does."""
        return [n for n, (at, n_bytes) in enumerate(self._items) if n_bytes > 2 and self._begins(at)]

    def _begins(self, at: int) -> bool:
        head = self._source.read(at, min(8, self._source.size - at))
        return head.startswith(_BEGINNINGS) or (head[1:] == _RLE and 0 < head[0] < 16)


# --- Native -----------------------------------------------------------------------------------------------------------


class Native:
    """Native frames as bytes in little endian. ``end``: where what follows them begins."""

    def __init__(self, source: Source, pixels: Pixels, image: Image, big: bool) -> None:
        have, need = pixels.end - pixels.value, image.native_bytes
        if have < need:
            raise Broken(f"the pixel data have {have} bytes, {image.frames} frames need {need}")
        if have - need >= max(image.frame_bytes, 2):
            raise NotPossible(f"the pixel data have {have} bytes, of which Number of Frames tells {need}")
        if image.frame_bytes > _MOST_FRAME:
            raise NotPossible("a frame is larger than 512 MiB")
        self._source, self._pixels, self._image = source, pixels, image
        self._unit = swapped_unit(pixels.vr) if big else 1
        self.end = pixels.end

    def __iter__(self) -> Iterator[bytes]:
        size, unit = self._image.frame_bytes, self._unit
        for number in range(self._image.frames):
            first = number * size
            start, end = first // unit * unit, -(-(first + size) // unit) * unit
            end = min(end, self._pixels.end - self._pixels.value)
            data = self._source.read(self._pixels.value + start, end - start)
            yield swapped(data, unit)[first - start : first - start + size]


def swapped_unit(vr: str) -> int:
    """Bytes of what is swapped in a value of this VR."""
    return _UNITS.get(vr, 1)


def swapped(data: bytes, unit: int) -> bytes:
    """In the other byte order; what is left of an odd length stays as it is."""
    if unit == 1:
        return data
    whole = len(data) // unit * unit
    out: Any = bytearray(data)
    for byte in range(unit):
        out[byte:whole:unit] = data[unit - 1 - byte : whole : unit]
    return bytes(out)


_UNITS = {
    **dict.fromkeys(("US", "SS", "OW", "AT"), 2),
    **dict.fromkeys(("UL", "SL", "FL", "OF", "OL"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}
