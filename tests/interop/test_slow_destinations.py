"""A destination that is down and one that is slow hold up nobody else."""

from __future__ import annotations

import time
from statistics import mean
from threading import Lock

from tests.support import procfs, settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_exactly
from tests.support.exact_sender import Fleet, Report, send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.router import Router

COUNT, PER_SECOND, SENDERS = 480, 80, 6
DELAY = 1.0
"""Seconds that the slow destination takes for an image. It has four lanes."""

MUCH = 3
"""Times what images wait where nobody could hold them up; measured: 1.0 to 1.2."""


class Pace:
    """Lets so many images go a second, over all senders: far from what the router can do, so that it is not the
    machine that holds them up."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._next = time.monotonic()

    def __call__(self) -> None:
        with self._lock:
            now = time.monotonic()
            at = self._next = max(self._next + 1 / PER_SECOND, now)
        time.sleep(at - now)


def routed(make_router: MakeRouter, **ends: ExactReceiver) -> Router:
    """A running router that sends everything to all of these."""
    return make_router(
        destination=[settings.dicom(name, end.port, max_associations=4) for name, end in ends.items()],
        route=[settings.route("all", list(ends))],
    ).start()


def send_in_turn(routers: list[Router], images: list[list[Image]]) -> list[list[Report]]:
    """Each router's images, at the same time, in one pace; what its senders saw."""
    work = list(zip(routers, images, strict=True))
    shares = [(router.caller(f"S{n}"), some[n::SENDERS]) for n in range(SENDERS) for router, some in work]
    fleet = Fleet(shares, between=Pace()).run()
    fleet.assert_clean()
    return [fleet.reports[n :: len(routers)] for n in range(len(routers))]


def waits(reports: list[Report], third: ExactReceiver) -> list[float]:
    """Seconds from the sending of each image until it is both acknowledged and at the third destination."""
    arrived = {stored.sop_instance: stored.at for stored in third.stored()}
    results = [result for report in reports for result in report.results]
    return [max(it.answered_at, arrived[it.image.sop_instance]) - it.sent_at for it in results]


def test_the_third_is_not_held_up(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    """Nor are the senders. Beside it works a router with this destination alone: the machine holds up both alike."""
    slow, third, alone = receivers.receiver(Behaviour(delay=DELAY)), receivers.receiver(), receivers.receiver()
    router = routed(make_router, down=receivers.receiver(start=False), slow=slow, third=third)
    images = [synthetic.series(seed, COUNT // 2) for seed in ("company", "alone")]
    reports = send_in_turn([router, routed(make_router, third=alone)], images)
    last = max(stored.at for stored in third.wait_stored(COUNT // 2))
    alone.wait_stored(COUNT // 2)
    slow_by_then = sum(stored.at <= last for stored in slow.stored())
    company, single = mean(waits(reports[0], third)), mean(waits(reports[1], alone))
    print(
        f"an image waits {single * 1000:.1f} ms alone, {company * 1000:.1f} ms in company: {company / single:.2f}; "
        f"when the third had all {COUNT // 2}, the slow one had {slow_by_then}"
    )
    assert router.channel("down")["delivered"] == 0
    assert slow_by_then < COUNT // 4
    assert company < MUCH * single
    assert_exactly(third, images[0])


def test_the_first_gets_all_when_it_comes_up(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    down, third = receivers.receiver(start=False), receivers.receiver()
    router = routed(make_router, down=down, slow=receivers.receiver(Behaviour(delay=0.2)), third=third)
    images = send_all(router.caller(), synthetic.series("up-again", COUNT, synthetic.Kind(size=100_000)), SENDERS)
    third.wait_stored(COUNT, deadline=60)
    assert procfs.memory(router.pid) < 300 * procfs.MIB
    owed = router.channel("down")
    assert (owed["failed"], owed["delivered"]) == (0, 0)
    assert owed["last_error"]
    down.start()
    down.wait_stored(COUNT, deadline=90)
    assert_exactly(down, images)


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
