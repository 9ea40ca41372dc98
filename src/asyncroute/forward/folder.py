"""Destinations of kind ``folder``: every image becomes a Part 10 file, named by the layout.

The file is written beside its place under a temporary name, synced, and given its name by a link or rename, then the
folder is synced: a reader never sees half a file, and "delivered" means that it is on stable storage. What comes
twice with the same bytes is one file; with other bytes ``duplicates`` decides: ``keep-both`` numbers the second one,
``replace`` puts it in the first one's place, ``skip`` drops it. Failures are the destination's (full, read-only,
missing): it pauses. Only what an image's own name runs into (too long, a symbolic link that leads out of the folder) is
the image's.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from zlib import crc32

import xxhash

from asyncroute.core import outcomes
from asyncroute.core.conditions import Attributes
from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Delivery
from asyncroute.core.outcomes import Kind, Outcome, Scope
from asyncroute.core.syntaxes import AS_STORED
from asyncroute.crashpoints import crash_point
from asyncroute.forward.base import FIRST, Key, Reports
from asyncroute.forward.coercion import Coercions, Rewrite
from asyncroute.forward.conversions import Conversions, Converted
from asyncroute.forward.exchange import told_of
from asyncroute.forward.reading import Data, unreadable
from asyncroute.spool.base import Spool, check_sum
from asyncroute.transform.base import Refused
from asyncroute.wire.header import HeaderScanner
from asyncroute.wire.part10 import build_meta, parse_meta
from asyncroute.wire.syntax import EXPLICIT_LITTLE, is_deflated

log = logging.getLogger(__name__)

PIECE = 1 << 20
HEAD = 128 << 10
MOST_COPIES = 10_000
MOST_FOLDERS = 10_000
_naming = threading.Lock()
_OF_NAMES = frozenset({errno.ENAMETOOLONG, errno.EILSEQ, errno.ELOOP})
"""Errors of one path, not of the disk: other images have other ones."""
_Data = tuple[int, int]
"""Length in bytes and checksum of a data set that was written."""
_Copy = Callable[[Path], _Data]
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class Layout(Protocol):
    """Names files (``config.template.Layout``)."""

    @property
    def tags(self) -> frozenset[int]:
        """Attributes it needs."""
        ...

    def render(self, attributes: Attributes) -> str:
        """The relative path of an image."""
        ...


class FolderForwarder:
    """See module; ``forward.base.Forwarder``."""

    kind = "folder"

    def __init__(
        self,
        name: str,
        path: Path,
        layout: Layout,
        duplicates: str,
        spool: Spool,
        pool: Executor,
        sync: bool,
        coercions: Coercions | None = None,
    ) -> None:
        """``coercions`` None: what was received is what is written."""
        self.name = name
        self.path = path
        self.pool = pool
        self._layout = layout
        self._duplicates = duplicates
        self._spool = spool
        self._sync = sync
        self._coercions = coercions
        self.conversions: Conversions | None = None
        self.wish = AS_STORED
        self._durable: set[Path] = set()
        self._doubtful: set[Path] = set()
        self._scanner = HeaderScanner(layout.tags)

    def key(self, delivery: Delivery) -> Key:
        """All alike: no association, nothing to negotiate."""
        return "", "", ""

    def lane(self, reports: Reports) -> FolderLane:
        """See ``forward.base.Forwarder``."""
        return FolderLane(self, reports)

    # ---- in a worker thread

    def write(self, delivery: Delivery) -> Outcome:
        """Write one image; the outcome. Blocks."""
        converted = self._converted(delivery)
        if converted is None:
            return self._write(delivery)
        if isinstance(converted, Outcome):
            return converted
        assert self.conversions is not None
        try:
            outcome = self._write(converted.delivery)
            delivery.sent = told_of(delivery, converted.delivery, self.wish) if outcome.delivered else None
            return outcome
        finally:
            self.conversions.let_go(converted)

    def _converted(self, delivery: Delivery) -> Converted | Outcome | None:
        """In the first syntax that can be had; None: as it was received."""
        if self.conversions is None:
            return None
        for syntax in self.wish.order(delivery.transfer_syntax):
            if syntax == delivery.transfer_syntax:
                return None
            found = self.conversions.now(delivery, syntax, self.wish)
            if isinstance(found, Converted):
                return found
            if found.outcome is not None:
                return found.outcome
        return None

    def _write(self, delivery: Delivery) -> Outcome:
        delivery.sent = None
        made = self._coercions.now(delivery) if self._coercions is not None else None
        if isinstance(made, Outcome):
            return made
        try:
            place, copy = self._as_received(delivery) if made is None else self._as_made(delivery, made)
        except StorageFault as fault:
            return unreadable(fault)
        outcome = self._written(delivery, place, copy)
        if made is not None and outcome.delivered:
            delivery.sent = made.sent
        return outcome

    def _as_received(self, delivery: Delivery) -> tuple[Path, _Copy]:
        """Where it goes, and how its file is written."""
        self._spool.confirm(delivery)
        head = self._spool.read(delivery.path, delivery.data_offset, min(HEAD, delivery.size))
        if delivery.size <= len(head):
            check_sum(delivery, xxhash.xxh3_64_intdigest(head))
        place = self._layout.render(self._attributes(head, delivery.transfer_syntax, delivery.sop_instance_uid))
        return self.path / place, partial(self._copy, delivery)

    def _as_made(self, delivery: Delivery, made: Rewrite) -> tuple[Path, _Copy]:
        """The same of what a transform has made of it: named by its new attributes."""
        syntax = EXPLICIT_LITTLE if is_deflated(delivery.transfer_syntax) else delivery.transfer_syntax
        place = self._layout.render(self._attributes(made.header, syntax, made.sent.sop_instance_uid))
        return self.path / place, partial(self._copy_made, delivery, made)

    def _written(self, delivery: Delivery, place: Path, copy: _Copy) -> Outcome:
        try:
            return self._place(delivery, place, copy)
        except StorageFault as fault:
            return unreadable(fault)
        except Refused as refused:
            return outcomes.held(refused.reason)
        except OSError as error:
            text = f"cannot write {error.filename or place}: {error.strerror or error}"
            if error.errno in _OF_NAMES:
                return Outcome(Kind.IMAGE_FAILED, text, charge=True, limit=1)
            return Outcome(Kind.ASSOCIATION_FAILED, text, scope=Scope.DESTINATION, loud=True)

    def _attributes(self, head: Data, transfer_syntax: str, sop_instance_uid: str) -> dict[int, tuple[str, ...]]:
        scan = self._scanner.scan(head, transfer_syntax, True)
        found = {tag: scan.texts(tag) for tag in self._layout.tags} if scan is not None else {}
        uid = 0x00080018
        if uid in self._layout.tags and not any(found.get(uid, ())):
            found[uid] = (sop_instance_uid,)
        return found

    def _place(self, delivery: Delivery, place: Path, copy: _Copy) -> Outcome:
        folder = place.parent
        self._check_way(folder)
        self._make_folders(folder)
        # Named after the delivery, so that the try after a crash takes the place of what the crash left.
        temporary = folder / f".{delivery.instance_id}-{crc32(self.name.encode()):08x}.part"
        with self._syncing(folder):
            try:
                text = self._name(copy(temporary), temporary, place)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    temporary.unlink()
        return Outcome(Kind.DELIVERED_WITH_WARNING, text) if text else outcomes.SUCCESS

    def _check_way(self, folder: Path) -> None:
        """Raise OSError where a symbolic link leads out: it may have a name that a sender can choose."""
        while folder != self.path:
            if folder.is_symlink() and not folder.resolve().is_relative_to(self.path.resolve()):
                raise OSError(errno.ELOOP, f"a symbolic link that leads out of {self.path}", str(folder))
            folder = folder.parent

    def _make_folders(self, folder: Path) -> None:
        """Make ``folder`` where it is missing. Its name is durable then, and those above it up to the destination's.

        That a folder exists does not say that its name was synced: a process that has been killed may have made it, or
        another lane just now.
        """
        if folder in self._durable and folder.exists():
            return
        self._durable.discard(folder)
        above = folder.parent
        if self.path in above.parents or self.path == above or not above.exists():
            self._make_folders(above)
        if folder.exists() and not os.access(above, os.R_OK):
            return  # the destination's own place, which the administrator made where we may not even look
        self._make_folder(folder, above)
        if len(self._durable) >= MOST_FOLDERS:
            self._durable.clear()
        self._durable.add(folder)

    def _make_folder(self, folder: Path, above: Path) -> None:
        made = False
        try:
            with self._syncing(above), contextlib.suppress(FileExistsError):
                folder.mkdir()
                made = True
        except OSError:
            if made:  # the next try has to make it again: a second sync need not cover what the first one lost
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise

    @contextlib.contextmanager
    def _syncing(self, folder: Path) -> Iterator[None]:
        """Change names in ``folder``; they are durable afterwards.

        The descriptor is open before they change: when the system cannot write them, it tells each descriptor of that
        time once, and one that is opened later perhaps never.
        """
        if not self._sync:
            yield
            return
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield
            try:
                os.fsync(number)
            except OSError as error:
                self._doubtful.add(folder)
                raise OSError(error.errno, f"syncing it: {error.strerror}", str(folder)) from error
        finally:
            os.close(number)

    def _copy(self, delivery: Delivery, temporary: Path) -> _Data:
        """Write the file of what was received."""
        titles = delivery.calling_aet, delivery.called_aet
        with self._new_file(delivery, delivery.sop_class_uid, delivery.sop_instance_uid, titles, temporary) as file:
            digest = xxhash.xxh3_64()
            for offset in range(0, delivery.size, PIECE):
                length = min(PIECE, delivery.size - offset)
                piece = self._spool.read(delivery.path, delivery.data_offset + offset, length)
                digest.update(piece)
                file.write(piece)
            check_sum(delivery, digest.intdigest())
        return delivery.size, delivery.checksum

    def _copy_made(self, delivery: Delivery, made: Rewrite, temporary: Path) -> _Data:
        """Write the file of what a transform has made of it."""
        sent, titles = made.sent, ("", "") if made.anonymous else (delivery.calling_aet, delivery.called_aet)
        with self._new_file(delivery, sent.sop_class_uid, sent.sop_instance_uid, titles, temporary) as file:
            digest, size = xxhash.xxh3_64(), 0
            while not made.write.ended:
                piece = made.write.next()
                digest.update(piece)
                file.write(piece)
                size += len(piece)
        return size, digest.intdigest()

    @contextlib.contextmanager
    def _new_file(
        self, delivery: Delivery, sop_class_uid: str, sop_instance_uid: str, titles: tuple[str, str], temporary: Path
    ) -> Iterator[BinaryIO]:
        """A file with File Meta, which is durable afterwards. ``titles``: the sender's and ours; empty: not told."""
        meta = build_meta(
            sop_class_uid,
            sop_instance_uid,
            delivery.transfer_syntax,
            source_aet=titles[0],
            sending_aet=titles[0],
            receiving_aet=titles[1],
            private=None,
        )
        # After a crash it may be another name of the finished file: never write into it.
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:
            file.write(meta)
            yield file
            file.flush()
            if self._sync:
                os.fdatasync(file.fileno())

    def _name(self, data: _Data, temporary: Path, place: Path) -> str:
        """Give the file its name; a warning where it is not the one of the layout."""
        for n in range(1, MOST_COPIES):
            wanted = place if n == 1 else place.with_name(f"{place.stem}~{n}{place.suffix}")
            try:
                _link(temporary, wanted)
            except FileExistsError:
                if _same_data(wanted, *data):
                    if wanted.parent in self._doubtful:  # a sync that now succeeds need not cover the older name
                        temporary.replace(wanted)
                    return f"{wanted.name} is there already, with the same bytes"
                if self._duplicates == "replace":
                    temporary.replace(wanted)
                    return f"{wanted.name} was replaced by other bytes of the same name"
                if self._duplicates == "skip":
                    return f"{wanted.name} is there already, with other bytes; skipped"
            else:
                return "" if n == 1 else f"{place.name} was taken; kept as {wanted.name}"
        raise OSError(17, f"{MOST_COPIES} files of one name", str(place))


