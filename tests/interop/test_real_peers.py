"""dcmtk, Orthanc and pynetdicom on both sides. They re-encode images, so decoded content is compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import FileDataset

from tests.support import corpus, peers, settings
from tests.support.exact_sender import Caller, send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.peers import KEEP_BYTES, Orthanc, StoreSCP
from tests.support.ports import HOST, free_port
from tests.support.router import Router

NAMES = (
    "CT_small.dcm", "MR_small_implicit.dcm", "JPEG2000.dcm", "SC_rgb_rle_2frame.dcm", "test-SR.dcm", "waveform_ecg.dcm",
    "SC_rgb_small_odd_jpeg.dcm", "liver_1frame.dcm", "emri_small_RLE.dcm", "JPEG-LL.dcm", "examples_palette.dcm",
)  # fmt: skip
IMAGES = corpus.named(*NAMES)
FILES = [corpus.path_of(image) for image in IMAGES]
PLAIN = corpus.named("CT_small.dcm", "MR_small.dcm", "examples_palette.dcm", "test-SR.dcm", "waveform_ecg.dcm")


@dataclass
class Site:
    """A router with three destinations that get everything: storescp, Orthanc and a folder."""

    router: Router
    storescp: StoreSCP
    orthanc: Orthanc
    folder: Path

    def sent(self, count: int) -> None:
        """Wait until ``count`` more images have gone to all three."""
        before = self.delivered
        self.delivered = before + 3 * count
        self.router.wait_delivered(self.delivered)

    delivered: int = 0

    def everywhere(self, instance: str) -> list[FileDataset]:
        """What each destination has of an instance."""
        found = [path for path in self.folder.rglob("*") if path.is_file() and path.stem.startswith(instance)]
        found += [path for path in self.storescp.files() if path.name.endswith(instance)]
        wanted = [peers.read(path) for path in found]
        kept = (peers.read_bytes(self.orthanc.file(name)) for name in self.orthanc.instances())
        return wanted + [data_set for data_set in kept if str(data_set.SOPInstanceUID) == instance]


@pytest.fixture(scope="module")
def site(make_module_router: MakeRouter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    router_port = free_port()
    with (
        StoreSCP(folder / "storescp", *KEEP_BYTES) as storescp,
        Orthanc(folder / "orthanc", {"router": ("ASYNCROUTE", router_port)}) as orthanc,
    ):
        router = make_module_router(
            listener=[settings.listener(port=router_port)],
            destination=[
                settings.dicom("storescp", storescp.port),
                settings.dicom("orthanc", orthanc.port),
                settings.folder("written", folder / "written", layout="{SOPInstanceUID}.dcm"),
            ],
            route=[settings.route("all", ["storescp", "orthanc", "written"])],
        ).start()
        yield Site(router, storescp, orthanc, folder / "written")


def by_storescu(caller: Caller) -> None:
    peers.storescu(caller, [corpus.path_of(image) for image in PLAIN], "-xe")


def by_dcmsend(caller: Caller) -> None:
    peers.dcmsend(caller, FILES)


def by_pynetdicom(caller: Caller) -> None:
    assert peers.pynetdicom_send(caller, FILES) == [0] * len(FILES)


@pytest.mark.parametrize(
    ("send", "images"),
    [(by_storescu, PLAIN), (by_dcmsend, IMAGES), (by_pynetdicom, IMAGES)],
    ids=["storescu", "dcmsend", "pynetdicom"],
)
def test_everything_decodes_to_the_same_everywhere(
    site: Site, send: Callable[[Caller], None], images: list[Image]
) -> None:
    send(site.router.caller(send.__name__.upper()))
    site.sent(len(images))
    for image in images:
        assert_same_everywhere(site, image)


def assert_same_everywhere(site: Site, image: Image) -> None:
    original = peers.read(corpus.path_of(image))
    copies = site.everywhere(image.sop_instance)
    assert len(copies) >= 3, f"{image.name} is at {len(copies)} places"
    for copy in copies:
        assert peers.same_content(original, copy) == "", image.name


def test_orthanc_sends(site: Site) -> None:
    names = [site.orthanc.upload(corpus.path_of(image)) for image in IMAGES]
    site.orthanc.store("router", names)
    site.sent(len(IMAGES))
    for image in IMAGES:
        assert_same_everywhere(site, image)


def test_exact_bytes_survive_in_storescp_and_folder(site: Site) -> None:
    (odd,) = corpus.named("MR_small_expb.dcm")
    send_all(site.router.caller(), [odd])
    site.sent(1)
    data = b"".join(odd.chunks(1 << 20))
    written = [path for path in (*site.folder.rglob("*.dcm"), *site.storescp.files()) if odd.sop_instance in path.name]
    contents = [path.read_bytes() for path in written]
    assert sum(content[corpus.read_meta(content).offset :] == data for content in contents) >= 2


def test_echoscu(site: Site) -> None:
    peers.assert_ran(peers.echoscu(site.router.caller("ECHO")))


def test_a_modality_with_nagle_does_not_crawl(site: Site) -> None:
    """dcmtk as installed leaves Nagle's algorithm on: without quick acknowledgements each image waits 40 ms or more."""
    caller, repeats = site.router.caller("NAGLE"), 100
    command = ("storescu", "-aec", caller.called, "-xe", "--repeat", repeats, HOST, caller.port)

    def seconds(nagle: bool) -> float:
        began = time.monotonic()
        peers.assert_ran(peers.run(*command, corpus.path_of(PLAIN[0]), nagle=nagle))
        return time.monotonic() - began

    without, taken = seconds(nagle=False), seconds(nagle=True)
    assert taken < max(repeats * 0.04, 3 * without), f"{repeats} images took {taken:.1f} s, {without:.1f} s without it"
    site.sent(2 * repeats)
