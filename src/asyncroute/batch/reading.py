"""Reading one batch in: its files become images, admitted like received ones (routes, spool, journal).

Guarantees: an image is admitted together with the name of its file, so that reading can be broken off at any step and
goes on with the files that are left; what cannot be admitted for now (no space, a full backlog, a stop) is tried again
and holds up this batch, not others. The same bytes twice in a batch are sent once. A bounded number of images and bytes
is under way. A batch that changes while it is read is read again, but for what is admitted.
Failures: of single files they are counted and told; ``OSError`` if the batch itself cannot be read; ``Broken`` for what
ends it otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Sequence
from time import time

import xxhash

from asyncroute.batch.archives import HEAD, Refused, kind_at, unpack
from asyncroute.batch.base import Copy
from asyncroute.batch.files import (
    Found,
    Opened,
    Taken,
    Walk,
    beginning,
    checksum,
    read,
    refused,
    signature,
)
from asyncroute.batch.means import BUFFER, Means
from asyncroute.batch.strict import disagreement
from asyncroute.core.batches import MOST_PROBLEMS, Batch, BatchRead, BeginBatch, Counts, Origin, Terms, Trouble, plain
from asyncroute.core.model import WATCH, Instance, RouteHit, Source
from asyncroute.crashpoints import crash_point
from asyncroute.link.buffers import Buffer, ImageBytes
from asyncroute.receive.base import Received
from asyncroute.wire import command as dimse
from asyncroute.wire.bare import NotDicom, Start

log = logging.getLogger(__name__)

TOGETHER = 64
"""Files that are looked at, and images that are offered, at a time."""

MOST_BYTES = 8 << 20
"""Bytes of images that may be under way to the journal."""

CONGESTED = 4 << 20
"""Bytes of one large image that may wait for the disk."""

NEARLY_FULL = 16 << 20
"""Bytes free, beside the image, below which a refusal is put down to the disk."""

MOST_PASSES = 10
JUST_NOW = 60.0
"""Seconds before its admission in which a file that was touched may have been read before that."""

MOST_TRIES = 5
"""Times that an image is offered which is refused for no reason that will pass."""

FIRST_PAUSE, LAST_PAUSE = 0.2, 5.0
"""Seconds before what was refused is tried again."""

_NO_COMMAND = dimse.Command({})


class Broken(Exception):
    """Reading ends here; the text is the batch's reason."""


