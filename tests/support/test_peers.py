"""The bench's peers against its exact ends: dcmtk, Orthanc and pynetdicom do here what the router's tests expect."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import corpus, peers, synthetic
from tests.support.behaviour import Behaviour
from tests.support.certs import Authority
from tests.support.exact_receiver import ReceiverHost, assert_exactly
from tests.support.exact_sender import Caller, send_all
from tests.support.images import Image, part10_head, write_part10
from tests.support.peers import KEEP_BYTES, Orthanc, StoreSCP, same_content

REENCODED = corpus.named(
    "CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm", "SC_rgb_rle_2frame.dcm",
    "test-SR.dcm", "waveform_ecg.dcm", "rtplan.dcm", "image_dfl.dcm", "SC_rgb_small_odd_jpeg.dcm",
    "MR_small_jpeg_ls_lossless.dcm", "liver_1frame.dcm", "emri_small_RLE.dcm", "JPEG-LL.dcm", "693_J2KI.dcm",
)  # fmt: skip


def test_storescp_keeps_every_byte(tmp_path: Path) -> None:
    images = synthetic.mixed("storescp", 5)
    with StoreSCP(tmp_path / "scp", *KEEP_BYTES) as scp:
        send_all(Caller(scp.port), images)
        files = scp.wait_files(5)
    written = [corpus.read_meta(path.read_bytes()) for path in files]
    got = {path.read_bytes()[meta.offset :] for path, meta in zip(files, written, strict=True)}
    assert got == {b"".join(image.chunks(1 << 20)) for image in images}


def test_storescu_dcmsend_and_pynetdicom(receivers: ReceiverHost, tmp_path: Path) -> None:
    receiver = receivers.receiver()
    image = synthetic.image("scu", 0)
    file = write_part10(image, tmp_path)
    caller = Caller(receiver.port, "SCU")
    peers.storescu(caller, [file], "-xe")
    peers.dcmsend(caller, [file])
    assert peers.pynetdicom_send(caller, [file]) == [0]
    assert [stored.sop_instance for stored in receiver.stored()] == [image.sop_instance] * 3
    assert peers.echoscu(caller).returncode == 0
    assert receiver.tally().echoes == 1


def test_echoscu_says_when_nobody_answers(receivers: ReceiverHost) -> None:
    receiver = receivers.receiver(start=False)
    assert peers.echoscu(Caller(receiver.port)).returncode != 0


@pytest.mark.parametrize("image", REENCODED, ids=lambda image: image.name)
def test_what_dcmtk_sends_decodes_to_the_same(receivers: ReceiverHost, image: Image, tmp_path: Path) -> None:
    receiver = receivers.receiver(Behaviour(keep_in=str(tmp_path)))
    peers.dcmsend(Caller(receiver.port), [corpus.path_of(image)])
    stored = receiver.wait_stored(1)[0]
    head = part10_head(stored.sop_class, stored.sop_instance, stored.transfer_syntax)
    sent = peers.read_bytes(head + (tmp_path / "1.dataset").read_bytes())
    assert same_content(peers.read(corpus.path_of(image)), sent) == ""


def test_orthanc_takes_and_sends(receivers: ReceiverHost, tmp_path: Path) -> None:
    receiver = receivers.receiver()
    images = synthetic.mixed("orthanc", 3)
    with Orthanc(tmp_path / "orthanc", {"next": ("NEXT", receiver.port)}) as orthanc:
        send_all(Caller(orthanc.port), images)
        names = orthanc.wait_instances(3)
        assert {str(peers.read_bytes(orthanc.file(name)).SOPInstanceUID) for name in names} == {
            image.sop_instance for image in images
        }
        orthanc.store("next", names)
    assert {stored.sop_instance for stored in receiver.stored()} == {image.sop_instance for image in images}


def test_dcmtk_over_tls(receivers: ReceiverHost, authority: Authority, tmp_path: Path) -> None:
    us, them = authority.issue("dcmtk-scu"), authority.issue("dcmtk-scp")
    image = synthetic.image("tls", 0)
    with StoreSCP(tmp_path / "scp", *KEEP_BYTES, *peers.tls_options(them, authority.ca)) as scp:
        peers.storescu(Caller(scp.port), [write_part10(image, tmp_path)], "-xe", *peers.tls_options(us, authority.ca))
        send_all(Caller(scp.port, tls=authority.client_context(us)), [synthetic.image("tls", 1)])
        assert len(scp.wait_files(2)) == 2


def test_nothing_extra_is_noticed(receivers: ReceiverHost) -> None:
    receiver = receivers.receiver()
    images = synthetic.series("extra", 2)
    send_all(Caller(receiver.port), images)
    with pytest.raises(AssertionError, match="too much"):
        assert_exactly(receiver, images[:1])
