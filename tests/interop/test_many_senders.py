"""Many senders at once: every association is answered, every image delivered."""

from __future__ import annotations

import threading
import time

import pytest

from tests.support import settings, synthetic
from tests.support.exact_receiver import ReceiverHost, assert_exactly
from tests.support.exact_sender import Association, Caller, Fleet, Rejected
from tests.support.fixtures import MakeRouter
from tests.support.router import Router

BUSY = (2, 3, 2)


def test_a_hundred_senders_three_destinations(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    ends = [receivers.receiver() for _ in range(3)]
    names = [f"dest{n}" for n in range(3)]
    router = make_router(
        destination=[settings.dicom(name, end.port, max_associations=4) for name, end in zip(names, ends, strict=True)],
        route=[settings.route("all", names)],
    ).start()
    work = [(router.caller(f"SITE{n}"), synthetic.mixed(f"site{n}", 20, size=8192)) for n in range(100)]
    Fleet(work).run().assert_clean()
    router.wait_delivered(100 * 20 * 3)
    images = [image for _, share in work for image in share]
    of = {image.sop_instance: caller.calling for caller, share in work for image in share}
    for end in ends:
        assert_exactly(end, images)
        assert all(stored.calling == of[stored.sop_instance] for stored in end.stored())
        assert end.tally().most_at_once <= 4
    status = router.wait_drained()
    assert status["totals"] == {"received": 2000, "delivered": 6000, "waiting": 0, "held": 0, "failed": 0}


class Calls:
    """Callers that all ring at the same moment and hold the line."""

    def __init__(self, caller: Caller, count: int) -> None:
        self.accepted: list[Association] = []
        self.rejected: list[tuple[int, int, int]] = []
        self.failed: list[str] = []
        self.slowest = 0.0
        self._caller = caller
        self._gate = threading.Barrier(count)
        self._threads = [threading.Thread(target=self._call) for _ in range(count)]

    def _call(self) -> None:
        self._gate.wait()
        began = time.monotonic()
        try:
            self.accepted.append(self._caller.associate())
        except Rejected as rejected:
            self.rejected.append(rejected.code)
        except Exception as error:
            self.failed.append(repr(error))
        self.slowest = max(self.slowest, time.monotonic() - began)

    def run(self) -> Calls:
        """Ring, and wait for all answers."""
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()
        return self

    def hang_up(self) -> None:
        """Release all."""
        for association in self.accepted:
            association.release()


def ring(router: Router, count: int) -> Calls:
    calls = Calls(router.caller("RING", timeout=60), count).run()
    calls.hang_up()
    assert not calls.failed, calls.failed[:3]
    assert calls.slowest < 30
    return calls


def test_two_hundred_callers_at_once_are_all_accepted(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    receiver = receivers.receiver()
    router = make_router(
        destination=[settings.dicom("end", receiver.port)], route=[settings.route("all", ["end"])]
    ).start()
    assert len(ring(router, 200).accepted) == 200


def test_callers_above_the_limit_are_told_so(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    receiver = receivers.receiver()
    router = make_router(
        listener=[settings.listener(max_associations=120)],
        destination=[settings.dicom("end", receiver.port)],
        route=[settings.route("all", ["end"])],
    ).start()
    calls = ring(router, 200)
    assert (len(calls.accepted), calls.rejected) == (120, [BUSY] * 80)
    router.wait_quiet()
    assert len(ring(router, 100).accepted) == 100


def test_the_limit_per_peer(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    receiver = receivers.receiver()
    router = make_router(
        listener=[settings.listener(max_associations_per_peer=2)],
        destination=[settings.dicom("end", receiver.port)],
        route=[settings.route("all", ["end"])],
    ).start()
    with router.caller("ONE").associate(), router.caller("ONE").associate(), router.caller("TWO").associate():
        with pytest.raises(Rejected) as caught:
            router.caller("ONE").associate()
        assert caught.value.code == BUSY
