"""Bounds that channels share (associations in all) or keep (their backlog)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from asyncroute.queue.limits import Backlog, Outbound


class Waiter:
    """A channel that opens lanes while it has something to send and there is room."""

    def __init__(self, outbound: Outbound, wants: int, log: list[str], name: str) -> None:
        self.outbound, self.wants, self.log, self.name = outbound, wants, log, name

    def pump(self) -> None:
        while self.wants:
            if not self.outbound.room:
                self.outbound.wait(self)
                return
            self.wants -= 1
            self.outbound.taken()
            self.log.append(self.name)


def waiters(outbound: Outbound, **wants: int) -> tuple[list[Waiter], list[str]]:
    log: list[str] = []
    made = [Waiter(outbound, n, log, name) for name, n in wants.items()]
    for waiter in made:
        waiter.pump()
    return made, log


def test_no_more_than_there_are() -> None:
    outbound = Outbound(3)
    _, log = waiters(outbound, a=2, b=2)
    assert log == ["a", "a", "b"]
    assert not outbound.room
    assert outbound.wanted


def test_lent_in_the_order_of_asking() -> None:
    outbound = Outbound(1)
    _, log = waiters(outbound, a=1, b=3, c=1, d=1)
    for _ in range(5):
        outbound.returned()
    assert log == ["a", "b", "c", "d", "b", "b"]
    assert not outbound.wanted
    outbound.returned()
    assert outbound.room


def test_asking_twice_is_asking_once() -> None:
    outbound = Outbound(0)
    waiter = Waiter(outbound, 1, [], "a")
    for _ in range(3):
        outbound.wait(waiter)
    assert len(outbound._waiting) == 1
    outbound.returned()
    outbound.returned()
    assert waiter.log == ["a"]


def test_room_that_one_does_not_need_goes_to_the_next() -> None:
    """Its deliveries were taken back, or it pauses meanwhile: whoever waits behind it must not wait for ever."""
    outbound = Outbound(1)
    made, log = waiters(outbound, a=1, b=1, c=1)
    made[1].wants = 0
    outbound.returned()
    assert log == ["a", "c"]


@pytest.mark.parametrize(
    ("fill", "full"),
    [
        (lambda b: [b.add(10) for _ in range(4)], None),
        (lambda b: [b.add(10) for _ in range(5)], "5 images wait (max_backlog)"),
        (lambda b: b.add(99), None),
        (lambda b: b.add(100), "100 bytes wait (max_backlog)"),
        (lambda b: [b.add(200), b.remove(200)], None),
    ],
)
def test_backlog(fill: Callable[[Backlog], object], full: str | None) -> None:
    backlog = Backlog(5, 100)
    fill(backlog)
    assert backlog.full() == full


def test_backlog_without_bounds() -> None:
    backlog = Backlog(0, 0)
    for _ in range(10):
        backlog.add(1 << 40)
    assert backlog.full() is None
    assert backlog.share == 0


def test_share() -> None:
    backlog = Backlog(10, 1000)
    backlog.add(700)
    assert backlog.share == pytest.approx(0.7)
    for _ in range(11):
        backlog.add(0)
    assert backlog.share == pytest.approx(1.2)
    assert Backlog(0, 1000).share == 0
