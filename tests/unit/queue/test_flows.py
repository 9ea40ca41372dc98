"""The order of ready deliveries: first in, first out within a key, the oldest head first between keys."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from asyncroute.core.model import Delivery
from asyncroute.forward.base import Key
from asyncroute.queue.flows import Flow, Flows
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
    flows.put_back(B, delivery(8))
    flows.put_back(A, first)
    flows.put_back(A, second)
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


def test_being_passed_over_is_forgotten_once_it_went() -> None:
    flows = Flows()
    flows.add(A, delivery(1))
    flows.add(A, delivery(2))
    flow = oldest(flows)
    flow.skipped = 5
    flows.take(flow)
    assert flow.skipped == 0


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
            (flows.add if what == "add" else flows.put_back)(*entry)
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
