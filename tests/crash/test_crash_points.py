"""Killed between any two steps of persistence: what was acknowledged arrives, and the router goes on by itself."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.crashing import Bench, crash_points, make_bench, shares, unacknowledged
from tests.support.exact_receiver import ReceiverHost, assert_all_there
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.killing import VARIABLE, Ordeal, kills_at, seeded
from tests.support.waiting import wait_until

PASSES = {
    "completion-committed": 3,
    "completion-written": 3,
    "file-removed": 6,
    "release-committed": 2,
    "stream-finished": 2,
    "stream-partly-written": 5,
}
"""Of which passes of a point some are chosen; of the others, of the first 12. Removals go in batches."""

OF_GROUPS = ("move-written", "move-committed")
"""Only passed where a member of a group fails: tests/interop/test_groups.py."""

OF_PROOF = ("proof-unasked", "proof-asked", "proof-reported", "proof-taken")
"""Only passed where a destination proves its deliveries: tests/interop/test_commitment.py."""

OF_ARCHIVE = ("archive-", "tier-")
"""Beginnings of those that are only passed with an archive: test_archive.py."""

OF_BATCHES = ("batch-",)
"""Of those that are only passed where folders are watched: test_batches.py."""

ELSEWHERE = (*OF_ARCHIVE, *OF_BATCHES)
POINTS = [p for p in crash_points() if p not in (*OF_GROUPS, *OF_PROOF) and not p.startswith(ELSEWHERE)]

KILLS = [3, pytest.param(50, marks=pytest.mark.long)]


def test_there_are_crash_points() -> None:
    assert len(POINTS) >= 10
    assert set(PASSES) <= set(POINTS)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("point", POINTS)
def test_killed_again_and_again(
    make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path, point: str, kills: int
) -> None:
    chance = seeded()
    ordeal = Ordeal(make_router, receivers, tmp_path / "written")
    kills_at(ordeal, point, PASSES.get(point, 12), kills, chance)
    ordeal.finish()
    print(f"{point}: {ordeal.figures()}")
    assert ordeal.kills == kills
    assert ordeal.acknowledged


# --- single crashes ---------------------------------------------------------------------------------------------------


@pytest.fixture
def bench(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> Bench:
    return make_bench(make_router, receivers, tmp_path / "written")


def crash(bench: Bench, spec: str, send: bool = True) -> None:
    """Start the router with a crash point, let senders run into it, and wait until it is dead."""
    bench.router.start(wait=send, **{VARIABLE: spec})
    fleet = bench.start_senders(shares(spec)) if send else None
    wait_until(lambda: not bench.router.running, 40, f"the crash at {spec}", bench.router.log_tail)
    assert bench.router.exit_status == -signal.SIGKILL
    if fleet is not None:
        bench.note(fleet)


def test_a_crash_during_each_step_of_the_recovery_of_another(bench: Bench) -> None:
    crash(bench, "admitted-unanswered:2")
    for spec in ("sent-unsettled", "settle-written", "settle-committed", "file-removed", "release-committed"):
        crash(bench, spec, send=False)
    bench.router.start()
    bench.assert_nothing_lost()


def test_what_was_not_acknowledged_can_be_sent_again(bench: Bench) -> None:
    crash(bench, "journal-committed:2")
    bench.router.start()
    again = unacknowledged(bench)
    assert again
    bench.acknowledged += send_all(bench.router.caller("AGAIN"), again, associations=2)
    bench.assert_nothing_lost()
    assert_all_there(bench.ends, bench.sent)


@pytest.mark.parametrize("point", ["file-created", "file-written", "file-synced", "stream-partly-written"])
def test_half_written_files_are_cleaned_up_and_counted_as_nothing(bench: Bench, point: str) -> None:
    crash(bench, point)
    assert bench.router.spool_files()
    bench.router.start()
    bench.assert_nothing_lost()
    status = bench.router.status()
    assert status["totals"]["held"] == status["totals"]["failed"] == 0
    assert status["spool"]["files"] == 0
