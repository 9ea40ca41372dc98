"""One destination's queue when deliveries fail: nothing lost, nothing twice, whatever the order of events."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from asyncroute.core import outcomes
from asyncroute.core.outcomes import SUCCESS
from asyncroute.core.retry import Backoff
from asyncroute.core.states import DeliveryState
from asyncroute.queue import breaker as breaker_module
from asyncroute.queue import refill as module
from asyncroute.queue.breaker import THRESHOLD
from tests.unit.parts import CT, MR, instance, on_loop, settle_loop, until
from tests.unit.queueing import Queue, Site, queueing

GONE = outcomes.refused()
LOST = outcomes.lost("aborted by the peer", image_in_flight=True)
RETRY = outcomes.classify(0x0110)


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_destination_that_is_down_is_probed_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker_module, "SHORT", 0.01)
    monkeypatch.setattr(breaker_module, "LEAST", 0.05)

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=4)
            channel = queue.scheduler.channels["pacs"]
            channel.breaker._random = lambda: 0.0
            await queue.begin()
            queue.admit(range(1, 21))
            assert pacs.sending == [1, 2, 3, 4]
            for number in (1, 2, 3, 4):
                pacs.finish(number, GONE, stays_open=False)
            assert channel.breaker.open
            assert pacs.sending == []
            assert channel.describe()["state"] == "down"
            assert pacs.open == len(channel.lanes) == 0
            await until(lambda: pacs.busy, "a probe")
            await settle_loop(20)
            assert len(pacs.busy) == 1
            assert pacs.probes == [False] * 4 + [True]
            assert pacs.sending[0] in (1, 2, 3, 4)
            pacs.finish(pacs.sending[0], GONE, stays_open=False)
            await until(lambda: pacs.busy, "the next probe")
            assert len(pacs.busy) == 1
            pacs.busy[0].finish()
            assert len(pacs.busy) == 2
            pacs.auto = SUCCESS
            for hand in pacs.busy:
                hand.finish()
            await queue.settled(20)
            assert pacs.most == 4
            assert {s.attempts for s in queue.results} == {1}
            assert set(queue.states().values()) == {"delivered"}

    body()


def test_retries_wait_and_others_go_on(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=1, retry=Backoff(first=0.2, factor=1, max=0.2))
            queue.scheduler.channels["pacs"].verdict._retry = Backoff(first=0.2, factor=1, max=0.2)
            await queue.begin()
            queue.admit([1, 2, 3])
            pacs.finish(1, RETRY)
            assert pacs.sending == [2]
            pacs.finish(2)
            pacs.finish(3)
            await until(lambda: pacs.busy, "the second attempt")
            pacs.finish(1)
            await queue.settled(4)
            assert pacs.log == [1, 2, 3, 1]
            assert queue.states() == {1: "delivered", 2: "delivered", 3: "delivered"}
            assert [s.attempts for s in queue.results if s.instance_id == 1] == [1, 2]

    body()


def test_a_paused_title_does_not_pause_the_others(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=1)
            await queue.begin()
            other = instance(9, "pacs").source
            queue.admit([1, 2])
            queue.admit([3, 4], source=type(other)("MR_B", "X", "", ""))
            pacs.finish(1, outcomes.rejected(1, 1, 3), stays_open=False)
            assert pacs.sending == [3]
            pacs.finish(3)
            assert pacs.sending == [4]
            pacs.finish(4)
            assert pacs.sending == []
            channel = queue.scheduler.channels["pacs"]
            assert channel.describe()["state"] == "title-rejected"
            channel.verdict.resume()
            channel.look_again()
            await until(lambda: pacs.sending == [1], "the lane turns to it")

    body()


@pytest.mark.parametrize("outcome", [outcomes.classify(0xA700), outcomes.rejected(1, 1, 7)], ids=["full", "rejected"])
def test_a_pause_of_the_destination(tmp_path: Path, outcome: outcomes.Outcome) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=2)
            await queue.begin()
            queue.admit(range(1, 6))
            pacs.finish(1, outcome)
            pacs.finish(2)
            assert pacs.sending == []
            queue.admit([6])
            assert pacs.sending == []
            channel = queue.scheduler.channels["pacs"]
            if outcome.kind is outcomes.Kind.DESTINATION_PAUSE:
                await until(lambda: pacs.busy, "it goes on by itself")
            else:
                assert channel._alarm._timer is not None
                channel.verdict.resume()
                channel.look_again()
            assert len(pacs.busy) == 2

    body()


def test_a_poisonous_image_ends_as_a_dead_letter_and_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker_module, "SHORT", 0.005)

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel(lanes=1)
            await queue.begin()
            queue.admit(range(1, 6))
            number = 5
            while queue.scheduler.tallies["pacs"].failed == 0:
                number += 1
                queue.admit([number])
                await until(lambda: pacs.busy, "the next")
                (sent,) = pacs.sending
                pacs.finish(sent, LOST if sent == 3 else SUCCESS, stays_open=sent != 3)
                assert number < 60
            pacs.auto = SUCCESS
            if pacs.busy:
                pacs.busy[0].finish()
            await queue.settled(number)
            assert queue.states() == {n: "failed" if n == 3 else "delivered" for n in range(1, number + 1)}
            assert pacs.log.count(3) == 3
            assert not queue.scheduler.channels["pacs"].breaker.open

    body()


def test_the_breaker_needs_as_many_failures_as_it_says() -> None:
    assert THRESHOLD == 3


# --- everything at once -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Arrivals, results of all kinds, lost connections and refills in a random order: each image is settled once."""
    monkeypatch.setattr(module, "READY_MOST", 40)
    monkeypatch.setattr(module, "READY_LOW", 10)
    monkeypatch.setattr(breaker_module, "SHORT", 0.002)
    monkeypatch.setattr(breaker_module, "LEAST", 0.002)
    rng = random.Random(seed)
    ends = [(SUCCESS, 12), (outcomes.classify(0xB000), 3), (RETRY, 3), (LOST, 1), (GONE, 2)]
    ends.append((outcomes.no_context("1", "2"), 1))
    kinds = [outcome for outcome, weight in ends for _ in range(weight)]

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.outbound._left = 5
            sites = {name: queue.channel(name, lanes=3) for name in ("a", "b")}
            for channel in queue.scheduler.channels.values():
                channel.breaker._random = lambda: 0.0
            queue.write(range(1, 61), "a", "b")
            await queue.begin()
            number = 61
            while not over(queue, number):
                if number <= 200 and rng.random() < 0.4:
                    some = range(number, number + rng.randint(1, 8))
                    queue.admit(some, *rng.choice([("a",), ("b",), ("a", "b")]), sop_class_uid=rng.choice([CT, MR]))
                    number = some.stop
                busy = [hand for site in sites.values() for hand in site.busy]
                if busy:
                    outcome = rng.choice(kinds)
                    rng.choice(busy).finish(outcome, stays_open=outcome not in (LOST, GONE))
                idle = [hand for site in sites.values() for hand in site.hands if hand.open and hand.delivery is None]
                if idle and rng.random() < 0.1:
                    idle[0].lose()
                await asyncio.sleep(0 if rng.random() < 0.9 else 0.002)
            await until(lambda: all(not queue.ids(name) for name in sites), "all is durable")
            check(queue, sites)

    body()


def over(queue: Queue, number: int) -> bool:
    return number > 200 and all(tally.backlog.images == 0 for tally in queue.scheduler.tallies.values())


def check(queue: Queue, sites: dict[str, Site]) -> None:
    for name, site in sites.items():
        found = queue.states(name)
        finals = [s.instance_id for s in queue.results if s.destination == name and s.state is not DeliveryState.READY]
        assert sorted(finals) == sorted(found)
        assert set(found.values()) <= {"delivered", "failed"}
        assert set(site.log) == set(found)
        assert site.most <= 3
        tally = queue.scheduler.tallies[name]
        assert tally.delivered == list(found.values()).count("delivered")
        assert tally.failed == list(found.values()).count("failed")
        assert tally.backlog.bytes == 0
