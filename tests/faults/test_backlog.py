"""``max_backlog``: one destination that is down cannot fill the spool.

At the limit only images that are routed to it are refused; at half of it a person is told. The counts stay right
through dead letters, a person's words and restarts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support import settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_exactly
from tests.support.exact_sender import Fleet, Result, send
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.router import Router, run_cli

OUT_OF_RESOURCES, NOT_SUPPORTED = 0xA700, 0x0122
ALERT = "max_backlog half full"
MOST = 10
KIND = synthetic.Kind(size=16_384)
LARGE = synthetic.image("large", 0, synthetic.Kind(size=8_000_000))


def running(make_router: MakeRouter, near: ExactReceiver, far: ExactReceiver, limit: dict[str, Any]) -> Router:
    """Callers NEAR, FAR and BOTH have their images sent there; only ``far`` is limited."""
    route = [
        settings.route("near", ["near"], match={"calling_aet": ["NEAR", "BOTH"]}),
        settings.route("far", ["far"], match={"calling_aet": ["FAR", "BOTH"]}),
    ]
    destinations = [settings.dicom("near", near.port), settings.dicom("far", far.port, max_backlog=limit)]
    return make_router(destination=destinations, route=route).start()


def offered(router: Router, title: str, images: Sequence[Image]) -> tuple[list[Image], list[Result]]:
    """What was acknowledged, and the other answers."""
    report = send(router.caller(title), images)
    assert report.ended == "released", report.ended
    return report.acknowledged, report.refused


def check_refused(router: Router, title: str, why: str) -> None:
    """An image of ``title`` is refused, and says why."""
    taken, refused = offered(router, title, [synthetic.image("one-more", 0, KIND)])
    assert not taken
    assert [it.status for it in refused] == [OUT_OF_RESOURCES]
    assert "destination far" in refused[0].comment
    assert why in refused[0].comment


def counts(router: Router) -> tuple[int, int]:
    """What waits for ``far``, and its dead letters."""
    channel = router.channel("far")
    return channel["waiting"], channel["failed"]


def wait_counts(router: Router, waiting: int, failed: int) -> None:
    what = f"{waiting} wait, {failed} are dead letters"
    router.wait_status(lambda s: counts(router) == (waiting, failed), 30, what)


def needs_person(router: Router) -> tuple[int, str]:
    """The exit status of ``asyncroute status`` and its words for a person."""
    done = run_cli("status", "-c", router.config_file, "--json")
    return done.returncode, " ".join(json.loads(done.stdout)["needs_person"])


def queue(router: Router, *words: str) -> dict[str, Any]:
    done = run_cli("queue", *words, "-c", router.config_file, "--to", "far", "--json")
    assert done.returncode == 0, done.stderr
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def test_images(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    near, far = receivers.receiver(), receivers.receiver(start=False)
    router = running(make_router, near, far, {"images": MOST, "bytes": 0})
    images = synthetic.series("far", 2 * MOST, KIND)
    assert offered(router, "FAR", images[: MOST // 2 - 1]) == (images[: MOST // 2 - 1], [])
    assert not router.channel("far")["alert"]
    taken, refused = offered(router, "FAR", images[MOST // 2 - 1 :])
    assert taken == images[MOST // 2 - 1 : MOST]
    assert len(refused) == MOST
    assert router.channel("far")["alert"] == ALERT
    assert not router.channel("near")["alert"]
    exit_status, words = needs_person(router)
    assert exit_status == 1
    assert f"far: {ALERT}" in words
    only_far_is_refused(router, near, "images")
    router.stop()
    router.start()
    assert counts(router) == (MOST, 0)
    check_refused(router, "FAR", "images wait")
    after_dead_letters(router, far, images[:MOST])
    assert_exactly(near, [*synthetic.series("near-images", 3, KIND)])


def only_far_is_refused(router: Router, near: ExactReceiver, seed: str) -> None:
    """Whoever wants ``far`` is refused as a whole; the others' images flow."""
    check_refused(router, "FAR", "max_backlog")
    check_refused(router, "BOTH", "max_backlog")
    images = synthetic.series(f"near-{seed}", 3, KIND)
    assert offered(router, "NEAR", images) == (images, [])
    near.wait_stored(3)


def after_dead_letters(router: Router, far: ExactReceiver, waiting: Sequence[Image]) -> None:
    """Dead letters and what a person discards make room; what a person retries counts again."""
    bad = {image.sop_instance: NOT_SUPPORTED for image in waiting[:3]}
    far.set(Behaviour(status=OUT_OF_RESOURCES, status_of=bad))
    far.start()
    wait_counts(router, MOST - 3, 3)
    more = synthetic.series("more", 4, KIND)
    assert offered(router, "FAR", more)[0] == more[:3]
    far.stop()
    router.stop()
    router.start()
    assert counts(router) == (MOST, 3)
    check_refused(router, "FAR", "images wait")
    assert queue(router, "retry", "--state", "failed")["deliveries"] == 3
    assert counts(router) == (MOST + 3, 0)
    check_refused(router, "FAR", "images wait")
    assert queue(router, "discard", "--state", "ready", "--yes")["deliveries"] == MOST + 3
    assert counts(router) == (0, 0)
    last = synthetic.series("last", 2, KIND)
    assert offered(router, "FAR", last) == (last, [])
    refused_before = far.tally().stored
    far.set(Behaviour())
    far.start()
    router.wait_drained(60)
    assert sorted(it.identity for it in far.stored(refused_before)) == sorted(image.identity for image in last)


def test_bytes(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    near, far = receivers.receiver(), receivers.receiver(start=False)
    router = running(make_router, near, far, {"images": 0, "bytes": "9 MB"})
    small = synthetic.series("far", 100, synthetic.Kind(size=100_000))
    taken, refused = offered(router, "FAR", [LARGE, *small])
    size = sum(image.size for image in taken)
    assert 9_000_000 <= size < 9_000_000 + 110_000
    assert len(taken) + len(refused) == 101
    assert router.channel("far")["alert"] == ALERT
    only_far_is_refused(router, near, "bytes")
    router.kill()
    router.start()
    check_refused(router, "FAR", "bytes wait")
    far.start()
    router.wait_drained(60)
    assert_exactly(far, taken)
    assert not router.channel("far")["alert"]
    assert offered(router, "FAR", small[:1])[0]


@pytest.mark.parametrize("senders", [8, pytest.param(60, marks=pytest.mark.long)])
def test_many_senders_at_once(make_router: MakeRouter, receivers: ReceiverHost, senders: int) -> None:
    """What is under way when the limit is reached may come on top: one image an association."""
    near, far = receivers.receiver(), receivers.receiver(start=False)
    router = running(make_router, near, far, {"images": 3 * MOST, "bytes": 0})
    work = [(router.caller("FAR"), synthetic.series(f"far{n}", MOST, KIND)) for n in range(senders)]
    taken = Fleet(work).run().acknowledged
    assert 3 * MOST <= len(taken) <= 3 * MOST + senders
    assert counts(router) == (len(taken), 0)
    far.start()
    router.wait_drained(60)
    assert_exactly(far, taken)
    print(f"max_backlog of {3 * MOST} images, {senders} senders at once: {len(taken)} taken")
