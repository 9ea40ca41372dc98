"""The order of ready deliveries: first in, first out within a key, the oldest head first between keys."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncroute.core.model import Delivery
from asyncroute.core.priority import HIGH, LOW, NORMAL, STAT
from asyncroute.forward.base import Key
from asyncroute.journal.base import Claim
from asyncroute.queue import beyond
from asyncroute.queue.classes import STEP
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


def keys(flows: Flows) -> list[Key]:
    return [flow.key for flow in sorted(flows.each(), key=flows.order)]


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
    assert keys(flows) == []


def test_what_is_put_back_comes_first() -> None:
    flows = Flows()
    for number in range(4):
        flows.add(A, delivery(number))
    first, second = flows.take(oldest(flows)), flows.take(oldest(flows))
    flows.add(B, delivery(9))
    flows.put_back(B, delivery(8), 0.0)
    flows.put_back(A, first, 0.0)
    flows.put_back(A, second, 0.0)
    assert drained(flows) == [0, 1, 8, 2, 9, 3], "in the order in which they were received; then by turns"


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
    assert keys(flows) == [A, B]


def test_one_flow_alone_may_be_forbidden() -> None:
    flows = Flows()
    flows.add(A, delivery(1))
    assert flows.oldest(lambda key: False) is None
    assert oldest(flows).key == A


def test_keys_by_their_oldest() -> None:
    flows = Flows()
    for number, key in enumerate([C, A, B, A]):
        flows.add(key, delivery(number))
    assert keys(flows) == [C, A, B]
    assert [flows.keys(title) for title in ("CT_A", "CT_B", "MR")] == [[A], [C, B], []]


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
    assert A not in keys(flows)
    assert drained(flows) == [1, 2, 7, 5, 8]
    assert flows.remove(lambda d: True) == []


steps = st.lists(
    st.tuples(st.sampled_from(["add", "back", "take", "remove"]), st.integers(0, 2), st.integers(0, 6)), max_size=60
)


class Plain:
    """The order that is promised, as lists: turns between the keys, what was put back before all else."""

    def __init__(self) -> None:
        self.turns: dict[Key, int] = {}
        self.waiting: dict[Key, list[Delivery]] = {}
        self.back: set[int] = set()
        self.count = 0

    def add(self, key: Key, it: Delivery, back: bool) -> None:
        self.count += 1
        waiting = self.waiting.setdefault(key, [])
        if back:
            waiting.insert(sum(d.instance_id in self.back for d in waiting), it)
            self.back.add(it.instance_id)
        else:
            waiting.append(it)
        if back or len(waiting) == 1:
            self.turn(key)

    def turn(self, key: Key) -> None:
        self.count += 1
        first = self.waiting[key][0].instance_id
        self.turns[key] = first - 10_000 if first in self.back else self.count

    def keys(self) -> list[Key]:
        return sorted(self.waiting, key=lambda key: self.turns[key])

    def take(self, key: Key) -> Delivery:
        it = self.waiting[key].pop(0)
        if self.waiting[key]:
            self.turn(key)
        else:
            del self.waiting[key]
        return it

    def remove(self, unwanted: Callable[[Delivery], bool]) -> None:
        kept = {key: [d for d in some if not unwanted(d)] for key, some in self.waiting.items()}
        self.waiting = {key: some for key, some in kept.items() if some}


@given(steps)
def test_any_order_of_events(steps: list[tuple[str, int, int]]) -> None:
    flows, plain = Flows(), Plain()
    for number, (what, key_number, n) in enumerate(steps):
        key = KEYS[key_number]
        if what == "add":
            plain.add(key, made := delivery(number), False)
            flows.add(key, made)
        elif what == "back":
            plain.add(key, made := delivery(number), True)
            flows.put_back(key, made, 0.0)
        elif what == "take":
            allowed = KEYS[: n % 4]
            flow = flows.oldest(allowed.__contains__)
            expected = next((k for k in plain.keys() if k in allowed), None)  # noqa: SIM118
            assert (flow and flow.key) == expected
            if flow is not None and expected is not None:
                assert flows.take(flow) is plain.take(expected)
        else:
            flows.remove(seventh(n))
            plain.remove(seventh(n))
        assert len(flows) == flows.held == sum(map(len, plain.waiting.values()))
        assert keys(flows) == plain.keys()


# --- classes, strands, studies ----------------------------------------------------------------------------------------


def one(number: int, study: str = "1", priority: int = NORMAL, aet: str = "CT_A") -> Delivery:
    return delivery(number, study_uid=study, priority=priority, calling_aet=aet)


def test_studies_take_turns_and_so_do_sources_of_one_study() -> None:
    flows = Flows()
    for number in range(4):
        flows.add(A, one(number))
    for number, study, aet in [(4, "2", "CT_A"), (5, "2", "CT_A"), (6, "1", "CT_B"), (7, "3", "CT_A")]:
        flows.add(A, one(number, study, aet=aet))
    assert drained(flows) == [0, 4, 6, 7, 1, 5, 2, 3]


def test_studies_take_turns_between_keys() -> None:
    flows = Flows()
    for number in range(3):
        flows.add(A, one(number))
    for number in range(3, 6):
        flows.add(B, one(number, "2"))
    assert drained(flows) == [0, 3, 1, 4, 2, 5]


def test_the_most_urgent_class_goes_first() -> None:
    flows = Flows()
    for number, priority in enumerate([LOW, NORMAL, HIGH, STAT, NORMAL, STAT]):
        flows.add(KEYS[number % 3], one(number, str(number), priority))
    assert flows.classes.mixed
    assert drained(flows) == [3, 5, 2, 1, 4, 0]
    assert not flows.classes.mixed


def test_in_line_the_most_urgent_class_comes_first() -> None:
    flows = Flows()
    for number, (key, priority) in enumerate([(A, NORMAL), (B, LOW), (C, HIGH)]):
        flow = flows.add(key, one(number, priority=priority))
        assert flow is not None
        flows.line_up(flow, 0.0)
    assert in_line(flows) == [C, A, B]


def test_what_has_waited_long_takes_turns_with_what_is_more_urgent() -> None:
    flows = Flows()
    for number in range(6):
        flows.add(A, one(number, priority=STAT if number < 3 else LOW))
    flows.classes.age(0.0, {STAT: 9 * STEP, LOW: 3 * STEP - 1})
    assert flows.take(oldest(flows)).instance_id == 0
    flows.classes.age(1.0, {STAT: 9 * STEP, LOW: 3 * STEP})
    assert drained(flows) == [3, 1, 4, 2, 5]
    flows.add(A, one(7, priority=LOW))
    flows.add(A, one(8, priority=STAT))
    assert drained(flows) == [8, 7], "another one of its class has not waited"


def test_a_study_that_has_enough_under_way_is_set_aside() -> None:
    flows = Flows()
    flows.limit(2, ["1"])
    for number in range(3):
        flows.add(A, one(number))
    flows.add(B, one(3))
    flows.add(A, one(4, "2"))
    flows.begun("1")
    flows.add(C, one(5, priority=STAT))
    assert (len(flows), flows.held, keys(flows), flows.may_begin("1")) == (1, 6, [A], False)
    assert (flows.held_of(STAT), flows.held_of(LOW), flows.holds(A, one(0).strand)) == (1, 6, 4)
    assert sorted(d.instance_id for d in flows) == list(range(6))
    flows.put_back(A, one(6), 0.0)
    assert [d.instance_id for d in flows.remove(lambda d: d.instance_id in {1, 3, 4})] == [4, 1, 3]
    assert (len(flows), flows.held, keys(flows)) == (0, 4, [])
    assert [flow.key for flow in flows.ended("1")] == [A, C]
    assert drained(flows) == [5, 6, 0, 2]


def test_no_study_is_no_limit() -> None:
    flows = Flows()
    flows.limit(1, [""])
    flows.add(A, one(1, ""))
    flows.begun("")
    assert drained(flows) == [1]


def test_a_strand_that_ends_here_and_goes_on_in_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beyond, "LEAST", 3)
    flows = Flows()
    flows.beyond.read(Claim([]))
    flows.beyond.leave(one(0).strand)
    for number, study in enumerate(["2", "1", "2", "2"]):
        flows.add(A, one(number, study))
    assert flows.take(oldest(flows)).instance_id == 0
    assert not flows.beyond.due
    flows.take(oldest(flows))
    assert not flows.beyond.due, "few have begun since"
    flows.take(oldest(flows))
    assert flows.beyond.due
    flows.beyond.read(Claim([], True, frozenset({one(0).strand}), partial=True))
    assert not flows.beyond.due, "others would be next"


def test_a_strand_that_ends_while_all_else_is_less_urgent_is_read_at_once() -> None:
    flows = Flows()
    flows.beyond.read(Claim([], True, frozenset({one(0, priority=STAT).strand})))
    flows.add(A, one(0))
    flows.add(A, one(1, priority=STAT))
    assert flows.take(oldest(flows)).instance_id == 1
    assert flows.beyond.due
    flows.beyond.reads()
    assert not flows.beyond.due
    assert one(0, priority=STAT).strand in flows.beyond
    flows.beyond.read(Claim([one(2, priority=STAT)]))
    assert one(0, priority=STAT).strand not in flows.beyond


def test_before_the_journal_has_answered_any_strand_may_have_more() -> None:
    flows = Flows()
    assert one(0).strand in flows.beyond
    flows.beyond.read(Claim([]))
    assert one(0).strand not in flows.beyond


def test_of_very_many_strands_any_may_have_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beyond, "MOST", 2)
    flows = Flows()
    flows.beyond.read(Claim([]))
    flows.beyond.leave(one(0, "1").strand)
    assert one(0, "9").strand not in flows.beyond
    flows.beyond.leave(one(0, "2").strand)
    flows.beyond.leave(one(0, "3").strand)
    assert one(0, "9").strand in flows.beyond
