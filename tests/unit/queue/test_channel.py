"""One destination's queue over a real journal: what goes on which lane, within its bounds, until it stops."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from asyncroute.core.outcomes import SUCCESS
from asyncroute.queue import pairs
from asyncroute.queue.refill import READY_LOW, READY_MOST
from tests.unit.parts import CT, JPEG, MR, delivery, on_loop, settle_loop, until
from tests.unit.queueing import queueing

# --- what goes on which lane ------------------------------------------------------------------------------------------


def test_as_many_at_once_as_the_window_in_order(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=3)
            await queue.begin()
            queue.admit(range(1, 8))
            assert pacs.sending == [1, 2, 3]
            pacs.finish(2)
            assert pacs.log == [1, 2, 3, 4]
            for number in (4, 1, 3, 5, 6, 7):
                pacs.finish(number)
            assert pacs.log == [1, 2, 3, 4, 5, 6, 7]
            assert pacs.opened == pacs.open == 3
            await queue.settled(7)
            assert set(queue.states().values()) == {"delivered"}
            assert queue.ids() == set()

    body()


def test_what_the_journal_holds_at_the_start(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.write(range(1, 6))
            pacs = queue.channel(lanes=2, auto=SUCCESS)
            await queue.begin()
            await queue.settled(5)
            assert pacs.log == [1, 2, 3, 4, 5]
            assert queue.scheduler.tallies["pacs"].backlog.images == 0

    body()


def test_a_backlog_beyond_memory_goes_in_its_order(tmp_path: Path) -> None:
    """New arrivals wait behind what is in the journal; what is held in memory stays bounded."""

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.write(range(1, 2001))
            pacs = queue.channel(lanes=4)
            await queue.begin()
            queue.admit(range(2001, 2501))
            assert len(queue.ids()) <= READY_MOST + 4
            pacs.auto = SUCCESS
            for hand in pacs.busy:
                hand.finish()
            most = 0
            while len(queue.results) < 2500:
                await asyncio.sleep(0)
                most = max(most, len(queue.ids()))
                assert len(queue.scheduler.channels["pacs"]._flows) <= READY_MOST
            assert most <= 3 * READY_MOST + READY_LOW
            assert sorted(pacs.log) == list(range(1, 2501))
            assert max(abs(place - number) for place, number in enumerate(pacs.log, 1)) <= 8
            assert set(queue.states().values()) == {"delivered"}

    body()


def test_a_lane_that_carries_it_comes_first(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=2)
            await queue.begin()
            queue.admit([1])
            queue.admit([2], sop_class_uid=MR)
            ct, mr = pacs.hands
            pacs.finish(1)
            pacs.finish(2)
            queue.admit([3], sop_class_uid=MR)
            queue.admit([4])
            assert (mr.delivery and mr.delivery.instance_id, ct.delivery and ct.delivery.instance_id) == (3, 4)
            assert pacs.opened == 2

    body()


def test_what_associations_should_offer(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=1)
            await queue.begin()
            queue.admit([1])
            queue.admit([2], transfer_syntax=JPEG)
            queue.admit([3], sop_class_uid=MR)
            channel = queue.scheduler.channels["pacs"]
            explicit = "1.2.840.10008.1.2.1"
            assert list(channel.wanted("CT_A")) == [(CT, JPEG), (MR, explicit), (CT, explicit)]
            assert set(channel.wanted("OTHER")) == {(CT, explicit)}
            pacs.finish(1)
            pacs.finish(2)
            pacs.finish(3)
            assert set(channel.wanted("CT_A")) == {(CT, JPEG), (MR, explicit), (CT, explicit)}
            for number in range(600):
                channel._pairs.remember(("CT_A", f"1.{number}", explicit))
            assert len(list(channel.wanted("CT_A"))) == pairs.REMEMBERED

    body()


# --- associations in all ----------------------------------------------------------------------------------------------


def test_channels_share_what_there_is(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.outbound._left = 3
            sites = [queue.channel(name, lanes=2) for name in ("a", "b", "c")]
            await queue.begin()
            queue.admit(range(1, 31), "a", "b", "c")
            most = 0
            while any(site.busy for site in sites):
                assert sum(site.open for site in sites) <= 3
                most = max(most, sum(len(site.busy) for site in sites))
                random.choice([hand for site in sites for hand in site.busy]).finish()
            assert most == 3
            assert [sorted(site.log) for site in sites] == [list(range(1, 31))] * 3
            assert sum(site.open for site in sites) + queue.outbound._left == 3

    body()


def test_who_has_nothing_to_send_makes_room(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.outbound._left = 1
            first, second = queue.channel("first", lanes=1), queue.channel("second", lanes=1)
            await queue.begin()
            queue.admit([1, 2], "first")
            queue.admit([3], "second")
            assert (first.sending, second.sending) == ([1], [])
            first.finish(1)
            assert (first.sending, second.sending) == ([2], [])
            first.finish(2)
            assert (first.open, second.sending) == (0, [3])
            assert first.hands[0].ended == "closed"

    body()


def test_room_is_not_lost_with_a_connection(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.outbound._left = 2
            pacs = queue.channel("pacs", lanes=2)
            await queue.begin()
            for round_ in range(10):
                queue.admit([10 * round_ + 1, 10 * round_ + 2])
                pacs.busy[0].finish(stays_open=False)
                pacs.busy[0].finish()
                next(hand for hand in pacs.hands if hand.open).lose()
                assert queue.outbound._left == 2
                assert queue.scheduler.channels["pacs"].lanes == []

    body()


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_stopping_waits_for_what_is_under_way(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=2)
            channel = queue.scheduler.channels["pacs"]
            await queue.begin()
            queue.admit([1, 2, 3, 4])
            stopping = asyncio.create_task(channel.stop(asyncio.get_running_loop().time() + 20))
            await settle_loop(20)
            pacs.finish(1)
            assert pacs.sending == [2]
            queue.admit([5])
            pacs.finish(2)
            await stopping
            assert [hand.ended for hand in pacs.hands] == ["closed", "closed"]
            assert pacs.log == [1, 2]
            await queue.settled(2)
            assert queue.states() == {1: "delivered", 2: "delivered", 3: "ready", 4: "ready", 5: "ready"}
            await channel.stop(0.0)
            assert channel._alarm._timer is None

    body()


def test_stopping_at_the_deadline_cuts_off(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=2)
            await queue.begin()
            queue.admit([1])
            await queue.scheduler.channels["pacs"].stop(asyncio.get_running_loop().time() + 0.05)
            assert [hand.ended for hand in pacs.hands] == ["aborted"]
            assert queue.states() == {1: "ready"}

    body()


def test_stopping_does_not_wait_for_connections_being_made(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=1)
            await queue.begin()
            queue.admit([1])
            pacs.hands[0].connecting = True
            async with asyncio.timeout(5):
                await queue.scheduler.channels["pacs"].stop(asyncio.get_running_loop().time() + 20)
            assert pacs.hands[0].ended == "aborted"

    body()


def test_stopping_during_a_refill(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel()
            queue.write([1])
            queue.reader.after.clear()
            await queue.begin()
            await until(lambda: queue.reader.claims, "a refill")
            channel = queue.scheduler.channels["pacs"]
            await channel.stop(0.0)
            queue.reader.go_on()
            await until(queue.idle, "no refill")
            assert not channel.offer(delivery(2)) or channel.stopping
            await settle_loop(20)
            assert pacs.log == []

    body()
