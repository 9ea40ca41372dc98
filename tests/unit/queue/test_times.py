"""Holds and hours: until when nothing may begin, what is remembered of it, and what channels do."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

import pytest

from asyncroute.core import outcomes
from asyncroute.core.hours import Hours, Range
from asyncroute.core.retry import Backoff
from asyncroute.forward.association import Target
from asyncroute.forward.dicom import DicomForwarder, Means, Policy
from asyncroute.journal.base import Group, Held, Release
from asyncroute.journal.base import Hold as HoldAction
from asyncroute.journal.sqlite import SqliteJournal
from asyncroute.queue.times import LOOK, Hold, Times
from tests.unit.lanes import Town
from tests.unit.parts import on_loop
from tests.unit.queue.test_verdict import GONE, HOUR, NOW, OK, Desk, old
from tests.unit.queueing import queueing
from tests.unit.virtual import virtually

RETRY = outcomes.classify(0x0110)
BERLIN = ZoneInfo("Europe/Berlin")
NIGHTS = Hours((Range(18 * 60, 30 * 60, frozenset(range(7)), BERLIN),))
NOON = datetime(2026, 6, 10, 12, tzinfo=BERLIN).timestamp()


class Wall:
    """A wall clock beside the monotonic one, which may be set."""

    def __init__(self, now: float = NOON) -> None:
        self.ahead = now - NOW
        self.steady = NOW

    def __call__(self) -> float:
        return self.steady + self.ahead

    def passes(self, seconds: float) -> float:
        """The monotonic time then."""
        self.steady += seconds
        return self.steady


# --- until when -------------------------------------------------------------------------------------------------------


def test_nothing_set_nothing_shut() -> None:
    times = Times(wall=lambda: pytest.fail("nobody needs the time"))
    assert (times.shut(NOW), times.closed_until(NOW), times.periods(NOW)) == (0.0, None, [])


def test_hours_are_looked_at_every_minute_and_when_they_change() -> None:
    wall = Wall()
    times = Times(NIGHTS, wall)
    assert times.shut(NOW) == NOW + LOOK
    assert times.closed_until(NOW) == NOON + 6 * HOUR
    now = wall.passes(6 * HOUR - 20)
    assert times.shut(now) == now + 20
    assert times.shut(wall.passes(20)) == 0.0
    assert times.look_at == wall.steady + LOOK
    assert times.closed_until(wall.steady) is None
    assert times.periods(wall.steady + 5) == [(NOW, wall.steady)]


def test_a_clock_that_is_set_counts_within_a_minute() -> None:
    wall = Wall()
    times = Times(NIGHTS, wall)
    assert times.shut(NOW)
    wall.ahead += 8 * HOUR
    assert times.shut(wall.passes(LOOK)) == 0.0
    wall.ahead -= 8 * HOUR
    assert times.shut(wall.passes(LOOK)) > wall.steady


def test_a_clock_that_is_behind_is_not_asked_without_a_pause() -> None:
    """The wall clock says a moment before the hours each time, as while it is being slowed down."""
    wall = Wall(NOON + 6 * HOUR - 0.0001)
    assert Times(NIGHTS, wall).shut(NOW) == NOW + 0.01


def test_other_hours_by_a_reload() -> None:
    wall = Wall()
    times = Times(NIGHTS, wall)
    assert times.shut(NOW)
    times.change(None, 0.0, wall.passes(10))
    assert (times.shut(wall.steady), times.periods(wall.steady)) == (0.0, [(NOW, NOW + 10)])
    times.change(NIGHTS, 0.0, wall.passes(10))
    assert times.shut(wall.steady)


def test_a_hold() -> None:
    times = Times(NIGHTS, Wall(NOON + 7 * HOUR))
    times.hold.begin(NOON, NOW)
    times.hold.begin(NOON + 5, NOW + 5)
    assert (times.hold.at, times.shut(NOW)) == (NOON, inf)
    assert times.periods(NOW + 9) == [(NOW, NOW + 9)]
    times.hold.end(NOW + 10)
    times.hold.end(NOW + 20)
    assert (times.hold.at, times.shut(NOW + 20), times.periods(NOW + 20)) == (None, 0.0, [(NOW, NOW + 10)])


def test_what_the_journal_says_of_holds() -> None:
    hold = Hold()
    hold.remember([Held(1.0, 100.0, 150.0), Held(2.0, 160.0, None)], ahead=1000.0)
    assert (hold.at, hold.periods(1200.0)) == (2.0, [(1100.0, 1150.0), (1160.0, 1200.0)])


# --- states and ages --------------------------------------------------------------------------------------------------


def test_states() -> None:
    desk = Desk()
    wall = Wall()
    desk.times = Times(NIGHTS, wall)
    assert desk.verdict.state(NOW) == "closed"
    for n in range(3):
        desk.on(GONE, 1, NOW + n)
    assert desk.verdict.state(NOW + 3) == "down", "that it was down when it closed is worth telling"
    desk.times.hold.begin(NOON, NOW)
    assert desk.verdict.state(NOW + 3) == "held"
    desk.verdict.resume()
    assert desk.verdict.state(NOW + 3) == "held", "a retry does not end a hold"


@pytest.mark.parametrize("kind", ["hold", "hours"])
def test_the_time_does_not_count_for_give_up(kind: str) -> None:
    desk = Desk(Backoff(give_up=HOUR))
    wall = Wall(NOON + 4 * HOUR)
    since = wall.steady
    if kind == "hours":
        desk.times = Times(NIGHTS, wall)
        desk.times.shut(since)
    else:
        desk.times.hold.begin(NOON, since)
    now = wall.passes(2 * HOUR)
    desk.times.hold.end(now)
    assert desk.times.shut(now) == 0.0
    desk.on(OK, 9, now)
    desk.on(RETRY, old(1, 2.5 * HOUR), now)
    assert desk.states[-1] == (1, "ready")
    desk.on(RETRY, old(2, 3.1 * HOUR), now)
    assert desk.states[-1] == (2, "failed"), "the time before counts"


# --- a channel --------------------------------------------------------------------------------------------------------


def test_a_hold_begins_nothing_finishes_what_is_at_hand_and_releases(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with queueing(tmp_path) as queue:
            site = queue.channel(lanes=2)
            await queue.begin()
            queue.admit(range(1, 3))
            site.finish(1)  # an idle association beside a busy one
            await queue.settled(1)
            queue.scheduler.hold("pacs", 5.0)
            assert (site.open, site.sending) == (1, [2])
            queue.admit(range(3, 6))
            assert site.sending == [2]
            site.finish(2)
            assert (site.open, site.log) == (0, [1, 2])
            await queue.settled(2)
            queue.scheduler.hold("pacs", None)
            assert site.log == [1, 2, 3, 4]

    on_loop(scenario)


def test_a_hold_while_all_is_calm_stops_a_busy_lane(tmp_path: Path) -> None:
    """The usual case goes past ``pump``: it must not go past a hold."""

    async def scenario() -> None:
        async with queueing(tmp_path) as queue:
            site = queue.channel(lanes=1)
            await queue.begin()
            queue.admit(range(1, 20))
            for n in range(1, 5):
                site.finish(n)
            assert queue.scheduler.channels["pacs"].verdict.calm
            queue.scheduler.hold("pacs", 5.0)
            site.finish(5)
            assert (site.sending, site.open) == ([], 0)
            queue.admit(range(20, 23))
            assert site.sending == []
            queue.scheduler.hold("pacs", None)
            assert site.sending == [6]

    on_loop(scenario)


def test_a_hold_is_the_journals_at_the_next_start(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path, "process-crash")
    journal.commit(Group(actions=[HoldAction("pacs"), HoldAction("copy"), Release("copy")], at=7.0))
    journal.close()

    async def scenario() -> None:
        async with queueing(tmp_path) as queue:
            held, free = queue.channel("pacs"), queue.channel("copy")
            queue.write([1], "pacs", "copy")
            await queue.begin()
            assert (held.log, free.log) == ([], [1])
            assert queue.scheduler.channels["pacs"].describe()["held_since"] == 7.0
            assert queue.scheduler.channels["copy"].describe()["held_since"] is None
            queue.scheduler.hold("pacs", None)
            assert held.log == [1]

    on_loop(scenario)


def test_a_hold_outlives_its_channel(tmp_path: Path) -> None:
    """A reload may take a destination out of the configuration, and another bring it back."""

    async def scenario() -> None:
        async with queueing(tmp_path) as queue:
            queue.channel()
            await queue.begin()
            queue.scheduler.hold("pacs", 5.0)
            queue.scheduler.retire("pacs", 0.0)
            site = queue.channel()
            queue.admit([1])
            queue.scheduler.channels["pacs"].look_again()
            assert (site.log, queue.scheduler.channels["pacs"].verdict.state(0.0)) == ([], "held")

    on_loop(scenario)


def in_town(hours: Hours, at: str, lanes: int = 2) -> tuple[Town, list[float]]:
    """A town whose wall clock says ``at`` (Berlin) now; the list may hold what the clock is set ahead by."""
    town, ahead = Town(lanes), [0.0]
    loop = asyncio.get_running_loop()
    began = datetime.fromisoformat(at).replace(tzinfo=BERLIN).timestamp() - loop.time()
    town.channel.times._wall = lambda: loop.time() + began + ahead[0]
    town.channel.times.change(hours, 0.0, loop.time())
    town.channel.pump()
    return town, ahead


def clock(town: Town) -> str:
    """What the wall clock says."""
    return datetime.fromtimestamp(town.channel.times._wall(), UTC).astimezone(BERLIN).strftime("%d %H:%M:%S")


async def arrived(town: Town, count: int) -> None:
    """Wait until so many images have arrived; a virtual second is short."""
    while len(town.order) < count:
        await asyncio.sleep(1)


def test_it_wakes_by_itself_when_the_hours_begin_and_sleeps_when_they_end() -> None:
    async def scenario() -> None:
        town, _ = in_town(NIGHTS, "2026-06-10 12:00")
        town.send("CT", 3)
        assert town.channel.verdict.state(0.0) == "closed"
        await arrived(town, 3)
        assert clock(town)[:8] == "10 18:00"
        sender = asyncio.create_task(town.sender("CT", 20 * 60, 60.0))
        await arrived(town, 3 + 12 * 60)
        assert clock(town)[:5] in ("11 05", "11 06")
        await asyncio.sleep(300)
        stood = len(town.order)
        assert stood <= 3 + 12 * 60 + 1
        assert town.channel.describe()["lanes"] == 0
        await sender
        assert clock(town)[:5] == "11 14"
        assert len(town.order) == stood, "nothing by day"
        await arrived(town, 3 + 20 * 60)
        assert clock(town)[:8] == "11 18:00"

    virtually(scenario)


def test_associations_are_released_when_the_hours_end() -> None:
    async def scenario() -> None:
        town, _ = in_town(NIGHTS, "2026-06-11 05:59")
        town.send("CT", 40)
        await asyncio.sleep(59.9)
        assert town.channel.describe()["lanes"] > 0
        await asyncio.sleep(0.2)
        assert town.channel.describe()["lanes"] == 0

    virtually(scenario)


@pytest.mark.parametrize(("day", "seconds"), [("2026-03-28", 11 * 3600), ("2026-10-24", 13 * 3600)])
def test_the_night_on_which_the_clock_is_changed(day: str, seconds: float) -> None:
    async def scenario() -> None:
        town, _ = in_town(NIGHTS, f"{day} 18:00")
        loop = asyncio.get_running_loop()
        began = loop.time()
        town.channel.times.shut(began)
        while not town.channel.times.shut(loop.time()):
            await asyncio.sleep(1)
        assert loop.time() - began == seconds

    virtually(scenario)


def test_a_clock_that_is_set_ahead_while_it_sleeps() -> None:
    async def scenario() -> None:
        town, ahead = in_town(NIGHTS, "2026-06-10 12:00")
        town.send("CT")
        await asyncio.sleep(100)
        assert town.order == []
        ahead[0] = 7 * 3600.0
        await asyncio.sleep(LOOK + 1)
        assert town.order == ["CT"]
        ahead[0] = 0.0
        await asyncio.sleep(LOOK + 1)
        town.send("CT")
        await asyncio.sleep(1)
        assert town.order == ["CT"]

    virtually(scenario)


def test_held_while_the_hours_begin() -> None:
    async def scenario() -> None:
        town, _ = in_town(NIGHTS, "2026-06-10 17:00")
        town.send("CT")
        town.scheduler.hold("pacs", 1.0)
        await asyncio.sleep(2 * 3600)
        assert town.order == []
        town.scheduler.hold("pacs", None)
        await asyncio.sleep(1)
        assert town.order == ["CT"]

    virtually(scenario)


def test_sleeping_costs_a_look_a_minute() -> None:
    async def scenario() -> None:
        town, _ = in_town(NIGHTS, "2026-06-10 12:00")
        times, looks = town.channel.times, 0
        real = times._wall

        def counting() -> float:
            nonlocal looks
            looks += 1
            return real()

        times._wall = counting
        town.send("CT", 50)
        await asyncio.sleep(3600)
        assert 55 <= looks <= 65

    virtually(scenario)


def test_associations_begin_a_gap_apart_and_open_ones_go_on() -> None:
    async def scenario() -> None:
        town = Town(lanes=5, service=0.01)
        loop = asyncio.get_running_loop()
        town.channel.times.change(None, 0.5, loop.time())
        for n in range(5):
            town.send(f"CT_{n}", 20)
        began = loop.time()
        await town.empty()
        at = [opened for opened, _ in town.opened]
        assert len(at) == 5
        assert min(later - earlier for earlier, later in pairwise(at)) >= 0.5
        assert at[-1] - began < 2.1
        assert max(town.waits["CT_0"]) < 0.5, "the first association does not wait for the others"

    virtually(scenario)


def test_associations_that_a_lane_changes_by_itself_are_a_gap_apart_too() -> None:
    async def scenario() -> None:
        policy = Policy(str, {}, 5.0, 3600.0, 128, 0.25)
        forwarder = DicomForwarder("pacs", Target("h", 104, "PACS"), policy, cast(Means, None))
        loop = asyncio.get_running_loop()
        at: list[float] = []

        async def begin() -> None:
            await forwarder.turn()
            at.append(loop.time())

        await asyncio.gather(begin(), begin(), begin())
        await asyncio.sleep(10)
        await begin()
        assert [round(later - earlier, 3) for earlier, later in pairwise(at)] == [0.25, 0.25, 10.0]

    virtually(scenario)
