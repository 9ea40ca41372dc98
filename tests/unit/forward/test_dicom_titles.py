"""Busy calling titles over few lanes: real associations over the loopback, counted where they arrive."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import cast

import pytest

from asyncroute.core.model import Settlement, Source
from asyncroute.core.retry import Backoff
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Event, Reader
from asyncroute.queue.channel import Channel
from asyncroute.queue.limits import Backlog, Outbound
from asyncroute.queue.scheduler import Scheduler
from tests.unit.delivering import Bench, lane
from tests.unit.lanes import NothingStored
from tests.unit.parts import instance, noise, on_loop, until
from tests.unit.virtual import slowly

DATA = noise(1000)


class Sites:
    """Senders that send an image as soon as their last one has arrived, and a channel for them."""

    def __init__(self, bench: Bench, lanes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._spool = bench.spool
        self._number = 0
        self._left: Counter[str] = Counter()
        self._title: dict[int, str] = {}
        self.delivered = 0
        self.notes: list[Event] = []
        self._scheduler = Scheduler(bench.memory, self._settled, self.notes.append, self._loop.time)
        reader, forwarder = cast(Reader, NothingStored()), bench.lane._forwarder
        self.channel = Channel(
            "pacs", forwarder, lanes, Backoff(), Backlog(0, 0), reader, self._scheduler, Outbound(100)
        )
        self._scheduler.add(self.channel, start=True)

    def begin(self, titles: int, count: int) -> None:
        for number in range(titles):
            self._left[f"SITE{number}"] = count
            self._next(f"SITE{number}")

    def _next(self, title: str) -> None:
        if not self._left[title]:
            return
        self._left[title] -= 1
        self._number += 1
        made = instance(self._number, "pacs", source=Source(title, "X", "", ""), data_offset=0)
        assert self._spool.write([(made, [DATA])]) == {}
        self._title[made.id] = title
        self._scheduler.admitted(made, None)

    def _settled(self, settlement: Settlement) -> None:
        assert settlement.state is DeliveryState.DELIVERED, settlement.error
        self.delivered += 1
        self._loop.call_later(0.0002, self._next, self._title[settlement.instance_id])
        self._loop.call_soon(self._scheduler.settled, [settlement])


@pytest.mark.parametrize(("titles", "lanes"), [(10, 4), (11, 10), (5, 1)])
def test_a_lane_waits_a_moment_for_its_title_s_next_image(tmp_path: Path, titles: int, lanes: int) -> None:
    """One image of each title is under way: turning whenever there is no other would be an association for each."""

    async def body() -> None:
        async with lane(tmp_path) as bench:
            sites = Sites(bench, lanes)
            sites.begin(titles, 60)
            await until(lambda: sites.delivered == titles * 60, "all have arrived", 60)
            assert len(bench.archive.requests) < titles * 60 / 2
            assert len(bench.archive.images) == titles * 60
            assert {request.calling for request in bench.archive.requests} == {f"SITE{n}" for n in range(titles)}
            await sites.channel.stop(0.0)

    slowly(body)


def test_no_more_titles_than_lanes_is_an_association_each(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with lane(tmp_path) as bench:
            sites = Sites(bench, 4)
            await asyncio.sleep(0)
            sites.begin(4, 50)
            await until(lambda: sites.delivered == 200, "all have arrived", 60)
            assert len(bench.archive.requests) == 4
            assert bench.archive.ends == []
            await sites.channel.stop(0.0)

    body()
