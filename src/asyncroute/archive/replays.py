"""Archived images are sent again: a person's word, kept in the index until it is done.

An image is copied back into the spool as a new one, with the source that it had when it was received, and takes the
way of every image from there: routes, limits, group commit. Its order is done with once it is in the journal. Where it
lies is looked up at that moment, so it may have been moved since; its copy in the archive stays, and is not archived
twice.
Guarantees: nothing asked for is forgotten, whatever crash or restart comes; what is sent twice because of one is rare.
While the router takes no images, or a tier is not there, an order waits. What cannot be sent (its file is damaged or
missing, no route wants it) is counted, and told with its reason. Failures: none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from time import time
from typing import Protocol, TypeVar

from asyncroute.archive.base import Index, Kept, Replay
from asyncroute.archive.mover import wrong_with
from asyncroute.archive.tier import Digest, FactsOf, Folder, pieces_of
from asyncroute.core.errors import AsyncrouteError, StorageFault
from asyncroute.core.model import Instance
from asyncroute.receive.base import Received
from asyncroute.route import UNROUTED
from asyncroute.spool.base import Facts, Spool
from asyncroute.streaming import HEAD
from asyncroute.wire import command as dimse

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

EVERY = 1.0
TOGETHER = 8
"""Images that are under way at a time."""
TRIES = 3
"""Looks at where an image lies, which may be moved meanwhile."""


class Wait(AsyncrouteError):
    """Not now."""


class Unsendable(AsyncrouteError):
    """It cannot be sent again; the text says why."""


class Admit(Protocol):
    """The stage that takes images (``admit.Admission``)."""

    def refusal(self) -> str | None:
        """Why no image is taken now, or None."""
        ...

    def allocate(self) -> tuple[int, str]:
        """An id and a spool path for a new image."""
        ...

    def offer_to(self, received: Received, target: str) -> None:
        """Route (``target``: to this destination or group only), store, journal and answer."""
        ...


class _Asker:
    """Who waits for the answer to one image."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.told: asyncio.Future[tuple[int, str]] = loop.create_future()

    def answer(self, received: Received, status: int, comment: str) -> None:
        """See ``receive.base.Owner``."""
        if not self.told.done():
            self.told.set_result((status, comment))


class Replays:
    """See module. The loop's thread only. ``known``: whether there is such a destination or group.

    ``record`` is told of each image that is on its way: (its number, what to say of it).
    """

    def __init__(
        self,
        index: Index,
        spool: Spool,
        folder_of: Callable[[int], Folder | None],
        admit: Admit,
        known: Callable[[str], bool],
        record: Callable[[int, str], None],
        pool: Executor,
    ) -> None:
        self._index = index
        self._spool = spool
        self._folder_of = folder_of
        self._admit = admit
        self._known = known
        self._record = record
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for orders."""
        self._task = self._loop.create_task(self._run(), name="replays")

    def halt(self) -> None:
        """Begin nothing more."""
        self._stopping.set()

    async def stop(self) -> None:
        """Finish what is under way. Idempotent."""
        self.halt()
        task, self._task = self._task, None
        if task is not None:
            await asyncio.wait([task], timeout=10)
            task.cancel()

    async def _run(self) -> None:
        after = 0
        while not self._stopping.is_set():
            try:
                after = await self._some(after)
            except AsyncrouteError as error:
                log.error("archived images are not sent again now: %s", error)
                after = 0
            except Exception:
                log.exception("unexpected error while archived images are sent again")
                after = 0
            if not after:
                await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(EVERY):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _some(self, after: int) -> int:
        """The next few; where to go on, 0: from the beginning, after a while."""
        if self._admit.refusal():
            return 0
        orders: Sequence[Replay] = await self._in_thread(partial(self._index.replays, TOGETHER, after))
        if not orders:
            return 0
        results = await asyncio.gather(*(self._one(order) for order in orders))
        done = [order.id for order, over in zip(orders, results, strict=True) if over]
        await self._in_thread(partial(self._index.replayed, done))
        return orders[-1].id if done else 0

    async def _one(self, order: Replay) -> bool:
        """Whether the order is over."""
        try:
            await self._send(order)
        except Wait:
            return False
        except Unsendable as error:
            log.error("archived image %d is not sent again: %s", order.image, error)
            await self._in_thread(partial(self._index.not_replayed, order.id, str(error)))
            return False
        return True

    async def _send(self, order: Replay) -> None:
        if order.target and not self._known(order.target):
            raise Unsendable(f"there is no destination or group {order.target}")
        number, path = self._admit.allocate()
        instance, head = await self._in_thread(partial(self._read_back, order, number, path))
        asker = _Asker(self._loop)
        received = Received(asker, dimse.Command({}), 0, instance)
        received.head = head
        self._admit.offer_to(received, order.target)
        status, comment = await asker.told
        if status == dimse.OUT_OF_RESOURCES:
            log.warning("archived image %d waits to be sent again: %s", order.image, comment)
            raise Wait
        if status != dimse.SUCCESS or not (instance.hits or instance.hold_reason):
            raise Unsendable(comment or UNROUTED)
        only = f", only to {order.target}" if order.target else ""
        self._record(number, f"out of the archive, at a person's word{only}")

    # ---- in a thread

    async def _in_thread(self, work: Callable[[], Answer]) -> Answer:
        return await self._loop.run_in_executor(self._pool, work)

    def _read_back(self, order: Replay, number: int, path: str) -> tuple[Instance, bytes]:
        """The image's file in the spool, and its data set's beginning."""
        image, folder, facts = self._find(order)
        instance = Instance(
            *(number, facts.source, facts.sop_class_uid, facts.sop_instance_uid, facts.transfer_syntax, time(), path)
        )
        incoming = self._spool.incoming(instance)
        try:
            digest, skip = Digest(facts), facts.data_offset
            for piece in pieces_of(folder.path / image.path):
                digest.update(piece)
                incoming.append([piece[skip:]])
                skip = max(skip - len(piece), 0)
            digest.check("its file")
            incoming.finish()
        except BaseException as error:
            incoming.abandon()
            if isinstance(error, StorageFault) and not error.errno:
                self._index.blame(image.id, f"damaged: {error}")
                raise Unsendable(str(error)) from error
            if isinstance(error, (OSError, StorageFault)):
                log.warning("archived image %d waits to be sent again: %s", order.image, error)
                raise Wait from error
            raise
        return instance, self._spool.read(path, instance.data_offset, min(instance.size, HEAD))

    def _find(self, order: Replay) -> tuple[Kept, Folder, Facts]:
        """Where it lies now."""
        wrong = ""
        for _ in range(TRIES):
            image = self._index.image(order.image)
            if image is None:
                raise Unsendable("its study has ended")
            folder = self._folder_of(image.tier)
            if folder is None:
                raise Wait
            facts = folder.facts(image.path, self._facts_of)
            wrong = wrong_with(image, facts, folder)
            if facts is not None and not wrong:
                return image, folder, facts
        raise Unsendable(f"its file is {wrong}")

    @property
    def _facts_of(self) -> FactsOf:
        return self._spool.facts_of
