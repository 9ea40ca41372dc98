"""What many callers together can make the router hold in memory: the bounds hold, and senders get through meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from tests.support import crowds, procfs, settings, synthetic, ul
from tests.support.crowds import Crowd
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_exactly
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.router import Router
from tests.support.waiting import wait_until

MIB = procfs.MIB
ASKING = 300
STALLED = 290
"""Below the default of max_associations."""

MEMORY = 64 * MIB
OVERHEAD = 24 * MIB
"""What may come on top of [node] memory: spare buffers (16 MiB), and the connections themselves."""


@pytest.fixture
def end(receivers: ReceiverHost) -> ExactReceiver:
    return receivers.receiver()


@pytest.fixture
def router(make_router: MakeRouter, end: ExactReceiver) -> Iterator[Router]:
    """A router with the least memory that can be set, warm, and its peak counted from now on."""
    with crowds.many_descriptors():
        router = make_router(
            node=settings.node(memory="64 MiB"),
            listener=[settings.listener(association_timeout="60s", pdu_timeout="60s")],
            destination=[settings.dicom("end", end.port)],
            route=[settings.route("all", ["end"])],
        ).start()
        warm = synthetic.series("warm", 5)
        send_all(router.caller(), warm)
        router.wait_drained()
        end.take()
        procfs.reset_peak(router.pid)
        yield router


def growth(router: Router, before: int) -> int:
    """Bytes that the resident size has peaked above ``before``."""
    return procfs.memory(router.pid) - before


def test_half_requests(router: Router, end: ExactReceiver) -> None:
    """Each of 300 callers sends 900 KB of a request of 1 MB. A sender's request of the usual size gets through."""
    before = router.usage().rss
    half = ul.pdu(ul.RQ, bytes(1_000_000))[:900_000]
    images = synthetic.series("asking", 5)
    with Crowd("asking", 0) as crowd:
        for _ in range(ASKING):
            crowd.join(crowds.silent, router.caller())
            with contextlib.suppress(OSError):  # crowded out while it sent
                crowd.sockets[-1][0].sendall(half)
        send_all(router.caller(), images)
        more = growth(router, before)
        gone = sum(crowds.ended(sock, time.monotonic()) for sock, _ in crowd.sockets)
    print(f"{ASKING} half requests of 900 KB: {more / MIB:.0f} MiB more; {gone} callers closed to make room")
    assert more < 48 * MIB
    router.wait_delivered(10)
    assert_exactly(end, images)


@pytest.mark.parametrize("size", [100_000, pytest.param(1_000_000, marks=pytest.mark.long), 3_000_000])
def test_stalled_images(router: Router, end: ExactReceiver, size: int) -> None:
    """290 senders stop inside their images: what [node] memory says is kept, and others are not held up."""
    before = router.usage().rss
    image = synthetic.image("stalled", 0, synthetic.Kind(size=size))
    others = [*synthetic.series("others", 10, synthetic.Kind(size=2_000_000)), *synthetic.series("small", 10)]
    with Crowd("stalled", 0) as crowd:
        crowd.join(lambda caller: crowds.stalled_at(caller, image, size), router.caller(), STALLED)
        used = router.status()["memory"]["used_bytes"]
        began = time.monotonic()
        send_all(router.caller(), others, associations=4)
        taken = time.monotonic() - began
        more = growth(router, before)
        print(
            f"{STALLED} images stalled after {size} bytes: {used / MIB:.0f} of {MEMORY / MIB:.0f} MiB in use, "
            f"{more / MIB:.0f} MiB more resident; 20 other images took {taken:.1f} s"
        )
        assert used <= MEMORY + 8 * MIB
        assert more < MEMORY + OVERHEAD
        router.wait_delivered(25)
        assert_exactly(end, others)
    wait_until(lambda: not router.spool_files(), 30, "nothing is left of what was stalled", router.spool_files)
    router.wait_status(lambda s: not s["memory"]["used_bytes"], 10, "no memory in use")


def test_answers_that_nobody_reads(router: Router) -> None:
    """Callers that send on and read nothing are given up before their answers pile up, and hold nothing afterwards."""
    before = router.usage().rss
    sent = [unread_echoes(router) for _ in range(8)]
    more = growth(router, before)
    print(f"8 callers given up after {min(sent)} to {max(sent)} unread answers each, {more / MIB:.1f} MiB more")
    assert more < 5 * MIB


def unread_echoes(router: Router) -> int:
    """Send C-ECHOs, and read none of the answers, until the other side has had enough; how many."""
    many = ul.pdv(1, ul.COMMAND | ul.LAST, ul.echo_rq(1)) * 1000
    with router.caller(timeout=20).associate() as association:
        for sent in range(0, 2_000_000, 1000):
            try:
                association.sock.sendall(many)
            except ConnectionError:
                return sent
    raise AssertionError("it was let go on for ever")
