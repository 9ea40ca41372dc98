"""Writing a large image to the spool as it arrives: the loop's side.

One job at a time per image, in a small pool; what comes meanwhile waits (``pending`` bytes), and the association stops
reading when too much does. Failures reach the watcher once, as one line; the file is removed by then.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Executor

from asyncroute.core.errors import AsyncrouteError
from asyncroute.core.model import Instance
from asyncroute.link.buffers import ImageBytes
from asyncroute.receive.base import StreamWatcher
from asyncroute.spool.base import Incoming, Spool

log = logging.getLogger(__name__)


HEAD = 128 << 10
"""Bytes of the beginning that routing gets."""


class StreamWriter:
    """See ``receive.base.Stream``."""

    def __init__(self, spool: Spool, instance: Instance, watcher: StreamWatcher, pool: Executor) -> None:
        self.pending = 0
        self.head = b""
        self._spool = spool
        self._instance = instance
        self._watcher = watcher
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._file: Incoming | None = None
        self._waiting: list[ImageBytes] = []
        self._running = False
        self._finish = False
        self._finishing = False
        self._abandoned = False

    def push(self, image: ImageBytes) -> None:
        """See ``receive.base.Stream``."""
        self._waiting.append(image)
        self.pending += image.size
        self._run()

    def finish(self) -> None:
        """See ``receive.base.Stream``."""
        self._finish = True
        self._run()

    def abandon(self) -> None:
        """See ``receive.base.Stream``. The watcher hears nothing more."""
        self._abandoned = True
        self._drop_waiting()
        self._run()

    def _drop_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for image in waiting:
            image.unpin()

    def _run(self) -> None:
        if self._running:
            return
        self._running = True
        images, self._waiting = self._waiting, []
        self._finishing = self._finish
        future = self._loop.run_in_executor(self._pool, self._work, images, self._finish, self._abandoned)
        future.add_done_callback(lambda f: self._worked(images, f))

    def _work(self, images: list[ImageBytes], finish: bool, abandon: bool) -> None:
        """In a writing thread."""
        try:
            if abandon:
                if self._file is not None:
                    self._file.abandon()
                return
            if self._file is None:
                self._file = self._spool.incoming(self._instance)
            self._file.append([part for image in images for part in image.parts])
            if finish:
                self._file.finish()
                self._read_head(self._instance)
        except BaseException:
            if self._file is not None:
                self._file.abandon()
            raise

    def _abandon(self, file: Incoming) -> None:
        """Remove what was written."""
        try:
            self._loop.run_in_executor(self._pool, file.abandon)
        except RuntimeError:  # the threads have ended, and so will the loop in a moment
            file.abandon()

    def _read_head(self, i: Instance) -> None:
        """Read the beginning back. If it were kept as it comes it would be held for as long as the sender takes."""
        try:
            self.head = self._spool.read(i.path, i.data_offset, min(i.size, HEAD))
        except BaseException:
            self._spool.remove(i.path)
            raise

    def _worked(self, images: list[ImageBytes], future: asyncio.Future[None]) -> None:
        self._running = False
        for image in images:
            self.pending -= image.size
            image.unpin()
        if future.cancelled():  # the program ends; what is half-written is removed at the next start
            return
        error = future.exception()
        if self._abandoned:
            if error is None and self._file is not None:
                file, self._file = self._file, None
                self._abandon(file)
            return
        if error is not None:
            self._drop_waiting()
            self._abandoned = True
            if not isinstance(error, AsyncrouteError):
                log.error("cannot stream an image to the spool", exc_info=error)
            self._watcher.stream_failed(str(error))
        elif self._finishing:
            self._watcher.stream_finished()
        else:
            if self._waiting or self._finish:
                self._run()
            self._watcher.stream_moved()
