"""Files that a power cut has torn: every one of them is caught before it is sent, and nothing else is held back."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from tests.power.rounds import Rounds, data_digest, make_rounds
from tests.support.crashing import LARGE
from tests.support.exact_receiver import ReceiverHost, received
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.power_fs import PowerDisk
from tests.support.router import run_cli
from tests.support.synthetic import image, mixed

CUTS = [2, pytest.param(10, marks=pytest.mark.long)]
WORDS = {
    "another image": "another image",
    "missing": "missing",
    "length": "bytes, ",
    "header": "header",
    "checksum": "checksum",
}


def without_folder(rounds: Rounds) -> Rounds:
    """Only destinations that can be stopped: what is acknowledged is nowhere but in the spool."""
    config = rounds.bench.router.config
    config["destination"] = [table for table in config["destination"] if table["kind"] == "dicom"]
    config["route"][0]["to"] = [table["name"] for table in config["destination"]]
    rounds.bench.router.write_config()
    return rounds


def tear(rounds: Rounds, what: list[list[Image]], first: bool = False) -> tuple[list[Image], set[str]]:
    """Send, cut the power; what was acknowledged, and the digests of the data sets whose files are as before.

    ``first``: after a wave that is delivered, whose files may be used again.
    """
    bench = rounds.bench
    rounds.start(wait=True)
    if first:
        rounds.wave()
    for end in bench.ends:
        end.stop()
    fleet = bench.start_senders(what)
    fleet.join().assert_clean()
    rounds.count_reused()
    before = {path: path.read_bytes() for path in bench.router.spool_files()}
    rounds.cut(fleet)
    whole = {data_digest(data) for path, data in before.items() if path.exists() and path.read_bytes() == data}
    for end in bench.ends:
        end.start()
    return fleet.acknowledged, whole


def reasons(rounds: Rounds) -> Counter[str]:
    """How many images are dead letters, by what was found wrong with the file."""
    listed = run_cli("queue", "list", "-c", rounds.bench.router.config_file, "--json", "--limit", "1000").stdout
    errors = {row["sop_instance_uid"]: row["last_error"] for row in json.loads(listed)}
    return Counter(next((what for what, words in WORDS.items() if words in text), text) for text in errors.values())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("program", ["file", "file+spare", "streamed-file"])
def test_damaged_files_are_never_sent(
    disk: PowerDisk, make_router: MakeRouter, receivers: ReceiverHost, program: str, cuts: int
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    rounds = without_folder(make_rounds(make_router, receivers, disk, seed, tear=True))
    bench = rounds.bench
    bench.router.program = ("tests.support.unsafe_build", program)
    expected: list[Image] = []
    for turn in range(cuts):
        small = [mixed(f"{turn}/{n}", 6) for n in range(2)]
        what = [[image(f"{turn}", 0, LARGE)]] if program == "streamed-file" else small
        before = len(bench.acknowledged)
        acknowledged, whole = tear(rounds, what, first="+" in program)
        expected += bench.acknowledged[before : -len(acknowledged)]
        expected += [one for one in acknowledged if one.sha256 in whole]
        rounds.settle()
        bench.router.stop()
    for end in bench.ends:
        got = received(end)
        assert {one.name for one in bench.acknowledged if one.identity in got} == {one.name for one in expected}
    assert set(received(*bench.ends)) <= {one.identity for one in bench.sent}
    damaged = len(bench.acknowledged) - len(expected)
    found = reasons(rounds)
    print(
        f"seed {seed}, {program}: {damaged} of {len(bench.acknowledged)} spool files damaged by {cuts} cuts, "
        f"none of them sent; dead letters by what was wrong: {dict(found)}"
    )
    assert damaged == found.total()
    assert damaged
    assert bool(rounds.reused) == ("+" in program)
