"""The test can see: with any one of the syncs switched off, a power cut loses images that were acknowledged."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.power.rounds import Rounds, make_rounds
from tests.support.crashing import LARGE
from tests.support.exact_receiver import ReceiverHost
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.power_fs import PowerDisk
from tests.support.synthetic import image, mixed

ON_THE_WAY = ["file", "streamed-file", "folder", "new-folder", "spool-folder", "data-folder", "journal"]
OVER_OTHERS = ["file", "folder", "journal"]
WRITTEN = ["written-file", "written-name", "written-folder"]
MOST_CUTS = 3
SAFE_CUTS = [2, pytest.param(10, marks=[pytest.mark.long, pytest.mark.timeout(600)])]


@pytest.fixture
def rounds(disk: PowerDisk, make_router: MakeRouter, receivers: ReceiverHost) -> Rounds:
    return make_rounds(make_router, receivers, disk, seed=0)


def cut_after(rounds: Rounds, delivered: bool, what: Sequence[Sequence[Image]]) -> None:
    """Send, wait for the acknowledgements (``delivered``: until all has left the spool), and cut the power."""
    rounds.start(wait=True)
    fleet = rounds.bench.start_senders(what)
    fleet.join().assert_clean()
    if delivered:
        rounds.bench.router.wait_drained()
    rounds.cut(fleet)


def one_cut(rounds: Rounds, turn: int, delivered: bool) -> int:
    """Images that are lost when the power fails while no destination takes any, or after everything is delivered."""
    bench = rounds.bench
    for end in () if delivered else bench.ends:
        end.stop()
    cut_after(rounds, delivered, [mixed(f"{turn}/{n}", 4) for n in range(2)] + [[image(f"{turn}", 0, LARGE)]])
    for end in () if delivered else bench.ends:
        end.start()
    rounds.settle()
    lost = rounds.missing()
    bench.router.kill()
    return len(lost)


def losses(rounds: Rounds, delivered: bool, program: str, cuts: int = MOST_CUTS) -> int:
    """Images lost in at most so many cuts with this build; it stops at the first loss."""
    rounds.bench.router.program = ("tests.support.unsafe_build", program)
    for turn in range(cuts):
        lost = one_cut(rounds, turn, delivered)
        if lost:
            print(f"{program}: {lost} of {len(rounds.bench.acknowledged)} acknowledged lost in cut {turn + 1}")
            return lost
    print(f"{program}: nothing lost in {cuts} cuts")
    return 0


@pytest.mark.parametrize("cuts", SAFE_CUTS)
@pytest.mark.parametrize("delivered", [False, True])
def test_a_safe_build_loses_nothing(rounds: Rounds, delivered: bool, cuts: int) -> None:
    assert losses(rounds, delivered, "nothing", cuts) == 0
    rounds.assert_nothing_foreign()


@pytest.mark.parametrize("program", ON_THE_WAY)
def test_a_sync_less_on_the_way_in_loses_images(rounds: Rounds, program: str) -> None:
    assert losses(rounds, False, program)
    rounds.assert_nothing_foreign()


@pytest.mark.parametrize("program", WRITTEN)
def test_a_sync_less_in_a_folder_destination_loses_images(rounds: Rounds, program: str) -> None:
    assert losses(rounds, True, program)


def one_cut_over_others(rounds: Rounds) -> int:
    """Images that are lost when those that were written over delivered ones meet a power cut."""
    bench = rounds.bench
    rounds.start(wait=True)
    rounds.wave()
    for end in bench.ends:
        end.stop()
    fleet = rounds.send(large=False)
    fleet.join().assert_clean()
    rounds.count_reused()
    rounds.cut(fleet)
    for end in bench.ends:
        end.start()
    rounds.settle()
    lost = rounds.missing()
    bench.router.kill()
    return len(lost)


def losses_over_others(rounds: Rounds, program: str, cuts: int = MOST_CUTS) -> int:
    rounds.bench.router.program = ("tests.support.unsafe_build", f"{program}+spare")
    lost = 0
    while not lost and rounds.cuts < cuts:
        lost = one_cut_over_others(rounds)
    assert rounds.reused
    acknowledged = len(rounds.bench.acknowledged)
    print(f"{program}: {rounds.reused} images written over others, {lost} of {acknowledged} acknowledged lost")
    rounds.assert_nothing_foreign()
    return lost


@pytest.mark.parametrize("cuts", SAFE_CUTS)
def test_a_safe_build_loses_nothing_that_was_written_over_others(rounds: Rounds, cuts: int) -> None:
    assert losses_over_others(rounds, "nothing", cuts) == 0


@pytest.mark.parametrize("program", OVER_OTHERS)
def test_a_sync_less_loses_what_was_written_over_others(rounds: Rounds, program: str) -> None:
    assert losses_over_others(rounds, program)
