"""A sync that fails (EIO): nothing is acknowledged that may be lost, nothing is synced twice, intake stops, loudly."""

from __future__ import annotations

import random

import pytest

from tests.power.rounds import Rounds, make_rounds
from tests.support.crashing import LARGE, shares
from tests.support.exact_receiver import ReceiverHost, assert_all_there
from tests.support.exact_sender import Rejected, send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.power_fs import PowerDisk
from tests.support.router import run_cli
from tests.support.synthetic import image, series
from tests.support.waiting import wait_until

OUT_OF_RESOURCES = 0xA700
DATA = "/site/node/data"
FILE, FOLDER, LOG = f"{DATA}/spool/*.dcm", f"{DATA}/spool/000000", f"{DATA}/journal.db-wal"
SMALL = image("small", 0)
FAILURES = [
    pytest.param(FILE, SMALL, id="file"),
    pytest.param(FILE, image("large", 0, LARGE), id="streamed-file"),
    pytest.param(FOLDER, SMALL, id="folder"),
    pytest.param(LOG, SMALL, id="journal"),
]


@pytest.fixture
def rounds(disk: PowerDisk, make_router: MakeRouter, receivers: ReceiverHost) -> Rounds:
    """The router runs; one of its destinations does not."""
    rounds = make_rounds(make_router, receivers, disk, seed=0)
    rounds.bench.ends[0].stop()
    rounds.start(wait=True)
    return rounds


def refused(rounds: Rounds, pattern: str, image: Image) -> None:
    """The next sync fails, this image's or that of a result: an association that is open then hears 0xA700 for this
    image and for the one after it; new ones hear RJ."""
    router, later = rounds.bench.router, series("later", 1)
    rounds.bench.sent += [image, *later]
    with router.caller("OPEN").associate([image, *later]) as association:
        rounds.disk.fail_sync(pattern)
        for each in (image, *later):
            result = association.store(each)
            assert result.status == OUT_OF_RESOURCES, hex(result.status)
            assert result.comment
        association.release()
    with pytest.raises(Rejected) as rejected:
        router.caller("NEW").associate(later)
    assert rejected.value.code == (2, 3, 2)


def loud(rounds: Rounds) -> None:
    """It is in the log as CRITICAL, and ``asyncroute status`` says what is wrong and ends with 1."""
    router = rounds.bench.router
    wait_until(lambda: " CRITICAL " in router.log_tail(), 20, "a CRITICAL line in the log", router.log_tail)
    shown = run_cli("status", "-c", router.config_file)
    assert shown.returncode == 1, shown.stdout
    assert "restart" in shown.stdout, shown.stdout


def not_synced_again(rounds: Rounds, pattern: str) -> None:
    """What could not be synced was synced once, and never after."""
    syncs = rounds.disk.syncs()
    failed = next(n for n, sync in enumerate(syncs) if not sync.good)
    again = [sync for sync in syncs[failed + 1 :] if sync.number == syncs[failed].number]
    assert not again, f"{pattern} was synced again after a failed sync: {again}"


@pytest.mark.parametrize(("pattern", "image"), FAILURES)
@pytest.mark.parametrize("ending", ["stop", "cut"])
def test_nothing_is_acknowledged_and_intake_stops(rounds: Rounds, pattern: str, image: Image, ending: str) -> None:
    bench, router = rounds.bench, rounds.bench.router
    safe = send_all(router.caller("BEFORE"), series("safe", 6), associations=2)
    bench.sent += safe
    bench.acknowledged += safe
    refused(rounds, pattern, image)
    loud(rounds)
    if pattern != LOG:
        bench.ends[0].start()
        router.wait_status(lambda s: not s["totals"]["waiting"], 30, "what was safe is delivered")
        assert_all_there(bench.ends, safe)
    if ending == "stop":
        router.stop(deadline=40)
    not_synced_again(rounds, pattern)
    rounds.cut() if ending == "cut" else None
    if pattern == LOG:
        bench.ends[0].start()
    after_restart(rounds)


def after_restart(rounds: Rounds) -> None:
    """Everything works again, nothing was lost, and nothing is left that a person would have to look at."""
    bench = rounds.bench
    rounds.start(wait=True)
    again = send_all(bench.router.caller("AGAIN"), series("again", 4))
    bench.sent += again
    bench.acknowledged += again
    bench.assert_nothing_lost()
    rounds.assert_nothing_foreign()
    totals = bench.router.status()["totals"]
    assert totals["failed"] == totals["held"] == 0


@pytest.mark.parametrize("turns", [2, pytest.param(20, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
@pytest.mark.parametrize("pattern", [FILE, FOLDER, LOG], ids=["file", "folder", "journal"])
def test_many_senders_meet_a_failing_sync_and_a_power_cut(
    disk: PowerDisk, make_router: MakeRouter, receivers: ReceiverHost, pattern: str, turns: int
) -> None:
    chance = random.Random(pattern)
    rounds = make_rounds(make_router, receivers, disk, seed=0)
    refusals = 0
    most = 4 if pattern == FOLDER else 12  # its names stay where files are used again: it is synced only at first
    for turn in range(turns):
        rounds.start(wait=True)
        disk.fail_sync(pattern, nth=chance.randrange(2, most))
        fleet = rounds.bench.start_senders(shares(f"{turn}", senders=6, count=12, large=False))
        fleet.join()
        refusals += sum(len(report.refused) for report in fleet.reports)
        not_synced_again(rounds, pattern)
        rounds.cut(fleet)
    assert refusals
    rounds.settle()
    rounds.bench.assert_nothing_lost()
    rounds.assert_nothing_foreign()
    acknowledged = len(rounds.bench.acknowledged)
    print(f"failing syncs of {pattern}: {refusals} images refused, {acknowledged} acknowledged, 0 lost")


def test_names_that_a_failed_first_start_made_are_synced_by_the_next(
    disk: PowerDisk, make_router: MakeRouter, receivers: ReceiverHost
) -> None:
    rounds = make_rounds(make_router, receivers, disk, seed=0)
    bench, router = rounds.bench, rounds.bench.router
    bench.ends[0].stop()
    disk.fail_sync("/")
    rounds.start(wait=False)
    assert router.wait_exit() == 1, router.log_tail()
    rounds.start(wait=True)
    bench.acknowledged += send_all(router.caller(), series("first", 3))
    bench.sent += bench.acknowledged
    rounds.cut()
    bench.ends[0].start()
    rounds.settle()
    bench.assert_nothing_lost()
