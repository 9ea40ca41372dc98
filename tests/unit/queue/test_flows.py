"""The order of ready deliveries: first in, first out within a key, the oldest head first between keys."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from asyncroute.core.model import Delivery
from asyncroute.forward.base import Key
from asyncroute.queue.flows import STALE, Flow, Flows
from tests.unit.parts import delivery

A: Key = ("CT_A", "1.2", "1.2.1")
B: Key = ("CT_B", "1.2", "1.2.1")
C: Key = ("CT_B", "1.4", "1.2.1")
KEYS = [A, B, C]


def seventh(rest: int) -> Callable[[Delivery], bool]:
    return lambda d: d.instance_id % 7 == rest


def oldest(flows: Flows) -> Flow:
    found = flows.oldest()
    assert found is not None
    return found


def drained(flows: Flows) -> list[int]:
    found = []
    while len(flows):
        found.append(flows.take(oldest(flows)).instance_id)
    return found


def test_first_in_first_out_whatever_the_key() -> None:
    flows = Flows()
    for number in range(30):
        flows.add(KEYS[number * 7 % 3], delivery(number))
    assert len(flows) == 30
    assert sorted(d.instance_id for d in flows) == list(range(30))
    assert drained(flows) == list(range(30))
    assert flows.oldest() is None
    assert flows.keys() == []


def test_what_is_put_back_comes_first() -> None:
    flows = Flows()
    for number in range(4):
        flows.add(A, delivery(number))
    first, second = flows.take(oldest(flows)), flows.take(oldest(flows))
    flows.add(B, delivery(9))
    flows.put_back(B, delivery(8), 0.0)
    flows.put_back(A, first, 0.0)
    flows.put_back(A, second, 0.0)
    assert drained(flows) == [0, 1, 8, 2, 3, 9], "and in the order in which they were received"


def test_only_what_is_allowed() -> None:
    flows = Flows()
    for number, key in enumerate([A, A, B, C]):
        flows.add(key, delivery(number))
    found = flows.oldest(lambda key: key[0] != "CT_A")
    assert found is not None
    assert found.key == B
    assert flows.oldest(lambda key: False) is None
    found = flows.oldest(lambda key: key == C)
    assert found is not None
    assert flows.take(found).instance_id == 3
    assert flows.keys() == [A, B]


def test_one_flow_alone_may_be_forbidden() -> None:
    flows = Flows()
    flows.add(A, delivery(1))
    assert flows.oldest(lambda key: False) is None
    assert oldest(flows).key == A


def test_keys_by_their_oldest() -> None:
    flows = Flows()
    for number, key in enumerate([C, A, B, A]):
        flows.add(key, delivery(number))
    assert flows.keys() == [C, A, B]


def test_who_came_first_is_first_in_line_and_who_lost_a_lane_is_last() -> None:
    flows = Flows()
    for number, key in enumerate([A, B, C]):
        flow = flows.add(key, delivery(number))
        assert flow is not None
        flows.line_up(flow, float(number))
    assert flows.add(A, delivery(3)) is None
    first = flows.first()
    assert first is not None
    assert (first.key, first.since) == (A, 0.0)
    flows.step_out(first)
    flows.line_up(first, 9.0)
    assert in_line(flows) == [B, C, A]


def test_who_is_put_back_is_first_in_line() -> None:
    flows = Flows()
    for number, key in ((4, A), (5, B)):
        flow = flows.add(key, delivery(number))
        assert flow is not None
        flows.line_up(flow, 0.0)
    flows.put_back(C, delivery(3), 1.0)
    flows.put_back(B, delivery(2), 1.0)
    assert in_line(flows) == [B, C, A]


def test_who_steps_back_has_the_same_place() -> None:
    flows = Flows()
    for number, key in enumerate([A, B]):
        flow = flows.add(key, delivery(number))
        assert flow is not None
        flows.line_up(flow, 5.0)
    first = flows.first()
    assert first is not None
    rank = first.rank
    assert rank is not None
    flows.step_out(first)
    flows.step_back(first, rank)
    assert first.since == 5.0
    assert in_line(flows) == [A, B]


def test_the_line_does_not_grow_with_what_is_gone() -> None:
    flows = Flows()
    eldest = flows.add(A, delivery(1))
    assert eldest is not None
    flows.line_up(eldest, 0.0)
    for number in range(2, 2000):
        flow = flows.add(B, delivery(number))
        assert flow is not None
        flows.line_up(flow, 0.0)
        flows.take(flow)
    assert len(flows._line) <= STALE + 4
    assert in_line(flows) == [A]


def test_flows_of_a_title() -> None:
    flows = Flows()
    for number, key in enumerate([A, B, C, B]):
        flows.add(key, delivery(number))
    assert [flow.key for flow in flows.of("CT_B")] == [B, C]
    assert flows.only(B) is None
    only = flows.only(A)
    assert only is not None
    flows.take(only)
    assert (flows.only(A), list(flows.of("CT_A"))) == (None, [])
    flows.clear()
    assert (len(flows), flows.first(), list(flows)) == (0, None, [])


def in_line(flows: Flows) -> list[Key]:
    """Who is in line; empties it."""
    found = []
    while (flow := flows.first()) is not None:
        found.append(flow.key)
        flows.step_out(flow)
    return found


def test_taking_out() -> None:
    flows = Flows()
    for number in range(9):
        flows.add(KEYS[number % 3], delivery(number))
    gone = flows.remove(lambda d: d.instance_id % 3 == 0 or d.instance_id == 4)
    assert sorted(d.instance_id for d in gone) == [0, 3, 4, 6]
    assert len(flows) == 5
    assert A not in flows.keys()  # noqa: SIM118
    assert drained(flows) == [1, 2, 5, 7, 8]
    assert flows.remove(lambda d: True) == []


steps = st.lists(
    st.tuples(st.sampled_from(["add", "back", "take", "remove"]), st.integers(0, 2), st.integers(0, 6)), max_size=60
)


@given(steps)
def test_any_order_of_events(steps: list[tuple[str, int, int]]) -> None:
    """Against a plain list of everything in the order that is promised."""
    flows, model, number = Flows(), list[tuple[Key, Delivery]](), 0
    put_back: set[int] = set()
    for what, key_number, n in steps:
        key = KEYS[key_number]
        if what == "add" or what == "back":
            number += 1
            entry = (key, delivery(number))
            if what == "add":
                flows.add(*entry)
            else:
                flows.put_back(*entry, 0.0)
            if what == "back":  # in front, in the order of their numbers
                model.insert(sum(d.instance_id in put_back for _, d in model), entry)
                put_back.add(number)
            else:
                model.append(entry)
        elif what == "take":
            allowed = KEYS[: n % 4]
            flow = flows.oldest(allowed.__contains__)
            expected = next((entry for entry in model if entry[0] in allowed), None)
            assert (flow is None) == (expected is None)
            if flow is not None and expected is not None:
                assert flows.take(flow) is expected[1]
                model.remove(expected)
        else:
            gone = flows.remove(seventh(n))
            assert {d.instance_id for d in gone} == {d.instance_id for _, d in model if d.instance_id % 7 == n}
            model = [entry for entry in model if entry[1].instance_id % 7 != n]
        assert len(flows) == len(model)
        assert flows.keys() == list(dict.fromkeys(key for key, _ in model))
