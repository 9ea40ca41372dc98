"""The date by which history is forgotten: a jump ahead has to stand for a day before it counts."""

from __future__ import annotations

import pytest

from asyncroute.core.calendar import BELIEVED_AFTER, SLACK, Calendar

T0 = 1_700_000_000.0
DAY = 86400.0
YEARS = 3650 * DAY


def test_it_follows_the_clock() -> None:
    calendar = Calendar(T0, 5.0, None)
    for hours in range(0, 24 * 60, 7):
        assert calendar.now(T0 + hours * 3600, 5.0 + hours * 3600) == T0 + hours * 3600


def test_a_drift_is_no_jump() -> None:
    calendar = Calendar(T0, 0.0, None)
    for day in range(1, 400):
        wall = T0 + day * (DAY + 60)
        assert calendar.now(wall, day * DAY) == pytest.approx(wall)


@pytest.mark.parametrize("jump", [2 * SLACK, DAY, YEARS])
def test_a_jump_ahead_is_not_believed_until_it_has_stood_for_a_day(jump: float) -> None:
    calendar = Calendar(T0, 0.0, None)
    for elapsed in (600.0, BELIEVED_AFTER - 600):
        assert calendar.now(T0 + jump + elapsed, elapsed) == T0 + elapsed
    later = 600.0 + BELIEVED_AFTER
    assert calendar.now(T0 + jump + later, later) == T0 + jump + later


def test_a_jump_ahead_that_is_corrected_leaves_nothing() -> None:
    calendar = Calendar(T0, 0.0, None)
    calendar.now(T0 + YEARS, 0.0)
    assert calendar.now(T0 + 0.5 * DAY, 0.5 * DAY) == T0 + 0.5 * DAY
    assert calendar.now(T0 + YEARS + 1.2 * DAY, 1.2 * DAY) == T0 + 1.2 * DAY  # the day begins anew


@pytest.mark.parametrize("jump", [-60.0, -DAY, -YEARS])
def test_a_date_that_is_set_back_counts_at_once(jump: float) -> None:
    calendar = Calendar(T0, 0.0, None)
    assert calendar.now(T0 + jump + 600, 600.0) == T0 + jump + 600
    assert calendar.now(T0 + 1200, 1200.0) == T0 + 1200


def test_a_jump_between_two_runs() -> None:
    calendar = Calendar(T0 + YEARS, 7.0, T0)
    assert calendar.now(T0 + YEARS + 600, 607.0) == T0 + 600
    assert calendar.now(T0 + 1200, 1207.0) == T0 + 1200


def test_a_long_stop_counts_after_a_day() -> None:
    calendar = Calendar(T0 + 40 * DAY, 0.0, T0)
    calendar.now(T0 + 40 * DAY, 0.0)
    assert calendar.now(T0 + 41 * DAY, DAY) == T0 + 41 * DAY


def test_a_journal_whose_last_date_is_still_to_come() -> None:
    calendar = Calendar(T0, 0.0, T0 + YEARS)
    assert calendar.now(T0 + 600, 600.0) == T0 + 600
