"""Lengths that lie and messages without end: each costs less than 10 MB of memory, and the next caller is served."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import pytest

from tests.support import procfs, settings, synthetic, ul
from tests.support.exact_receiver import ReceiverHost
from tests.support.exact_sender import Aborted, Association, Closed, contexts_for, send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import BytesSource, Image
from tests.support.router import Router

MIB = procfs.MIB
MOST = 10_000_000
LARGEST_IMAGE = 4 * MIB
GIB_4 = 0xFFFFFFFE
DEFLATED = "1.2.840.10008.1.2.1.99"
IMAGE = synthetic.image("bytes", 0)
ENDED = (Aborted, Closed, OSError)


@pytest.fixture(scope="module")
def router(make_module_router: MakeRouter, receivers: ReceiverHost) -> Router:
    """A warm router; its second listener takes images of 4 MiB at most."""
    end = receivers.receiver()
    router = make_module_router(
        listener=[settings.listener(pdu_timeout="5s"), settings.listener(max_image="4 MiB")],
        destination=[settings.dicom("end", end.port)],
        route=[settings.route("ct", ["end"], match={"Modality": "CT"}), settings.route("all", ["end"])],
    ).start()
    warm = [*synthetic.mixed("warm", 12), *synthetic.series("large", 4, synthetic.Kind(size=20_000_000))]
    send_all(router.caller(timeout=120), warm, associations=4)
    router.wait_drained()
    return router


@pytest.fixture(autouse=True)
def costs_little(router: Router, request: pytest.FixtureRequest) -> Iterator[None]:
    """Count the peak of the resident size in each test; afterwards another caller is served."""
    procfs.reset_peak(router.pid)
    before = procfs.memory(router.pid)
    yield
    more = procfs.memory(router.pid) - before
    print(f"{request.node.name}: {more / 1e6:.1f} MB more")
    assert more < MOST
    with router.caller("AFTERWARDS").associate() as association:
        assert association.echo() == 0
        association.release()


def sent_until_ended(association: Association, piece: bytes, most: int) -> int:
    """Send ``piece`` again and again, ``most`` bytes at most; the bytes sent when the other side had enough."""
    sent = 0
    try:
        while sent < most:
            association.write(piece)
            sent += len(piece)
    except ENDED:
        pass
    return sent


# --- PDUs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ul.RQ, ul.AC, ul.PDATA, 0x42], ids=["request", "accept", "data", "unknown"])
@pytest.mark.parametrize("associated", [False, True], ids=["first", "associated"])
def test_a_pdu_of_4_gib(router: Router, kind: int, associated: bool) -> None:
    caller = router.caller(timeout=20)
    with caller.associate([IMAGE]) if associated else Association(caller, caller.connect()) as association:
        association.write(struct.pack(">BxI", kind, GIB_4))
        sent_until_ended(association, bytes(1 << 20), 64 * MIB)
        assert association.ended_within(20)


def test_a_pdv_of_4_gib(router: Router) -> None:
    with router.caller(timeout=20).associate([IMAGE]) as association:
        association.write(struct.pack(">BxIIBB", ul.PDATA, 60_000, GIB_4, 3, ul.LAST))
        sent_until_ended(association, bytes(1 << 20), 64 * MIB)
        assert association.ended_within(20)


def test_a_second_request_of_1_mb_that_does_not_end(router: Router) -> None:
    """On twenty associations: there is no second request, so none of it is kept."""
    associations = [router.caller(timeout=20).associate([IMAGE]) for _ in range(20)]
    for association in associations:
        sent_until_ended(association, ul.pdu(ul.RQ, bytes(1_000_000))[:900_000], 1)
    assert all(association.ended_within(20) for association in associations)
    for association in associations:
        association.close()


# --- command sets -----------------------------------------------------------------------------------------------------

MANY_ELEMENTS = b"".join(struct.pack("<HHI", 0, element, 0) for element in range(4000))


@pytest.mark.parametrize(
    "piece",
    [bytes(32_000), MANY_ELEMENTS[:8000], MANY_ELEMENTS, b"\0", b""],
    ids=["long", "elements", "many-elements", "bytes", "nothing"],
)
def test_an_endless_command_set(router: Router, piece: bytes) -> None:
    """Fragments of every size, and never the last one. Empty ones cost nothing but time; they may go on."""
    with router.caller(timeout=20).associate([IMAGE]) as association:
        fragments = ul.pdv(3, ul.COMMAND, piece) * max(1, 32_000 // (len(piece) + 12))
        sent = sent_until_ended(association, fragments, 32 * MIB)
        assert (sent < 32 * MIB) == bool(piece)


def test_a_command_set_with_an_element_of_4_gib(router: Router) -> None:
    with router.caller().associate([IMAGE]) as association:
        association.write(ul.pdv(3, ul.COMMAND | ul.LAST, struct.pack("<HHI", 0, 0x1000, GIB_4) + bytes(100)))
        assert association.ended_within(20)


def test_an_echo_with_data(router: Router) -> None:
    """64 MB of data that nobody asked for: read to its end, answered, and the association goes on."""
    echo = ul.command(
        {
            ul.AFFECTED_CLASS: ul.VERIFICATION,
            ul.COMMAND_FIELD: ul.C_ECHO_RQ,
            ul.MESSAGE_ID: 1,
            ul.DATA_SET_TYPE: 0,
        }
    )
    with router.caller(timeout=60).associate([IMAGE]) as association:
        association.write(ul.pdv(1, ul.COMMAND | ul.LAST, echo))
        for _ in range(1000):
            association.write(ul.pdv(1, 0, bytes(64_000)))
        association.write(ul.pdv(1, ul.LAST, b""))
        assert association.read_response()[ul.STATUS] == 0
        assert association.echo() == 0
        association.release()


def test_a_store_whose_data_never_comes(router: Router) -> None:
    """Another command instead of the data set."""
    with router.caller().associate([IMAGE]) as association:
        store = ul.pdv(3, ul.COMMAND | ul.LAST, ul.store_rq(1, IMAGE.sop_class, IMAGE.sop_instance))
        association.write(store * 2)
        assert association.ended_within(20)


# --- data sets --------------------------------------------------------------------------------------------------------


def test_an_endless_data_set(router: Router) -> None:
    """200 MB where 4 MiB are allowed: discarded, refused at its end, and the association goes on."""
    with router.caller(listener=1, timeout=60).associate([IMAGE]) as association:
        association.write(ul.pdv(3, ul.COMMAND | ul.LAST, ul.store_rq(1, IMAGE.sop_class, IMAGE.sop_instance)))
        for _ in range(200):
            association.write(ul.pdv(3, 0, bytes(60_000)) * 17)
        association.write(ul.pdv(3, ul.LAST, b""))
        answer = association.read_response()
        assert answer[ul.STATUS] == 0xA700
        assert "max_image" in str(answer[ul.ERROR_COMMENT])
        assert association.store(IMAGE).status == 0
        association.release()


def explicit(group: int, element: int, vr: bytes, length: int) -> bytes:
    return struct.pack("<HH2sxxI", group, element, vr, length)


def implicit(group: int, element: int, length: int) -> bytes:
    return struct.pack("<HHI", group, element, length)


def modality(explicitly: bool) -> bytes:
    head = struct.pack("<HH2sH", 8, 0x60, b"CS", 2) if explicitly else implicit(8, 0x60, 2)
    return head + b"CT"


SEQUENCE = explicit(8, 0x1140, b"SQ", 0xFFFFFFFF) + implicit(0xFFFE, 0xE000, 0xFFFFFFFF)
LYING: dict[str, tuple[str, bytes]] = {
    "explicit": (ul.EXPLICIT_LE, explicit(8, 5, b"OB", GIB_4)),
    "explicit-pixels": (ul.EXPLICIT_LE, modality(True) + explicit(0x7FE0, 0x10, b"OW", GIB_4)),
    "explicit-unknown": (ul.EXPLICIT_LE, explicit(9, 0x1001, b"UN", GIB_4)),
    "explicit-sequence": (ul.EXPLICIT_LE, explicit(8, 0x1140, b"SQ", GIB_4) + implicit(0xFFFE, 0xE000, GIB_4)),
    "in-a-sequence": (ul.EXPLICIT_LE, SEQUENCE + explicit(8, 0x1150, b"UT", GIB_4)),
    "deep": (ul.EXPLICIT_LE, SEQUENCE * 2000 + explicit(8, 0x1150, b"UT", GIB_4)),
    "implicit": (ul.IMPLICIT_LE, implicit(8, 5, GIB_4)),
    "implicit-pixels": (ul.IMPLICIT_LE, modality(False) + implicit(0x7FE0, 0x10, GIB_4)),
    "implicit-sequence": (ul.IMPLICIT_LE, implicit(8, 0x1140, GIB_4) + implicit(0xFFFE, 0xE000, GIB_4)),
    "big-endian": (synthetic.BIG_ENDIAN, struct.pack(">HH2sxxI", 8, 5, b"OB", GIB_4)),
    "encapsulated": (
        synthetic.JPEG_LOSSLESS,
        explicit(0x7FE0, 0x10, b"OB", 0xFFFFFFFF) + implicit(0xFFFE, 0xE000, GIB_4),
    ),
}


def zeros(size: int) -> bytes:
    """A deflated data set: one element of ``size`` zeros."""
    squeeze = zlib.compressobj(9, wbits=-15)
    parts = [squeeze.compress(explicit(8, 5, b"OB", size))]
    parts += [squeeze.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*parts, squeeze.flush()])


def answered(router: Router, syntax: str, data: bytes) -> None:
    """Send ``data`` as an image; whatever the answer, it is one, and images that are kept are accounted for."""
    image = Image("lying", synthetic.CT, synthetic.uid(syntax, data), syntax, len(data), BytesSource(data))
    with router.caller(timeout=30).associate([image]) as association:
        association.store(image)
        assert association.echo() == 0
        association.release()


@pytest.mark.parametrize("tail", [0, 3_500_000], ids=["in-memory", "streamed"])
@pytest.mark.parametrize("name", LYING)
def test_an_element_of_4_gib(router: Router, name: str, tail: int) -> None:
    syntax, data = LYING[name]
    answered(router, syntax, data + bytes(200 + tail))


def test_a_deflated_data_set_of_a_gigabyte(router: Router) -> None:
    answered(router, DEFLATED, zeros(1 << 30))


def test_a_request_full_of_items(router: Router) -> None:
    """1 MB of presentation contexts, then of user information: refused without being taken apart to the end."""
    for items in (ul.item(0x20, bytes(4)) * 120_000, ul.user_information(0, ul.item(0x54, bytes(8)) * 5400) * 16):
        request = ul.associate_rq("X", "ASYNCROUTE", contexts_for([IMAGE]))[6:] + items[:900_000]
        caller = router.caller(timeout=20)
        with Association(caller, caller.connect()) as association:
            association.write(ul.pdu(ul.RQ, request))
            kind, _ = first_answer(association)
            assert kind in {ul.RJ, ul.ABORT}


def first_answer(association: Association) -> tuple[int, bytes]:
    try:
        return association.read_pdu()
    except Aborted:
        return ul.ABORT, b""
