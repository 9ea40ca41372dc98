"""What goes first: classes of priority, turns between studies, a limit for each study; over a backlog of thousands.

In virtual time, or with a real journal where it matters what is in memory.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from asyncroute.core.model import RouteHit, Source
from asyncroute.core.outcomes import SUCCESS
from asyncroute.core.priority import HIGH, LOW, NORMAL, STAT
from asyncroute.queue.classes import STEP
from asyncroute.queue.turns import DWELL
from tests.unit.lanes import Town
from tests.unit.parts import on_loop, until
from tests.unit.queueing import Queue, Site, queueing
from tests.unit.virtual import virtually

LANES = 4
SLICES = 4000
SITE_A, SITE_B = Source("SITE_A", "X", "", ""), Source("SITE_B", "X", "", "")


def sent_as(priority: int) -> tuple[RouteHit, ...]:
    return (RouteHit("all", "pacs", priority),)


class OneTitle(Site):
    """All is sent under one calling AE title."""

    def key(self, delivery: Any) -> tuple[str, str, str]:
        return "ROUTER", delivery.sop_class_uid, delivery.transfer_syntax


async def send(queue: Queue, pacs: Site, count: int) -> None:
    """Let so many be delivered, one by one."""
    for _ in range(count):
        await until(lambda: pacs.busy, "something is sent")
        pacs.busy[0].finish(SUCCESS)


async def slices(queue: Queue, number: int = SLICES) -> OneTitle:
    """A channel with a study from site A behind it, most of it in the journal only; some is sent."""
    pacs = queue.sites["pacs"] = OneTitle()
    queue.channel("pacs", lanes=LANES)
    queue.scheduler.channels["pacs"].forwarder = pacs
    await queue.begin()
    queue.admit(range(1, number + 1), source=SITE_A, study_uid="1")
    await until(lambda: len(pacs.busy) == LANES, "the study is being sent")
    await send(queue, pacs, 10)
    return pacs


# --- turns ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [SITE_A, SITE_B], ids=["the same site", "another site"])
@pytest.mark.parametrize("sent", [0, 700, 900])
def test_a_radiograph_behind_thousands_of_slices(tmp_path: Path, source: Source, sent: int) -> None:
    """At most as many slices begin before it as there are lanes, wherever the channel is with reading the journal."""

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = await slices(queue)
            await send(queue, pacs, sent)
            before = len(pacs.log)
            queue.admit([9001, 9002, 9003], source=source, study_uid="2")
            await send(queue, pacs, 6 + LANES)
            begun = pacs.log[before:]
            assert {9001, 9002, 9003} <= set(begun)
            assert [begun.index(n) <= (at + 1) * LANES for at, n in enumerate((9001, 9002, 9003))] == [True] * 3

    body()


def test_it_does_not_wait_for_a_refill_either(tmp_path: Path) -> None:
    """It comes while the journal is being read."""

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = await slices(queue)
            queue.reader.after.clear()
            claims = queue.reader.claims
            await send(queue, pacs, 830)
            await until(lambda: queue.reader.claims > claims, "a refill")
            queue.admit([9001], source=SITE_B, study_uid="2")
            queue.reader.go_on()
            await until(queue.idle, "it has been read")
            before = len(pacs.log)
            await send(queue, pacs, 2)
            assert 9001 in pacs.log[before:]

    body()


def test_what_waits_in_the_journal_alone_takes_turns_as_well(tmp_path: Path) -> None:
    """As after a restart: a large study, and then the first of 60 others."""

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=LANES)
            queue.write(range(1, SLICES + 1), study_uid="1")
            for study in range(60):
                queue.write([9000 + study], study_uid=f"2.{study}")
            await queue.begin()
            await send(queue, pacs, 60 + LANES)
            assert sum(n < 9000 for n in pacs.log[: 61 + LANES]) <= 1 + LANES
            assert set(range(9000, 9060)) <= set(pacs.log)

    body()


def test_many_large_studies_are_all_sent_once(tmp_path: Path) -> None:
    """More of them than are claimed from at a time, with more than memory holds."""

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=LANES, auto=SUCCESS)
            studies = {n: n % 300 for n in range(1, 3001)}
            for study in range(300):
                mine = [n for n, of in studies.items() if of == study]
                queue.write(mine, study_uid=f"2.{study}")
            await queue.begin()
            await queue.settled(3000)
            assert sorted(pacs.log) == list(studies)
            assert len({studies[n] for n in pacs.log[:500]}) >= 100, "many go on beside each other"

    body()


def test_a_study_from_another_title_waits_for_a_dwell_at_most() -> None:
    """Each under its own calling title, over associations of their own."""

    async def body() -> None:
        town = Town(lanes=LANES)
        town.send("CT_A", 900)
        await asyncio.sleep(0.05)
        town.send("CR_B", study_uid="2")
        await town.empty()
        assert town.waits["CR_B"][0] <= DWELL + 0.01

    virtually(body)


# --- classes ----------------------------------------------------------------------------------------------------------


def test_classes_in_memory_and_in_the_journal(tmp_path: Path) -> None:
    """A restart: the most urgent goes first, however late it came and however much is before it."""

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=1)
            queue.write(range(1, SLICES + 1), hits=sent_as(LOW))
            queue.write(range(5001, 5006), hits=sent_as(NORMAL))
            queue.write(range(6001, 6006), hits=sent_as(STAT))
            queue.write(range(7001, 7006), hits=sent_as(HIGH))
            await queue.begin()
            await send(queue, pacs, 16)
            firsts = [*range(6001, 6006), *range(7001, 7006), *range(5001, 5006)]
            assert pacs.log[:16] == [*firsts, 1]

    body()


def test_a_large_urgent_study_behind_a_large_one(tmp_path: Path) -> None:
    """Also what memory did not hold when it came goes before what memory does hold."""

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = await slices(queue)
            before = len(pacs.log)
            queue.admit(range(5001, 5501), hits=sent_as(STAT), study_uid="2")
            for _ in range(500):
                await send(queue, pacs, 1)
                await until(queue.idle, "what is missing has been read")
            begun = pacs.log[before:]
            assert sum(n > 5000 for n in begun) >= 500 - 2 * LANES

    body()


def test_the_urgent_do_not_wait_for_a_dwell() -> None:
    async def body() -> None:
        town = Town(lanes=1, service=0.01)
        town.send("CT_A", 100)
        await asyncio.sleep(0.055)
        town.send("ER_B", hits=sent_as(STAT))
        await town.empty()
        assert town.waits["ER_B"][0] < 0.03
        assert town.order.index("ER_B") == 6

    virtually(body)


def test_the_urgent_do_not_wait_for_the_next_image_of_another_title_either() -> None:
    """Its lane would stay with a title that sends now and then."""

    async def body() -> None:
        town = Town(lanes=1)
        town.send("CT_A", 50)
        await asyncio.sleep(0.056)
        assert town.channel.idle
        town.send("ER_B", hits=sent_as(HIGH))
        await town.empty()
        assert town.waits["ER_B"][0] <= 2 * (town.service + town.opening)

    virtually(body)


def test_what_is_less_urgent_gets_no_lane_while_there_is_anything_else() -> None:
    async def body() -> None:
        town = Town(lanes=2, service=0.01)
        town.send("ER_A", 200, hits=sent_as(HIGH))
        town.send("CT_B", 5, hits=sent_as(LOW))
        await town.empty()
        assert town.order[:-5].count("CT_B") <= 1

    virtually(body)


@pytest.mark.parametrize("title", ["ER_A", "CT_B"], ids=["one title", "two titles"])
def test_an_endless_urgent_stream_starves_nobody(title: str) -> None:
    """One image of low priority: after three steps it counts as much as those of the highest."""

    async def body() -> None:
        town = Town(lanes=1, service=0.5)
        stream = asyncio.ensure_future(town.sender("ER_A", 4000, 0.4, hits=sent_as(STAT)))
        await asyncio.sleep(5.0)
        town.send(title, hits=sent_as(LOW), study_uid="2")
        low = town._number
        await until_virtual(lambda: low in town.begun, 5 * STEP)
        waited = town.loop.time() - town._queued[low]
        assert 3 * STEP <= waited < 3 * STEP + 5
        stream.cancel()

    virtually(body)


def test_the_urgent_wait_for_one_image_at_most_of_those_that_have_waited_long() -> None:
    async def body() -> None:
        town = Town(lanes=1, service=5.0)
        town.send("CT_A", 900, hits=sent_as(LOW))
        await asyncio.sleep(4 * STEP)
        before = len(town.begun)
        town.send("CT_A", 20, hits=sent_as(STAT), study_uid="2")
        urgent = set(range(town._number - 19, town._number + 1))
        await until_virtual(lambda: urgent <= set(town.begun), 400.0)
        assert len(town.begun) - before <= 2 * 20 + 1

    virtually(body)


def test_waiting_for_a_destination_that_is_away_is_not_waiting(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.channel(lanes=1)
            queue.write([1], hits=sent_as(LOW))
            queue.write([2, 3], hits=sent_as(STAT), study_uid="2")
            await queue.begin()
            channel = queue.scheduler.channels["pacs"]
            classes = channel._flows.classes
            assert classes.mixed
            assert channel.verdict.age(queue.journal.clock() - 9 * STEP, channel._loop.time()) <= 1.0
            assert classes.levels[LOW] == LOW

    body()


async def until_virtual(condition: Any, most: float) -> None:
    end = asyncio.get_running_loop().time() + most
    while not condition():
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.05)


# --- a limit for each study -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_lanes_than_that_are_busy_with_a_study(most: int) -> None:
    """Also where it comes from two sources, in several kinds of image, one by one or at once; the others go on."""

    async def body() -> None:
        town = Town(lanes=8)
        town.channel.limit_studies(most)
        for study in ("1", "2"):
            town.send("CT_A", 100, study_uid=study)
            town.send("CT_B", 100, study_uid=study)
            town.send("CT_A", 100, study_uid=study, transfer_syntax="1.2.840.10008.1.2.4.50")
        for _ in range(100):
            town.send("CT_A", study_uid="1")
            town.send("CT_A", study_uid="3")
            await asyncio.sleep(0.001)
        await town.empty()
        assert town.most_at_once["1"] == town.most_at_once["2"] == most
        assert town.most_at_once["3"] <= most
        assert max(town.together) > most
        assert sorted(town.begun) == list(range(1, town._number + 1))

    virtually(body)


def test_another_limit_for_a_channel_that_sends(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=4)
            await queue.begin()
            queue.admit(range(1, 9))
            channel = queue.scheduler.channels["pacs"]
            assert len(pacs.busy) == 4
            channel.limit_studies(2)
            pacs.finish(1)
            pacs.finish(2)
            assert pacs.sending == [3, 4]
            pacs.finish(3)
            assert len(pacs.busy) == 2
            channel.limit_studies(0)
            channel.pump()
            assert len(pacs.busy) == 4

    body()


def test_a_retry_of_a_limited_study(tmp_path: Path) -> None:
    """What comes back to the front counts, and nothing is forgotten."""

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=4)
            queue.scheduler.channels["pacs"].limit_studies(1)
            await queue.begin()
            queue.admit(range(1, 6))
            queue.admit([6], study_uid="2")
            assert sorted(pacs.sending) == [1, 6]
            while pacs.busy:
                pacs.busy[0].finish(SUCCESS)
            assert Counter(pacs.log) == Counter(range(1, 7))
            assert queue.scheduler.channels["pacs"]._flows.held == 0

    body()
