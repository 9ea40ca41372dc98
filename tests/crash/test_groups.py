"""Members of a group come and go, and the router is killed, at random moments: every study is whole somewhere."""

from __future__ import annotations

import threading
from collections import defaultdict

import pytest

from tests.support import settings, synthetic
from tests.support.exact_receiver import ReceiverHost
from tests.support.exact_sender import Fleet
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.killing import seeded

KIND = synthetic.Kind(size=3_000)
STUDIES, SENDERS = 6, 3
ROUNDS = [
    *(pytest.param(mode, 6, id=mode) for mode in ("failover", "balance")),
    *(pytest.param(mode, 60, id=f"{mode}-long", marks=pytest.mark.long) for mode in ("failover", "balance")),
]
"""Mode, and how often something is killed: the router in each second turn."""


def pause(seconds: float) -> None:
    """Let a random time pass: here the time itself is what is tested."""
    threading.Event().wait(seconds)


def made(turn: int, number: int) -> list[Image]:
    """What one sender sends in one turn: something of each study."""
    first = (turn * SENDERS + number) * STUDIES * 2
    return [synthetic.image("coming and going", first + n, KIND, study=n % STUDIES) for n in range(STUDIES * 2)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("mode", "turns"), ROUNDS)
def test_every_study_is_whole_somewhere(
    make_router: MakeRouter, receivers: ReceiverHost, mode: str, turns: int
) -> None:
    chance = seeded()
    ends = [receivers.receiver(), receivers.receiver()]
    router = make_router(
        destination=[settings.dicom(f"d{n}", end.port) for n, end in enumerate(ends)],
        group=[{"name": "archive", "mode": mode, "members": ["d0", "d1"]}],
        route=[settings.route("all", ["archive"])],
    ).start()
    acknowledged: list[Image] = []
    for turn in range(turns):
        fleet = Fleet([(router.caller(f"S{n}"), made(turn, n)) for n in range(SENDERS)]).start()
        pause(chance.uniform(0.0, 0.3))
        down = ends[turn % 2]
        down.stop()
        pause(chance.uniform(0.0, 2.5))
        if turn % 2:
            router.kill()
        fleet.join()
        acknowledged += fleet.acknowledged
        if turn % 2:
            router.start()
        down.start()
    router.wait_status(lambda s: not s["totals"]["waiting"], 60, "nothing waits")
    assert acknowledged
    by_study: dict[int, set[str]] = defaultdict(set)
    for image in acknowledged:
        by_study[int(image.name.rpartition("-")[2]) % STUDIES].add(image.sha256)
    there = [{stored.sha256 for stored in end.stored() if stored.status == 0} for end in ends]
    for study, images in by_study.items():
        missing = [len(images - got) for got in there]
        assert not min(missing), f"study {study}: of {len(images)} images, {missing} are missing at the two members"
    status = router.status()["totals"]
    assert (status["failed"], status["held"]) == (0, 0)
