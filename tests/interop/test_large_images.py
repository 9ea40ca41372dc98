"""Images far larger than the memory that the router may use: they stream through."""

from __future__ import annotations

import time

import pytest

from tests.support import procfs, settings, synthetic
from tests.support.exact_receiver import ReceiverHost, assert_exactly
from tests.support.exact_sender import Fleet, send_all
from tests.support.fixtures import MakeRouter
from tests.support.waiting import wait_until

MOST_MEMORY = 300 * procfs.MIB


def stream_through(make_router: MakeRouter, receivers: ReceiverHost, size: int) -> None:
    receiver = receivers.receiver()
    router = make_router(
        destination=[settings.dicom("end", receiver.port, response_timeout="120s")],
        route=[settings.route("all", ["end"])],
    ).start()
    small = synthetic.image("small", 0)
    large = synthetic.image("large", 0, synthetic.Kind(size=size))
    send_all(router.caller(timeout=300), [large, small])
    router.wait_delivered(2, deadline=300)
    assert_exactly(receiver, [large, small])
    assert procfs.memory(router.pid) < MOST_MEMORY
    router.wait_drained()


def test_600_megabytes(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    stream_through(make_router, receivers, 600_000_000)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_2_gigabytes(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    stream_through(make_router, receivers, 2_100_000_000)


@pytest.mark.parametrize(
    ("size", "memory"),
    [
        (100_000_000, "64 MiB"),
        pytest.param(500_000_000, "256 MiB", marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ],
    ids=["100-MB", "500-MB"],
)
def test_eight_senders_of_large_images(
    make_router: MakeRouter, receivers: ReceiverHost, size: int, memory: str
) -> None:
    receiver = receivers.receiver()
    router = make_router(
        node=settings.node(memory=memory),
        destination=[settings.dicom("end", receiver.port, response_timeout="120s")],
        route=[settings.route("all", ["end"])],
    ).start()
    images = synthetic.series("large", 8, synthetic.Kind(size=size))
    began = time.monotonic()
    Fleet((router.caller(timeout=300), [image]) for image in images).run(deadline=600).assert_clean()
    received = time.monotonic() - began
    router.wait_delivered(8, deadline=600)
    assert_exactly(receiver, images)
    peak = procfs.memory(router.pid)
    print(
        f"8 senders of {size / 1e6:.0f} MB at once: received in {received:.0f} s, {peak / procfs.MIB:.0f} MiB at most"
    )
    assert peak < MOST_MEMORY
    router.wait_drained()


def test_an_image_above_the_limit_is_refused_and_the_next_one_taken(
    make_router: MakeRouter, receivers: ReceiverHost
) -> None:
    receiver = receivers.receiver()
    router = make_router(
        listener=[settings.listener(max_image="4 MiB")],
        destination=[settings.dicom("end", receiver.port)],
        route=[settings.route("all", ["end"])],
    ).start()
    large, small = synthetic.image("above", 0, synthetic.Kind(size=5_000_000)), synthetic.image("below", 0)
    with router.caller().associate([large]) as association:
        answer = association.store(large)
        assert answer.status != 0
        assert answer.comment
        assert association.store(small).status == 0
        association.release()
    router.wait_delivered(1)
    assert_exactly(receiver, [small])
    wait_until(lambda: not router.spool_files(), 10, "the spool is empty", router.log_tail)
