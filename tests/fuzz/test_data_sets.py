"""Damaged and monstrous data sets in all transfer syntaxes, through a running router whose routes look into them.

Each is stored and delivered byte for byte (to a DICOM destination and a folder named by its attributes), held, or
refused; no sender loses its association over one. ``FUZZ_SEED`` repeats a run; a failure names the numbers.
"""

from __future__ import annotations

import os
import shutil
import time
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.fuzz import aftermath
from tests.fuzz.datasets import data_set
from tests.support import corpus, procfs, settings, synthetic
from tests.support.behaviour import Stored
from tests.support.exact_receiver import ReceiverHost
from tests.support.exact_sender import Fleet, send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.router import Router

SEED = os.environ.get("FUZZ_SEED", "data-sets")
SENDERS = 8
TOGETHER = 25
"""Images of one association."""
PEAK = 250
"""MiB of memory: a single gigabyte inflated goes far beyond."""
LISTED = 2048
"""Bytes of memory that a held image may cost in the router while ``queue list`` asks for all of them at once."""
ROUTES: list[settings.Table] = [
    {"match": {"Modality": ["CT", "MR", "re:^[A-Z]{2}$"], "PatientID": "P*"}},
    {"match": {"StudyDescription": "re:(?i)chest|test", "StudyDate": "20240101.."}},
    {"match": {"PatientName": "X^*", "InstitutionName": "*"}},
    {"unless": {"PatientID": "NOBODY*"}},
]


class Taken(NamedTuple):
    """An acknowledged image, without its bytes."""

    name: str
    identity: tuple[str, str, str, str]


def digests(folder: Path) -> set[str]:
    """The digests of the data sets of all files below ``folder``."""
    contents = (path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return {sha256(content[corpus.read_meta(content).offset :]).hexdigest() for content in contents}


def send_in_shares(router: Router, images: list[Image]) -> tuple[dict[str, Taken], int]:
    """Send all, ``SENDERS`` associations at a time; those acknowledged by SOP instance, and how many were refused."""
    taken: dict[str, Taken] = {}
    refused = 0
    shares = [images[at : at + TOGETHER] for at in range(0, len(images), TOGETHER)]
    for at in range(0, len(shares), SENDERS):
        fleet = Fleet((router.caller(), share) for share in shares[at : at + SENDERS]).run()
        for report in fleet.reports:
            assert report.ended == "released", f"seed {SEED!r}: {report.unanswered}: {report.ended}"
            refused += len(report.refused)
        taken |= {image.sop_instance: Taken(image.name, image.identity) for image in fleet.acknowledged}
    return taken, refused


def assert_delivered_whole(images: dict[str, Taken], stored: list[Stored], folder: Path) -> None:
    """Check that ``images`` (by SOP instance), and no others, arrived at both destinations byte for byte.

    Raises:
        AssertionError: with the names of the first that did not.
    """
    arrived = {one.sop_instance: one.identity for one in stored}
    wrong = [image.name for uid, image in images.items() if arrived.get(uid) != image.identity]
    assert not wrong, f"seed {SEED!r}: not delivered as sent: {wrong[:5]}"
    assert arrived.keys() == images.keys(), f"seed {SEED!r}: too much: {sorted(arrived.keys() - images.keys())[:5]}"
    written = digests(folder)
    wrong = [image.name for image in images.values() if image.identity[3] not in written]
    assert not wrong, f"seed {SEED!r}: not in the folder: {wrong[:5]}"


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(1_000, marks=pytest.mark.timeout(300)),
        pytest.param(50_000, marks=[pytest.mark.long, pytest.mark.timeout(7200)]),
    ],
)
def test_damaged_data_sets(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path, count: int) -> None:
    end, folder = receivers.receiver(), tmp_path / "archive"
    folder.mkdir()
    layout = "{PatientID}/{StudyDate}-{Modality}/{StudyDescription}/{SOPInstanceUID}.dcm"
    router = make_router(
        node=settings.node(**aftermath.PATIENT),
        listener=[settings.listener(max_image="1500 KiB")],
        destination=[
            settings.dicom("end", end.port, max_associations=4, association={"idle_close": "500ms"}),
            settings.folder("archive", folder, layout=layout),
        ],
        route=[settings.route(f"route{n}", ["end", "archive"], **conditions) for n, conditions in enumerate(ROUTES)],
    ).start()
    send_all(router.caller(), synthetic.mixed("before", 12), associations=2)
    router.wait_drained()
    before = aftermath.measure(router)
    print(f"seed {SEED!r}")
    began, taken, refused, memory = time.monotonic(), dict[str, Taken](), 0, []
    for first in range(0, count, 500):
        images = [data_set(SEED, number) for number in range(first, min(first + 500, count))]
        some, no = send_in_shares(router, images)
        taken, refused = taken | some, refused + no
        memory.append(router.usage().rss >> 20)
    router.wait_status(lambda s: not s["totals"]["waiting"], 120, "what was taken is delivered")
    seconds = time.monotonic() - began
    assert len(taken) + refused == count
    held = {row["sop_instance_uid"] for row in aftermath.queue(router)}
    assert_delivered_whole({uid: image for uid, image in taken.items() if uid not in held}, end.stored(12), folder)
    assert count / 20 < len(held) < count * 2 / 3
    assert 0 < refused < count / 10
    assert "refused with A700: image larger than max_image" in router.log_file.read_text()
    peak = procfs.memory(router.pid) >> 20
    print(f"memory of the router after each 500: {memory} MiB, peak {peak} MiB")
    assert peak < PEAK, "a data set was made larger than it came"
    assert memory[-1] < memory[len(memory) // 2] + 32, "memory grows"
    figures = f"{len(taken) - len(held)} delivered, {len(held)} held, {refused} refused"
    what = f"{count} data sets in {seconds:.0f} s ({figures})"
    listed = len(held) * LISTED
    aftermath.assert_unharmed(before, count, what, memory=64 * procfs.MIB + listed)
    router.stop()
    for used in (router.data_dir, folder):  # the long form leaves gigabytes
        shutil.rmtree(used)
