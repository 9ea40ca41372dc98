"""News of a watched folder by the system's own notification (the library ``watchfiles``).

Only a hint that something has happened: what it is, a look at the folder shows. So nothing is lost with an event that
is missed, and network file systems, which have no events, are looked at now and then.
Failures: none; without events the folder is looked at now and then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

log = logging.getLogger(__name__)
logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells of every change as if it were ours

AGAIN = 10.0
"""Seconds until a folder that cannot be watched is tried again."""

STEP, TOGETHER = 50, 200
"""Milliseconds without news after which news are told, and the longest that they wait."""


class Events:
    """See module. ``call`` is called on the loop, some time after anything happened in one of ``folders``."""

    def __init__(self, folders: tuple[str, ...], call: Callable[[], None]) -> None:
        self._folders = folders
        self._call = call
        self._stop = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="folder events")

    async def stop(self) -> None:
        """Ends within some 50 ms."""
        self._stop.set()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        from watchfiles import awatch

        while not self._stop.is_set():
            try:
                async for _ in awatch(
                    *self._folders,
                    watch_filter=None,
                    step=STEP,
                    debounce=TOGETHER,
                    recursive=False,
                    force_polling=False,
                    stop_event=self._stop,
                ):
                    self._call()
            except Exception as error:
                log.info("no events from %s: %s", ", ".join(self._folders), error)
            await asyncio.sleep(AGAIN)
            self._call()
