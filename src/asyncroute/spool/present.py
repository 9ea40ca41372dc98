"""Which files are in the spool, how long they are, whose they are, and how many of each folder: 16 bytes of memory a
file.

Guarantees: a file counts once, however often it is added or dropped. No I/O; not thread-safe. Failures: none.
"""

from __future__ import annotations

from array import array

from asyncroute.core.numbered import SHARD


class Folder:
    """One folder. ``files``: of images; ``spares``: spare ones."""

    __slots__ = ("files", "lengths", "owners", "spares")

    def __init__(self) -> None:
        self.files = 0
        self.spares = 0
        self.lengths = array("Q", bytes(8 * SHARD))
        """By place in the folder: the file's length + 1; 0: there is none."""
        self.owners = array("Q", bytes(8 * SHARD))
        """By place: the latest image that was written into it; 0: that is not known."""


class Present:
    """See module. ``folders`` by number: those whose names are durable."""

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0
        self.folders: dict[int, Folder] = {}

    def owner(self, number: int) -> int:
        """The latest image that was written into this file; 0: that is not known."""
        folder = self.folders.get(number // SHARD)
        return folder.owners[number % SHARD] if folder is not None else 0

    def own(self, number: int, owner: int) -> None:
        """That image is being written into this file."""
        folder = self.folders.get(number // SHARD)
        if folder is not None:
            folder.owners[number % SHARD] = owner

    def add(self, number: int, length: int, owner: int) -> None:
        """This file is there, with that image in it (0: unknown)."""
        shard, place = divmod(number, SHARD)
        folder = self.folders.get(shard)
        if folder is None:
            folder = self.folders[shard] = Folder()
        elif folder.lengths[place]:
            self.drop(number)
        folder.lengths[place] = length + 1
        folder.owners[place] = owner
        folder.files += 1
        self.files += 1
        self.bytes += length

    def drop(self, number: int) -> int | None:
        """This file is an image's no more; its length, None if it was not there."""
        shard, place = divmod(number, SHARD)
        folder = self.folders.get(shard)
        if folder is None or not folder.lengths[place]:
            return None
        length = folder.lengths[place] - 1
        folder.lengths[place] = 0
        folder.files -= 1
        self.files -= 1
        self.bytes -= length
        return length

    def forget(self, shard: int) -> None:
        """A folder is gone, with what was in it."""
        folder = self.folders.pop(shard, None)
        if folder is not None and folder.files:
            self.files -= folder.files
            self.bytes -= sum(length - 1 for length in folder.lengths if length)

    def clear(self) -> None:
        """Nothing is known any more."""
        self.files = self.bytes = 0
        self.folders.clear()

    def over(self, shard: int) -> bool:
        """Whether a folder is known and empty, and newer ones are in use."""
        folder = self.folders.get(shard)
        return folder is not None and not folder.files and not folder.spares and shard < max(self.folders)
