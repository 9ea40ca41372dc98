"""So many bytes a second, in virtual time."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

import pytest

from asyncroute.config.bandwidth import bandwidth_value, parse_bandwidth
from asyncroute.config.destinations import DicomDestination
from asyncroute.core.rates import Rates
from asyncroute.forward.base import FIRST
from asyncroute.queue.pace import BURST, Pace
from tests.unit.lanes import Town
from tests.unit.parts import on_loop, until
from tests.unit.queueing import queueing
from tests.unit.virtual import virtually

RATE = 1_000_000
FIXED = Rates((), RATE)
SIZE = 20_000


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# --- what is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "rates"),
    [
        ("20 MB/s", (("else", 20_000_000),)),
        (" 500 KiB / s ", (("else", 512_000),)),
        ({"Mon-Fri 08:00-18:00": "5 MB/s"}, (("Mon-Fri 08:00-18:00", 5_000_000),)),
        ({"else": "1 GB/s", "Sun": "unlimited"}, (("else", 1_000_000_000), ("Sun", None))),
    ],
)
def test_what_is_written(written: object, rates: object) -> None:
    destination = DicomDestination(name="a", host="h", port=104, ae_title="A", bandwidth=written)
    assert destination.bandwidth == rates
    assert destination.rates == parse_bandwidth(bandwidth_value(written))


def test_the_first_of_the_hours_that_hold_counts() -> None:
    rates = parse_bandwidth(
        bandwidth_value(
            {
                "Mon 09:00-10:00 UTC": "unlimited",
                "Mon-Fri 08:00-18:00 UTC": "5 MB/s",
                "08:00-20:00 UTC": "7 MB/s",
                "else": "50 MB/s",
            }
        )
    )
    monday = [
        ("07:00", 50_000_000, "08:00"),
        ("08:30", 5_000_000, "09:00"),
        ("09:59", None, "10:00"),
        ("12:00", 5_000_000, "18:00"),
        ("19:00", 7_000_000, "20:00"),
        ("20:00", 50_000_000, None),
    ]
    for clock, rate, until_then in monday:
        found, change = rates.at(at(f"2026-06-15T{clock}+00:00"))
        assert found == rate
        assert until_then is None or change == at(f"2026-06-15T{until_then}+00:00")
    assert rates.at(at("2026-06-13T09:30+00:00"))[0] == 7_000_000, "on a Saturday"
    assert parse_bandwidth(bandwidth_value({"08:00-09:00 UTC": "5 MB/s"})).at(at("2026-06-15T10:00+00:00"))[0] is None


# --- a channel --------------------------------------------------------------------------------------------------------


def paced(rates: Rates | None, lanes: int = 10) -> Town:
    town = Town(lanes)
    town.channel.pace.change(rates, town.loop.time())
    return town


def test_no_more_than_that_in_any_time() -> None:
    """And all of it is used."""

    async def body() -> None:
        town = paced(FIXED)
        begun, moments = town.loop.time(), list[float]()
        town.send("A", 500, size=SIZE)
        while len(town.order) < 500:
            count = len(town.order)
            await asyncio.sleep(0.001)
            moments += [town.loop.time()] * (len(town.order) - count)
        for first in range(0, 500, 25):
            for last in range(first, 500, 25):
                sent = (last - first) * SIZE
                assert sent <= RATE * (moments[last] - moments[first] + BURST) + SIZE + RATE * 0.01
        assert 500 * SIZE / RATE - 0.2 < moments[-1] - begun < 500 * SIZE / RATE + 0.1

    virtually(body)


def test_what_was_saved_up_is_little() -> None:
    async def body() -> None:
        town = paced(FIXED)
        await asyncio.sleep(1000)
        town.send("A", 100, size=SIZE)
        await asyncio.sleep(0.05)
        assert len(town.order) <= BURST * RATE / SIZE + 0.05 * RATE / SIZE + 1
        await town.empty()

    virtually(body)


def test_a_change_holds_at_once_and_keeps_what_is_owed() -> None:
    async def body() -> None:
        town = paced(Rates((), 10_000))
        town.send("A", 200, size=SIZE)
        await asyncio.sleep(10)
        assert len(town.order) in range(5, 8)
        town.channel.pace.change(FIXED, town.loop.time())
        await asyncio.sleep(1)
        assert len(town.order) in range(50, 65)
        town.channel.pace.change(None, town.loop.time())
        await asyncio.sleep(0.3)
        assert len(town.order) == 200
        assert town.channel.pace.describe(town.loop.time()) is None

    virtually(body)


def test_hours_that_begin_while_images_wait() -> None:
    async def body() -> None:
        begin = at("2026-06-15T07:58:00+00:00")
        town = Town(10)
        start = town.loop.time()
        pace = town.channel.pace
        pace._wall = lambda: begin + town.loop.time() - start
        pace.change(parse_bandwidth(bandwidth_value({"08:00-09:00 UTC": "unlimited", "else": "10 KB/s"})), start)
        town.send("A", 200, size=SIZE)
        await asyncio.sleep(119)
        assert len(town.order) in range(55, 65)
        told = pace.describe(town.loop.time())
        assert told is not None
        assert (told["limit"], told["until"], told["slows"]) == (10_000, at("2026-06-15T08:00:00+00:00"), True)
        assert told["rate"] in range(5_000, 15_000)
        await asyncio.sleep(2)
        assert len(town.order) == 200
        told = pace.describe(town.loop.time())
        assert told is not None
        assert (told["limit"], told["until"], told["slows"]) == (None, at("2026-06-15T09:00:00+00:00"), False)

    virtually(body)


def test_lanes_in_the_midst_of_an_image_go_first_and_in_turns() -> None:
    async def body() -> None:
        town = paced(FIXED)
        pace, asked = town.channel.pace, list[str]()
        now = town.loop.time()
        pace.spend(2_000_000, now)

        def piece(name: str) -> None:
            if pace.spend(250_000, town.loop.time(), lambda: piece(name)):
                asked.append(name)

        piece("a")
        piece("b")
        town.send("A", 1, size=FIRST)
        await asyncio.sleep(1.9)
        assert (asked, len(town.channel.sending)) == ([], 0)
        await asyncio.sleep(0.2)
        assert (asked, len(town.channel.sending)) == (["a"], 0)
        await asyncio.sleep(0.25)
        assert (asked, len(town.channel.sending)) == (["a", "b"], 0)
        await asyncio.sleep(0.3)
        assert len(town.order) == 1

    virtually(body)


def test_a_large_image_counts_no_more_than_its_beginning_at_once() -> None:
    async def body() -> None:
        town = paced(FIXED)
        await asyncio.sleep(1)
        now = town.loop.time()
        town.send("A", 1, size=500 << 20)
        assert town.channel.pace._paid == pytest.approx(now - BURST + FIRST / RATE)
        await town.empty()

    virtually(body)


def test_what_waits_is_finished_while_the_router_stops(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            site = queue.channel("pacs")
            channel, loop = queue.scheduler.channels["pacs"], asyncio.get_running_loop()
            channel.pace.change(FIXED, loop.time())
            await queue.begin()
            queue.admit([1], size=1000)
            channel.pace.spend(300_000, loop.time())
            resumed = asyncio.Event()
            assert not channel.spend(1000, resumed.set)
            stopping = loop.create_task(channel.stop(loop.time() + 20))
            await resumed.wait()
            site.finish(1)
            await stopping
            await until(lambda: queue.results, "the result")

    body()


def test_without_a_limit_nothing_is_counted() -> None:
    async def body() -> None:
        town = paced(None)
        now = town.loop.time()
        assert town.channel.spend(1 << 40, lambda: None)
        assert not town.channel.pace.blocked(now)
        pace = Pace(lambda: None)
        assert pace.describe(now) is None
        town.send("A", 500, size=1 << 30)
        await asyncio.sleep(1)
        assert len(town.order) == 500

    virtually(body)
