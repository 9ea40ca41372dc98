"""Recorded associations of real programs, damaged in every way, against a running router.

What is recorded: dcmtk, Orthanc, pynetdicom and the exact sender calling this very router through a relay. A failure
names the number of the script; the seed is printed, and ``FUZZ_SEED`` sets it.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

import pytest

from tests.fuzz import aftermath, callers, sessions
from tests.fuzz.mutations import damaged
from tests.fuzz.recording import Recording
from tests.support import settings, synthetic
from tests.support.exact_receiver import ExactReceiver, ReceiverHost
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.router import Router

SEED = os.environ.get("FUZZ_SEED", "associations")
SHORT = {"association_timeout": "1s", "pdu_timeout": "1s", "idle_timeout": "1s"}
"""Deadlines of the listener that is fuzzed; real programs are recorded at another, with the usual ones."""
LARGEST = 150_000
"""Bytes of a recording that is played thousands of times."""


@pytest.fixture(scope="module")
def end(receivers: ReceiverHost) -> ExactReceiver:
    return receivers.receiver()


@pytest.fixture(scope="module")
def router(make_module_router: MakeRouter, end: ExactReceiver, tmp_path_factory: pytest.TempPathFactory) -> Router:
    folder = tmp_path_factory.mktemp("fuzzed") / "archive"
    folder.mkdir()
    return make_module_router(
        node=settings.node(**aftermath.PATIENT),
        listener=[settings.listener(max_associations=100, **SHORT), settings.listener()],
        destination=[
            settings.dicom("end", end.port, association={"idle_close": "500ms"}),
            settings.folder("archive", folder),
        ],
        route=[settings.route("all", ["end", "archive"])],
    ).start()


@pytest.fixture(scope="module")
def recordings(router: Router, tmp_path_factory: pytest.TempPathFactory) -> list[Recording]:
    found = sessions.callers_of(router.caller(listener=1), tmp_path_factory.mktemp("recorded"))
    return [recording for recording in found if recording.size <= LARGEST]


def scripts(recordings: list[Recording], numbers: range) -> Iterator[callers.Script]:
    """Damaged recordings."""
    streams = [recording.caller for recording in recordings]
    for number in numbers:
        rng = random.Random(f"{SEED}/{number}")
        recording = rng.choice(recordings)
        pdus, names = damaged(rng, recording.caller, streams)
        if pdus:
            yield callers.script(number, f"{recording.name}: {names}", pdus, rng)


def test_the_recordings_are_whole(router: Router, recordings: list[Recording]) -> None:
    """Played as they are, they do what they did: or the fuzzing would not get far."""
    assert len({recording.name.rpartition("-")[0] for recording in recordings}) >= 14, "a program was not recorded"
    whole = [
        callers.Script(n, recording.name, recording.caller, "stay", waits=True, cuts=0)
        for n, recording in enumerate(recordings)
    ]
    before = router.status()["totals"]["received"]
    played = callers.play(whole, router.port)
    aborted = sum(recording.name.startswith("echoscu-abort") for recording in recordings)
    assert played.ends == {"released": len(whole) - aborted, "closed by the router": aborted}, played
    assert router.status()["totals"]["received"] > before + 20


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(2_000, marks=pytest.mark.timeout(300)),
        pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(7200)]),
    ],
)
def test_damaged_associations(router: Router, end: ExactReceiver, recordings: list[Recording], count: int) -> None:
    send_all(router.caller("BEFORE"), synthetic.mixed(f"before{count}", 6))
    router.wait_status(lambda s: not s["totals"]["waiting"], 30, "nothing waits")
    before = aftermath.measure(router)
    totals = router.status()["totals"]
    began = time.monotonic()
    print(f"seed {SEED!r}, {count} scripts from {len(recordings)} recordings")
    played, memory = callers.Played(), []
    size = max(count // 20, 500)
    for first in range(0, count, size):
        callers.play(scripts(recordings, range(first, first + size)), router.port, played)
        memory.append(router.usage().rss >> 20)
    seconds = time.monotonic() - began
    after = router.wait_status(lambda s: not s["totals"]["waiting"], 120, "what was taken is delivered")["totals"]
    taken = after["received"] - totals["received"]
    assert not played.forgotten, f"seed {SEED!r}: not cleared: {played.forgotten[:5]}"
    assert not played.unconnected
    assert taken > count // 10, "the damage leaves hardly any image: it does not get far"
    assert min(played.ends[how] for how in ("aborted", "rejected", "released")) > count // 100, played.ends
    assert after["delivered"] + after["failed"] == 2 * (after["received"] - after["held"]), after
    print(f"memory of the router after each {size}: {memory} MiB")
    assert memory[-1] < memory[len(memory) // 2] + 32, "memory grows"
    what = f"{count} damaged associations in {seconds:.0f} s ({dict(played.ends)}, {taken} images taken)"
    aftermath.assert_unharmed(before, count, what)
    images = synthetic.mixed(f"after{count}", 6)
    stored = len(end.stored())
    send_all(router.caller("AFTER"), images)
    end.wait_stored(stored + len(images))


def test_it_stops_as_it_should(router: Router) -> None:
    """After all of the above: exit status 0, nothing left running."""
    router.stop()
    aftermath.assert_no_crash(router)
