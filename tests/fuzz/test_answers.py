"""Recorded answers of real destinations, damaged in every way, to a router that has images to deliver.

Nothing is lost, and nothing counts as delivered that was not answered with success. What is recorded: dcmtk's storescp,
Orthanc, pynetdicom and the exact receiver called by this very router through a relay, with and without the C-ECHO that
probes a destination after it was down. ``FUZZ_SEED`` repeats a run.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator

import pytest

from tests.fuzz import aftermath, sessions
from tests.fuzz.answering import RECORDED, Answerer, Shape, by_shape
from tests.fuzz.recording import Recorder, Recording
from tests.support import settings, synthetic
from tests.support.exact_receiver import ReceiverHost
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.router import Router, run_cli
from tests.support.waiting import wait_until

SEED = os.environ.get("FUZZ_SEED", "answers")
QUICK = {"first": "100ms", "factor": 2, "max": "200ms"}
IMAGES = 8
"""Of one recorded association."""
MOST = 2000
"""Deliveries that may be open, dead letters included, before no more images are given."""
NAMES = [f"fuzz{n}" for n in range(8)]
STUCK = frozenset({"rejected", "title-rejected", "held"})
"""States that a person would have to end."""


@pytest.fixture(scope="module")
def recordings(
    make_module_router: MakeRouter, receivers: ReceiverHost, tmp_path_factory: pytest.TempPathFactory
) -> dict[Shape, list[Recording]]:
    with contextlib.ExitStack() as stack:
        ports = stack.enter_context(sessions.acceptors(tmp_path_factory.mktemp("acceptors"), receivers))
        relays = {name: stack.enter_context(Recorder(0)) for name in ports}
        more = {"max_associations": 1, "retry": QUICK, "association": {"idle_close": "100ms"}}
        router = make_module_router(
            destination=[settings.dicom(name, relays[name].port, **more) for name in ports],
            route=[settings.route("all", list(ports))],
        ).start()
        send_all(router.caller(), images_of("probing", IMAGES - 1))
        router.wait_status(lambda s: {c["state"] for c in s["channels"]} == {"down"}, 20, "all are down")
        for name, port in ports.items():
            relays[name].target = port
        router.wait_delivered(len(ports) * (IMAGES - 1))
        router.wait_quiet()
        send_all(router.caller(), images_of("recorded", IMAGES))
        router.wait_delivered(len(ports) * (2 * IMAGES - 1))
        router.stop()
        return by_shape([each for name, relay in relays.items() for each in relay.recordings(name)])


def images_of(seed: str, count: int) -> list[Image]:
    """Images of one kind, so that every proposal for them is one of two, and with UIDs of one length, so that one can
    stand for another in a recorded answer.
    """
    made = (synthetic.image(seed, n, synthetic.Kind(size=2048)) for n in itertools.count())
    return list(itertools.islice((image for image in made if RECORDED.fullmatch(image.sop_instance.encode())), count))


def fuzz(router: Router, answerer: Answerer, associations: int) -> list[Image]:
    """Keep the router busy until it has made so many associations; what it was given."""
    given: list[Image] = []
    while answerer.log.associations < associations:
        status = router.status()
        totals = status["totals"]
        if totals["waiting"] + totals["failed"] > MOST:  # enough to do: no new images, but dead letters go again
            retry(router)
        elif min(channel["waiting"] for channel in status["channels"]) < IMAGES:
            batch = images_of(f"{SEED}-{len(given)}", IMAGES)
            given += send_all(router.caller(), batch)
        if any(channel["state"] in STUCK for channel in status["channels"]):
            retry(router)
        time.sleep(0.1)  # a poll
    return given


def retry(router: Router) -> None:
    """What a person says when a destination has been mended."""
    done = run_cli("queue", "retry", "-c", router.config_file, "--all", timeout=300)
    assert done.returncode == 0, done.stderr


def delivered(router: Router, given: list[Image]) -> set[tuple[str, str]]:
    """(called AE title, SOP instance) of what the router does not owe any more."""
    rows = aftermath.queue(router)
    owed = {(row["destination"].upper(), row["sop_instance_uid"]) for row in rows}
    return {(name.upper(), image.sop_instance) for name in NAMES for image in given} - owed


@pytest.fixture
def fuzzed(make_router: MakeRouter, recordings: dict[Shape, list[Recording]]) -> Iterator[tuple[Router, Answerer]]:
    with Answerer(recordings, SEED) as answerer:
        more = {"retry": QUICK, "response_timeout": "1s", "connect_timeout": "1s", "association": {"idle_close": "1s"}}
        yield (
            make_router(
                node=settings.node(**aftermath.PATIENT),
                destination=[settings.dicom(name, answerer.port, **more) for name in NAMES],
                route=[settings.route("all", NAMES)],
            ).start(),
            answerer,
        )


@pytest.mark.parametrize(
    "associations",
    [
        pytest.param(400, marks=pytest.mark.timeout(300)),
        pytest.param(20_000, marks=[pytest.mark.long, pytest.mark.timeout(7200)]),
    ],
)
def test_damaged_answers(
    fuzzed: tuple[Router, Answerer], recordings: dict[Shape, list[Recording]], associations: int
) -> None:
    router, answerer = fuzzed
    assert len(recordings) == 2
    assert {name.rpartition("-")[0] for found in recordings.values() for name in (r.name for r in found)} == {
        *("storescp", "orthanc", "pynetdicom", "exact"),
    }
    answerer.honest = True
    send_all(router.caller(), images_of(f"{SEED}-before", 2 * IMAGES), associations=2)
    router.wait_drained()
    before = aftermath.measure(router)
    answerer.honest = False
    began = time.monotonic()
    print(f"seed {SEED!r}")
    given = fuzz(router, answerer, associations)
    seconds = time.monotonic() - began
    answerer.honest = True
    wait_until(lambda: settled(router), 120, "all that is not put off is delivered", router.status, every=0.5)
    router.wait_quiet()
    wait_until(lambda: answerer.quiet, 30, "the router leaves all associations")
    done, log = delivered(router, given), answerer.log
    unproven = done - log.proven
    assert len(unproven) <= log.early, f"seed {SEED!r}: delivered without a success: {sorted(unproven)[:5]}"
    digests = {image.sop_instance: image.sha256 for image in given}
    arrived = [(called, uid, digests[uid]) in log.whole for called, uid in done - unproven]
    assert arrived.count(False) <= log.early, f"seed {SEED!r}: delivered, but never whole at the destination"
    assert not log.unknown, f"proposals that were not recorded: {log.unknown}"
    assert not log.not_left, f"seed {SEED!r}: {log.not_left} associations were not given up"
    assert len(done) > len(given) * len(NAMES) // 2
    put_off = len(given) * len(NAMES) - len(done)
    figures = f"{len(done)} deliveries, {put_off} put off"
    what = f"{log.associations} associations with damaged answers in {seconds:.0f} s ({figures})"
    aftermath.assert_unharmed(before, log.associations, what)
    router.stop()


def settled(router: Router) -> bool:
    """Retry dead letters; whether all that is left is put off."""
    retry(router)
    return all(row["not_before"] > time.time() + 2 for row in aftermath.queue(router))
