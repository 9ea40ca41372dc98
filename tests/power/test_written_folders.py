"""Folder destinations: what is called delivered outlives the power, whoever made the folder and though a sync fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.power.rounds import Rounds, make_rounds
from tests.support.exact_receiver import ReceiverHost
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.power_fs import PowerDisk
from tests.support.settings import QUICK_RETRY
from tests.support.synthetic import series

FOLDER = "/archive/written/PAT-1"


@pytest.fixture
def rounds(disk: PowerDisk, make_router: MakeRouter, receivers: ReceiverHost) -> Rounds:
    """A folder destination with one folder for each patient."""
    rounds = make_rounds(make_router, receivers, disk, seed=0)
    router = rounds.bench.router
    (written,) = (table for table in router.config["destination"] if table["kind"] == "folder")
    written |= {"layout": "{PatientID}/{SOPInstanceUID}.dcm", "retry": QUICK_RETRY}
    router.write_config()
    return rounds


def deliver_and_cut(rounds: Rounds) -> None:
    """Everything delivered, then the power fails."""
    bench = rounds.bench
    rounds.start(wait=True)
    bench.sent += series("one", 6)
    bench.acknowledged += send_all(bench.router.caller(), bench.sent, associations=2)
    bench.router.wait_drained()
    rounds.cut()
    assert not rounds.missing()
    rounds.assert_nothing_foreign()


def test_a_folder_that_a_killed_process_made_may_have_a_name_that_was_never_synced(
    rounds: Rounds, disk: PowerDisk
) -> None:
    Path(f"{disk.path}{FOLDER}").mkdir(parents=True)
    deliver_and_cut(rounds)


@pytest.mark.parametrize(
    ("pattern", "nth"),
    [(FOLDER, 1), (FOLDER, 4), (f"{FOLDER}/.*.part", 2), ("/archive/written", 1), ("/archive", 1), ("/", 2)],
)
def test_what_a_failed_sync_lost_is_written_again(rounds: Rounds, disk: PowerDisk, pattern: str, nth: int) -> None:
    disk.fail_sync(pattern, nth)
    deliver_and_cut(rounds)
