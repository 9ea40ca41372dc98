"""The spool on a local file system: one Part 10 file per image in folders of 1000, new or that of a released image.

Guarantees: when ``write`` has not named an image as failed, its file and its name are durable
(``durability="power-loss"``; ``"process-crash"``: written). A failed image leaves no file. One image's full disk or I/O
error does not fail the others; a failed sync fails all that is not yet synced, sets ``broken`` and is never repeated.
Failures: ``StorageFault``.
"""

from __future__ import annotations

import builtins
import itertools
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import xxhash

from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Delivery, Instance
from asyncroute.core.numbered import SHARD, file_path, number_of
from asyncroute.crashpoints import crash_point
from asyncroute.link.descriptors import KEPT
from asyncroute.spool import facts, readback
from asyncroute.spool.base import Buffer, Facts, Found
from asyncroute.spool.head import head
from asyncroute.spool.kept import Writing, write_all
from asyncroute.spool.readback import LONGEST_HEAD, check_length, read_piece
from asyncroute.spool.streamed import StreamedFile
from asyncroute.spool.tree import FULL, Tree, fault
from asyncroute.wire.part10 import PRIVATE_CREATOR_UID, Meta, NotPart10, parse_meta

ORPHANS = "orphans"
ORPHAN_NAME = re.compile(r"(\d{8,})\.dcm(?:\.\d+)?", re.ASCII)
_PIECE = 1 << 20
EARLY = 256 << 10
"""Bytes of a file whose writing begins before its sync; for less the call costs more than it saves."""

_log = logging.getLogger(__name__)


