"""Admission: limits, routes, group commit, answer.

Every whole image that ``receive`` offers gets exactly one answer: success once it is safe (promise 1), else a refusal
with its reason in the Error Comment. What is refused leaves no file and no journal row. After the commit the image
goes to the channels of its destinations, its bytes still in memory while there is room.
"""

from __future__ import annotations

import logging
import shutil
from concurrent.futures import Executor
from typing import Protocol

from asyncroute.commit import Committer
from asyncroute.core.model import Instance, RouteHit
from asyncroute.crashpoints import crash_point
from asyncroute.link.buffers import ImageBytes, Memory
from asyncroute.receive.base import Received, StreamWatcher
from asyncroute.route import UNROUTED, Router
from asyncroute.spool.base import Spool
from asyncroute.streaming import StreamWriter
from asyncroute.wire import command as dimse

log = logging.getLogger(__name__)

NOT_AUTHORIZED = 0x0124


class Downstream(Protocol):
    """The queue behind."""

    def full(self, hits: tuple[RouteHit, ...]) -> str | None:
        """Why one of these destinations takes no more (its ``max_backlog``), or None."""
        ...

    def admitted(self, instance: Instance, image: ImageBytes | None) -> None:
        """``instance`` is safe; its deliveries are ready. ``image``: its bytes, kept in memory for sending."""
        ...


class Admission:
    """See module; ``receive.base.Admit`` for the methods that receiving uses. The loop's thread only."""

    def __init__(
        self,
        spool: Spool,
        committer: Committer,
        memory: Memory,
        queue: Downstream,
        router: Router,
        unrouted: str,
        min_free: int,
        writers: Executor,
    ) -> None:
        self.router = router
        self.unrouted = unrouted
        self.min_free = min_free
        self.stopping = False
        self.free_bytes = 1 << 62
        self.received = 0
        self._spool = spool
        self._committer = committer
        self._memory = memory
        self._queue = queue
        self._writers = writers
        committer.on_stored = self._stored
        committer.on_refused = self._refused
        committer.on_full = self._full

    # ---- receive.base.Admit

    def refusal(self) -> str | None:
        """Why an image that begins now must be refused, or None."""
        if self.stopping:
            return "router is shutting down"
        if self.almost_full():
            return "storage almost full (below min_free)"
        return self._spool.broken or self._committer.broken

    def almost_full(self) -> bool:
        """Whether images are refused because there is hardly any space left."""
        return self.free_bytes < self.min_free

    def allocate(self) -> tuple[int, str]:
        """See ``receive.base.Admit``."""
        return self._spool.allocate()

    def stream(self, instance: Instance, watcher: StreamWatcher) -> StreamWriter:
        """See ``receive.base.Admit``."""
        return StreamWriter(self._spool, instance, watcher, self._writers)

    def offer(self, received: Received) -> None:
        """Route and commit; or refuse."""
        self.offer_to(received, "")

    def offer_to(self, received: Received, target: str) -> None:
        """The same; ``target``: a person's word that it goes to this destination or group only."""
        instance, image = received.instance, received.image
        if self.free_bytes < 0:  # what is left on a full disk is for results, which free space
            self._turn_away(received, dimse.OUT_OF_RESOURCES, "storage full")
            return
        hits = self.router.route(instance, image, received.head)
        if target:
            hits = self.router.only(instance, hits, target)
        if not hits and not self._unrouted(received):
            return
        full = self._queue.full(hits)
        if full:
            self._turn_away(received, dimse.OUT_OF_RESOURCES, full)
            return
        self._committer.admit(received)

    def _unrouted(self, received: Received) -> bool:
        """No route matches: hold (True: go on), reject or discard."""
        if received.instance.hold_reason:
            return True
        if self.unrouted == "hold":
            received.instance.hold_reason = UNROUTED
            return True
        if self.unrouted == "reject":
            self._turn_away(received, NOT_AUTHORIZED, "no route for this image")
        else:
            log.warning("%s: discarded: no route matches", received.instance.sop_instance_uid)
            self._turn_away(received, dimse.SUCCESS, "")
        return False

    # ---- outcomes

    def _turn_away(self, received: Received, status: int, comment: str) -> None:
        """Answer without storing; a streamed file is removed."""
        image = received.image
        if image is not None:
            image.unpin()
        else:
            self._writers.submit(_remove, self._spool, received.instance.path)
        received.owner.answer(received, status, comment)

    def _full(self) -> None:
        """The journal's disk is full: take no more until the free space has been measured again."""
        self.free_bytes = -1

    def _refused(self, received: Received, why: str) -> None:
        if received.image is not None:
            received.image.unpin()
        received.owner.answer(received, dimse.OUT_OF_RESOURCES, why)

    def _stored(self, received: Received) -> None:
        received.owner.answer(received, dimse.SUCCESS, "")
        crash_point("answered")
        self.received += 1
        instance, image = received.instance, received.image
        if image is not None:
            if instance.hits:
                self._memory.keep_for_sending(instance.id, image)
            else:
                image.unpin()
        self._queue.admitted(instance, image if instance.hits else None)


def _remove(spool: Spool, path: str) -> None:
    try:
        spool.remove(path)
    except Exception as error:
        log.error("cannot remove %s: %s", path, error)


def free_space(path: str, spool: Spool) -> int:
    """Bytes that we may still write where ``path`` lies, or ``spool``, whichever is less. Blocks."""
    return min(shutil.disk_usage(path).free, spool.free_bytes())
