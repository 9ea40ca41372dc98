"""The power fails at any step, over one data folder: nothing acknowledged is lost, nothing damaged is sent."""

from __future__ import annotations

import random

import pytest

from tests.power.rounds import Rounds, make_rounds
from tests.support.exact_receiver import ReceiverHost
from tests.support.fixtures import MakeRouter
from tests.support.power_fs import PowerDisk

LONG = pytest.mark.long


def one_round(rounds: Rounds, turn: int) -> None:
    """Mostly under load; also during recovery, while results and releases are written, while files are reused."""
    chance = rounds.chance
    if turn % 5 == 2:
        rounds.while_starting(chance.randrange(40))
    elif turn % 5 == 4:
        rounds.while_settling(chance.randrange(160))
    elif turn % 5 == 1:
        rounds.while_reusing(chance.randrange(10, 200))
    else:
        rounds.under_load(chance.randrange(10, 400), large=turn % 10 == 3)


@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    ("cuts", "tear"),
    [
        pytest.param(15, False, id="15-all-unsynced-is-lost"),
        pytest.param(12, True, id="12-unsynced-is-torn"),
        pytest.param(500, False, id="500-all-unsynced-is-lost", marks=LONG),
        pytest.param(200, True, id="200-unsynced-is-torn", marks=LONG),
    ],
)
def test_nothing_acknowledged_is_lost(
    disk: PowerDisk, make_router: MakeRouter, receivers: ReceiverHost, cuts: int, tear: bool
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    rounds = make_rounds(make_router, receivers, disk, seed, tear)
    for turn in range(cuts):
        one_round(rounds, turn)
    bench = rounds.bench
    totals = rounds.settle()
    bench.assert_nothing_lost()
    rounds.assert_nothing_foreign()
    assert bench.acknowledged
    assert rounds.reused
    assert totals["received"] >= len(bench.acknowledged)
    assert totals["held"] == totals["failed"] == 0
    print(
        f"{cuts} power cuts ({'torn' if tear else 'dropped'}): {len(bench.acknowledged)} of {len(bench.sent)} images "
        f"acknowledged, 0 lost, {rounds.reused} written over others; "
        f"{rounds.lost.lost} of {rounds.lost.pending} unsynced writes and names were lost"
    )
