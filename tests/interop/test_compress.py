"""``compress`` and ``transcode`` from end to end: what is sent to destinations that take only some syntaxes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from tests.support import settings
from tests.support.behaviour import Behaviour
from tests.support.converted import file_of, pixels
from tests.support.corpus import named
from tests.support.exact_receiver import ExactReceiver, ReceiverHost
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.peers import StoreSCP
from tests.support.router import Router, run_cli
from tests.support.waiting import wait_until

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
JLS, J2K, RLE = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.5"


def routed(make_router: MakeRouter, *destinations: Any) -> Router:
    route = settings.route("all", [each["name"] for each in destinations])
    router = make_router(destination=list(destinations), route=[route])
    router.codecs = True
    return router.start()


def syntaxes(receiver: ExactReceiver) -> dict[str, str]:
    return {each.sop_instance: each.transfer_syntax for each in receiver.stored()}


def told(router: Router, uid: str) -> str:
    done = run_cli("why", uid, "-c", router.config_file)
    assert done.returncode in (0, 1), done
    return done.stdout


def test_each_destination_gets_what_it_wants_or_takes(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    """One image: compressed, decoded for who refuses that, as it is, not at all; made once for two."""
    takes = [(), (JLS,), (EXPLICIT,), (IMPLICIT,), (RLE,), ()]
    ends = [receivers.receiver(Behaviour(only_transfer=list(only))) for only in takes]
    wants: list[dict[str, Any]] = [*[{"compress": "jpeg-ls"}] * 4, {"transcode": False}, {}]
    names = ["first", "second", "third", "fourth", "never", "plain"]
    zipped = zip(names, ends, wants, strict=True)
    router = routed(make_router, *(settings.dicom(name, end.port, **want) for name, end, want in zipped))
    [image] = send_all(router.caller(), named("emri_small.dcm"))
    router.wait_delivered(5)
    router.wait_failed(1)
    found = [syntaxes(end).get(image.sop_instance) for end in ends]
    assert found == [JLS, JLS, EXPLICIT, IMPLICIT, None, EXPLICIT]
    first, second = (end.stored()[0].identity for end in ends[:2])
    assert first == second
    assert router.status()["conversions"]["made"] == 2  # JPEG-LS, implicit VR
    story = told(router, image.sop_instance)
    assert "sent as JPEG-LS Lossless (1.2.840.10008.1.2.4.80), was Explicit VR Little Endian" in story
    assert "sent as Implicit VR Little Endian (1.2.840.10008.1.2), was" in story
    assert "no presentation context accepted" in story
    assert "numpy" not in Path(f"/proc/{router.pid}/maps").read_text(), "only worker processes use it"


def test_dcmtk_gets_the_pixels_of_what_it_cannot_take(make_router: MakeRouter, tmp_path: Path) -> None:
    """storescp with only uncompressed syntaxes, by transcoding; with JPEG-LS, by compression."""
    images = named("MR_small_jp2klossless.dcm", "SC_rgb_rle_2frame.dcm", "emri_small_jpeg_ls_lossless.dcm")
    with StoreSCP(tmp_path / "plain", "+xe") as plain, StoreSCP(tmp_path / "jls", "+xt") as jls:
        router = routed(
            make_router,
            settings.dicom("plain", plain.port, transcode=True),
            settings.dicom("jls", jls.port, compress="jpeg-ls"),
        )
        send_all(router.caller(), images)
        router.wait_delivered(6)
        for peer, syntax in ((plain, EXPLICIT), (jls, JLS)):
            for path in peer.wait_files(3):
                assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
        by_uid = {str(pydicom.dcmread(path).SOPInstanceUID): path for path in plain.files()}
    assert np.array_equal(pixels(by_uid[images[2].sop_instance]), pixels(file_of("emri_small.dcm")))


def test_a_lossy_image_is_another_one(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    """By its UID, in the command, the data set and the folder's file; what cannot be lossy goes as it is."""
    end = receivers.receiver()
    lossy = {"compress": "j2k", "compression": {"ratio": 8}}
    router = routed(
        make_router, settings.dicom("pacs", end.port, **lossy), settings.folder("disk", tmp_path / "disk", **lossy)
    )
    image, palette = send_all(router.caller(), named("MR2_UNCR.dcm", "examples_palette.dcm"))
    router.wait_delivered(4)
    stored = {each.transfer_syntax: each for each in end.stored()}
    assert stored[EXPLICIT].identity == palette.identity
    assert stored[J2K].sop_instance != image.sop_instance
    files = {str(d.file_meta.TransferSyntaxUID): d for d in map(pydicom.dcmread, (tmp_path / "disk").rglob("*.dcm"))}
    made = files[J2K]
    assert made.SOPInstanceUID == made.file_meta.MediaStorageSOPInstanceUID == stored[J2K].sop_instance
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == image.sop_instance


def test_a_transform_works_on_what_is_converted(
    make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path
) -> None:
    """In a data set with other pixels and other header; a folder likewise."""
    end = receivers.receiver(Behaviour(keep_in=str(tmp_path)))
    router = make_router(
        destination=[
            settings.dicom("pacs", end.port, compress="rle"),
            settings.folder("disk", tmp_path / "disk", compress="rle"),
        ],
        route=[settings.route("all", ["pacs", "disk"], transform=["site"])],
        transform={"site": {"steps": [{"set": "InstitutionName", "to": "Elsewhere"}]}},
    )
    router.codecs = True
    router.start()
    [image] = send_all(router.caller(), named("MR_small.dcm"))
    router.wait_delivered(2)
    assert end.stored()[0].transfer_syntax == RLE
    made = pydicom.dcmread(next((tmp_path / "disk").rglob("*.dcm")))
    assert (made.file_meta.TransferSyntaxUID, made.InstitutionName) == (RLE, "Elsewhere")
    sent = pydicom.dcmread(next(tmp_path.glob("*.dataset")), force=True)
    assert (sent.InstitutionName, sent.PixelData) == ("Elsewhere", made.PixelData)
    story = told(router, image.sop_instance)
    assert "sent as RLE Lossless" in story
    assert "sent as transform site makes it" in story


