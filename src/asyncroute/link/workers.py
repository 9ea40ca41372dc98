"""A few threads that do blocking work for the event loop; what they have done comes back to it together.

Leaner than an executor, whose futures cost more than most of the work here: a job goes in through a queue, and one
wake-up of the loop brings back whatever is done by then. Jobs begin in the order in which they were given.

Guarantees: ``done`` is called exactly once per job, on the loop's thread, with its result or its exception; what
``done`` raises is logged and holds up nobody. Failures: none of its own.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

log = logging.getLogger(__name__)

Job = Callable[[], Any]
Done = Callable[[Any, Exception | None], None]


class Workers:
    """See module. ``submit`` and ``close`` on the loop's thread."""

    def __init__(self, threads: int, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[tuple[Job, Done] | None] = SimpleQueue()
        self._results: deque[tuple[Done, Any, Exception | None]] = deque()
        self._called = False
        self._closed = False
        self._threads = [threading.Thread(target=self._serve, name=f"{name}_{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job, done: Done) -> None:
        """Do ``job`` in a thread; then ``done(result, None)`` or ``done(None, exception)`` on the loop."""
        self._jobs.put((job, done))

    def close(self, timeout: float | None = None) -> None:
        """Let the threads end with what was given to them, and wait for that (``timeout``: seconds). Idempotent."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._jobs.put(None)
        for thread in self._threads:
            thread.join(timeout)

    # ---- in a thread

    def _serve(self) -> None:
        while (given := self._jobs.get()) is not None:
            job, done = given
            try:
                self._finished(done, job(), None)
            except Exception as error:
                self._finished(done, None, error)
            del given, job, done  # nothing is kept alive while it waits for the next one

    def _finished(self, done: Done, result: Any, error: Exception | None) -> None:
        self._results.append((done, result, error))
        if not self._called:  # set back before the results are looked at, so that none is left behind
            self._called = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop is closed: nobody waits any more
                pass

    # ---- on the loop

    def _deliver(self) -> None:
        self._called = False
        results = self._results
        while results:
            done, result, error = results.popleft()
            try:
                done(result, error)
            except Exception:
                log.exception("unexpected error after a thread's work")
