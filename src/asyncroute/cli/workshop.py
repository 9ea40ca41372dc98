"""Runs transforms for commands as a router does: users' functions in a worker process, with a router's deadline.

Guarantees: a function that hangs, crashes or eats memory fails alone, with a reason; one that did so ``TRIES`` times is
not called again. Failures: ``transform.base.Refused``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from threading import Thread

from asyncroute.core.coercion import Python
from asyncroute.link.processes import Call, Failed, Processes, Raised
from asyncroute.transform.base import Edited, Facts, Header, Refused
from asyncroute.transform.compiled import Compiled
from asyncroute.transform.remote import Remote, edited_of

TRIES = 3


class Workshop:
    """See module. ``deadline``: seconds for one image; ``memory``: bytes of a worker process. Blocks; one thread."""

    def __init__(self, deadline: float, memory: int) -> None:
        self._deadline = deadline
        self._memory = memory
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._processes: Processes | None = None
        self._remotes: dict[Compiled, Remote] = {}
        self._failed: Counter[Compiled] = Counter()

    def apply(self, transform: Compiled, header: Header, facts: Facts) -> Edited:
        """See ``transform.base.Transform``."""
        if not _runs_functions(transform):
            return transform.apply(header, facts)
        if self._failed[transform] >= TRIES:
            raise Refused(f"{transform.name}: its function failed {TRIES} times and is not called again")
        remote = self._remotes.setdefault(transform, Remote(transform, self._deadline))
        try:
            return edited_of(self._run(remote.call(header, facts)))
        except Failed as failed:
            self._failed[transform] += not isinstance(failed, Raised)
            raise Refused(f"{transform.name}: {failed}") from None

    def close(self) -> None:
        """End the process, if there is one."""
        if self._loop is None or self._thread is None:
            return
        if self._processes is not None:
            self._loop.call_soon_threadsafe(self._processes.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = self._processes = None

    def _run(self, call: Call) -> object:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = Thread(target=self._loop.run_forever, name="workshop", daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._made(call), self._loop).result()

    async def _made(self, call: Call) -> object:
        if self._processes is None:
            self._processes = Processes(1, self._memory)
        return await self._processes.run(call)


def _runs_functions(transform: Compiled) -> bool:
    return any(isinstance(step, Python) for each in transform.coercions for step in each.steps)
