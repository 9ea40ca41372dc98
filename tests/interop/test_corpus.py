"""Every storable file of pydicom and pydicom-data: byte for byte, where its route says, and nowhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from tests.support import corpus, settings
from tests.support.exact_receiver import ReceiverHost, assert_exactly
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import Image

SECTIONAL = frozenset({"CT", "MR"})


def digests(folder: Path) -> Counter[str]:
    """The digests of the data sets of all Part 10 files below ``folder``."""
    contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return Counter(sha256(content[corpus.read_meta(content).offset :]).hexdigest() for content in contents)


def expected(images: Iterable[Image]) -> Counter[str]:
    """The digests of ``images``."""
    return Counter(image.sha256 for image in images)


def test_every_file_reaches_every_destination_of_its_route_and_no_other(
    receivers: ReceiverHost, make_router: MakeRouter, tmp_path: Path
) -> None:
    sections, research = receivers.receiver(), receivers.receiver()
    folder = tmp_path / "written"
    router = make_router(
        destination=[
            settings.dicom("sections", sections.port),
            settings.dicom("research", research.port),
            settings.folder("written", folder),
        ],
        route=[
            settings.route("by-modality", ["sections"], match={"Modality": sorted(SECTIONAL)}),
            settings.route("by-caller", ["research", "written"], match={"calling_aet": "EXACT_B*"}),
        ],
    ).start()
    everything = corpus.storable()
    some = everything[::3]
    send_all(router.caller("EXACT_A"), everything, associations=4)
    send_all(router.caller("EXACT_B1"), some, associations=2)

    by_modality = [image for image in (*everything, *some) if image.modality in SECTIONAL]
    unrouted = [image for image in everything if image.modality not in SECTIONAL]
    status = router.wait_delivered(len(by_modality) + 2 * len(some))
    assert_exactly(sections, by_modality)
    assert_exactly(research, some)
    assert digests(folder) == expected(some)
    assert status["totals"] == {
        "received": len(everything) + len(some),
        "delivered": len(by_modality) + 2 * len(some),
        "waiting": 0,
        "held": len(unrouted),
        "failed": 0,
    }
    assert {stored.calling for stored in research.stored()} == {"EXACT_B1"}


def test_rules_over_association_and_attributes(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    first, second, rest = receivers.receiver(), receivers.receiver(), receivers.receiver()
    router = make_router(
        listener=[settings.listener(), settings.listener(ae_title="OTHER", accept_called=["OTHER*"])],
        destination=[
            settings.dicom("first", first.port, calling_ae_title="FIXED"),
            settings.dicom("second", second.port),
            settings.dicom("rest", rest.port),
        ],
        route=[
            settings.route("called", ["first"], match={"called_aet": "OTHER2"}, final=True),
            settings.route("class", ["second"], match={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, final=True),
            settings.route("rest", ["rest"], match={"peer": "127.0.0.1"}, unless={"Modality": ["US", "re:^O"]}),
        ],
    ).start()
    images = corpus.named("CT_small.dcm", "MR_small.dcm", "examples_palette.dcm", "SC_rgb_rle.dcm", "test-SR.dcm")
    send_all(router.caller(listener=1, called="OTHER2"), images)
    send_all(router.caller(), images)
    router.wait_delivered(5 + 1 + 2)
    assert_exactly(first, images)
    assert_exactly(second, images[1:2])
    assert_exactly(rest, [images[0], images[4]])
    assert {stored.calling for stored in first.stored()} == {"FIXED"}
    assert {(stored.calling, stored.called) for stored in rest.stored()} == {("EXACT", "REST")}
    assert router.status()["totals"]["held"] == 2


def test_more_pairs_than_fit_in_one_association(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    receiver = receivers.receiver()
    router = make_router(
        destination=[settings.dicom("all", receiver.port, max_contexts=16)], route=[settings.route("all", ["all"])]
    ).start()
    images = list({(image.sop_class, image.transfer_syntax): image for image in corpus.storable()}.values())
    assert len(images) > 40
    send_all(router.caller(), images)
    router.wait_delivered(len(images))
    assert_exactly(receiver, images)


def test_private_transfer_syntaxes_and_classes(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    receiver = receivers.receiver()
    router = make_router(
        destination=[settings.dicom("all", receiver.port)], route=[settings.route("all", ["all"])]
    ).start()
    (plain,) = corpus.named("CT_small.dcm")
    private = Image(
        "private", plain.sop_class, plain.sop_instance, "1.2.826.0.1.3680043.9.7133.1.99", plain.size, plain.source
    )
    send_all(router.caller(), [private])
    router.wait_delivered(1)
    assert_exactly(receiver, [private])
