"""How channels share the associations that there are: those without any first, the others by turns."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncroute.core import outcomes
from asyncroute.queue import channel as module
from asyncroute.queue.limits import Outbound
from tests.unit.parts import on_loop
from tests.unit.queueing import queueing

GONE = outcomes.refused()


class Waiter:
    def __init__(self) -> None:
        self.pumped = 0

    def pump(self) -> None:
        self.pumped += 1


def test_who_has_none_comes_first() -> None:
    outbound, log = Outbound(0), list[str]()

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def pump(self) -> None:
            log.append(self.name)
            outbound.taken()

    for name, starving in (("a", False), ("b", True), ("c", False), ("d", True)):
        outbound.wait(Named(name), starving=starving)
    for _ in range(4):
        outbound.returned()
    assert log == ["b", "d", "a", "c"]
    assert not outbound.wanted


def test_oneself_is_nobody_else() -> None:
    outbound, one, other = Outbound(0), Waiter(), Waiter()
    outbound.wait(one)
    outbound.wait(one, starving=True)
    assert outbound.wanted
    assert not outbound.wanted_beside(one)
    assert not outbound.starved_beside(one)
    assert outbound.wanted_beside(other)
    assert outbound.starved_beside(other)
    outbound.wait(other)
    assert outbound.wanted_beside(one)
    assert not outbound.starved_beside(one)


def test_a_turn_ends_between_two_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.outbound._left = 1
            first, second = queue.channel("first", lanes=1), queue.channel("second", lanes=1)
            await queue.begin()
            queue.admit(range(1, 10), "first", "second")
            for number in (1, 2):
                first.finish(number)
                assert (first.sending, second.sending) == ([number + 1], [])
            monkeypatch.setattr(module, "TURN", 0.0)
            first.finish(3)
            assert (first.sending, second.sending) == ([], [1])
            second.finish(1)
            assert (first.sending, second.sending) == ([4], [])

    body()


def test_nobody_gives_way_to_oneself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that would like more lanes than there are associations keeps those that it has."""
    monkeypatch.setattr(module, "TURN", 0.0)

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.outbound._left = 2
            pacs = queue.channel("pacs", lanes=5)
            await queue.begin()
            queue.admit(range(1, 20), "pacs")
            for _ in range(17):
                pacs.busy[0].finish()
            assert (pacs.opened, len(pacs.hands)) == (2, 2)

    body()


def test_one_of_several_goes_to_who_has_none_at_once(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            queue.outbound._left = 2
            first, second = queue.channel("first", lanes=2), queue.channel("second", lanes=2)
            await queue.begin()
            queue.admit(range(1, 10), "first")
            queue.admit(range(10, 20), "second")
            assert (first.sending, second.sending) == ([1, 2], [])
            first.finish(1)
            assert (first.sending, second.sending) == ([2], [10])
            first.finish(2)
            assert (first.sending, second.sending) == ([3], [10]), "then both have one, until a turn is over"

    body()


def test_after_a_destination_was_not_reached_the_oldest_is_tried_first(tmp_path: Path) -> None:
    """However often: the image cannot be the cause, and the probe goes under its title."""

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            pacs = queue.channel("pacs", lanes=2)
            channel = queue.scheduler.channels["pacs"]
            await queue.begin()
            queue.admit(range(1, 6), "pacs")
            for _ in range(6):
                assert pacs.sending[0] == 1
                for hand in list(pacs.busy):
                    hand.finish(GONE, stays_open=False)
                channel.breaker.until = 0.0
                channel.pump()
            assert pacs.sending == [1]

    body()
