"""Transforms seen by others: Orthanc tells the new values, storescp's files keep the bytes of all else."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support import corpus, peers, settings
from tests.support.coercing import elements
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.peers import KEEP_BYTES, Orthanc, StoreSCP
from tests.support.router import Router

IMAGES = corpus.named(
    *(
        "CT_small.dcm",
        "MR_small_implicit.dcm",
        "SC_rgb_small_odd_big_endian.dcm",
        "JPEG2000.dcm",
        "JPEG-LL.dcm",
        "test-SR.dcm",
    ),
    *("SC_rgb_rle_2frame.dcm", "waveform_ecg.dcm", "emri_small_RLE.dcm", "examples_palette.dcm"),
)
NAMED = {0x00080050, 0x00080080, 0x00081010, 0x00100020}
"""What the steps name: Accession Number, Institution Name, Station Name, Patient ID."""
STEPS = [
    {"prefix": "PatientID", "with": "AHI-"},
    {"fill": "AccessionNumber", "from": "crc32(StudyInstanceUID)"},
    {"set": "InstitutionName", "to": "Site A of {calling_aet}"},
    {"delete": "StationName"},
]


@dataclass
class Site:
    """A router that has sent all images, changed, to both peers."""

    router: Router
    storescp: StoreSCP
    orthanc: Orthanc


@pytest.fixture(scope="module")
def site(make_module_router: MakeRouter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("changed")
    with StoreSCP(folder / "storescp", *KEEP_BYTES) as storescp, Orthanc(folder / "orthanc") as orthanc:
        router = make_module_router(
            destination=[settings.dicom("storescp", storescp.port), settings.dicom("orthanc", orthanc.port)],
            route=[settings.route("all", ["storescp", "orthanc"], transform=["site-a"])],
            transform={"site-a": {"misfit": "pass", "steps": STEPS}},
        ).start()
        send_all(router.caller("SITE_A"), IMAGES)
        router.wait_delivered(2 * len(IMAGES))
        yield Site(router, storescp, orthanc)


def wanted(image: Image) -> dict[str, str]:
    original = peers.read(corpus.path_of(image))
    patient, accession = str(original.get("PatientID", "")), str(original.get("AccessionNumber", ""))
    return {
        "PatientID": f"AHI-{patient}" if patient else "",
        "AccessionNumber": accession or str(zlib.crc32(str(original.StudyInstanceUID).encode())),
        "InstitutionName": "Site A of SITE_A",
        "StationName": "",
    }


def test_orthanc_reads_the_new_values(site: Site) -> None:
    found = {}
    for name in site.orthanc.wait_instances(len(IMAGES)):
        tags = json.loads(site.orthanc.request("GET", f"/instances/{name}/simplified-tags"))
        found[tags["SOPInstanceUID"]] = {key: str(tags.get(key, "")) for key in wanted(IMAGES[0])}
    assert found == {image.sop_instance: wanted(image) for image in IMAGES}


def received(site: Site, image: Image) -> tuple[bytes, bytes]:
    """The data set as it was sent to the router, and as storescp wrote it."""
    (path,) = [path for path in site.storescp.wait_files(len(IMAGES)) if path.name.endswith(image.sop_instance)]
    content = path.read_bytes()
    assert corpus.read_meta(content).transfer_syntax == image.transfer_syntax
    return b"".join(image.chunks(1 << 20)), content[corpus.read_meta(content).offset :]


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_everything_else_keeps_its_bytes(site: Site, image: Image) -> None:
    before, after = (elements(data, image.transfer_syntax) for data in received(site, image))
    lengths = {tag for tag in before if not tag & 0xFFFF}
    assert set(after) - NAMED == set(before) - NAMED
    changed = {tag for tag in after if after[tag] != before.get(tag)}
    assert changed <= NAMED | lengths
    assert changed - lengths
    assert after.get(0x7FE00010) == before.get(0x7FE00010)