class Reading:
    """See module. ``waits``: why nothing is read just now; empty while it is."""

    def __init__(self, means: Means, terms: Terms, batch: Batch, moved_on: Callable[[], None]) -> None:
        """``moved_on``: called when the batch is in another state."""
        self._moved_on = moved_on
        self.counts = Counts()
        self.troubles: list[Trouble] = []
        self._told: set[Trouble] = set()
        self.waits = ""
        self.cancelled = False
        self._means = means
        self._terms = terms
        self._batch = batch
        self._source = Source(terms.calling_aet, "", f"{WATCH}{terms.name}", "")
        self._before = batch.begun_at is not None  # some of its images may be admitted already
        self._begun = False
        self._unpacked = ""
        self._flying: dict[int, tuple[Found, str]] = {}
        self._bytes = 0
        self._again: list[Found] = []
        self._tries: dict[str, int] = {}
        self._pause = FIRST_PAUSE
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Admit all its images, and say so to the journal. Raises OSError, Broken, StorageFault."""
        before = 0
        for _ in range(MOST_PASSES):
            before = await self._begin()
            root, prefix = await self._root()
            if self._terms.strict and (why := await self._means.blocking(disagreement, root)):
                raise Broken(f"{why} (strict)")
            await self._walk(Walk(root, prefix))
            if await self._means.blocking(signature, self._batch.path) == before:
                break
        else:
            self._tell("", "kept changing while it was read; what came last may be missing", error=True)
        await self._look_at_all()
        self._balance()
        await self._means.act(BatchRead(self._batch.id, self.counts, self.troubles, before))
        self._batch.counts, self._batch.signature = self.counts, before
        crash_point("batch-read")

    async def _begin(self) -> int:
        """A pass begins; the signature of what there is."""
        await self.landed()  # of a pass that was broken off
        self.counts, self.troubles, self._again = Counts(), [], []
        self._told.clear()
        self._before, self._begun = self._before or self._begun, True
        stamp = await self._means.stamp(self._batch.path)
        await self._means.act(BeginBatch(self._batch.id, stamp))
        self._batch.stamp = stamp
        if self._batch.begun_at is None:
            self._batch.begun_at = time()
            self._moved_on()
        crash_point("batch-begun")
        return await self._means.blocking(signature, self._batch.path)

    async def _root(self) -> tuple[str, str]:
        """Where its files are, and what stands before their names."""
        path = self._batch.path
        kind = await self._means.blocking(kind_at, path)
        if not kind:
            return path, ""
        self._unpacked = str(self._means.unpacked / str(self._batch.id))
        try:
            await self._means.blocking(unpack, path, kind, self._unpacked)
        except Refused as refusal:
            raise Broken(str(refusal)) from None
        except OSError as error:
            raise Broken(f"cannot be unpacked: {(error.strerror or str(error)).lower()}") from None
        return self._unpacked, f"{self._batch.name}/"

    async def tidy(self) -> None:
        """Remove what was unpacked."""
        if self._unpacked:
            await self._means.blocking(shutil.rmtree, self._unpacked, True)

    async def _walk(self, walk: Walk) -> None:
        while some := await self._means.blocking(walk.next, TOGETHER):
            self.counts.files += len(some)
            await self._take([file for file in some if self._readable(file)])
            await self._repeat()
        await self.landed()
        await self._repeat()

    def _readable(self, file: Found) -> bool:
        if file.hidden:
            self.counts.skipped += 1
        elif file.problem:
            self.counts.bad += 1
            self._tell(file.name, file.problem, error=True)
        return not (file.hidden or file.problem)

    # ---- from files to images

    async def _take(self, files: Sequence[Found]) -> None:
        """Offer the images in ``files``."""
        left = list(files)
        if self._before and left:
            left = await self._not_admitted(left)
        while left:
            await self._room()
            some: list[Found] = []
            size = 0
            while left and size + left[0].size <= BUFFER:
                size += left[0].size
                some.append(left.pop(0))
            if some:
                await self._read(some, size)
            else:
                await self._stream(left.pop(0))

    async def _not_admitted(self, files: list[Found]) -> list[Found]:
        """Those that were not taken yet, or may have been written to since: their bytes are compared."""
        done = await self._means.journal.admitted(self._batch.id, [file.name for file in files])
        left = []
        for file in files:
            admitted = done.get(file.name)
            if admitted is None or file.touched > admitted.at - JUST_NOW:
                left.append(file)
            else:
                self.counts.images += 1
                self.counts.bytes += admitted.size
        return left

    async def _read(self, files: list[Found], size: int) -> None:
        buffer = self._means.memory.take(max(size, 1))
        try:
            taken = await self._means.filling(buffer, read, files, buffer.view[:size])
            images = [it for it in taken if self._is_image(it)]
            known = await self._known(images)
            for it in images:
                assert it.start is not None
                view = buffer.view[it.lo : it.hi]
                if await self._is_new(it.start, len(view), known, it.file, view):
                    self._offer(it.file, it.start, buffer, view)
        finally:
            buffer.drop()

    def _is_image(self, it: Taken) -> bool:
        if it.start is not None:
            if it.start.warning:
                self._tell(it.file.name, it.start.warning)
            return True
        bad = it.damaged or (it.archive and self._terms.after == "delete")
        if bad:
            self.counts.bad += 1
        else:
            self.counts.not_dicom += 1
        self._tell(it.file.name, it.problem, error=bad)
        return False

    async def _known(self, images: Sequence[Taken]) -> dict[str, Sequence[Copy]]:
        uids = {it.start.sop_instance_uid for it in images if it.start is not None}
        return await self._means.journal.copies(self._batch.id, uids) if uids else {}

    async def _is_new(
        self, start: Start, size: int, known: dict[str, Sequence[Copy]], file: Found, view: memoryview | None
    ) -> bool:
        """Whether the batch has not given this image already."""
        uid = start.sop_instance_uid
        if any(flying == uid for _, flying in self._flying.values()):
            await self.landed()
            known |= await self._means.journal.copies(self._batch.id, [uid])
        copies = known.get(uid, ())
        if not copies:
            return True
        alike = [copy for copy in copies if copy.size == size]
        own = await self._checksum(file, start, view) if alike else 0
        same = next((copy for copy in alike if copy.checksum == own), None)
        if same is None:
            itself = copies[0].file == plain(file.name)
            first = "the file as it was read before" if itself else copies[0].file
            self._tell(file.name, f"has the SOP Instance UID of {first}, but other content")
            return True
        if same.file == plain(file.name):  # read before
            self.counts.images += 1
            self.counts.bytes += size
            return False
        self.counts.duplicates += 1
        self._tell(file.name, f"is the same image as {same.file}")
        return False

    async def _checksum(self, file: Found, start: Start, view: memoryview | None) -> int:
        if view is not None:
            return xxhash.xxh3_64_intdigest(view)
        return await self._means.blocking(checksum, file, start.data_offset)

    def _received(self, file: Found, start: Start) -> Received:
        """An image on its way; it counts as under way from here on."""
        instance = Instance(
            0, self._source, start.sop_class_uid, start.sop_instance_uid, start.transfer_syntax, time(), ""
        )
        instance.origin = Origin(self._batch.id, file.name)
        instance.id, instance.path = self._means.admit.allocate()
        self._flying[instance.id] = (file, start.sop_instance_uid)
        self._bytes += file.size
        return Received(self, _NO_COMMAND, 0, instance)

    def _offer(self, file: Found, start: Start, buffer: Buffer, view: memoryview) -> None:
        received = self._received(file, start)
        received.image = image = _image(buffer, view)
        received.instance.size = image.size
        self._means.admit.offer(received)
        crash_point("batch-offered")

    # ---- large ones

    async def _stream(self, file: Found) -> None:
        """A file that is too large for a buffer goes to the spool piece by piece."""
        try:
            opened, start = await self._means.blocking(_open, file)
        except (NotDicom, OSError) as error:
            self._is_image(refused(file, error, await self._means.blocking(beginning, file, HEAD)))
            return
        try:
            known = await self._means.journal.copies(self._batch.id, [start.sop_instance_uid])
            if not await self._is_new(start, file.size - start.data_offset, known, file, None):
                return
            if start.warning:
                self._tell(file.name, start.warning)
            await self._stream_opened(file, opened, start)
        except OSError as error:
            self._is_image(refused(file, error, b""))
        finally:
            opened.close()

    async def _stream_opened(self, file: Found, opened: Opened, start: Start) -> None:
        received = self._received(file, start)
        watcher = _Watcher()
        stream = self._means.admit.stream(received.instance, watcher)
        try:
            at = start.data_offset
            while at < file.size and not watcher.failed:
                await self._means.room()
                buffer = self._means.memory.take(BUFFER)
                try:
                    view = buffer.view[: min(BUFFER, file.size - at)]
                    at += await self._means.filling(buffer, opened.fill, view, at)
                    stream.push(_image(buffer, view))
                finally:
                    buffer.drop()
                while stream.pending > CONGESTED and not watcher.failed:
                    await watcher.moved()
            opened.unchanged()
            if not watcher.failed:
                stream.finish()
            while not (watcher.failed or watcher.finished):
                await watcher.moved()
        except BaseException:
            stream.abandon()
            self._landing(received.instance.id)
            raise
        if watcher.failed:
            self.answer(received, dimse.OUT_OF_RESOURCES, watcher.failed)
        else:
            received.head = stream.head
            self._means.admit.offer(received)

    # ---- answers

    def answer(self, received: Received, status: int, comment: str) -> None:
        """See ``receive.base.Owner``."""
        instance = received.instance
        file = self._landing(instance.id)
        if status == dimse.SUCCESS:
            self._pause = FIRST_PAUSE
            if instance.hits or instance.hold_reason:
                self.counts.images += 1
                self.counts.bytes += instance.size
            else:
                self.counts.discarded += 1
        elif status == dimse.OUT_OF_RESOURCES and self._may_try_again(file, instance.hits):
            self.waits = comment
            self._again.append(file)
        else:
            self.counts.bad += 1
            self._tell(file.name, comment or f"refused with status {status:04X}", error=True)

    def _landing(self, instance_id: int) -> Found:
        file, _ = self._flying.pop(instance_id)
        self._bytes -= file.size
        self._moved.set()
        return file

    def _may_try_again(self, file: Found, hits: tuple[RouteHit, ...]) -> bool:
        """Whether it may be taken another time: for ever if there is no room, else a few times."""
        if self._means.admit.refusal() is not None or self._means.full(hits) is not None:
            return True
        if self._means.free() < file.size + NEARLY_FULL:
            return True
        tries = self._tries[file.name] = self._tries.get(file.name, 0) + 1
        return tries < MOST_TRIES

    async def _repeat(self) -> None:
        """Offer again what was refused, with pauses that grow."""
        while self._again:
            await self.landed()
            await self._rest(self._pause)
            self._pause = min(self._pause * 2, LAST_PAUSE)
            again, self._again = self._again, []
            await self._take(again)
            await self.landed()
        self.waits = ""

    async def landed(self) -> None:
        """Wait until nothing is under way."""
        while self._flying:
            self._moved.clear()
            await self._moved.wait()

    async def _room(self) -> None:
        """Wait until the next images may be read."""
        while True:
            if self.cancelled:
                await self.landed()
                raise Broken("cancelled by a person")
            if len(self._flying) >= TOGETHER or self._bytes >= MOST_BYTES:
                self._moved.clear()
                await self._moved.wait()
            elif self._means.memory.short:
                await self._means.room()
            elif why := self._full():
                self.waits = why
                await self._rest(FIRST_PAUSE)
            else:
                self.waits = ""
                return

    def _full(self) -> str | None:
        most = self._terms.max_spool
        if most and self._means.spooled() + self._bytes >= most:
            return "the spool holds max_spool: waits until images are delivered"
        return self._means.admit.refusal()

    async def _rest(self, seconds: float) -> None:
        if self.cancelled:
            await self.landed()
            raise Broken("cancelled by a person")
        await asyncio.sleep(seconds)

    # ---- what is told

    def _tell(self, file: str, text: str, error: bool = False) -> None:
        """Once, also of a file that has to be tried again."""
        trouble = Trouble(file, text, error)
        if trouble in self._told:
            return
        if error:
            self.counts.errors += 1
        else:
            self.counts.warnings += 1
        if len(self.troubles) < MOST_PROBLEMS:
            self.troubles.append(trouble)
            self._told.add(trouble)

    def _balance(self) -> None:
        """Each file was taken, or it is known why not: else the source must not go."""
        it = self.counts
        lost = it.files - it.images - it.not_dicom - it.skipped - it.duplicates - it.discarded - it.bad
        if lost:
            self._tell("", f"{lost} files are not accounted for", error=True)

    async def _look_at_all(self) -> None:
        """Note what the images of one batch should have in common."""
        names = ("patients", "studies", "accession numbers")
        for name, number in zip(names, await self._means.journal.many(self._batch.id), strict=True):
            if number > 1:
                self._tell("", f"images of {number} {name}")


class _Watcher:
    """What a stream to the spool tells; see ``receive.base.StreamWatcher``."""

    def __init__(self) -> None:
        self.failed = ""
        self.finished = False
        self._event = asyncio.Event()

    async def moved(self) -> None:
        """Wait for the next news."""
        await self._event.wait()
        self._event.clear()

    def stream_moved(self) -> None:
        """See ``receive.base.StreamWatcher``."""
        self._event.set()

    def stream_finished(self) -> None:
        """See ``receive.base.StreamWatcher``."""
        self.finished = True
        self._event.set()

    def stream_failed(self, reason: str) -> None:
        """See ``receive.base.StreamWatcher``."""
        self.failed = reason
        self._event.set()


def _image(buffer: Buffer, view: memoryview) -> ImageBytes:
    """A slice of ``buffer`` as bytes of an image."""
    image = ImageBytes()
    buffer.hold()
    image.buffers.append(buffer)
    image.parts.append(view)
    image.size = len(view)
    return image


def _open(file: Found) -> tuple[Opened, Start]:
    opened = Opened(file)
    try:
        return opened, opened.start()
    except BaseException:
        opened.close()
        raise
