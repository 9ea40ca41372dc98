"""Destinations that take their time: who is slow but alive succeeds at once, who does not move is given up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support import procfs, settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.deliveries import attempts
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_exactly
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.router import Router, owed
from tests.support.waiting import wait_until

MEGABYTE = 1_000_000
MEMORY = 200 * procfs.MIB


@dataclass(frozen=True)
class Slow:
    """A destination that is slow, ``size`` bytes for it, and how many seconds it may stay silent."""

    name: str
    size: int
    timeout: float
    behaviour: Behaviour = field(default_factory=Behaviour)
    longer: float = 2.0
    """How many times its ``response_timeout`` an image takes at least."""


CASES = [
    Slow("throttled", 6 * MEGABYTE, 2, Behaviour(read_rate=MEGABYTE, receive_buffer=64 << 10)),
    # Our kernel takes all of it at once; then nothing moves but what only the kernel sees.
    Slow("kernel", 1_200_000, 2, Behaviour(read_rate=200_000, receive_buffer=8 << 10)),
    Slow("windows", 300_000, 2, Behaviour(read_rate=50_000, receive_buffer=2304)),
    Slow("answers-late", 100_000, 4, Behaviour(delay=3), longer=0.5),
]
LONG = [Slow("throttled", 200 * MEGABYTE, 20, Behaviour(read_rate=2 * MEGABYTE, receive_buffer=64 << 10))]


def dicom(case: Slow, end: ExactReceiver, **more: Any) -> dict[str, Any]:
    return settings.dicom(case.name, end.port, response_timeout=f"{int(case.timeout * 1000)}ms", **more)


def trickle(router: Router, seed: str, done: Any, deadline: float) -> list[Image]:
    """Send to the quick destination, one image after the other, until ``done()``; the images."""
    sent: list[Image] = []

    def one_more() -> bool:
        sent.extend(send_all(router.caller("QUICK"), [synthetic.image(seed, len(sent))]))
        return bool(done())

    wait_until(one_more, deadline, "the slow destinations have everything", router.status, every=0.1)
    return sent


@pytest.mark.timeout(400)
@pytest.mark.parametrize("cases", [CASES, pytest.param(LONG, marks=pytest.mark.long)], ids=["short", "200-MB"])
def test_slow_but_alive_succeeds_at_the_first_attempt(
    make_router: MakeRouter, receivers: ReceiverHost, cases: list[Slow]
) -> None:
    ends = {case.name: receivers.receiver(case.behaviour) for case in cases}
    quick = receivers.receiver()
    router = make_router(
        destination=[settings.dicom("quick", quick.port), *(dicom(case, ends[case.name]) for case in cases)],
        route=[
            settings.route(case.name, [case.name], match={"calling_aet": case.name.upper()})
            for case in [*cases, Slow("quick", 0, 0)]
        ],
    ).start()
    images = {case.name: synthetic.image(case.name, 0, synthetic.Kind(size=case.size)) for case in cases}
    for name, image in images.items():
        send_all(router.caller(name.upper()), [image])
    sent = trickle(router, "beside", lambda: all(end.tally().stored for end in ends.values()), 300)
    router.wait_drained()
    assert_exactly(quick, sent)
    first_slow = min(end.stored()[0].at + end.behaviour.delay for end in ends.values())
    meanwhile = sum(stored.at < first_slow for stored in quick.stored())
    assert meanwhile >= 5, "others go on while the slow ones are at it"
    for case in cases:
        end = ends[case.name]
        assert_exactly(end, [images[case.name]])
        assert (end.tally().connections, attempts(router, case.name)) == (1, {1: 1}), case
        seconds = end.stored()[0].at - end.events("open")[0].at + case.behaviour.delay
        print(f"{case.name}: {case.size} bytes in {seconds:.1f} s with a timeout of {case.timeout:g} s, first attempt")
        assert seconds > case.longer * case.timeout, "slow enough to show something"
    print(f"{meanwhile} images to the quick destination before the first slow one was through")
    assert procfs.memory(router.pid) < MEMORY
    router.stop()


STUCK = [
    Slow("reads-nothing", MEGABYTE, 1, Behaviour(mute="read")),
    Slow("byte-a-second", MEGABYTE, 1, Behaviour(read_rate=1, receive_buffer=2304)),
    Slow("few-bytes", MEGABYTE, 1, Behaviour(read_rate=8000, receive_buffer=2304)),
]
NOT_MOVING = ("took no bytes for 1 s", "took only ", "no response within 1 s")  # the last: of the probe's C-ECHO
BATCH, BATCHES = 40, 3


def batch(router: Router, number: int) -> list[Image]:
    return send_all(
        router.caller(),
        synthetic.series(f"stuck{number}", BATCH, synthetic.Kind(size=STUCK[0].size)),
        associations=4,
    )


@pytest.mark.timeout(300)
def test_who_does_not_move_is_given_up(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    """Moving is 16 KiB in each ``response_timeout``. What waits for those who do not is kept; it holds up nobody."""
    ends = {case.name: receivers.receiver(case.behaviour) for case in STUCK}
    quick = receivers.receiver()
    router = make_router(
        node=settings.node(memory="64 MiB"),
        destination=[settings.dicom("quick", quick.port), *(dicom(case, ends[case.name]) for case in STUCK)],
        route=[settings.route("all", ["quick", *ends])],
    ).start()
    images, usages = [], []
    for number in range(BATCHES):
        images += batch(router, number)
        quick.wait_stored(len(images), deadline=60)
        for name in ends:
            wait_until(
                lambda name=name: router.channel(name)["state"] == "down",  # type: ignore[misc]
                60,
                f"{name} counts as down",
                router.status,
            )
        usages.append(router.usage())
    assert_exactly(quick, images)
    for name in ends:
        channel = router.channel(name)
        assert (owed(channel), channel["failed"], channel["delivered"]) == (len(images), 0, 0)
        assert any(words in channel["last_error"] for words in NOT_MOVING), channel
        assert attempts(router, name) == {0: len(images)}
    open_ = [line["destination"] for line in router.status()["associations"]["outbound"]]
    assert all(open_.count(name) <= 2 for name in ends), open_
    print(f"{len(images)} MB wait for each of {len(STUCK)} destinations that do not move: {usages}")
    assert usages[-1].threads <= usages[0].threads + 2, usages
    assert usages[-1].descriptors <= usages[0].descriptors + 4, usages
    assert usages[-1].rss < usages[0].rss + 48 * procfs.MIB, usages
    back = ends["reads-nothing"]
    back.set(Behaviour())
    back.wait_stored(len(images), deadline=60)
    router.wait_status(lambda s: router.channel("reads-nothing", s)["waiting"] == 0, 20, "nothing is owed to it")
    assert_exactly(back, images)
    router.stop()
