"""After a start ``max_backlog``'s bytes must be those of what waits, without the dead letters.

journal/reader.py ``_counts`` sums the bytes of FAILED deliveries into ``backlog_bytes``; queue/scheduler.py leaves dead
letters out of ``backlog.images`` and takes their bytes off while it runs.
Proposed: sum the states of ``PENDING`` only.
"""

from __future__ import annotations

import time
from pathlib import Path

from asyncroute.core.model import Settlement
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Group
from tests.unit.parts import on_loop
from tests.unit.queueing import queueing


def test_dead_letters_are_no_backlog(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.write([1, 2, 3])
            queue.journal.commit(Group(settlements=[Settlement(1, "pacs", DeliveryState.FAILED, 1, time.time())]))
            queue.channel("pacs")
            queue.scheduler.count_anew(await queue.reader.counts())
            backlog = queue.scheduler.tallies["pacs"].backlog
            assert (backlog.images, backlog.bytes) == (2, 2000)

    body()
