"""One image from one transfer syntax to another, from file to file, in a worker process.

Guarantees: one frame at a time is in memory, and the header; what is not lossy by name is decoded again and compared
with what it was made of, unless ``Wish.verify`` is off; what describes the pixels is right afterwards (PS3.3 C.7.6.3,
C.7.6.1.1.5; PS3.5 §8, §A.4), everything else stays as it is. The result is a Part 10 file with one fragment a frame and
a table of their offsets. Failures: ``NotPossible``, ``Broken``; the file is removed.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from itertools import chain
from typing import IO, Any

import xxhash

from asyncroute.core.syntaxes import DEFLATED, EXPLICIT, PLAIN, RLE, Wish, lossy
from asyncroute.transform.pixels import codecs, icons
from asyncroute.transform.pixels.elements import DELIMITER, PIXEL_DATA, Head, header_of, item_header
from asyncroute.transform.pixels.errors import Broken, NotPossible
from asyncroute.transform.pixels.frames import (
    LENGTHS,
    LONGEST_HEADER,
    OFFSETS,
    Fragments,
    Layout,
    Native,
    Pixels,
    Source,
    layout,
    swapped,
    swapped_unit,
)
from asyncroute.transform.pixels.image import (
    HALVED,
    PHOTOMETRIC,
    PLANAR,
    Image,
    check_encodable,
    describe,
    overlay_within,
)
from asyncroute.transform.pixels.lossy import Loss, mark, mark_decoded
from asyncroute.wire.elements import UNDEFINED
from asyncroute.wire.part10 import build_meta
from asyncroute.wire.syntax import EXPLICIT_BE, Encoding, syntax_of

_PIECE = 1 << 20
_LOOK = 8 << 20
"""Bytes after which the free space is looked at again."""
USED_AGAIN = 1 << 20
"""Bytes of the longest image over which the spool may write another one, once it is done; so it may be gone here, too,
in the middle of the work, where a person has ended its delivery."""
_LARGEST_NATIVE = 0xFFFFFFFE
_BASIC_OFFSETS = 0xF0000000
"""Bytes of native pixels from which on offsets need 64 bits."""

SOP_CLASS, SOP_INSTANCE = 0x00080016, 0x00080018


def convert(
    source: Sequence[Any], target: str, wanted: str, wish: dict[str, Any], titles: Sequence[str], room: Sequence[int]
) -> dict[str, Any]:
    """Make the file ``target``. ``source``: path, offset and size of a data set, its transfer syntax, SOP class and
    instance UIDs, its XXH3. ``titles``: source, sending and receiving AE for the File Meta.
    ``room``: bytes that may be written, and bytes that must stay free on the disk.

    Returns what the file is: ``offset``, ``size``, ``checksum`` of its data set, ``sop_instance_uid``; or ``refused``
    with the reason, and whether the image is ``broken``; or ``damaged``.
    """
    path, offset, size, stored, sop_class, sop_instance, checksum = source
    try:
        work = _Work(stored, wanted, Wish(**wish), sop_class, sop_instance, Room(target, *room))
        if reason := _damage(path, offset, size, checksum):
            return {"damaged": reason}
        with open(target, "w+b") as file:
            told = work.run(path, offset, size, file, titles)
        if size <= USED_AGAIN and (reason := _damage(path, offset, size, checksum)):
            os.unlink(target)
            return {"damaged": reason}
        return told
    except (NotPossible, Broken) as error:
        with suppress(OSError):
            os.unlink(target)
        return {"refused": str(error), "broken": isinstance(error, Broken)}
    except BaseException:
        with suppress(OSError):
            os.unlink(target)
        raise
    finally:
        with suppress(OSError):
            os.unlink(_beside(target))


class Room:
    """Of one conversion: how much it may write."""

    def __init__(self, target: str, most: int, least: int) -> None:
        """``most``: bytes of each file. ``least``: bytes that stay free where ``target`` is."""
        self.most = most
        self._least = least
        self._folder = os.path.dirname(target)
        self._until = 0

    def check(self, made: int, what: str) -> None:
        """Before a file has ``made`` bytes.

        Raises:
            NotPossible: it would be too large. OSError: there is not enough space for more.
        """
        if made > self.most:
            raise NotPossible(f"{what} it is larger than {self.most} bytes")
        if self._least and made >= self._until:
            self._until = made + _LOOK
            disk = os.statvfs(self._folder)
            if disk.f_bavail * disk.f_frsize < self._least + _LOOK:
                raise OSError(errno.ENOSPC, "storage almost full (below min_free)")


class _Work:
    def __init__(self, stored: str, wanted: str, wish: Wish, sop_class: str, sop_instance: str, room: Room) -> None:
        syntax = syntax_of(stored)
        if syntax is None:
            raise NotPossible("nobody knows its transfer syntax")
        self.stored, self.wanted, self.wish, self.room = stored, wanted, wish, room
        self.deflated = stored == DEFLATED
        self.sop_class, self.sop_instance = sop_class, sop_instance
        self.encoding: Encoding = syntax.encoding
        target = syntax_of(wanted)
        assert target is not None
        self.target: Encoding = target.encoding

    def run(self, path: str, offset: int, size: int, file: IO[bytes], titles: Sequence[str]) -> dict[str, Any]:
        if self.deflated:
            self.stored = EXPLICIT
            path = _inflated(path, offset, size, file.name, self.room)
            offset, size = 0, os.path.getsize(path)
        source = Source(path, offset, size)
        try:
            self._write(source, file, titles)
        finally:
            source.close()
        file.flush()
        return self._told(file)

    def _told(self, file: IO[bytes]) -> dict[str, Any]:
        file.seek(self.start)
        digest = xxhash.xxh3_64()
        size = 0
        while piece := file.read(_PIECE):
            digest.update(piece)
            size += len(piece)
        told = {"offset": self.start, "size": size, "checksum": digest.intdigest()}
        return told | {"sop_instance_uid": self.sop_instance}

    def _write(self, source: Source, file: IO[bytes], titles: Sequence[str]) -> None:
        where = layout(source, self.stored, self.encoding)
        header = where.header if self.stored in PLAIN else icons.decoded(where.header, self.encoding, self.stored)
        head = Head(self._reencoded(header), self.target)
        self._out = _Out(file, self.room)
        if where.pixels is None or where.pixels.tag != PIXEL_DATA:
            if self.wanted not in PLAIN:
                raise NotPossible("it has no Pixel Data of whole numbers")
            end = self._begin(head, titles, where.pixels, source, len(where.header))
        elif self.stored in PLAIN and self.wanted in PLAIN:
            if where.pixels.undefined:
                raise Broken("its pixel data are encapsulated, its transfer syntax is not")
            end = self._begin(head, titles, where.pixels, source, len(where.header))
        else:
            end = self._frames(source, where, head, titles)
        self._tail(source, end)

    def _reencoded(self, data: bytes) -> bytes:
        from asyncroute.transform.pixels.reencode import reencoded

        return reencoded(data, self.encoding, self.target)

    def _head(self, head: Head, titles: Sequence[str]) -> int:
        """Write File Meta and header; where the header begins."""
        calling, sending, receiving = titles
        meta = build_meta(
            self.sop_class,
            self.sop_instance,
            self.wanted,
            source_aet=calling,
            sending_aet=sending,
            receiving_aet=receiving,
        )
        self.start = len(meta)
        self._out.write(meta)
        self._out.write(head.encoded())
        return len(meta)

    def _begin(self, head: Head, titles: Sequence[str], pixels: Pixels | None, source: Source, end: int) -> int:
        """The header, and the value of ``pixels`` as it is; what follows begins there."""
        self._head(head, titles)
        if pixels is None:
            return end
        if pixels.undefined:
            raise NotPossible("pixels of undefined length that are not encapsulated")
        length = pixels.end - pixels.value
        self._out.write(header_of(pixels.tag, pixels.vr or _native_vr(pixels.tag, head), length, self.target))
        unit = swapped_unit(pixels.vr) if self.encoding is EXPLICIT_BE else 1
        for at in range(pixels.value, pixels.end, _PIECE):
            self._out.write(swapped(source.read(at, min(_PIECE, pixels.end - at)), unit))
        return pixels.end

    def _tail(self, source: Source, at: int) -> None:
        if self.encoding is self.target:
            while at < source.size:
                self._out.write(source.read(at, min(_PIECE, source.size - at)))
                at += _PIECE
        elif at < source.size:
            if source.size - at > LONGEST_HEADER:
                raise NotPossible("what follows the pixel data is too long")
            self._out.write(self._reencoded(source.read(at, source.size - at)))

    # ---- frame by frame

    def _frames(self, source: Source, where: Layout, head: Head, titles: Sequence[str]) -> int:
        for syntax in (self.stored, self.wanted):
            if syntax not in PLAIN and (reason := codecs.missing(syntax)):
                raise codecs.Missing(reason)
        assert where.pixels is not None
        image = describe(head)
        made = self._as_made(image)
        if self.wanted not in PLAIN:
            check_encodable(made, self.wanted, overlay_within(head))
        elif made.native_bytes > _LARGEST_NATIVE:
            raise NotPossible("decoded it is larger than 4 GiB")
        frames: Fragments | Native
        if self.stored not in PLAIN:
            if not where.pixels.undefined:
                raise Broken("its pixel data are not encapsulated, its transfer syntax is")
            _check_cells(image, 8, 16, 32)
            frames = Fragments(source, where, image)
        else:
            if where.pixels.undefined:
                raise Broken("its pixel data are encapsulated, its transfer syntax is not")
            _check_cells(image, 8, 16)
            frames = Native(source, where.pixels, image, self.encoding is EXPLICIT_BE)
        streams = iter(frames)
        first = next(streams)
        if isinstance(frames, Fragments) and codecs.loses(first, self.stored):
            mark_decoded(head, self.stored, made.native_bytes, frames.size)
        loss = self._described(head, image, made)
        begun = self._head(head, titles)
        place = begun + head.place(loss.tag) + loss.skip if loss else 0
        self._pixels(made, (self._cells(data, image) for data in chain((first,), streams)))
        if loss:
            self._out.patch(place, loss.ratio(made.native_bytes, self._written))
        return frames.end

    def _as_made(self, image: Image) -> Image:
        """The image as it is when its frames are cells again."""
        if self.stored in PLAIN:
            colours = "YBR_FULL" if image.photometric == HALVED else image.photometric
        else:
            colours = codecs.decoded_colours(image.photometric, self.stored)
            colours = "RGB" if colours == "YBR_FULL" and self.stored.endswith((".50", ".51")) else colours
        return replace(image, photometric=colours, planar=False)

    def _described(self, head: Head, image: Image, made: Image) -> Loss | None:
        colours = made.photometric
        if self.wanted not in PLAIN:
            colours = codecs.encoded_colours(colours, self.wanted)
        if colours != image.photometric:
            head.set(PHOTOMETRIC, "CS", colours.encode())
        if made.samples > 1:
            head.number_set(PLANAR, 0)
        if not lossy(self.wanted):
            return None
        uid = self.sop_instance
        if not self.wish.keep_uid:
            self.sop_instance = derived_uid(uid, self.wanted, self.wish)
            head.set(SOP_INSTANCE, "UI", self.sop_instance.encode())
        return mark(head, self.wanted, self.wish, self.sop_class, uid)

    def _cells(self, data: bytes, image: Image) -> Any:
        """A frame as cells: unsigned, (rows, columns) or (rows, columns, samples)."""
        if self.stored not in PLAIN:
            return codecs.decode(data, image, self.stored)
        import numpy as np

        cells = np.frombuffer(data, f"<u{image.allocated // 8}")
        if image.photometric == HALVED:
            return _widened(cells, image)
        if image.samples == 1:
            return cells.reshape(image.rows, image.columns)
        if image.planar:
            planes = cells.reshape(image.samples, image.rows, image.columns)
            return np.ascontiguousarray(np.moveaxis(planes, 0, 2))
        return cells.reshape(image.rows, image.columns, image.samples)

    def _pixels(self, image: Image, frames: Iterable[Any]) -> None:
        if self.wanted in PLAIN:
            self._decoded(image, frames)
        else:
            self._encapsulated(image, (self._encoded(cells, image) for cells in frames))

    def _decoded(self, image: Image, frames: Iterable[Any]) -> None:
        length = image.native_bytes
        vr = "OW" if image.allocated > 8 else "OB"
        self._out.write(header_of(PIXEL_DATA, vr, length + (length & 1), self.target))
        for cells in frames:
            self._out.write(cells.tobytes())
        self._out.write(b"\0" * (length & 1))

    def _encoded(self, cells: Any, image: Image) -> bytes:
        if self.wanted == RLE:
            stream = codecs.encode(cells, image, RLE, self.wish)
            if self.wish.verify:
                _compare(cells, codecs.decode(stream, image, RLE))
            return stream
        samples = _values(cells, image)
        stream = codecs.encode(samples, image, self.wanted, self.wish)
        if self.wish.verify and not lossy(self.wanted):
            _compare(samples, _values(codecs.decode(stream, image, self.wanted, ours=True), image))
        return stream

    def _encapsulated(self, image: Image, streams: Iterator[bytes]) -> None:
        out, count = self._out, image.frames
        extended = image.native_bytes > _BASIC_OFFSETS
        tables = []
        if extended:
            for tag in (OFFSETS, LENGTHS):
                out.write(header_of(tag, "OV", 8 * count, self.target))
                tables.append(out.at)
                out.fill(8 * count)
        out.write(header_of(PIXEL_DATA, "OB", UNDEFINED, self.target))
        out.write(item_header(0 if extended else 4 * count))
        if not extended:
            tables.append(out.at)
            out.fill(4 * count)
        base, places, lengths = out.at, [], []
        for stream in streams:
            padded = stream + b"\0" * (len(stream) & 1)
            places.append(out.at - base)
            lengths.append(len(padded))
            out.write(item_header(len(padded)))
            out.write(padded)
        out.write(DELIMITER)
        self._written = sum(lengths)
        for at, numbers in zip(tables, (places, lengths), strict=False):
            out.patch(at, struct.pack(f"<{count}{'Q' if extended else 'I'}", *numbers))


class _Out:
    """The file that is written, no more of it than there is room for."""

    def __init__(self, file: IO[bytes], room: Room) -> None:
        self._file = file
        self._room = room
        self.at = 0

    def write(self, data: bytes | memoryview) -> None:
        self.at += len(data)
        self._room.check(self.at, "converted")
        self._file.write(data)

    def fill(self, count: int) -> None:
        for at in range(0, count, _PIECE):
            self.write(bytes(min(_PIECE, count - at)))

    def patch(self, at: int, data: bytes) -> None:
        self._file.seek(at)
        self._file.write(data)
        self._file.seek(0, os.SEEK_END)


def derived_uid(uid: str, syntax: str, wish: Wish) -> str:
    """The SOP Instance UID of what is made of an image with a loss: the same each time (PS3.5 §B.2)."""
    made = f"{uid} {syntax} {wish.error} {wish.ratio:g}".encode()
    return f"2.25.{int.from_bytes(sha256(made).digest()[:16], 'big')}"


def _native_vr(tag: int, head: Head) -> str:
    return {0x7FE00008: "OF", 0x7FE00009: "OD"}.get(tag, "OW")


def _check_cells(image: Image, *sizes: int) -> None:
    if image.allocated not in sizes:
        raise NotPossible(f"Bits Allocated is {image.allocated}, not {' or '.join(map(str, sizes))}")


def _widened(cells: Any, image: Image) -> Any:
    """YBR_FULL_422 (two luminances, then the colours of both) with colours for each pixel."""
    import numpy as np

    if image.columns & 1 or image.planar or image.samples != 3:
        raise NotPossible("YBR_FULL_422 of an odd width")
    pairs = cells.reshape(image.rows, image.columns // 2, 4)
    wide = np.empty((image.rows, image.columns, 3), cells.dtype)
    wide[:, 0::2, 0], wide[:, 1::2, 0] = pairs[:, :, 0], pairs[:, :, 1]
    for sample in (1, 2):
        wide[:, 0::2, sample] = wide[:, 1::2, sample] = pairs[:, :, sample + 1]
    return wide


def _values(cells: Any, image: Image) -> Any:
    """Cells as the numbers they stand for.

    Raises:
        NotPossible: bits above Bits Stored hold something else.
    """
    if image.stored == image.allocated:
        return cells.view(f"i{image.allocated // 8}") if image.signed else cells
    mask = (1 << image.stored) - 1
    low = cells & mask
    if image.signed:
        sign = 1 << image.stored - 1
        values = ((low.astype("i4") ^ sign) - sign).astype(f"i{image.allocated // 8}")
        if (cells == low).all() or (cells == values.view(cells.dtype)).all():
            return values
    elif (cells == low).all():
        return low
    raise NotPossible("bits above Bits Stored are used, for an overlay or for padding")


def _compare(before: Any, after: Any) -> None:
    if before.shape != after.shape or not (before == after).all():
        raise NotPossible("the codec lost something: other pixels come out than went in")


def _damage(path: str, offset: int, size: int, checksum: int) -> str:
    """What is wrong with the file in the spool; empty: nothing."""
    try:
        source, digest = Source(path, offset, size), xxhash.xxh3_64()
    except FileNotFoundError:
        return "the file in the spool is gone"
    try:
        for at in range(0, size, _PIECE):
            digest.update(source.read(at, min(_PIECE, size - at)))
    except Broken as broken:
        return f"the file in the spool is damaged: {broken}"
    finally:
        source.close()
    return "" if digest.intdigest() == checksum else "the file in the spool is damaged: its checksum is another one"


def _beside(target: str) -> str:
    """Where an inflated data set is meanwhile."""
    return f"{target}.inflated"


def _inflated(path: str, offset: int, size: int, beside: str, room: Room) -> str:
    """A deflated data set as it was, in a file of its own."""
    name, source, inflater, made = _beside(beside), Source(path, offset, size), zlib.decompressobj(-15), 0
    try:
        with open(name, "wb") as file:
            for at in range(0, size, _PIECE):
                data = source.read(at, min(_PIECE, size - at))
                while data and not inflater.eof:
                    piece = inflater.decompress(data, _PIECE)
                    data = inflater.unconsumed_tail
                    made += len(piece)
                    room.check(made, "inflated")
                    file.write(piece)
            file.write(inflater.flush())
            if not inflater.eof:
                raise Broken("the deflated data end too early")
    except zlib.error as error:
        raise Broken(f"not deflated data: {error}") from None
    finally:
        source.close()
    return name
