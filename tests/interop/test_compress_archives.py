"""Compressed images at archives: what they can take, what they give back, and what they prove to have."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from tests.support import settings
from tests.support.committing import Archive, Request
from tests.support.converted import Array, file_of, pixels
from tests.support.corpus import image_of, named
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.peers import Orthanc
from tests.support.ports import free_port
from tests.support.router import Router, run_cli

EXPLICIT = "1.2.840.10008.1.2.1"
JLS, J2K, RLE, HT = (f"1.2.840.10008.1.2.{end}" for end in ("4.80", "4.91", "5", "4.201"))
LOSSY: settings.Table = {"compress": "j2k", "compression": {"ratio": 8}}

# A pynetdicom that is refused a connection forgets its socket without closing it.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in.*socket:pytest.PytestUnraisableExceptionWarning")


def routed(make_router: MakeRouter, table: settings.Table, **more: Any) -> Router:
    router = make_router(destination=[table], route=[settings.route("all", [table["name"]])], **more)
    router.codecs = True
    return router.start()


def wait_confirmed(router: Router, delivered: int) -> None:
    router.wait_status(
        lambda s: s["totals"]["delivered"] >= delivered and not router.channel("pacs", s)["unconfirmed"],
        60,
        f"{delivered} deliveries are confirmed",
    )
    router.wait_drained()


def files_of(orthanc: Orthanc, count: int) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(io.BytesIO(orthanc.file(name))) for name in orthanc.wait_instances(count)]


# --- proof ------------------------------------------------------------------------------------------------------------


def test_a_query_asks_for_the_image_that_was_made(make_router: MakeRouter, tmp_path: Path) -> None:
    """What has lost something is another image: that one is looked for, by Orthanc's own index, and found."""
    with Orthanc(tmp_path / "orthanc", {"router": ("CT", free_port())}) as orthanc:
        table = settings.dicom("pacs", orthanc.port, ae_title="ORTHANC", verify="query", verify_wait="60s", **LOSSY)
        router = routed(make_router, table)
        lossy, palette = send_all(router.caller("CT"), named("MR2_UNCR.dcm", "examples_palette.dcm"))
        wait_confirmed(router, 2)
        found = {str(each.file_meta.TransferSyntaxUID): each for each in files_of(orthanc, 2)}
        made = found[J2K]
        assert made.SOPInstanceUID != lossy.sop_instance
        assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == lossy.sop_instance
        assert found[EXPLICIT].SOPInstanceUID == palette.sop_instance
        for image in (lossy, palette):
            assert "confirmed by the destination: found by a query" in why(router, image)
        sent = json.loads(run_cli("why", lossy.sop_instance, "--json", "-c", router.config_file).stdout)
        assert made.SOPInstanceUID in json.dumps(sent)


def test_a_lossy_image_that_the_archive_lost_is_sent_again(make_router: MakeRouter, tmp_path: Path) -> None:
    """As the same new image."""
    with Orthanc(tmp_path / "orthanc", {"router": ("CT", free_port())}) as orthanc:
        table = settings.dicom("pacs", orthanc.port, ae_title="ORTHANC", verify="query", verify_wait="2s", **LOSSY)
        router = routed(make_router, table)
        [image] = send_all(router.caller("CT"), named("MR2_UNCR.dcm"))
        (name,) = orthanc.wait_instances(1)
        orthanc.request("DELETE", f"/instances/{name}")
        assert orthanc.wait_instances(1, 60) == [name]  # Orthanc's name is made of the UIDs
        wait_confirmed(router, 1)
        assert "not confirmed, to be sent again: not found at the destination" in why(router, image)


def test_commitment_is_asked_for_the_image_that_was_made(make_router: MakeRouter) -> None:
    """Also the second time, after the archive could not commit; and the original's UID is never asked for."""
    with Archive(reports_to=free_port(), takes=[J2K]) as archive:
        reports: list[Request] = []

        def report(request: Request) -> None:
            reports.append(request)
            bad = dict.fromkeys(request.references, 0x0112) if len(reports) == 1 else {}
            assert archive.say(request.transaction, request.references if not bad else (), bad) == 0

        archive.on_request = report
        proof = {"verify": "commit", "verify_wait": "60s", "association": {"idle_close": "500ms"}}
        table = settings.dicom("pacs", archive.port, calling_ae_title="ASYNCROUTE", **proof, **LOSSY)
        router = routed(make_router, table, listener=[settings.listener(port=archive.reports_to)])
        [image] = send_all(router.caller(), named("MR2_UNCR.dcm"))
        archive.wait_requests(2)
        wait_confirmed(router, 1)
        (made,) = set(archive.stored)
        assert len(archive.stored) == 2
        assert made != image.sop_instance
        assert [request.uids for request in archive.requests] == [[made], [made]]
        assert "confirmed by the destination" in why(router, image)


def why(router: Router, image: Image) -> str:
    done = run_cli("why", image.sop_instance, "-c", router.config_file)
    assert done.returncode == 0, done
    return str(done.stdout)


# --- what Orthanc takes -----------------------------------------------------------------------------------------------

IMAGES = ("MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm", "image_dfl.dcm", "SC_rgb_small_odd.dcm")


def pixels_in(data: pydicom.Dataset, folder: Path) -> Array:
    path = folder / f"{data.SOPInstanceUID}.dcm"
    data.save_as(path)
    return pixels(path)


@pytest.mark.parametrize(
    ("word", "takes", "comes"),
    [
        ("jpeg-ls", [JLS, EXPLICIT], {JLS}),
        pytest.param("jpeg-ls", [EXPLICIT], {EXPLICIT}, marks=pytest.mark.long),
        ("htj2k-lossless", [RLE, EXPLICIT], {RLE, EXPLICIT}),
    ],
)
def test_orthanc_gets_the_same_pixels_in_what_it_takes(
    make_router: MakeRouter, tmp_path: Path, word: str, takes: list[str], comes: set[str]
) -> None:
    """Real images of every kind of encoding, to an Orthanc that is told what to accept."""
    with Orthanc(tmp_path / "orthanc", AcceptedTransferSyntaxes=takes) as orthanc:
        router = routed(make_router, settings.dicom("pacs", orthanc.port, ae_title="ORTHANC", compress=word))
        images = distinct(tmp_path)
        send_all(router.caller(), [image for image, _ in images])
        router.wait_delivered(len(images))
        found = {str(each.SOPInstanceUID): each for each in files_of(orthanc, len(images))}
        assert {str(each.file_meta.TransferSyntaxUID) for each in found.values()} == comes
        for image, original in images:
            assert np.array_equal(pixels_in(found[image.sop_instance], tmp_path), pixels(original)), image.name


def distinct(folder: Path) -> list[tuple[Image, Path]]:
    """``IMAGES``: some of the files are the same image, encoded otherwise; each gets a UID of its own here."""
    found = []
    for number, name in enumerate(IMAGES):
        data = file_of(name).read_bytes()
        uid = pydicom.dcmread(file_of(name), stop_before_pixels=True).SOPInstanceUID
        other = (str(uid)[:-4] + f"1{number:03d}").encode()
        path = folder / f"{number}-{name}"
        if name == "image_dfl.dcm":
            path.write_bytes(data)
        else:
            path.write_bytes(data.replace(str(uid).encode(), other))
        found.append((image_of(path), path))
    return found
