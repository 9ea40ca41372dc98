"""Killed 20 times at random moments under load, over one data folder: nothing acknowledged is lost."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from tests.support.crashing import Bench, make_bench, shares
from tests.support.exact_receiver import ReceiverHost
from tests.support.fixtures import MakeRouter

KILLS, LONGEST = 20, 0.6


def pause(seconds: float) -> None:
    """Let a random time pass: here the time itself is what is tested."""
    threading.Event().wait(seconds)


def kill_under_load(bench: Bench, turn: int, chance: random.Random) -> None:
    bench.router.start()
    fleet = bench.start_senders(shares(f"kill{turn}", senders=4, count=60, large=turn % 3 == 0))
    pause(chance.uniform(0.02, LONGEST))
    bench.router.kill()
    bench.note(fleet)


def kill_while_starting(bench: Bench, chance: random.Random) -> None:
    bench.router.start(wait=False)
    pause(chance.uniform(0.2, 1.5))
    bench.router.kill()


@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    bench = make_bench(make_router, receivers, tmp_path / "written")
    for turn in range(KILLS):
        if turn % 5 == 4:
            kill_while_starting(bench, chance)
        else:
            kill_under_load(bench, turn, chance)
    assert bench.acknowledged, "no kill came late enough for any image to be acknowledged"
    bench.router.start()
    bench.assert_nothing_lost()
    totals = bench.router.status()["totals"]
    assert totals["received"] >= len(bench.acknowledged)
    assert totals["held"] == totals["failed"] == 0