class LocalSpool:
    """See module and ``spool.base.Spool``. ``write`` may run in several threads at once."""

    def __init__(self, root: Path, durability: str = "power-loss", kept: int = KEPT) -> None:
        """Open or make the spool folder ``root``; ``kept``: descriptors that may stay open for the next images.

        Raises:
            StorageFault: it cannot be made or read.
        """
        self.root = root
        self._orphans = os.fspath(root.parent / ORPHANS)
        self._tree = Tree(root, durability, kept)
        self._ids = itertools.count(1)

    @property
    def broken(self) -> str | None:
        """See ``Spool.broken``."""
        return self._tree.broken

    @property
    def files(self) -> int:
        """See ``Spool.files``."""
        return self._tree.files

    @property
    def bytes(self) -> int:
        """See ``Spool.bytes``."""
        return self._tree.bytes

    @property
    def spare_files(self) -> int:
        """See ``Spool.spare_files``."""
        return self._tree.spare_files

    @property
    def spare_bytes(self) -> int:
        """See ``Spool.spare_bytes``."""
        return self._tree.spare_bytes

    @property
    def reused(self) -> int:
        """See ``Spool.reused``."""
        return self._tree.reused

    @property
    def open_files(self) -> int:
        """See ``Spool.open_files``."""
        return self._tree.open_files

    def free_bytes(self) -> int:
        """See ``Spool.free_bytes``."""
        return self._tree.free_bytes()

    def start_at(self, instance_id: int) -> None:
        """See ``Spool.start_at``."""
        self._ids = itertools.count(max(instance_id, next(self._ids)))

    def allocate(self) -> tuple[int, str]:
        """See ``Spool.allocate``."""
        instance_id = next(self._ids)
        return instance_id, file_path(instance_id)

    def write(self, images: Sequence[tuple[Instance, Sequence[Buffer] | None]]) -> dict[int, StorageFault]:
        """See ``Spool.write``."""
        if self.broken or self.left_place():
            return self._refuse(images, self.broken or "")
        group = _Group(self._tree, len(images))
        try:
            for instance, parts in images:
                if not parts and instance.data_offset:
                    group.streamed.append(instance)
                else:
                    group.write(instance, parts or ())
            group.sync_files()
        finally:
            group.close()
        group.sync_folders()
        group.count()
        return group.failed

    def _refuse(self, images: Sequence[tuple[Instance, Sequence[Buffer] | None]], why: str) -> dict[int, StorageFault]:
        """None of these: files that are there already go, unless the spool itself is elsewhere now."""
        if not self.left_place():
            for instance, parts in images:
                if not parts and instance.data_offset:
                    try:
                        self._tree.remove(instance.path)
                    except OSError as error:
                        _log.error("%s", fault(error, "removing", instance.path))
        return {instance.id: StorageFault(why) for instance, _ in images}

    def incoming(self, instance: Instance) -> StreamedFile:
        """See ``Spool.incoming``."""
        if self.broken or self.left_place():
            raise StorageFault(self.broken or "")
        return StreamedFile(self._tree, instance)

    def read(self, path: str, offset: int, length: int) -> builtins.bytes:
        """See ``Spool.read``."""
        try:
            number = self._tree.open(path)
            try:
                data = read_piece(number, offset, length)
            finally:
                os.close(number)
        except OSError as error:
            raise fault(error, "reading", path) from error
        if len(data) != length:
            raise StorageFault(f"spool: {path} ends after {offset + len(data)} bytes, {offset + length} expected")
        return data

    def at_once(self, delivery: Delivery) -> memoryview | None:
        """See ``Spool.at_once``."""
        return readback.at_once(self._tree, delivery)

    def load(self, delivery: Delivery) -> memoryview:
        """See ``Spool.load``."""
        return readback.load(self._tree, delivery)

    def confirm(self, delivery: Delivery) -> None:
        """See ``Spool.confirm``."""
        readback.confirm(self._tree, delivery)

    def verify(self, path: str, data_offset: int, size: int, checksum: int) -> None:
        """See ``Spool.verify``."""
        found = xxhash.xxh3_64()
        try:
            number = self._tree.open(path)
            try:
                check_length(path, os.fstat(number).st_size, data_offset + size)
                for offset in range(data_offset, data_offset + size, _PIECE):
                    found.update(read_piece(number, offset, min(_PIECE, data_offset + size - offset)))
            finally:
                os.close(number)
        except OSError as error:
            raise fault(error, "reading", path) from error
        if found.intdigest() != checksum:
            raise StorageFault(f"spool: {path} is damaged: its checksum is not the one it was received with")

    def remove(self, path: str) -> None:
        """See ``Spool.remove``."""
        try:
            self._tree.remove(path)
        except OSError as error:
            raise fault(error, "removing", path) from error

    def remove_of(self, path: str, instance_id: int) -> None:
        """See ``Spool.remove_of``."""
        try:
            self._tree.remove_of(path, instance_id)
        except OSError as error:
            raise fault(error, "removing", path) from error

    def release(self, path: str, instance_id: int) -> bool:
        """See ``Spool.release``."""
        try:
            return self._tree.release(path, instance_id)
        except OSError as error:
            raise fault(error, "removing", path) from error

    def spare(self, paths: Iterable[str]) -> None:
        """See ``Spool.spare``."""
        self._tree.ready(paths)

    def tidy(self, everything: bool = False) -> None:
        """See ``Spool.tidy``."""
        self._tree.tidy(everything)

    def sweep(self) -> Iterator[Found]:
        """See ``Spool.sweep``."""
        try:
            yield from self._tree.sweep()
        except OSError as error:
            raise fault(error, "reading", str(error.filename or self.root)) from error

    def facts(self, path: str) -> Facts | None:
        """See ``Spool.facts``."""
        try:
            number = self._tree.open(path)
            try:
                start, length = read_piece(number, 0, LONGEST_HEAD), os.fstat(number).st_size
            finally:
                os.close(number)
        except OSError as error:
            raise fault(error, "reading", path) from error
        return _facts(start, length)

    @staticmethod
    def facts_of(start: builtins.bytes, length: int) -> Facts | None:
        """See ``Spool.facts_of``."""
        return _facts(start, length)

    def link(self, path: str, target: str) -> bool:
        """See ``Spool.link``."""
        return self._tree.link(path, target)

    def last_orphan(self) -> int:
        """See ``Spool.last_orphan``."""
        try:
            return max((number for number, _ in orphans(self.root.parent)), default=0)
        except OSError as error:
            raise fault(error, "reading", str(self.root.parent / ORPHANS)) from error

    def sync_folders(self, paths: Iterable[str]) -> None:
        """Make the names of these files durable.

        Raises:
            StorageFault: that failed; the spool is ``broken``.
        """
        try:
            for shard in sorted({number // SHARD for path in paths if (number := number_of(path)) is not None}):
                self._tree.sync_folder(shard)
        except OSError as error:
            raise fault(error, "syncing", str(self.root)) from error

    def left_place(self) -> bool:
        """See ``Spool.left_place``."""
        return self._tree.left_place()

    def set_aside(self, path: str, number: int | None = None, folder: Path | None = None) -> None:
        """See ``Spool.set_aside``. ``folder``: another one than that of orphans."""
        place = os.fspath(folder) if folder is not None else self._orphans
        name = (path if number is None else file_path(number)).rpartition("/")[2]
        try:
            try:
                self._tree.move(path, _free_path(place, name))
            except FileNotFoundError:  # the folder has to be made
                self._tree.move(path, free_name(Path(place), name))
        except OSError as error:
            raise fault(error, "setting aside", path) from error

    def facts_outside(self, file: Path) -> Facts | None:
        """``facts`` of a file that is not in its place in the spool; the data set is compared, too.

        None: it is not whole.
        """
        try:
            with file.open("rb") as opened:
                start, length = opened.read(LONGEST_HEAD), os.fstat(opened.fileno()).st_size
        except OSError as error:
            raise fault(error, "reading", str(file)) from error
        found = _facts(start, length)
        if found is None:
            return None
        try:
            self.verify(str(file.absolute()), found.data_offset, found.size, found.checksum)
        except StorageFault as error:
            if error.errno:
                raise
            return None
        return found

    def take_in(self, file: Path, path: str) -> bool:
        """Move a whole file to ``path``, durably but for the folder (``sync_folders`` does that).

        False: there is a file already, or no place for one.
        """
        try:
            return self._tree.take(file, path)
        except OSError as error:
            raise fault(error, "taking in", str(file)) from error

    def keep_open(self, most: int) -> None:
        """From now on so many descriptors may stay open for the next images."""
        self._tree.keep_open(most)

    def close(self) -> None:
        """Close. Idempotent."""
        self._tree.close()


def free_name(folder: Path, name: str) -> Path:
    """A path in ``folder``, which is made, that nobody has: ``name``, ``name.1`` ... Raises ``OSError``."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Path(_free_path(os.fspath(folder), name))


def _free_path(folder: str, name: str) -> str:
    path = f"{folder}/{name}"
    for number in itertools.count(1):
        if not os.path.lexists(path):
            break
        path = f"{folder}/{name}.{number}"
    return path


def orphans(data_dir: Path) -> Iterator[tuple[int, Path]]:
    """(instance id, file) of what was set aside below ``data_dir``, in any order; 0 where the name has no id.

    Raises ``OSError``.
    """
    try:
        with os.scandir(data_dir / ORPHANS) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    match = ORPHAN_NAME.fullmatch(entry.name)
                    yield int(match[1]) if match else 0, Path(entry.path)
    except FileNotFoundError:
        return


class _Group:
    """One call of ``write``: files open between writing and syncing, and which of them failed."""

    __slots__ = ("_several", "_tree", "_written", "failed", "streamed")

    def __init__(self, tree: Tree, images: int) -> None:
        self._tree = tree
        self._several = images > 1
        self._written: list[tuple[Instance, Writing]] = []
        self.streamed: list[Instance] = []
        self.failed: dict[int, StorageFault] = {}

    def write(self, instance: Instance, parts: Sequence[Buffer]) -> None:
        """Write one file, a new or a spare one; it stays open."""
        file: Writing | None = None
        try:
            start = _describe(instance, parts)
            length = len(start) + instance.size
            file = self._tree.reuse(length, instance.id) or self._tree.create(instance.id)
            instance.path = file.path
            write_all(file.descriptor.number, [start, *parts])
            if file.before > length:
                crash_point("spare-overwritten")
                os.ftruncate(file.descriptor.number, length)
            if self._several and length >= EARLY:
                self._tree.start_writing(file.descriptor.number)
        except Exception as error:  # whatever it is, it is this image's alone
            self._failed(instance, error, "writing")
            if file is not None:
                file.close()
                self._tree.undo(file)
        else:
            self._written.append((instance, file))
            crash_point("file-written")

    def _failed(self, instance: Instance, error: Exception, doing: str) -> None:
        self.failed[instance.id] = found = fault(error, doing, instance.path)
        if found.errno in FULL:
            self._tree.tidy(everything=True)

    def sync_files(self) -> None:
        """All files of the group, in order; after the first failure none is tried."""
        for place, (_, file) in enumerate(self._written):
            try:
                self._tree.sync_file(file.descriptor.number, file.path)
            except OSError as error:
                self._fail(self._written[place:], error)
                return

    def close(self) -> None:
        """No file is written any more."""
        for it, file in self._written:
            if it.id in self.failed:
                file.close()
            else:
                self._tree.over(file, it.data_offset + it.size)

    def sync_folders(self) -> None:
        """The folders of all files that are still good and whose names may not be durable."""
        good = ((it, file) for it, file in self._written if it.id not in self.failed)
        new = [(it, file) for it, file in good if not self._tree.has_durable_name(file)]
        shards = {file.number // SHARD for _, file in new} | {it.id // SHARD for it in self.streamed}
        for shard in sorted(shards):
            try:
                self._tree.sync_folder(shard)
            except OSError as error:
                self._fail([(it, file) for it, file in new if file.number // SHARD == shard], error)
                self._fail_streamed([it for it in self.streamed if it.id // SHARD == shard], error)

    def count(self) -> None:
        """The files written here that stay."""
        for instance, file in self._written:
            if instance.id not in self.failed:
                self._tree.written(file, instance.data_offset + instance.size, instance.id)

    def _fail(self, images: Sequence[tuple[Instance, Writing]], error: OSError) -> None:
        for instance, file in images:
            self._failed(instance, error, "syncing")
            self._tree.undo(file)

    def _fail_streamed(self, images: Sequence[Instance], error: OSError) -> None:
        for instance in images:
            self._failed(instance, error, "syncing")
            self._tree.remove(instance.path)


def _describe(instance: Instance, parts: Sequence[Buffer]) -> bytes:
    """The head of a data set's file; sets size, data_offset and checksum."""
    hasher = xxhash.xxh3_64()
    size = 0
    for part in parts:
        hasher.update(part)
        size += len(part)
    checksum = hasher.intdigest()
    start = head(instance, facts.pack(instance, size, checksum))
    instance.size, instance.data_offset, instance.checksum = size, len(start), checksum
    return start


def _facts(start: bytes, length: int) -> Facts | None:
    """The facts of a file that begins with ``start``, if they are whole and fit its length."""
    try:
        meta = parse_meta(start)
    except NotPart10:
        return None
    if meta.private_creator != PRIVATE_CREATOR_UID:
        return None
    uids = (meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax)
    packed = facts.unpack(meta.private or b"", *uids)
    if packed is None or meta.data_offset + packed.size != length:
        return None
    return _join(meta, packed)


def _join(meta: Meta, packed: facts.Packed) -> Facts:
    return Facts(
        packed.instance_id,
        packed.source,
        meta.sop_class_uid,
        meta.sop_instance_uid,
        meta.transfer_syntax,
        packed.received_at,
        meta.data_offset,
        packed.size,
        packed.checksum,
    )
