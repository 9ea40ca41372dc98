"""A destination's breaker: opens at the third failure, waits longer each time, comes back 1, 2, 4 ... lanes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncroute.core.retry import Backoff
from asyncroute.queue.breaker import LEAST, SHORT, THRESHOLD, Breaker

MOST = 10


def breaker(jitter: float = 1.0) -> Breaker:
    return Breaker(Backoff(), lambda: jitter)


def opened(jitter: float = 1.0, now: float = 100.0) -> Breaker:
    made = breaker(jitter)
    for _ in range(THRESHOLD):
        made.failed(now)
    return made


def test_a_healthy_destination_has_all_lanes() -> None:
    made = breaker()
    assert not made.open
    assert made.allowed(0.0, MOST) == MOST
    made.succeeded(1.0, MOST)
    assert made.allowed(1.0, MOST) == MOST


def test_the_first_failures_pause_briefly_and_leave_one_lane() -> None:
    made = breaker()
    for count in range(1, THRESHOLD):
        made.failed(100.0)
        assert not made.open
        assert made.allowed(100.0 + SHORT * count - 0.01, MOST) == 0
        assert made.allowed(100.0 + SHORT * count, MOST) == 1
    made.succeeded(102.0, MOST)
    assert made.allowed(102.0, MOST) == MOST


def test_a_success_in_between_begins_the_count_anew() -> None:
    made = breaker()
    for _ in range(10):
        made.failed(1.0)
        made.failed(2.0)
        made.succeeded(3.0, MOST)
    assert not made.open


@pytest.mark.parametrize(
    ("failure", "pause"),
    [(1, 5), (2, 10), (3, 20), (4, 40), (5, 80), (6, 160), (7, 320), (8, 600), (9, 600), (60, 600)],
)
def test_pauses_double_to_ten_minutes(failure: int, pause: float) -> None:
    made, now = opened(), 100.0
    for _ in range(failure - 1):
        now = made.until
        made.failed(now)
    assert made.open
    assert made.until == pytest.approx(now + pause)
    assert made.allowed(made.until - 0.01, MOST) == 0
    assert made.allowed(made.until, MOST) == 1


def test_full_jitter_has_a_floor() -> None:
    assert opened(0.0).until == pytest.approx(100.0 + LEAST)
    assert opened(0.5).until == pytest.approx(102.5)


def test_other_lanes_that_meet_the_same_end_do_not_lengthen_the_pause() -> None:
    made = opened()
    until = made.until
    for _ in range(20):
        made.failed(101.0)
    assert made.until == until
    made.failed(until)
    assert made.until == pytest.approx(until + 10)


@pytest.mark.parametrize("most", [1, 2, 3, 10, 16])
def test_it_comes_back_by_doubling(most: int) -> None:
    made = opened()
    now, lanes = made.until, []
    for _ in range(8):
        lanes.append(made.allowed(now, most))
        made.succeeded(now, most)
    expected = [min(1 << n, most) for n in range(8)]
    assert lanes == expected
    assert made.lanes is None


def test_a_failure_while_coming_back_is_counted_from_one() -> None:
    made = opened()
    now = made.until
    made.succeeded(now, MOST)
    assert made.allowed(now, MOST) == 2
    made.failed(now)
    assert not made.open
    assert made.allowed(now + SHORT, MOST) == 1
    made.failed(now + 1)
    made.failed(now + 2)
    assert made.open
    assert made.until == pytest.approx(now + 2 + 5)


def test_the_time_down_is_remembered() -> None:
    """It does not count for ``give_up``."""
    made = breaker()
    made.failed(0.0)
    assert made.down_since(0.0, 50.0) == 0
    made.failed(10.0)
    made.failed(20.0)
    assert made.down_since(0.0, 50.0) == 30
    assert made.down_since(30.0, 50.0) == 20
    made.failed(45.0)
    made.succeeded(60.0, MOST)
    assert made.down_since(0.0, 1000.0) == 40
    assert made.down_since(50.0, 1000.0) == 10
    assert made.down_since(60.0, 1000.0) == 0
    for at in (100.0, 101.0, 102.0):
        made.failed(at)
    assert made.down_since(0.0, 110.0) == 48
    made.succeeded(110.0, MOST)
    assert made.down_since(0.0, 1000.0) == 48


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=80), st.floats(0, 0.999), st.integers(1, 20))
def test_it_never_gets_stuck(events: list[tuple[bool, float]], jitter: float, most: int) -> None:
    """Whatever happened: after the pause at least one lane may work, never more than the window."""
    made, now = breaker(jitter), 0.0
    for good, wait in events:
        now += wait
        (made.succeeded(now, most) if good else made.failed(now))
        assert 0 <= made.allowed(now, most) <= most
        assert made.until - now <= 600
        assert made.allowed(max(made.until, now), most) >= 1
        assert 0 <= made.down_since(0.0, now) <= now + 1e-9


def test_the_destination_s_own_backoff() -> None:
    made = Breaker(Backoff(first=0.3, factor=3, max=2), lambda: 1.0)
    pauses = []
    for _ in range(6):
        now = made.until
        made.failed(now)
        pauses.append(made.until - now)
    assert pauses == pytest.approx([0.3, 0.3, 0.3, 0.9, 2, 2])
