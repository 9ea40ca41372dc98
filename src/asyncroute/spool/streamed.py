"""A spool file that is written while its image arrives, because the image is too large for memory.

Guarantees: until ``finish`` the facts in the file say that it is unfinished; what was written is synced every 16 MiB,
so that the last sync, and with it the group in which the image is committed, is short.
Failures: ``StorageFault``; the file is then of no use: ``abandon`` it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import xxhash

from asyncroute.core.model import Instance
from asyncroute.core.numbered import file_path
from asyncroute.crashpoints import crash_point
from asyncroute.spool import facts
from asyncroute.spool.base import Buffer
from asyncroute.spool.head import head
from asyncroute.spool.kept import write_all
from asyncroute.spool.tree import Tree, fault

SYNC_EVERY = 16 << 20


class StreamedFile:
    """See module and ``spool.base.Incoming``. One thread at a time."""

    def __init__(self, tree: Tree, instance: Instance) -> None:
        """Create the file with its head. ``StorageFault`` leaves none."""
        self._tree = tree
        self._instance = instance
        self._path = file_path(instance.id)
        self._checksum = xxhash.xxh3_64()
        self._size = 0
        self._unsynced = 0
        self._number = -1
        try:
            self._head = head(instance, facts.pack(instance))
            self._number = tree.create(instance.id).descriptor.number
            write_all(self._number, [self._head])
        except Exception as error:
            if self._number >= 0:
                self.abandon()
            raise fault(error, "writing", self._path) from error

    def append(self, parts: Sequence[Buffer]) -> None:
        """See ``Incoming.append``."""
        try:
            written = write_all(self._number, parts)
            for part in parts:
                self._checksum.update(part)
            self._size += written
            self._unsynced += written
            crash_point("stream-partly-written")
            if self._unsynced >= SYNC_EVERY:
                self._tree.sync_file(self._number, self._path)
                self._unsynced = 0
        except OSError as error:
            raise fault(error, "writing", self._path) from error

    def finish(self) -> None:
        """See ``Incoming.finish``."""
        instance, checksum = self._instance, self._checksum.intdigest()
        packed = facts.pack(instance, self._size, checksum)
        try:
            written = os.pwrite(self._number, packed, len(self._head) - len(packed))
            if written != len(packed):
                raise OSError(5, "facts written in part")
            self._tree.sync_file(self._number, self._path)
            self._close()
        except OSError as error:
            raise fault(error, "writing", self._path) from error
        instance.size, instance.data_offset, instance.checksum = self._size, len(self._head), checksum
        self._tree.count([(instance.id, len(self._head) + self._size)], instance.id)
        crash_point("stream-finished")

    def abandon(self) -> None:
        """See ``Incoming.abandon``."""
        if self._number < 0:
            return
        try:
            self._close()
        except OSError:
            pass
        self._tree.drop(self._instance.id)

    def _close(self) -> None:
        number, self._number = self._number, -1
        os.close(number)
