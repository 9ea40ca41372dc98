"""Waits between attempts."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncroute.core.retry import Backoff

BACKOFFS = st.builds(
    Backoff,
    first=st.floats(0.1, 600),
    factor=st.floats(1, 100),
    max=st.floats(600, 86400),
)


def test_ceilings_double_up_to_the_longest() -> None:
    assert [Backoff().ceiling(n) for n in range(1, 10)] == [5, 10, 20, 40, 80, 160, 320, 600, 600]


@pytest.mark.parametrize("failures", [0, 1])
def test_the_first_wait_is_the_shortest(failures: int) -> None:
    assert Backoff(first=3, max=10).ceiling(failures) == 3


@pytest.mark.parametrize("failures", [1, 5, 10**6, 10**300])
def test_a_factor_of_one_keeps_the_wait(failures: int) -> None:
    assert Backoff(first=3, factor=1, max=10).ceiling(failures) == 3
    assert Backoff(first=3, factor=1, max=3).ceiling(failures) == 3


@given(BACKOFFS, st.integers(1, 10**9))
def test_ceilings_rise_and_stay_within_bounds(backoff: Backoff, failures: int) -> None:
    assert backoff.first <= backoff.ceiling(failures) <= backoff.ceiling(failures + 1) <= backoff.max
    assert backoff.ceiling(10**9) == (backoff.max if backoff.factor > 1.001 else backoff.ceiling(10**9))


@given(BACKOFFS, st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_jitter_is_full(backoff: Backoff, failures: int, chance: float) -> None:
    assert backoff.delay(failures, lambda: chance) == pytest.approx(chance * backoff.ceiling(failures))


def test_waits_spread_over_the_whole_range() -> None:
    chance = random.Random(1)
    waits = [Backoff().delay(8, chance.random) for _ in range(1000)]
    assert min(waits) < 30
    assert max(waits) > 570
    assert 270 < sum(waits) / len(waits) < 330


@pytest.mark.parametrize(
    ("backoff", "attempts", "age", "exhausted"),
    [
        (Backoff(), 10**6, 10**9, False),
        (Backoff(attempts=3), 2, 0, False),
        (Backoff(attempts=3), 3, 0, True),
        (Backoff(attempts=3), 4, 0, True),
        (Backoff(give_up=60), 0, 59.9, False),
        (Backoff(give_up=60), 0, 60, True),
        (Backoff(attempts=1, give_up=60), 0, 0, False),
    ],
)
def test_giving_up(backoff: Backoff, attempts: int, age: float, exhausted: bool) -> None:
    assert backoff.exhausted(attempts, age) is exhausted


@pytest.mark.parametrize(
    "values",
    [
        {"first": 0},
        {"first": -1},
        {"first": 11, "max": 10},
        {"max": math.inf},
        {"factor": 0.5},
        {"factor": math.inf},
        {"attempts": -1},
        {"give_up": 0},
        {"first": math.nan},
        {"factor": math.nan},
        {"give_up": math.nan},
    ],
)
def test_impossible_values_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="impossible backoff"):
        Backoff(**values)  # type: ignore[arg-type]
