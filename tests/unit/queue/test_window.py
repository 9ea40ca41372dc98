"""How many associations there may be: as a rule of numbers, and with destinations that grant only so many."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count
from math import inf
from pathlib import Path
from random import Random

import pytest

from asyncroute.core import outcomes
from asyncroute.core.model import Delivery
from asyncroute.core.outcomes import SUCCESS
from asyncroute.forward.base import Lane, Reports
from asyncroute.queue.breaker import THRESHOLD
from asyncroute.queue.window import FIRST, LEARNT, LONGEST, NEVER, OUTAGE, SAMPLES, SLOW, START, USED, Window
from tests.unit.lanes import TimedLane, Town
from tests.unit.parts import on_loop, until
from tests.unit.queueing import QUICK, queueing
from tests.unit.virtual import virtually

BUSY = outcomes.rejected(2, 3, 2)


arrived = count(1)


def full(window: Window, images: int = 1) -> None:
    """So many images arrive while all of it is needed."""
    for _ in range(images):
        window.needed(next(arrived))


def refuse(window: Window, held: int, now: float, opening: int = 0) -> bool:
    return window.refused(held, opening, BUSY.text, now)


def took(window: Window, seconds: float, now: float, size: int = 0) -> bool:
    """An image took so long."""
    lane = TimedLane(None, None)  # type: ignore[arg-type]
    window.begins(lane, size, now - seconds)
    assert (window.timed, window.next_sample) == (lane, inf)
    smaller = window.ended(True, now)
    assert window.timed is None
    return smaller


# --- the rule ---------------------------------------------------------------------------------------------------------


def test_what_does_not_adapt_is_as_large_as_it_may_be() -> None:
    window = Window(7)
    assert not refuse(window, 3, 0.0)
    window.collapsed()
    window.granted(9)
    full(window)
    assert (window.size, window.at(1e9), window.why, window.grows_at) == (7, 7, "", NEVER)
    assert window.next_sample == inf


def test_it_doubles_with_each_round_of_images() -> None:
    window, sizes = Window(10, True), []
    for _ in range(4):
        sizes.append(window.size)
        assert window.grows_at == (window.size - 1 if window.size < 10 else NEVER)
        full(window, window.size)
    assert sizes == [START, 4, 8, 10]
    assert window.why == ""


@pytest.mark.parametrize("most", [1, 2])
def test_little_is_all_there_from_the_beginning(most: int) -> None:
    window = Window(most, True)
    assert (window.size, window.why, window.grows_at) == (most, "", NEVER)


def test_a_refusal_shows_the_limit_and_one_more_is_tried_ever_more_seldom() -> None:
    window, now, waits = Window(10, True), 0.0, list[float]()
    full(window, 20)
    assert refuse(window, 3, now, 6)
    for _ in range(6):
        refuse(window, 3, now + 0.01)  # of those that were asked for at the same time
    while len(waits) < 8:
        assert (window.size, window.at(now), window.why) == (3, 3, BUSY.text)
        full(window, 50)
        waits.append(round(window.next_try - now, 1))
        now = window.next_try
        assert window.at(now) == 4
        refuse(window, 3, now)
    assert waits == [FIRST, 2 * FIRST, 4, 8, 16, LONGEST, LONGEST, LONGEST]


def test_what_is_granted_after_all_lifts_the_limit() -> None:
    window = Window(10, True)
    refuse(window, 1, 0.0)
    refuse(window, 1, 5.0)
    assert (window.size, window.next_try) == (1, 7.0)
    window.granted(1)
    assert window.at(6.9) == 1
    window.granted(2)
    assert (window.size, window.next_try, window.why) == (2, inf, USED)
    full(window, 9)
    assert window.size == 10
    refuse(window, 9, 10.0)
    assert window.next_try == 10.0 + FIRST


def test_refused_before_anything_is_granted_it_is_halved() -> None:
    window, sizes = Window(10, True), []
    full(window, 20)
    for others in range(9, 0, -1):
        assert refuse(window, 0, 0.0, others)
        sizes.append(window.size)
    assert sizes[:4] == [5, 2, 1, 1]
    assert not refuse(window, 0, 0.0), "nobody is let in: it is not that there are too many"


def test_after_an_outage_it_begins_small_and_is_careful_from_half_on() -> None:
    window = Window(16, True)
    full(window, 20)
    for _ in range(3):
        window.collapsed()
        assert (window.size, window.why) == (START, OUTAGE)
    full(window, 7)
    assert window.size == 8
    full(window, 7)
    assert window.size == 8
    full(window)
    assert (window.size, window.why) == (9, USED)


# --- the time that images take ----------------------------------------------------------------------------------------


def used_to(window: Window, seconds: float) -> Window:
    """All of it is in use, and an image usually takes so long."""
    full(window, 20)
    assert not any(took(window, seconds, 100.0) for _ in range(2 * LEARNT))
    return window


def test_images_that_take_much_longer_than_they_used_to_halve_it() -> None:
    window = used_to(Window(10, True), 0.3)
    slower = [took(window, 3.0, 100.0) for _ in range(SAMPLES + 1)]
    assert slower == [False] * SAMPLES + [True], "the first alone does not make them slow"
    assert window.size == 5
    assert window.why.startswith("images take 2.")
    assert window.why.endswith(" s instead of 0.3 s")
    for _ in range(20):
        took(window, 0.3, 100.0)
    full(window, 5)
    assert window.size == 5
    full(window, 1)
    assert window.size == 6
    full(window, 6)
    assert window.size == 7, "one a round from there on"
    full(window, 24)
    assert (window.size, window.why) == (10, "")


def test_while_they_do_it_does_not_grow() -> None:
    window = used_to(Window(10, True), 0.3)
    window.collapsed()
    used_to(window, 0.3)
    window.size = 4
    for _ in range(3):
        took(window, 4.0, 100.0)
    full(window, 90)
    assert window.size == 4


@pytest.mark.parametrize(
    ("usual", "seconds", "size"),
    [(0.01, SLOW, 0), (0.6, 2.3, 0), (0.3, 200.0, 200 << 20), (5.0, 6.0, 0)],
    ids=["many times of little is little", "not four times", "a large image", "always so"],
)
def test_what_is_not_slow(usual: float, seconds: float, size: int) -> None:
    window = used_to(Window(10, True), usual)
    assert not any(took(window, seconds, 100.0, size) for _ in range(50))
    assert (window.size, window.why) == (10, "")


def test_now_short_and_now_long_is_not_slow() -> None:
    window, chance = used_to(Window(10, True), 1.5), Random(1)
    assert not any(took(window, chance.uniform(0.3, 3.0), 100.0) for _ in range(1000))


def test_a_single_slow_image_is_nothing() -> None:
    window = used_to(Window(10, True), 0.1)
    for _ in range(20):
        assert not any(took(window, seconds, 100.0) for seconds in (9.0, *[0.1] * 9))


def test_never_fewer_than_at_the_beginning_for_being_slow() -> None:
    window = used_to(Window(10, True), 0.1)
    slower = [took(window, 9.0, 100.0) for _ in range(30)]
    assert (sum(slower), window.size) == (2, START)


def test_what_has_been_usual_for_long_is_usual() -> None:
    window, slower = used_to(Window(10, True), 0.1), []
    for n in range(4000):
        slower.append(took(window, 2.0, 100.0 + n))
        full(window, 10)
    assert any(slower)
    assert not any(slower[3000:])
    assert window.size == 10


def test_a_lost_image_tells_nothing_of_time() -> None:
    window = Window(10, True)
    window.begins(TimedLane(None, None), 0, 0.0)  # type: ignore[arg-type]
    assert not window.ended(False, 1000.0)
    assert (window.timed, window.next_sample < inf) == (None, True)


def test_a_reload_with_the_same_settings_forgets_nothing() -> None:
    window = Window(10)
    window.change(10, True)
    full(window, 3)
    window.change(10, True)
    assert window.size == START + 3
    window.change(4, True)
    assert window.size == START
    window.change(4, False)
    assert window.size == 4


# --- a channel --------------------------------------------------------------------------------------------------------


@dataclass
class Harbour(Town):
    """A destination that has room for ``room`` associations, or takes ``slow`` seconds more for an image of many."""

    room: int = 100
    slow: float = 0.0
    most: int = 0
    refused: list[float] = field(default_factory=list)
    inside: set[Lane] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__(lanes=10)
        self.channel.window.change(10, True)

    def lane(self, reports: Reports) -> Lane:
        return Berth(self, reports)


class Berth(TimedLane):
    """One of its lanes."""

    harbour: Harbour

    def __init__(self, harbour: Harbour, reports: Reports) -> None:
        super().__init__(harbour, reports)
        self.harbour = harbour

    def _established(self, delivery: Delivery) -> None:
        harbour, loop = self.harbour, asyncio.get_running_loop()
        if self not in harbour.inside and len(harbour.inside) >= harbour.room:
            harbour.refused.append(loop.time())
            self.open = False
            self.reports.finished(self, delivery, BUSY)
            return
        harbour.inside.add(self)
        harbour.most = max(harbour.most, len(harbour.inside))
        super()._established(delivery)

    def _sent(self, delivery: Delivery) -> None:
        wait = self.harbour.slow * len(self.harbour.channel.sending)
        asyncio.get_running_loop().call_later(wait, super()._sent, delivery)

    def close(self) -> None:
        self.harbour.inside.discard(self)
        super().close()


def test_room_for_three_is_found_and_ten_when_there_is_room() -> None:
    async def body() -> None:
        town = Harbour(room=3)
        window = town.channel.window
        town.send("A", 900)
        town.service = 0.5
        await asyncio.sleep(40)
        assert (len(town.inside), window.size, town.most) == (3, 3, 3)
        assert 4 <= len(town.refused) <= 12
        assert "local limit exceeded" in window.why
        town.room, before = 10, len(town.order)
        await asyncio.sleep(LONGEST + 2)
        assert (len(town.inside), window.size, window.why) == (10, 10, "")
        await town.empty()
        assert len(town.order) > before
        assert town.channel.breaker.failures == 0
        assert town.channel.verdict.state(town.loop.time()) == "up"

    virtually(body)


def test_a_burst_is_as_quick_as_with_all_at_once() -> None:
    async def burst(adaptive: bool, results: list[float]) -> None:
        town = Harbour()
        town.channel.window.change(10, adaptive)
        for n in range(10):
            town.send(f"SITE{n}", 100)
        begun = town.loop.time()
        await town.empty()
        results.append(town.loop.time() - begun)
        assert town.most == 10

    for_each: list[float] = []
    virtually(lambda: burst(False, for_each))
    virtually(lambda: burst(True, for_each))
    fixed, adaptive = for_each
    assert adaptive < fixed + 0.02


def test_one_sender_needs_one_and_no_more_are_opened() -> None:
    async def body() -> None:
        town = Harbour()
        for _ in range(100):
            town.send("A")
            await asyncio.sleep(0.01)
        await town.empty()
        assert (town.most, town.channel.window.size, town.channel.window.why) == (1, START, USED)

    virtually(body)


def test_thirty_titles_and_room_for_three() -> None:
    """They take turns, and nobody is refused for long."""

    async def body() -> None:
        town = Harbour(room=3)
        senders = [town.sender(f"SITE{n}", 20, 0.5, n / 60) for n in range(30)]
        await asyncio.gather(*senders)
        await town.empty()
        assert town.most == 3
        assert town.longest < 2.0
        assert len(town.refused) < 12

    virtually(body)


def test_a_destination_that_slows_down_gets_fewer_and_more_when_it_recovers() -> None:
    async def body() -> None:
        town = Harbour()
        town.service = 0.2
        window, seen = town.channel.window, list[tuple[int, int]]()
        for n in range(900):
            town.send(f"SITE{n % 3}")
        await asyncio.sleep(5)
        assert (window.size, len(town.inside)) == (10, 10)
        town.slow = 0.5
        for _ in range(60):
            await asyncio.sleep(1)
            seen.append((window.size, len(town.inside)))
        assert max(min(size for size, _ in seen), min(inside for _, inside in seen)) <= 7
        assert "images take" in window.why
        town.slow = 0.0
        await asyncio.sleep(10)
        assert (window.size, len(town.inside), window.why) == (10, 10, "")
        await town.empty()

    virtually(body)


def test_lanes_beyond_a_smaller_window_end_with_the_image_at_hand(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            site = queue.channel("pacs", lanes=4)
            channel = queue.scheduler.channels["pacs"]
            channel.window.change(4, True)
            full(channel.window, 2)
            await queue.begin()
            queue.admit(range(1, 21))
            assert site.sending == [1, 2, 3, 4]
            channel.window.size = 2
            channel._narrow()
            assert site.sending == [1, 2, 3, 4]
            site.finish(1)
            site.finish(2)
            assert site.sending == [3, 4], "those that went on are in the window"
            assert site.open == 2
            site.finish(3)
            assert site.sending == [5, 4]

    body()


def test_an_outage_of_all_opens_the_breaker_and_the_window_begins_anew(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            site = queue.channel("pacs", lanes=8, retry=QUICK)
            channel = queue.scheduler.channels["pacs"]
            channel.window.change(8, True)
            full(channel.window, 6)
            await queue.begin()
            queue.admit(range(1, 31))
            failures = 0
            while not channel.breaker.open:
                await until(lambda: site.busy, "another try")
                site.busy[0].finish(outcomes.refused(), stays_open=False)
                failures += 1
            assert failures == 8 + THRESHOLD - 1, "of eight at once only the last one counts"
            assert (channel.window.size, channel.window.why) == (START, OUTAGE)
            assert channel.describe()["window"] == 1
            site.auto = SUCCESS
            await queue.settled(30)
            assert {s.attempts for s in queue.results} == {1}

    body()
