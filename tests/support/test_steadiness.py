"""The judge of growth: it sees a small leak in noise, and none where there is none."""

from __future__ import annotations

import random

import pytest

from tests.support.steadiness import growth, quarter, slope


def noisy(per_step: float, noise: float, steps: int = 90) -> list[float]:
    chance = random.Random(7)
    odd = dict.fromkeys(range(0, steps, 17), 50 * noise)  # some single values far off
    return [100 + per_step * n + chance.uniform(-noise, noise) + odd.get(n, 0) for n in range(steps)]


@pytest.mark.parametrize("per_step", [0.0, 0.5, -0.25])
def test_a_slope_is_found_in_noise(per_step: float) -> None:
    values = noisy(per_step, 2.0)
    steps = [float(n) for n in range(len(values))]
    assert slope(steps, values) == pytest.approx(per_step, abs=0.05)
    assert growth(steps, values) == pytest.approx(per_step * 89, abs=4)


def test_steps_up_that_stay_are_growth() -> None:
    stairs = [float(n // 10) for n in range(100)]
    assert growth([float(n) for n in range(100)], stairs) == pytest.approx(9, abs=1.5)


def test_one_jump_while_warming_up_is_none() -> None:
    assert growth([float(n) for n in range(100)], [0.0] * 8 + [30.0] * 92) == 0


@pytest.mark.parametrize("size", [4, 5, 90])
def test_quarters_are_all_of_it(size: int) -> None:
    values = [float(n) for n in range(size)]
    parts = [quarter(values, n) for n in range(4)]
    assert all(parts)
    assert [value for part in parts for value in part] == values


def test_nothing_measured_does_not_grow() -> None:
    assert growth([], []) == 0
    assert slope([1.0, 1.0], [1.0, 2.0]) == 0
