"""Destinations that come and go while images keep coming: everything arrives, nothing is charged, nobody else waits."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.deliveries import attempts
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_exactly, received
from tests.support.exact_sender import Fleet
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.peers import KEEP_BYTES, StoreSCP
from tests.support.router import Router
from tests.support.waiting import stays

SENDERS, SIZE, LANES = 2, 50_000, 2
LEAST_PAUSE = 0.2
WELL, DOWN = Behaviour(delay=0.02), Behaviour(close_at_connect=True)


@dataclass(frozen=True)
class Plan:
    """Seconds of each state, how often, and the images meanwhile."""

    seconds: float
    cycles: int
    images: int


SHORT, LONG = Plan(0.8, 5, 200), Plan(5, 12, 2400)


@dataclass
class Flapper:
    """Three destinations: ``closing`` (takes connections and closes them, then refuses them), a real one that is
    killed, and one that stays."""

    router: Router
    closing: ExactReceiver
    killed: StoreSCP
    steady: ExactReceiver
    downs: list[tuple[float, float]] = field(default_factory=list)
    """When the others were away (monotonic seconds)."""
    calls: list[int] = field(default_factory=list)
    """Connections that were made to it in each of those in which it counted them."""

    def flap(self, plan: Plan) -> None:
        for turn in range(plan.cycles):
            self._pass(plan.seconds)
            began = time.monotonic()
            self.killed.stop()
            if turn % 2:
                self._closes(plan.seconds)
            else:
                self._refuses(plan.seconds)
            self.downs.append((began, time.monotonic()))
            self.killed.start()

    def _pass(self, seconds: float) -> None:
        stays(lambda: self.router.running, seconds, "the router runs", every=0.1)

    def _refuses(self, seconds: float) -> None:
        """Connections and associations are reset, new ones refused."""
        self.closing.stop()
        self._pass(seconds)
        self.closing.start()

    def _closes(self, seconds: float) -> None:
        """Associations are cut off, too; new connections are closed at once, and counted."""
        self.closing.set(DOWN)
        self.closing.stop()
        self.closing.start()
        before = self.closing.tally().connections
        self._pass(seconds)
        self.calls.append(self.closing.tally().connections - before)
        self.closing.set(WELL)


def paced(plan: Plan) -> float:
    """Seconds between two images of one sender, so that they last as long as the flapping."""
    return 2 * plan.seconds * plan.cycles / (plan.images / SENDERS)


def lags(fleet: Fleet, end: ExactReceiver) -> list[tuple[float, float]]:
    """For each image: when it was acknowledged, and how much later ``end`` had it."""
    arrived = {stored.sop_instance: stored.at for stored in end.stored()}
    results = [result for report in fleet.reports for result in report.results]
    return [(r.answered_at, max(arrived[r.image.sop_instance] - r.answered_at, 0.0)) for r in results]


def assert_kept(scp: StoreSCP, images: list[Image]) -> None:
    """storescp has each image, byte for byte, behind the File Meta of its own."""
    files = {path.name.partition(".")[2]: path for path in scp.files()}
    assert len(files) == len(images)
    for image in images:
        assert files[image.sop_instance].read_bytes().endswith(b"".join(image.chunks(1 << 20))), image.name


@pytest.mark.timeout(400)
@pytest.mark.parametrize("plan", [SHORT, pytest.param(LONG, marks=pytest.mark.long)], ids=["short", "12-times-5-s"])
def test_flapping(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path, plan: Plan) -> None:
    closing, steady = receivers.receiver(WELL), receivers.receiver()
    with StoreSCP(tmp_path / "scp", *KEEP_BYTES) as killed:
        router = make_router(
            destination=[
                settings.dicom(name, port, max_associations=LANES)
                for name, port in (("closing", closing.port), ("killed", killed.port), ("steady", steady.port))
            ],
            route=[settings.route("all", ["closing", "killed", "steady"])],
        ).start()
        images = synthetic.series("flap", plan.images, synthetic.Kind(size=SIZE))
        shares = [(router.caller(), images[n::SENDERS]) for n in range(SENDERS)]
        pace = paced(plan)
        fleet = Fleet(shares, between=lambda: stays(lambda: True, pace, "time passes", every=pace)).start()
        flapper = Flapper(router, closing, killed, steady)
        flapper.flap(plan)
        fleet.join().assert_clean()
        router.wait_drained(90)
        assert_kept(killed, images)
    assert_exactly(steady, images)
    counted = received(closing)
    assert set(counted) == {image.identity for image in images}
    repeats = sum(counted.values()) - len(images)
    assert repeats <= plan.cycles * LANES, "only what was unanswered at a break comes again"
    for name in ("closing", "killed", "steady"):
        assert router.channel(name)["failed"] == 0
        assert attempts(router, name) == {1: len(images)}
    most = 3 * LANES + plan.seconds / LEAST_PAUSE
    assert all(0 < calls <= most for calls in flapper.calls), flapper.calls
    down: list[float] = []
    up: list[float] = []
    for at, lag in lags(fleet, steady):
        (down if any(begin <= at <= end for begin, end in flapper.downs) else up).append(lag)
    print(
        f"{plan.cycles} absences of {plan.seconds:g} s: {len(images)} images at each of 3 destinations, {repeats} "
        f"repeats, connections while down {flapper.calls}; lag at the steady one {statistics.median(down):.4f} s "
        f"while others are down, {statistics.median(up):.4f} s else"
    )
    assert statistics.median(down) <= 3 * statistics.median(up) + 0.5
    log = router.log_file.read_text(errors="replace").splitlines()
    for name in ("closing", "killed"):
        assert sum(f"{name}: down" in line for line in log) <= 2 * plan.cycles
    assert len(log) < 12 * plan.cycles + 50, "the log does not grow with the attempts"
    router.stop()
