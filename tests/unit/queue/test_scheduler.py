"""All channels together: what is admitted reaches each destination once, and the counters agree with the journal."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from asyncroute.core import outcomes
from asyncroute.core.model import Delivery, RouteHit, Settlement
from asyncroute.core.outcomes import SUCCESS
from asyncroute.core.priority import NORMAL
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Group
from asyncroute.link.buffers import ImageBytes
from asyncroute.queue.scheduler import Scheduler
from tests.unit.parts import instance, on_loop, settle_loop, until
from tests.unit.queueing import Queue, queueing

DEAD = outcomes.no_context("1.2", "1.2.1")


def image(queue: Queue) -> ImageBytes:
    made = ImageBytes()
    buffer = queue.memory.take(8 << 10)
    made.buffers, made.parts, made.size = [buffer], [buffer.view[:1000]], 1000
    return made


def line(queue: Queue, name: str) -> dict[str, object]:
    return next(x for x in queue.scheduler.describe() if x["name"] == name)


def test_each_destination_gets_its_own_delivery(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs, copy, other = queue.channel("pacs"), queue.channel("copy"), queue.channel("other")
            await queue.begin()
            queue.admit([1], "pacs", "copy", size=1234, data_offset=77, checksum=99, study_uid="1.9")
            (hand,) = pacs.busy
            (second,) = copy.busy
            assert other.log == []
            first: Delivery | None = hand.delivery
            assert first is not None
            assert (first.destination, first.size, first.data_offset, first.checksum) == ("pacs", 1234, 77, 99)
            assert (first.calling_aet, first.called_aet, first.study_uid) == ("CT_A", "ASYNCROUTE", "1.9")
            assert second.delivery is not first
            (from_journal,) = (await queue.reader.claim("pacs", {NORMAL: 9}, time.time(), ())).deliveries
            assert from_journal.since == pytest.approx(first.since, abs=5)
            assert replace(from_journal, since=first.since) == first

    body()


def test_bytes_are_kept_until_nobody_owes_them(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs, copy = queue.channel("pacs"), queue.channel("copy")
            await queue.begin()
            (made,) = queue.write([1], "pacs", "copy")
            bytes_ = image(queue)
            queue.memory.keep_for_sending(1, bytes_)
            queue.scheduler.admitted(made, bytes_)
            assert pacs.images == copy.images == [bytes_]
            pacs.finish(1, outcomes.classify(0x0110))
            copy.finish(1)
            assert bytes_.alive
            await until(lambda: pacs.busy, "the second attempt")
            pacs.finish(1, DEAD)
            assert not bytes_.alive
            assert queue.memory.used == 0

    body()


def test_counters(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=2)
            await queue.begin()
            assert line(queue, "pacs")["oldest_s"] is None
            queue.admit([1, 2, 3, 4])
            now = line(queue, "pacs")
            assert (now["waiting"], now["ready"], now["sending"], now["lanes"], now["window"]) == (4, 2, 2, 2, 2)
            assert isinstance(now["oldest_s"], float)
            assert 0 <= now["oldest_s"] < 30
            assert queue.scheduler.tallies["pacs"].backlog.bytes == 4000
            pacs.finish(1)
            pacs.finish(2, DEAD)
            pacs.auto = SUCCESS  # of what begins from now on; the second attempt may begin at once
            pacs.finish(3, outcomes.classify(0x0110))
            now = line(queue, "pacs")
            assert (now["waiting"], now["failed"], now["delivered"]) == (2, 1, 1)
            assert now["rate_per_s"] == 0.1
            assert queue.scheduler.totals["delivered"] == 1
            assert now["last_error"] == outcomes.classify(0x0110).text
            pacs.finish(4)
            await until(lambda: line(queue, "pacs")["waiting"] == 0, "all are through")
            assert line(queue, "pacs")["oldest_s"] is None

    body()


def test_counters_go_on_where_the_journal_stands(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.write([1, 2, 3], "pacs", "gone", received_at=time.time() - 100)
            queue.write([4], hits=())
            done = [Settlement(1, name, DeliveryState.DELIVERED, 1, time.time()) for name in ("pacs", "gone")]
            failed = [Settlement(2, name, DeliveryState.FAILED, 1, time.time()) for name in ("pacs", "gone")]
            queue.journal.commit(Group(settlements=done + failed))
            held = instance(5, hold_reason="no route matches")
            queue.journal.commit(Group(admits=[held]))
            queue.channel("pacs")
            queue.channel("new")
            await queue.begin()
            pacs, gone, new = (line(queue, name) for name in ("pacs", "gone", "new"))
            assert (pacs["waiting"], pacs["failed"], pacs["delivered"]) == (1, 1, 1)
            assert (gone["waiting"], gone["failed"], gone["delivered"], gone["state"]) == (1, 1, 1, "removed")
            assert (new["waiting"], new["failed"], new["delivered"], new["state"]) == (0, 0, 0, "up")
            assert isinstance(pacs["oldest_s"], float)
            assert 95 < pacs["oldest_s"] < 200
            assert (queue.scheduler.held, queue.scheduler.totals["received"]) == (1, 5)

    body()


def test_an_image_without_a_route_is_held(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.channel("pacs")
            await queue.begin()
            queue.scheduler.admitted(instance(1), None)
            assert queue.scheduler.held == 1
            assert line(queue, "pacs")["waiting"] == 0

    body()


def test_the_first_full_destination_is_named(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.channel("pacs")
            queue.channel("copy")
            await queue.begin()
            queue.scheduler.tallies["copy"].backlog.max_images = 2
            hits = (RouteHit("r", "pacs"), RouteHit("r", "copy"))
            queue.admit([1], "pacs", "copy")
            assert queue.scheduler.full(hits) is None
            assert line(queue, "copy")["alert"] == "max_backlog half full"
            queue.admit([2], "pacs", "copy")
            assert queue.scheduler.full(hits) == "destination copy: 2 images wait (max_backlog)"
            assert queue.scheduler.full(hits[:1]) is None
            queue.sites["copy"].finish(1)
            assert queue.scheduler.full(hits) is None

    body()


def test_nothing_begins_while_results_cannot_be_written(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=1)
            await queue.begin()
            queue.admit([1, 2])
            queue.scheduler.stall(True)
            pacs.finish(1)
            await settle_loop(20)
            assert pacs.sending == []
            queue.scheduler.stall(False)
            assert pacs.sending == [2]

    body()


def test_rates_are_of_the_last_seconds(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=1, auto=SUCCESS)
            await queue.begin()
            queue.admit(range(1, 21))
            await queue.settled(20)
            assert line(queue, "pacs")["rate_per_s"] == 2.0
            tally = queue.scheduler.tallies["pacs"]
            for n in range(len(tally.recent)):
                at, count = tally.recent[n]
                tally.recent[n] = [at - 3600, count]
            assert line(queue, "pacs")["rate_per_s"] == 0
            queue.admit([21])
            await until(lambda: pacs.log[-1] == 21 and not pacs.busy, "one more")
            assert len(tally.recent) == 1

    body()


def test_results_of_unknown_destinations_are_nobody_s(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            scheduler: Scheduler = queue.scheduler
            scheduler.settled([Settlement(1, "removed", DeliveryState.DELIVERED, 1, 0.0)])

    body()
