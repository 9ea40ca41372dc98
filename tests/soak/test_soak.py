"""At half of full speed for a long time: tasks, threads, descriptors and memory stay as they are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import broken_build
from tests.support.certs import Authority
from tests.support.exact_receiver import ReceiverHost
from tests.support.fixtures import MakeRouter
from tests.support.procfs import MIB
from tests.support.soaking import COUNTS, TROUBLES, Sample, Soak
from tests.support.steadiness import growth, quarter
from tests.support.waiting import wait_until

SEGMENTS = 4
MORE_AT_REST = {"tasks": 0, "threads": 4, "descriptors": 2}
"""Pools start their threads as they are needed: some may come late."""

MORE_AT_WORK = {"tasks": 10, "threads": 4, "descriptors": 15}
"""At work they go up and down with the associations of the moment."""

JOURNAL_CACHE = 16 * MIB
"""The journal's cache grows with the journal, up to this: no leak."""

MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""For the short form: as malloc is set up otherwise, its pools become even only after some ten thousand images."""


@dataclass(frozen=True)
class Plan:
    """Seconds in all; at full speed before; that the flapping destination is well, and not well, each time."""

    seconds: float
    full: float = 15.0
    up: float = 4.0
    down: float = 1.5

    @property
    def least(self) -> float:
        """Seconds of a segment in which, with those of the others, each trouble comes once."""
        return (len(TROUBLES) + 1) * (self.up + self.down) / SEGMENTS


FORMS = [
    pytest.param(Plan(60, full=8.0, up=1.5, down=1.0), 14 * MIB, MALLOC, id="short"),  # a minute is still warm-up
    pytest.param(Plan(120), 4 * MIB, MALLOC, id="two-minutes", marks=pytest.mark.long),
    pytest.param(Plan(1800), 10 * MIB, {}, id="half-an-hour", marks=pytest.mark.long),
]
"""Times, what memory may grow by besides the journal's cache, environment."""


def soak_for(soak: Soak, plan: Plan) -> None:
    """Full speed for a moment, then half of it, with a rest after each quarter of the time."""
    began = time.monotonic()
    soak.flapping.up, soak.flapping.down = plan.up, plan.down
    full = soak.full_speed(plan.full)
    soak.pace.per_second = full / 2
    for n in range(SEGMENTS):
        left = began + plan.seconds - time.monotonic()
        soak.run(max(left / (SEGMENTS - n) - 4, plan.least), every=max(1.0, plan.seconds / 400))
        soak.rest()
    print(f"\nfull speed {full:.0f} images/s, paced to {full / 2:.0f}/s for {time.monotonic() - began:.0f} s")
    for sample in soak.resting:
        print(f"at rest: {sample}")


def course(samples: Sequence[Sample], kind: str) -> list[float]:
    """One figure of many samples."""
    return [float(getattr(sample, kind)) for sample in samples]


def assert_counts_are_flat(soak: Soak) -> None:
    for kind in COUNTS:
        resting, running = course(soak.resting, kind), course(soak.running, kind)
        print(f"{kind}: at rest {[int(value) for value in resting]}, at work at most {max(running):.0f}")
        assert max(resting[1:]) <= resting[0] + MORE_AT_REST[kind], f"{kind} grow: {resting}"
        before, after = max(quarter(running, 1)), max(quarter(running, 3))
        assert after <= before + MORE_AT_WORK[kind], f"{kind} grow: {before} in the second quarter, {after} in the last"


def assert_memory_is_flat(soak: Soak, most: int) -> None:
    """Resident memory from the first rest to the last, and over all that was measured at work in between."""
    first, last = soak.resting[0], soak.resting[-1]
    working = [sample for sample in soak.running if sample.at > first.at]
    images = last.images - first.images
    grown = max(last.rss - first.rss, growth(course(working, "images"), course(working, "rss")))
    journal = last.journal - first.journal
    bound = most + min(1.1 * max(journal, 0), JOURNAL_CACHE)
    print(
        f"memory grew {grown / MIB:.1f} MiB (allowed {bound / MIB:.1f}) in {images} images after the warm-up; "
        f"{(bound - grown) / images:.0f} bytes more an image would be seen; "
        f"journal {journal / images:.0f} bytes an image"
    )
    assert grown <= bound, f"memory grows: {grown / MIB:.1f} MiB in {images} images"


def assert_all_delivered(soak: Soak) -> None:
    done = soak.sent
    print(
        f"{len(done.sent)} images sent, {len(done.acknowledged)} acknowledged, {len(done.held)} held and discarded; "
        f"{soak.reloads} reloads; repeats { ({name: a.repeats for name, a in soak.arrivals.items()}) }"
    )
    assert not done.troubles, (len(done.troubles), done.troubles[:3])
    assert not done.refused, (len(done.refused), done.refused[:3])
    assert done.held
    assert soak.flapping.turns >= len(TROUBLES), "not every trouble has come"
    assert len(done.acknowledged) > 500
    for name, arrivals in soak.arrivals.items():
        missing, foreign = arrivals.missing(done.acknowledged), arrivals.foreign(done.sent)
        assert (missing, foreign) == (0, 0), f"{name}: {missing} lost, {foreign} that were never sent like this"
        assert name == "flapping" or not arrivals.repeats, f"{name}: {arrivals.repeats} came twice"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("plan", "most", "environment"), FORMS)
def test_nothing_grows_and_nothing_is_lost(
    make_router: MakeRouter,
    receivers: ReceiverHost,
    authority: Authority,
    tmp_path: Path,
    plan: Plan,
    most: int,
    environment: dict[str, str],
) -> None:
    soak = Soak(make_router, receivers, authority, tmp_path, **environment)
    soak_for(soak, plan)
    wait_until(lambda: not soak.router.spool_files(), 20, "no spare file is left", soak.router.spool_files)
    soak.finish()
    assert_all_delivered(soak)
    assert_counts_are_flat(soak)
    assert_memory_is_flat(soak, most)
    assert "Traceback" not in soak.router.log_file.read_text(errors="replace")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_leak_of_one_kib_an_image_is_found(
    make_router: MakeRouter, receivers: ReceiverHost, authority: Authority, tmp_path: Path
) -> None:
    soak = Soak(make_router, receivers, authority, tmp_path, (broken_build.MODULE, "leak"), **MALLOC)
    soak_for(soak, Plan(300))
    soak.finish()
    with pytest.raises(AssertionError, match="memory grows"):
        assert_memory_is_flat(soak, 4 * MIB)
