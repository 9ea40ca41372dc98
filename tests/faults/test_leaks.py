"""After any number of failures the router holds no more descriptors, threads and associations than after the first."""

from __future__ import annotations

import pytest

from tests.support import procfs, settings, synthetic, ul
from tests.support.behaviour import Behaviour
from tests.support.exact_receiver import ExactReceiver, ReceiverHost
from tests.support.exact_sender import Caller, send_all
from tests.support.fixtures import MakeRouter
from tests.support.router import Router
from tests.support.waiting import wait_until

TROUBLES = [
    Behaviour(reject=(2, 3, 2), trouble_first=2),
    Behaviour(with_ac="abort", trouble_first=2),
    Behaviour(with_ac="release", trouble_first=2),
    Behaviour(with_ac="half", trouble_first=1),
    Behaviour(abort_after=30_000, trouble_first=2),
    Behaviour(reset_after=30_000, trouble_first=2),
    Behaviour(close_at_connect=True, trouble_first=2),
    Behaviour(mute="association", trouble_first=1),
    Behaviour(mute="store", trouble_first=1),
    Behaviour(mute="read", trouble_first=1),
]
ROUNDS = 3


def troubled_round(router: Router, ends: list[ExactReceiver], turn: int) -> procfs.Usage:
    """Let everything go wrong once, wait until all is delivered and quiet, and measure."""
    for end, behaviour in zip(ends, TROUBLES, strict=True):
        end.set(behaviour)
    send_all(router.caller(), synthetic.series(f"leak{turn}", 4, synthetic.Kind(size=100_000)))
    bad_callers(router.caller())
    router.wait_delivered(4 * len(ends) * (turn + 1), deadline=90)
    router.wait_quiet()
    wait_until(lambda: all(end.tally().current == 0 for end in ends), 20, "no association at the receivers")
    return router.usage()


def bad_callers(caller: Caller) -> None:
    """Callers that leave in every wrong way, ten of each."""
    image = synthetic.image("bad-caller", 0, synthetic.Kind(size=200_000))
    for _ in range(10):
        caller.connect().close()
        with caller.connect() as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        caller.associate([image]).abort()
        caller.associate([image]).reset()
        half = caller.associate([image])
        half.write(b"".join(half.store_pdus(image))[:100_000])
        half.reset()
        with caller.associate() as association:
            association.write(ul.pdu(9, b"????"))
            assert association.ended_within(5)


@pytest.mark.timeout(300)
def test_nothing_leaks(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    ends = [receivers.receiver() for _ in TROUBLES]
    names = [f"end{n}" for n in range(len(ends))]
    quick = {"response_timeout": "1s", "association": {"idle_close": "500ms"}}
    router = make_router(
        destination=[settings.dicom(name, end.port, **quick) for name, end in zip(names, ends, strict=True)],
        route=[settings.route("all", names)],
    ).start()
    usages = [troubled_round(router, ends, turn) for turn in range(ROUNDS)]
    first, last = usages[0], usages[-1]
    assert last.descriptors <= first.descriptors + 2, (usages, procfs.descriptors(router.pid))
    assert last.threads <= first.threads + 2, usages
    assert last.rss < first.rss + 32 * procfs.MIB, usages
    wait_until(lambda: not router.spool_files(), 10, "the spool is empty")
    router.stop()
