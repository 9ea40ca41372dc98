"""Killed at random moments under eight senders, over one data folder: nothing acknowledged is lost."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from tests.support.exact_receiver import ReceiverHost
from tests.support.fixtures import MakeRouter
from tests.support.killing import Ordeal, load, seeded

SENDERS, LONGEST, STARTING = 8, 0.5, 0.2
ROUNDS = [
    pytest.param(0, 16, id="short"),
    *(pytest.param(n, 50, id=f"{n}", marks=pytest.mark.long) for n in range(20)),
]
"""Number and kills. The long form is 20 rounds, each on a data folder of its own: 1,000 kills."""


def pause(seconds: float) -> None:
    """Let a random time pass: here the time itself is what is tested."""
    threading.Event().wait(seconds)


def kill_under_load(ordeal: Ordeal, turn: int, chance: random.Random) -> None:
    fleet = ordeal.send(load(f"kill{turn}", SENDERS, count=20, large=turn % 5 == 0)) if ordeal.start() else None
    pause(chance.uniform(0.02, LONGEST))
    ordeal.router.kill()
    if fleet is not None:
        ordeal.note(fleet)


def kill_while_starting(ordeal: Ordeal, chance: random.Random) -> None:
    ordeal.router.start(wait=False)
    pause(chance.uniform(0.0, STARTING))
    ordeal.router.kill()
    ordeal.starts_cut_short += 1


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("number", "kills"), ROUNDS)
def test_nothing_acknowledged_is_lost(
    make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path, number: int, kills: int
) -> None:
    chance = seeded()
    ordeal = Ordeal(make_router, receivers, tmp_path / "written")
    for turn in range(kills):
        if turn % 10 == 9:
            kill_while_starting(ordeal, chance)
        else:
            kill_under_load(ordeal, turn, chance)
        ordeal.after_kill()
    ordeal.finish()
    print(f"random, round {number}: {ordeal.figures()}")
    assert ordeal.kills == kills
    assert ordeal.acknowledged, "no kill came late enough for any image to be acknowledged"