def test_a_broken_image_is_held_and_others_go_on(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    end = receivers.receiver()
    router = routed(make_router, settings.dicom("pacs", end.port, compress="none"))
    broken, good = named("emri_small_jpeg_2k_lossless_too_short.dcm", "emri_small_jpeg_ls_lossless.dcm")
    send_all(router.caller(), [broken, good])
    router.wait_delivered(1)
    router.wait_failed(1)
    assert list(syntaxes(end).values()) == [EXPLICIT]
    assert "held: it cannot be converted: the pixel data end without a delimiter" in told(router, broken.sop_instance)


def test_others_are_delivered_while_a_conversion_works(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    """A conversion that cannot end before: all that another channel gets meanwhile arrives first."""
    slow, quick = receivers.receiver(), receivers.receiver()
    router = make_router(
        destination=[settings.dicom("slow", slow.port, compress="j2k-lossless"), settings.dicom("quick", quick.port)],
        route=[
            settings.route("large", ["slow"], match={"calling_aet": "LARGE"}),
            settings.route("small", ["quick"], match={"calling_aet": "SMALL"}),
        ],
    )
    router.codecs = True
    router.start()
    send_all(router.caller("LARGE"), named("RG1_UNCR.dcm"))
    small = named("MR_small.dcm", "CT_small.dcm", "MR_small_implicit.dcm") * 20
    wait_until(lambda: router.status()["conversions"]["running"] == 1, 20, "the conversion runs")
    for worker in _workers(router.pid):
        os.kill(worker, signal.SIGSTOP)  # until all others have arrived
    send_all(router.caller("SMALL"), small)
    wait_until(lambda: len(quick.stored()) == len(small), 30, "all small images arrived")
    assert not slow.stored()
    for worker in _workers(router.pid):
        os.kill(worker, signal.SIGCONT)
    assert slow.wait_stored(1)[0].transfer_syntax == "1.2.840.10008.1.2.4.90"


def test_a_worker_that_crashes_costs_its_image_a_try_and_nobody_else(
    make_router: MakeRouter, receivers: ReceiverHost
) -> None:
    end = receivers.receiver()
    router = routed(make_router, settings.dicom("pacs", end.port, compress="j2k-lossless"))
    [image] = named("RG1_UNCR.dcm")
    send_all(router.caller(), [image])
    wait_until(lambda: list((router.data_dir / "converted").iterdir()), 20, "it is converted")
    os.kill(_workers(router.pid)[0], signal.SIGKILL)
    assert end.wait_stored(1)[0].transfer_syntax == "1.2.840.10008.1.2.4.90"


def test_a_codec_that_hangs_costs_its_image_only(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    """Its worker stands still: at the deadline the image is held, and all goes on."""
    end = receivers.receiver()
    router = make_router(
        node={"worker_deadline": "10s"},  # enough for what does not hang, on any machine
        destination=[settings.dicom("pacs", end.port, compress="j2k-lossless")],
        route=[settings.route("all", ["pacs"])],
    )
    router.codecs = True
    router.start()
    first, second, third = named("MR_small.dcm", "CT_small.dcm", "emri_small.dcm")
    send_all(router.caller(), [first])
    end.wait_stored(1)
    (worker,) = _workers(router.pid)
    os.kill(worker, signal.SIGSTOP)
    send_all(router.caller(), [second])
    router.wait_failed(1, 60)
    assert "held: it cannot be converted: not done after" in told(router, second.sop_instance)
    send_all(router.caller(), [third])
    assert [each.sop_instance for each in end.wait_stored(2)] == [first.sop_instance, third.sop_instance]
    assert worker not in _workers(router.pid)


def test_a_stop_waits_for_no_codec(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    """A lane and a folder's thread wait for a conversion that never ends; afterwards both get the image."""
    end = receivers.receiver()
    router = make_router(
        node={"drain": "1s"},
        destination=[
            settings.dicom("pacs", end.port, compress="j2k-lossless"),
            settings.folder("disk", tmp_path / "disk", compress="j2k-lossless"),
        ],
        route=[settings.route("all", ["pacs", "disk"])],
    )
    router.codecs = True
    router.start()
    send_all(router.caller(), named("RG1_UNCR.dcm"))
    wait_until(lambda: list((router.data_dir / "converted").iterdir()), 20, "it is converted")
    (worker,) = _workers(router.pid)
    os.kill(worker, signal.SIGSTOP)
    router.stop()
    assert not end.stored()
    assert "ERROR" not in router.log_tail()
    router.start()
    router.wait_delivered(2)
    (file,) = (tmp_path / "disk").rglob("*.dcm")
    assert end.stored()[0].transfer_syntax == pydicom.dcmread(file).file_meta.TransferSyntaxUID


def test_what_was_made_does_not_outlive_the_router(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    end = receivers.receiver()
    router = routed(make_router, settings.dicom("pacs", end.port, compress="rle"))
    send_all(router.caller(), named("MR_small.dcm"))
    router.wait_delivered(1)
    assert list((router.data_dir / "converted").iterdir())
    router.kill()
    router.start()
    assert not list((router.data_dir / "converted").iterdir())


def _workers(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
            command = path.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if int(words[1]) == pid and b"worker_process" in command:
            found.append(int(path.parent.name))
    return found


pytestmark = pytest.mark.timeout(120)