class FolderLane:
    """One writer; ``forward.base.Lane``."""

    def __init__(self, forwarder: FolderForwarder, reports: Reports) -> None:
        self.open = False
        self._forwarder = forwarder
        self._reports = reports
        self._loop = asyncio.get_running_loop()
        self._delivery: Delivery | None = None

    def carries(self, key: Key) -> bool:
        """See ``forward.base.Lane``."""
        return True

    def begin(self, delivery: Delivery, bond: str, probe: bool) -> None:
        """See ``forward.base.Lane``."""
        self._delivery = delivery
        self.open = True
        if delivery.size > FIRST:
            self._reports.spend(delivery.size - FIRST)
        future = self._loop.run_in_executor(self._forwarder.pool, self._forwarder.write, delivery)
        future.add_done_callback(self._written)

    def _written(self, future: asyncio.Future[Outcome]) -> None:
        delivery, self._delivery = self._delivery, None
        if delivery is None or future.cancelled():
            return
        crash_point("sent-unsettled")
        error = future.exception()
        if error is not None:
            log.error("%s: unexpected error", self._forwarder.name, exc_info=error)
            outcome = Outcome(
                Kind.ASSOCIATION_FAILED, f"unexpected error: {error!r}", scope=Scope.DESTINATION, loud=True
            )
        else:
            outcome = future.result()
        self._reports.finished(self, delivery, outcome)

    def close(self) -> None:
        """See ``forward.base.Lane``."""
        self.open = False

    def abort(self) -> None:
        """See ``forward.base.Lane``; the file under way is finished, but not reported."""
        self._delivery = None

    def info(self) -> dict[str, Any] | None:
        """A folder has no associations."""
        return None


def _link(temporary: Path, wanted: Path) -> None:
    """Give the file a name that nobody has; FileExistsError otherwise. FAT and some shares know no links."""
    try:
        os.link(temporary, wanted)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with _naming:
            if wanted.exists():
                raise FileExistsError(errno.EEXIST, "file exists", str(wanted)) from None
            temporary.rename(wanted)


def _same_data(path: Path, size: int, checksum: int) -> bool:
    """Whether the file at ``path`` holds exactly this data set. Links, pipes and devices are not opened."""
    if path.is_symlink() or not path.is_file():
        return False
    digest = xxhash.xxh3_64()
    with path.open("rb") as file:
        head = file.read(HEAD)
        try:
            offset = parse_meta(head).data_offset
        except ValueError:
            return False
        if path.stat().st_size - offset != size:
            return False
        digest.update(head[offset:])
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.intdigest() == checksum
