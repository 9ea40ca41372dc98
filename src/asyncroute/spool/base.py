"""Where image files live between receipt and release, as a Protocol.

A spool file is a Part 10 file (PS3.10 7.1) that we named (``core.numbered``): by the number of the image that it was
made for; later ones may be written over that one, so only the journal and the file tell whose it is. Its File Meta
carries, in Private Information (0002,0102), the received facts with length and checksum of the data set, so that a
file can be told whole or half-written, and be rebuilt into a journal row, without the journal.

All methods block and are called from worker threads. Failures are ``StorageFault``s.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Delivery, Instance, Source

Buffer = bytes | bytearray | memoryview


@dataclass(slots=True)
class Found:
    """A file met when the spool was swept: its path, the number in that, the whole file's length in bytes, when it was
    written last (seconds since the epoch)."""

    path: str
    number: int
    length: int
    written_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What a whole file says about itself, enough to make a journal row of it.

    ``size`` (bytes) and ``checksum`` (XXH3, 64 bits) are the data set's, ``data_offset`` is where it begins;
    ``received_at`` is seconds since the epoch.
    """

    instance_id: int
    source: Source
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    received_at: float
    data_offset: int
    size: int
    checksum: int


class Incoming(Protocol):
    """A file being written as its image arrives (too large for memory)."""

    def append(self, parts: Sequence[Buffer]) -> None:
        """Write ``parts`` of the data set behind what is there; syncs every 16 MiB."""
        ...

    def finish(self) -> None:
        """Write facts, sync the file, set the instance's size, data_offset and checksum; ``Spool.write`` comes next."""
        ...

    def abandon(self) -> None:
        """Close and remove. Idempotent; never raises."""
        ...


class Spool(Protocol):
    """See module. ``files`` and ``bytes`` count what is in the spool now (whole files, Part 10 header included).

    Spare files are those of released images that the next images may take over: on the disk, but not in the spool.
    """

    @property
    def broken(self) -> str | None:
        """Why nothing can be written any more (a sync failed); None while all is well."""
        ...

    @property
    def files(self) -> int:
        """Files in the spool."""
        ...

    @property
    def bytes(self) -> int:
        """Bytes in the spool."""
        ...

    @property
    def spare_files(self) -> int:
        """Spare files that wait to be used."""
        ...

    @property
    def spare_bytes(self) -> int:
        """Their bytes."""
        ...

    @property
    def reused(self) -> int:
        """Images that were written into spare files."""
        ...

    @property
    def open_files(self) -> int:
        """Files that stay open because another image may soon be written over the one in them."""
        ...

    def free_bytes(self) -> int:
        """Bytes that this process may still write to the spool's file system."""
        ...

    def start_at(self, instance_id: int) -> None:
        """The next ``allocate`` gives ``instance_id`` or above. Recovery calls it before the first image."""
        ...

    def allocate(self) -> tuple[int, str]:
        """The next instance id and the path of a new file for it (no I/O: safe on the event loop)."""
        ...

    def write(self, images: Sequence[tuple[Instance, Sequence[Buffer] | None]]) -> dict[int, StorageFault]:
        """Write and fdatasync a group of whole images and sync new names' folders; sets size, data_offset, checksum.

        An image that is written over a released one gets that one's path.

        An image without parts (and with its data_offset set) has been written by ``incoming`` already: only its folder
        is synced. Returns the failed ones by instance id (their files are removed). An fsync error is never retried and
        marks the spool ``broken``.
        """
        ...

    def incoming(self, instance: Instance) -> Incoming:
        """Begin a streamed file."""
        ...

    def read(self, path: str, offset: int, length: int) -> builtins.bytes:
        """``length`` bytes from ``offset``; a short file is a ``StorageFault``."""
        ...

    def at_once(self, delivery: Delivery) -> memoryview | None:
        """The data set, whole and compared with ``delivery``, if it can be had without waiting for the disk.

        None: not so, or something is wrong: ``load`` says what. For the loop's thread, which it does not
        hold up for longer than such an image's bytes take to be copied.
        """
        ...

    def load(self, delivery: Delivery) -> memoryview:
        """The data set, whole and compared with ``delivery``; a ``StorageFault`` says what is wrong."""
        ...

    def confirm(self, delivery: Delivery) -> None:
        """Compare what the file at ``delivery.path`` says about itself with ``delivery``; the data set is not read.

        A ``StorageFault`` if the file was altered or replaced, or the journal's row was: they are not the same image.
        """
        ...

    def verify(self, path: str, data_offset: int, size: int, checksum: int) -> None:
        """Read the whole data set and compare; a ``StorageFault`` says what is wrong."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file; a missing one is fine."""
        ...

    def remove_of(self, path: str, instance_id: int) -> None:
        """Remove the file of that image; one that the image has left before (another may be in it) stays."""
        ...

    def release(self, path: str, instance_id: int) -> bool:
        """The image is done: its file leaves the spool. False: it is removed; True: it will be a spare one.

        An image may be released more than once, also when another one is in the file: then nothing happens (False).
        """
        ...

    def spare(self, paths: Iterable[str]) -> None:
        """The journal knows that the images of these files left: others may be written over them. No I/O."""
        ...

    def tidy(self, everything: bool = False) -> None:
        """Remove spare files that nobody took within some seconds, or all of them, and keep no file open for longer;
        never raises."""
        ...

    def sweep(self) -> Iterator[Found]:
        """Every file in the spool by ascending number; counts ``files`` and ``bytes`` anew. Only for recovery."""
        ...

    def facts(self, path: str) -> Facts | None:
        """What a file says about itself; None if it is half-written (no facts, or not the length they say).

        Which image it is it says itself: the number in its name is that of the first one that was in it.
        """
        ...

    def facts_of(self, start: builtins.bytes, length: int) -> Facts | None:
        """The same of a file elsewhere that begins with ``start`` and has ``length`` bytes."""
        ...

    def link(self, path: str, target: str) -> bool:
        """Give a file ``target`` as another name; False: it is on another file system, or that knows no links.

        ``OSError`` for everything else, also where there is such a name.
        """
        ...

    def last_orphan(self) -> int:
        """The highest instance id among the files that were set aside; 0: there is none."""
        ...

    def left_place(self) -> bool:
        """Whether the spool folder was removed or renamed since it was opened; sets ``broken`` then."""
        ...

    def set_aside(self, path: str, number: int | None = None) -> None:
        """Move a file to the orphans' folder beside the spool; an orphan there is never overwritten.

        ``number``: that of the image in it, for its name there; None: the file's own.
        """
        ...


def check_sum(delivery: Delivery, found: int) -> None:
    """Raise a ``StorageFault`` unless ``found`` is the checksum of what was received."""
    if found != delivery.checksum:
        raise StorageFault(f"spool file {delivery.path} is damaged: its checksum is not the one of what was received")
