"""Pruning after the clock was wrong: what bears an impossible date is neither forgotten early nor in the way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from asyncroute.journal import prune
from asyncroute.journal.base import Group
from asyncroute.journal.sqlite import SqliteJournal
from tests.contract.made import delivered, image

DAY = 86400.0
YEARS = 3650 * DAY


def forgotten(folder: Path, ages: Sequence[float], days: float, limit: int = 100) -> list[int]:
    """The images that go where all are over; ``ages`` in days, in the order of receipt."""
    now = time.time()
    journal = SqliteJournal.open(folder, "process-crash")
    numbers = range(1, len(ages) + 1)
    journal.commit(Group([image(n, "a", received_at=now - age * DAY) for n, age in zip(numbers, ages, strict=True)]))
    journal.commit(Group(settlements=[delivered(n, "a") for n in numbers], released=numbers))
    journal.prune(now - days * DAY, limit)
    left = {n for (n,) in journal._connection.execute("SELECT id FROM instance").fetchall()}
    journal.close()
    return [n for n in numbers if n not in left]


@pytest.mark.parametrize(
    ("ages", "gone"),
    [
        ([40, 35, 20, 1], [1, 2]),
        ([40, -3650, 35, 20, 1], [1, 2, 3]),  # between two old ones: as old as they
        ([-3650, -3650, 40, 1], [1, 2, 3]),
        ([40, -3650, 20, 1], [1]),  # perhaps as young as the next
        ([-3650, 20], []),
        ([-3650], []),
        ([40, 20, 3650, 3650], [1]),  # the clock was years behind: not reached before what came earlier
    ],
)
def test_dates(tmp_path: Path, ages: Sequence[float], gone: Sequence[int]) -> None:
    assert forgotten(tmp_path, ages, 30) == gone


def test_many_impossible_dates_take_many_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "LOOK", 10)
    assert forgotten(tmp_path, [-3650] * 30, 30) == []


def test_the_newest_image(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path, "process-crash")
    assert journal.newest() is None
    journal.commit(Group([image(1, "a", received_at=50.0), image(2, "a", received_at=20.0)]))
    assert journal.newest() == 20.0
    journal.close()
