"""Forgetting what is over, a little at a time, for as long as a router runs.

Guarantees: a clock that jumps ahead makes nothing forgotten too early (``core.calendar``). Failures are logged, and the
next time goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import time

from asyncroute.core.calendar import Calendar
from asyncroute.journal.base import Writer

log = logging.getLogger(__name__)

EVERY = 600.0
STEP = 500


async def keep_pruned(journal: Writer, history: Callable[[], float]) -> None:
    """Forget what is older than ``history`` (seconds); never ends."""
    loop = asyncio.get_running_loop()
    newest = await loop.run_in_executor(None, journal.newest)
    calendar = Calendar(time(), loop.time(), newest)
    while True:
        await asyncio.sleep(EVERY)
        before = calendar.now(time(), loop.time()) - history()
        try:
            while before > 0:
                if not await loop.run_in_executor(None, journal.prune, before, STEP):
                    break
                await asyncio.sleep(0.1)
        except Exception as error:
            log.error("cannot prune the journal: %s", error)
