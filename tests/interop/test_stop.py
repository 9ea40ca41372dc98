"""Stop means drain: the image under way is finished and answered, then the router ends with 0."""

from __future__ import annotations

import signal

import pytest

from tests.support import settings, synthetic
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_exactly
from tests.support.exact_sender import Aborted, Association, Closed, send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.ports import listening
from tests.support.router import Router
from tests.support.ul import ERROR_COMMENT, STATUS
from tests.support.waiting import wait_until

OUT_OF_RESOURCES = 0xA700
BIG = synthetic.image("half", 0, synthetic.Kind(size=2_000_000))
NEXT = synthetic.image("half", 1)


def running(make_router: MakeRouter, end: ExactReceiver, drain: str = "20s") -> Router:
    return make_router(
        node=settings.node(drain=drain),
        destination=[settings.dicom("end", end.port)],
        route=[settings.route("all", ["end"])],
    ).start()


def half_sent(association: Association, image: Image) -> list[bytes]:
    """Send the first half of the PDUs of ``image``; the rest is returned."""
    pieces = list(association.store_pdus(image))
    half = len(pieces) // 2
    for piece in pieces[:half]:
        association.write(piece)
    return pieces[half:]


def wait_draining(router: Router) -> None:
    wait_until(lambda: not listening(router.port), 10, "the listener is closed", router.log_tail)
    assert router.running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_the_image_under_way_is_finished_and_answered(
    receivers: ReceiverHost, make_router: MakeRouter, number: signal.Signals
) -> None:
    end = receivers.receiver()
    router = running(make_router, end)
    with router.caller().associate([BIG]) as association:
        rest = half_sent(association, BIG)
        router.signal(number)
        wait_draining(router)
        for piece in rest:
            association.write(piece)
        assert association.read_response()[STATUS] == 0
        refuse_the_next(association)
    assert router.wait_exit() == 0
    router.start().wait_delivered(1)
    assert_exactly(end, [BIG])


def refuse_the_next(association: Association) -> None:
    """After the current one an image is refused with a status, or finds the association over: never acknowledged."""
    try:
        for piece in association.store_pdus(NEXT):
            association.write(piece)
        answer = association.read_response()
    except (Aborted, Closed):
        return
    assert answer[STATUS] == OUT_OF_RESOURCES
    assert answer[ERROR_COMMENT]


def test_idle_senders_do_not_hold_it_up(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    end = receivers.receiver()
    router = running(make_router, end, drain="3s")
    with router.caller().associate() as idle:
        assert idle.echo() == 0
        router.signal(signal.SIGTERM)
        assert idle.ended_within(10)
    assert router.wait_exit() == 0


def test_a_stalled_sender_is_aborted_at_the_deadline(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    end = receivers.receiver()
    router = running(make_router, end, drain="2s")
    with router.caller().associate([BIG]) as stalled:
        half_sent(stalled, BIG)
        router.signal(signal.SIGTERM)
        assert stalled.ended_within(10)
    assert router.wait_exit() == 0
    assert end.tally().stored == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_second_signal_ends_it_at_once(
    receivers: ReceiverHost, make_router: MakeRouter, number: signal.Signals
) -> None:
    router = running(make_router, receivers.receiver(), drain="60s")
    with router.caller().associate([BIG]) as stalled:
        half_sent(stalled, BIG)
        router.signal(number)
        wait_draining(router)
        router.signal(number)
        router.wait_exit(5)


def test_a_backlog_survives_a_stop(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    end = receivers.receiver(start=False)
    router = running(make_router, end)
    images = synthetic.mixed("backlog", 50)
    send_all(router.caller(), images, associations=2)
    router.stop()
    stopped = router.status()
    assert (stopped["running"], stopped["totals"]["waiting"]) == (False, 50)
    end.start()
    router.start().wait_delivered(50)
    assert_exactly(end, images)
    assert router.wait_drained()["totals"]["received"] == 50


def test_a_stop_in_the_middle_of_sending_loses_and_repeats_nothing(
    receivers: ReceiverHost, make_router: MakeRouter
) -> None:
    end = receivers.receiver()
    router = running(make_router, end)
    images = synthetic.series("middle", 300, synthetic.Kind(size=50_000))
    send_all(router.caller(), images, associations=4)
    router.stop()
    router.start().wait_delivered(300)
    assert_exactly(end, images)


def test_a_second_router_on_the_same_data_is_refused(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    router = running(make_router, receivers.receiver())
    second = make_router(**{**router.config, "listener": [settings.listener()]})
    second.start(wait=False)
    assert second.wait_exit() not in {0, None}
    assert "Traceback" not in second.log_tail()
    with router.caller().associate() as association:
        assert association.echo() == 0
