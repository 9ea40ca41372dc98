"""Killed between any two steps of the archive: each image that was acknowledged is in it once, and nothing else is."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncroute.config import load, outline
from asyncroute.rebuild import archive
from tests.support import settings, synthetic
from tests.support.archiving import digests_in, files_in, tiers
from tests.support.crashing import crash_points
from tests.support.exact_receiver import ReceiverHost
from tests.support.exact_sender import Fleet
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.killing import VARIABLE, seeded
from tests.support.router import Router
from tests.support.waiting import wait_until

MEMORY = Path("/dev/shm")
"""Another file system than that of the test's folder: what goes there is copied."""
POINTS = [point for point in crash_points() if point.startswith(("archive-", "tier-"))]
KILLS = [1, pytest.param(20, marks=pytest.mark.long)]
KIND = synthetic.Kind(size=3000)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    folder = MEMORY / f"asyncroute-{tmp_path.parent.name}-{tmp_path.name}"
    folder.mkdir()
    assert folder.stat().st_dev != tmp_path.stat().st_dev
    yield folder
    shutil.rmtree(folder)


def kill(router: Router, spec: str, seed: str) -> list[Image]:
    """Start with a crash point and send until the router has died of it; what was acknowledged."""
    acknowledged: list[Image] = []
    router.start(wait=False, **{VARIABLE: spec})
    for turn in range(50):
        if not router.running:
            break
        try:
            router.wait_listening()
        except AssertionError:  # it died at its start, of what was left from the last time
            break
        images = [synthetic.image(f"{seed}/{turn}", n, KIND, study=n % 2) for n in range(6)]
        fleet = Fleet([(router.caller(), images)]).start()
        fleet.join()
        acknowledged += fleet.acknowledged
        try:
            wait_until(lambda: not router.running, 1.5, "it has died")
        except AssertionError:
            continue
    wait_until(lambda: not router.running, 20, f"the crash at {spec}", router.log_tail)
    assert router.exit_status == -signal.SIGKILL
    return acknowledged


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("point", [point for point in POINTS if point != "tier-ended"])
def test_each_image_is_kept_once(
    make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path, elsewhere: Path, point: str, kills: int
) -> None:
    first, second = tmp_path / "first", elsewhere / "second"
    if point in ("archive-written", "archive-synced", "archive-named"):
        first, second = elsewhere / "first", tmp_path / "second"  # both ways are copies
    chance = seeded()
    router = make_router(
        destination=[settings.dicom("pacs", receivers.receiver().port)],
        route=[settings.route("all", ["pacs"])],
        archive={"tiers": tiers(first, second, older_than="0s")},
    )
    acknowledged: list[Image] = []
    for turn in range(kills):
        acknowledged += kill(router, f"{point}:{chance.randint(1, 4)}", f"{point}/{turn}")
    router.start()
    router.wait_drained(30)
    wait_until(lambda: not files_in(first), 30, "all is in the last tier", lambda: files_in(first))
    router.stop()
    there = digests_in(second)
    assert len(there) == len(set(there)), "no image is there twice"
    assert {image.sha256 for image in acknowledged} <= set(there)
    assert acknowledged
    *_, report = archive.verify(outline.of(load(router.config_file)), None, None, False)
    assert (report.images, report.damaged, report.missing, report.unknown_files) == (len(there), 0, 0, 0)
    assert not [path for tier in (first, second) for path in (tier / ".asyncroute" / "part").glob("*")]


def test_what_ends_is_gone_whole(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    router = make_router(
        destination=[settings.dicom("pacs", receivers.receiver().port)],
        route=[settings.route("all", ["pacs"])],
        archive={"keep": "1s", "tiers": tiers(first, second, older_than="0s")},
    )
    assert kill(router, "tier-ended:2", "ended")
    router.start()
    router.wait_drained(30)
    wait_until(lambda: not files_in(first) + files_in(second), 20, "everything has ended")
    router.wait_status(lambda s: not s["archive"]["tiers"][1]["images"], 20, "the index agrees")
    router.stop()
