"""Many calling AE titles to one destination: associations are kept, whose turn it is, and when they end."""

from __future__ import annotations

from tests.support import settings, synthetic
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_exactly
from tests.support.exact_sender import Fleet
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.router import Router


def running(make_router: MakeRouter, end: ExactReceiver, lanes: int, **association: str) -> Router:
    destination = settings.dicom("end", end.port, max_associations=lanes, association=association)
    return make_router(destination=[destination], route=[settings.route("all", ["end"])]).start()


def from_sites(router: Router, sites: int, count: int, seed: str = "") -> tuple[Fleet, list[Image]]:
    """So many senders with a title each, ready to go, and all that they will send."""
    kind = synthetic.Kind(size=8192)
    work = [(router.caller(f"SITE{n}"), synthetic.series(f"site{seed}{n}", count, kind)) for n in range(sites)]
    return Fleet(work), [image for _, share in work for image in share]


def test_an_association_carries_the_images_of_one_title(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    """Ten busy titles over four lanes; fewer associations than images by far."""
    end = receivers.receiver()
    router = running(make_router, end, 4)
    fleet, images = from_sites(router, 10, 120)
    fleet.run().assert_clean()
    router.wait_delivered(len(images))
    assert_exactly(end, images)
    titles: dict[int, set[str]] = {}
    for stored in end.stored():
        titles.setdefault(stored.association, set()).add(stored.calling)
    assert all(len(names) == 1 for names in titles.values())
    assert end.tally().associations < len(images) / 2
    assert end.tally().most_at_once <= 4


def test_thirty_titles_over_ten_lanes_each_have_their_turn(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    """None of them hears nothing at the destination for two seconds, from its call to its last image."""
    end = receivers.receiver()
    router = running(make_router, end, 10)
    fleet, images = from_sites(router, 30, 30)
    fleet.run().assert_clean()
    router.wait_delivered(len(images))
    assert_exactly(end, images)
    assert end.tally().most_at_once <= 10
    for site, report in enumerate(fleet.reports):
        title = f"SITE{site}"
        arrived = [stored.at for stored in end.stored() if stored.calling == title]
        assert len(arrived) == 30
        longest = max(late - early for early, late in zip([report.started_at, *arrived], arrived, strict=False))
        assert longest < 2, title


def test_associations_of_idle_titles_stay_until_idle_close(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    """Nobody waits for a lane: the pauses between bursts are no reason to close."""
    end = receivers.receiver()
    router = running(make_router, end, 4, idle_close="1h")
    sent = 0
    for burst in range(4):
        fleet, images = from_sites(router, 2, 3, f"burst{burst}-")
        fleet.run().assert_clean()
        sent += len(images)
        router.wait_delivered(sent)
    assert end.events("released", "aborted", "closed", "reset") == []
    assert {event.association for event in end.events("open")} == {stored.association for stored in end.stored()}
    assert end.tally().associations <= 4


def test_idle_associations_end_at_idle_close(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    end = receivers.receiver()
    router = running(make_router, end, 4, idle_close="300ms")
    fleet, images = from_sites(router, 2, 3)
    fleet.run().assert_clean()
    router.wait_delivered(len(images))
    end.wait_quiet()
    last = {stored.association: stored.at for stored in end.stored()}
    released = {event.association: event.at for event in end.events("released")}
    assert released.keys() == last.keys()
    assert all(released[number] >= last[number] + 0.29 for number in last)
