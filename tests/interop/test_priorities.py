"""What goes first at a destination that is slower than the senders: the program, real images and associations."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.support import settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.exact_receiver import ReceiverHost, assert_exactly
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter

LANES = 4
SLOW = Behaviour(delay=0.01)
ROUTES = [
    settings.route("research", ["pacs"], match={"calling_aet": "RESEARCH"}, priority="low", final=True),
    settings.route("all", ["pacs"]),
    settings.route("urgent", ["pacs"], match={"calling_aet": "ER_*"}, priority="stat"),
]
"""The urgent are named by two routes."""


@pytest.mark.parametrize("site", ["CT_A", "CR_B"])
def test_a_radiograph_behind_a_large_study(receivers: ReceiverHost, make_router: MakeRouter, site: str) -> None:
    """More than memory holds waits. Those under way at the acknowledgement, and as many more, are before it at most."""
    receiver = receivers.receiver(Behaviour(delay=0.5))
    pacs = settings.dicom("pacs", receiver.port, max_associations=LANES, calling_ae_title="ROUTER")
    router = make_router(destination=[pacs], route=ROUTES).start()
    kind = synthetic.Kind(size=2048)
    slices = send_all(router.caller("CT_A"), synthetic.series("ct", 2000, kind), associations=4)
    (radiograph,) = send_all(router.caller(site), [synthetic.image("cr", 0, kind, study=1)])
    acknowledged = receiver.tally().stored
    assert acknowledged < 900, "it came while more than memory holds waited"
    receiver.set(Behaviour())
    stored = [it.sop_instance for it in receiver.wait_stored(acknowledged + 3 * LANES)]
    assert stored.index(radiograph.sop_instance) - acknowledged <= 2 * LANES
    router.wait_delivered(2001)
    assert_exactly(receiver, [*slices, radiograph])


def test_after_a_restart_the_most_urgent_goes_first(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    receiver = receivers.receiver(start=False)
    pacs = settings.dicom("pacs", receiver.port, max_associations=1, calling_ae_title="ROUTER")
    router = make_router(destination=[pacs], route=ROUTES).start()
    titles: dict[str, str] = {}
    for title, count in [("RESEARCH", 1200), ("CT_A", 30), ("ER_1", 20), ("CT_B", 30), ("ER_2", 20)]:
        images = synthetic.series(title, count, synthetic.Kind(size=1024))
        titles |= {it.sop_instance: title for it in send_all(router.caller(title), images, associations=2)}
    router.kill()
    receiver.start()
    router.start()
    router.wait_delivered(1300)
    order = [titles[it.sop_instance] for it in receiver.stored()]
    assert set(order[:40]) == {"ER_1", "ER_2"}
    assert set(order[40:100]) == {"CT_A", "CT_B"}
    assert max(order[:10].count("ER_1"), order[40:50].count("CT_A")) <= 6, "those of a class take turns"
    assert order[100:] == ["RESEARCH"] * 1200


def test_one_association_at_a_time_for_a_study(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    """The next image of a study comes after the answer to the last one, over whichever association."""
    receiver = receivers.receiver(SLOW)
    pacs = settings.dicom("pacs", receiver.port, max_associations=LANES, max_per_study=1, calling_ae_title="ROUTER")
    router = make_router(destination=[pacs], route=ROUTES).start()
    studies = [synthetic.series(f"study{n}", 30, synthetic.Kind(size=1024), study=n) for n in range(3)]
    images = [it for some in zip(*studies, strict=True) for it in some]
    send_all(router.caller("CT_A"), images, associations=6)
    router.wait_delivered(90)
    assert_exactly(receiver, images)
    assert receiver.tally().most_at_once > 1
    of = {it.sop_instance: n for n, study in enumerate(studies) for it in study}
    for number in range(3):
        times = [it.at for it in receiver.stored() if of[it.sop_instance] == number]
        assert min(later - earlier for earlier, later in pairwise(times)) >= 0.9 * SLOW.delay
