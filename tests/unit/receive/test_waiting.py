"""Callers without an association: which of them goes when there are too many."""

from __future__ import annotations

import pytest

from asyncroute.receive.waiting import Requests, Waiting


class Caller:
    """One that goes when it is told to, from the lists that it is in."""

    def __init__(self, address: str, waiting: Waiting, requests: Requests | None = None) -> None:
        self.address = address
        self.awaiting = True
        self.told = ""
        self._waiting = waiting
        self._requests = requests or Requests()

    def crowded_out(self, why: str) -> None:
        assert not self.told
        self.told = why
        self._waiting.discard(self)
        self._requests.holds(self, 0)


def crowd(waiting: Waiting, *addresses: str) -> list[Caller]:
    callers = [Caller(address, waiting) for address in addresses]
    for caller in callers:
        waiting.add(caller)
    return callers


def gone(callers: list[Caller]) -> list[int]:
    return [n for n, caller in enumerate(callers) if caller.told]


def test_the_oldest_of_the_largest_crowd_goes() -> None:
    waiting = Waiting(5)
    callers = crowd(waiting, "honest", "flood", "flood", "other", "flood")
    assert gone(callers) == []
    callers += crowd(waiting, "flood", "flood", "honest")
    assert gone(callers) == [1, 2, 4]
    assert waiting.count == 5
    assert "5 connections" in callers[1].told


def test_who_was_alone_from_its_address_never_goes() -> None:
    waiting = Waiting(100)
    honest = crowd(waiting, "honest")
    flood = crowd(waiting, *["flood"] * 1000)
    assert gone(honest) == []
    assert gone(flood) == list(range(1000 - 99))


def test_counting() -> None:
    waiting = Waiting(5)
    (one, two) = crowd(waiting, "a", "a")
    waiting.add(one)
    assert waiting.count == 2
    for _ in range(2):
        waiting.discard(one)
        waiting.discard(Caller("b", waiting))
        assert waiting.count == 1
    waiting.add(one)
    assert waiting.make_room("x")
    assert two.told == "x", "one was away meanwhile: two has waited longer"
    assert waiting.make_room("x")
    assert not waiting.make_room("x")
    assert waiting.count == 0


@pytest.mark.parametrize("negotiating", [False, True])
def test_who_holds_the_most_of_its_request_goes(negotiating: bool) -> None:
    requests = Requests(100)
    small, middle, large = (Caller("a", Waiting(), requests) for _ in range(3))
    requests.holds(small, 10)
    requests.holds(large, 50)
    large.awaiting = not negotiating
    requests.holds(middle, 40)
    assert requests.size == 100
    requests.holds(small, 11)
    assert [bool(one.told) for one in (small, middle, large)] == [False, negotiating, not negotiating]
    assert requests.size == (61 if negotiating else 51)


def test_it_itself_may_go_and_who_is_being_answered_does_not() -> None:
    requests = Requests(100)
    one, other = (Caller("a", Waiting(), requests) for _ in range(2))
    requests.holds(one, 90)
    one.awaiting = False
    requests.holds(other, 20)
    assert other.told
    requests.holds(one, 200)
    assert not one.told
    requests.holds(one, 0)
    assert requests.size == 0
