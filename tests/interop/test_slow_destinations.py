"""A destination that is down and one that is slow hold up nobody else."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import pytest

from tests.support import procfs, settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_exactly
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.router import Router

COUNT, SIZE, SENDERS, ROUNDS = 1200, 100_000, 6, 3
ALLOWED = 1.3


@dataclass
class Run:
    """One measurement: seconds until the third destination had everything, and the router while it lasted."""

    seconds: float
    router: Router
    images: list[Image]
    third: ExactReceiver


def measure(router: Router, third: ExactReceiver, seed: str) -> Run:
    router.start()
    images = synthetic.series(seed, COUNT, synthetic.Kind(size=SIZE))
    began = time.monotonic()
    send_all(router.caller(), images, associations=SENDERS)
    stored = third.wait_stored(COUNT, deadline=60)
    return Run(stored[COUNT - 1].at - began, router, images, third)


def alone(make_router: MakeRouter, host: ReceiverHost, seed: str) -> Run:
    third = host.receiver()
    router = make_router(
        destination=[settings.dicom("third", third.port, max_associations=4)], route=[settings.route("all", ["third"])]
    )
    return measure(router, third, seed)


def in_company(make_router: MakeRouter, host: ReceiverHost, down: ExactReceiver, seed: str) -> Run:
    slow, third = host.receiver(Behaviour(delay=0.2)), host.receiver()
    router = make_router(
        destination=[
            settings.dicom("down", down.port, max_associations=4),
            settings.dicom("slow", slow.port, max_associations=4),
            settings.dicom("third", third.port, max_associations=4),
        ],
        route=[settings.route("all", ["down", "slow", "third"])],
    )
    return measure(router, third, seed)


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_the_third_is_not_held_up(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    single, joint = [], []
    for turn in range(ROUNDS):
        single.append(ended(alone(make_router, receivers, f"alone{turn}")))
        joint.append(ended(in_company(make_router, receivers, receivers.receiver(start=False), f"company{turn}")))
    ratio = statistics.median(joint) / statistics.median(single)
    print(f"alone {single}, in company {joint}: {ratio:.2f}")
    assert ratio <= ALLOWED, f"alone {single}, with a dead and a slow destination {joint}: {ratio:.2f} times"


def ended(run: Run) -> float:
    """Check what arrived, end the router, return the seconds."""
    assert_exactly(run.third, run.images)
    run.router.kill()
    return run.seconds


def test_the_first_gets_all_when_it_comes_up(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    down = receivers.receiver(start=False)
    run = in_company(make_router, receivers, down, "up-again")
    assert procfs.memory(run.router.pid) < 300 * procfs.MIB
    owed = run.router.channel("down")
    assert (owed["failed"], owed["delivered"]) == (0, 0)
    assert owed["last_error"]
    down.start()
    down.wait_stored(COUNT, deadline=90)
    assert_exactly(down, run.images)


def test_memory_does_not_grow_with_the_backlog(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    """400 MB wait for a destination that is down: with 64 MiB for images in flight, the process stays small."""
    down = receivers.receiver(start=False)
    router = make_router(
        node=settings.node(memory="64 MiB"),
        destination=[settings.dicom("down", down.port)],
        route=[settings.route("all", ["down"])],
    ).start()
    for turn in range(4):
        send_all(
            router.caller(), synthetic.series(f"backlog{turn}", 100, synthetic.Kind(size=1_000_000)), associations=4
        )
    assert router.status()["totals"]["waiting"] == 400
    assert procfs.memory(router.pid) < 250 * procfs.MIB
