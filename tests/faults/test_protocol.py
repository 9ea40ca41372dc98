"""Awkward, wrong and malicious protocol: answered as PS3.8 and PS3.7 say, at no one else's cost."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from tests.support import procfs, settings, synthetic, ul
from tests.support.behaviour import Behaviour
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_exactly
from tests.support.exact_sender import Aborted, Association, Caller, Closed, Rejected, contexts_for, send, send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import BytesSource, Image
from tests.support.router import Router, owed
from tests.support.ul import Context
from tests.support.waiting import wait_until

MODALITY_WORKLIST = "1.2.840.10008.5.1.4.31"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PERFORMED_STEP = "1.2.840.10008.3.1.2.3.3"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
ARTIM = 30
IMAGE = synthetic.image("protocol", 0)


@pytest.fixture(scope="module")
def end(receivers: ReceiverHost) -> ExactReceiver:
    return receivers.receiver()


@pytest.fixture(scope="module")
def router(make_module_router: MakeRouter, end: ExactReceiver) -> Router:
    return make_module_router(
        destination=[settings.dicom("end", end.port)], route=[settings.route("all", ["end"])]
    ).start()


@pytest.fixture(autouse=True)
def still_works(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test the module's router takes and delivers an image."""
    yield
    if "router" in request.fixturenames:
        router: Router = request.getfixturevalue("router")
        before = router.status()["totals"]["delivered"]
        send_all(router.caller("AFTERWARDS"), [synthetic.image(request.node.name, 0)])
        router.wait_delivered(before + 1)


# --- Contexts ---------------------------------------------------------------------------------------------------------


def test_worklist_and_query_contexts_do_not_disturb_storage(router: Router) -> None:
    foreign = [MODALITY_WORKLIST, STUDY_ROOT_FIND, STUDY_ROOT_MOVE, PERFORMED_STEP]
    contexts = contexts_for([IMAGE])
    contexts += [Context(101 + 2 * n, uid, (ul.IMPLICIT_LE, ul.EXPLICIT_LE)) for n, uid in enumerate(foreign)]
    with router.caller().propose(contexts) as association:
        assert [association.results[101 + 2 * n] for n in range(4)] == [3, 3, 3, 3]
        assert association.echo() == 0
        assert association.store(IMAGE).status == 0
        association.release()


def test_a_context_without_transfer_syntaxes(router: Router) -> None:
    contexts = [*contexts_for([IMAGE]), Context(101, synthetic.MR, ())]
    with router.caller().connect() as sock:
        association = Association(router.caller(), sock)
        association.write(ul.associate_rq("NONE", "ASYNCROUTE", contexts))
        try:
            kind, body = association.read_pdu()
        except Aborted:
            return
        if kind == ul.AC:
            answers = ul.read_associate_ac(body).answers
            assert answers[3].result == 0
            assert answers[101].result != 0
        else:
            assert kind == ul.RJ


def test_128_contexts(router: Router) -> None:
    syntaxes = [ul.EXPLICIT_LE, ul.IMPLICIT_LE, *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91))]
    classes = [
        f"1.2.840.10008.5.1.4.1.1.{n}" for n in ("1", "2", "4", "7", "20", "6.1", "3.1", "128", "481.1", "88.11")
    ]
    proposals = [(sop_class, syntax) for sop_class in classes for syntax in syntaxes][:100]
    contexts = [Context(2 * n + 1, sop_class, (syntax,)) for n, (sop_class, syntax) in enumerate(proposals)]
    contexts += [Context(201 + 2 * n, f"1.2.826.0.1.3680043.9.7133.{n}", (ul.IMPLICIT_LE,)) for n in range(28)]
    with router.caller().propose(contexts) as association:
        assert all(association.results[context.id] == 0 for context in contexts[:100])
        association.release()


def test_several_syntaxes_in_one_context(router: Router) -> None:
    context = Context(1, IMAGE.sop_class, ("1.2.840.10008.1.2.4.70", ul.EXPLICIT_LE, ul.IMPLICIT_LE))
    with router.caller().propose([context]) as association:
        assert list(association.accepted) == [(IMAGE.sop_class, "1.2.840.10008.1.2.4.70")]
        association.release()


def test_data_on_a_context_that_was_not_accepted(router: Router) -> None:
    with router.caller().propose([*contexts_for([IMAGE]), Context(101, MODALITY_WORKLIST, (ul.IMPLICIT_LE,))]) as bad:
        bad.write(ul.pdv(101, ul.COMMAND | ul.LAST, ul.store_rq(1, IMAGE.sop_class, IMAGE.sop_instance)))
        assert bad.ended_within(5)


# --- Who may call -----------------------------------------------------------------------------------------------------


def rejection(caller: Caller) -> tuple[int, int, int]:
    with pytest.raises(Rejected) as caught:
        caller.associate([IMAGE])
    return caught.value.code


def test_allow_lists(make_router: MakeRouter, end: ExactReceiver) -> None:
    router = make_router(
        listener=[
            settings.listener(accept_called=["ALSO*"], accept_calling=["GOOD*"]),
            settings.listener(accept_from=["10.0.0.0/8"]),
        ],
        destination=[settings.dicom("end", end.port)],
        route=[settings.route("all", ["end"])],
    ).start()
    assert rejection(router.caller("GOOD1", called="WRONG")) == (1, 1, 7)
    assert rejection(router.caller("BAD")) == (1, 1, 3)
    assert rejection(router.caller("GOOD1", listener=1))[0] == 1
    assert send(router.caller("GOOD1"), [IMAGE]).ended == "released"
    assert send(router.caller("GOOD2", called="ALSO_ME"), [IMAGE]).ended == "released"


def test_protocol_version_and_application_context(router: Router) -> None:
    request = bytearray(ul.associate_rq("VERSION", "ASYNCROUTE", contexts_for([IMAGE])))
    request[6:8] = b"\0\2"
    assert answer_to(router, bytes(request)) == (ul.RJ, (1, 2, 2))
    foreign = ul.associate_rq("APP", "ASYNCROUTE", contexts_for([IMAGE])).replace(
        b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.9"
    )
    assert answer_to(router, foreign) == (ul.RJ, (1, 1, 2))


def answer_to(router: Router, first: bytes) -> tuple[int, tuple[int, ...]]:
    """The type of the first PDU that answers ``first``, and its last three bytes; (0, ()) for a close."""
    with router.caller(timeout=10).connect() as sock:
        association = Association(router.caller(), sock)
        association.write(first)
        try:
            kind, body = association.read_pdu()
        except Aborted:
            return ul.ABORT, ()
        except Closed:
            return 0, ()
        return kind, tuple(body[-3:])


# --- PDUs out of place, out of shape, out of bounds -------------------------------------------------------------------

RUBBISH = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": bytes(200),
    "data-first": ul.pdv(1, ul.COMMAND | ul.LAST, ul.echo_rq(1)),
    "release-first": ul.release_rq(),
    "unknown-type": ul.pdu(0x42, b"hello"),
    "4-GiB": struct.pack(">BxI", ul.RQ, 0xFFFFFFFF),
    "empty-request": ul.pdu(ul.RQ, b""),
    "half-items": ul.pdu(ul.RQ, ul.associate_rq("X", "Y", contexts_for([IMAGE]))[6:-7]),
    "item-too-long": ul.associate_rq("X", "ASYNCROUTE", [], extra_items=b"\x55\0\xff\xff"),
    "huge-request": ul.pdu(ul.RQ, ul.associate_rq("X", "ASYNCROUTE", [])[6:] + ul.item(0x99, bytes(60_000)) * 40),
}


@pytest.mark.parametrize("name", RUBBISH)
def test_rubbish_instead_of_a_request(router: Router, name: str) -> None:
    before = procfs.memory(router.pid, "VmRSS")
    kind, _ = answer_to(router, RUBBISH[name])
    assert kind in {ul.ABORT, ul.RJ, 0}
    assert procfs.memory(router.pid, "VmRSS") < before + 10 * procfs.MIB


WRONG = {
    "second-request": ul.associate_rq("X", "ASYNCROUTE", contexts_for([IMAGE])),
    "accept": ul.associate_rj(1, 1, 1),
    "release-answer": ul.release_rp(),
    "unknown-type": ul.pdu(0x42, b"hello"),
    "4-GiB": struct.pack(">BxI", ul.PDATA, 0xFFFFFFF0),
    "empty-data": ul.pdu(ul.PDATA, b""),
    "value-too-long": ul.pdu(ul.PDATA, struct.pack(">IBB", 5000, 1, 3) + b"xx"),
    "value-too-short": ul.pdu(ul.PDATA, struct.pack(">IB", 1, 1)),
    "data-before-command": ul.pdv(3, ul.LAST, b"1234"),
    "rubbish-command": ul.pdv(3, ul.COMMAND | ul.LAST, b"\xff" * 50),
    "empty-command": ul.pdv(3, ul.COMMAND | ul.LAST, b""),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_on_an_association(router: Router, name: str) -> None:
    before = procfs.memory(router.pid, "VmRSS")
    with router.caller().associate([IMAGE]) as association:
        association.write(WRONG[name])
        assert association.ended_within(8)
    assert procfs.memory(router.pid, "VmRSS") < before + 10 * procfs.MIB


def test_a_pdu_longer_than_agreed(router: Router) -> None:
    with router.caller().associate([IMAGE]) as association:
        limit = association.peer_max_pdu
        assert 0 < limit <= 1 << 20
        association.write(struct.pack(">BxI", ul.PDATA, limit + 1000))
        assert association.ended_within(8)


def test_callers_that_never_close_their_connection(router: Router) -> None:
    """After a rejection, a release and an abort the router waits for their close, but not for ever (Sta13, ARTIM)."""
    associations = [Association(router.caller(), router.caller().connect())]
    associations += [router.caller().associate([IMAGE]) for _ in range(2)]
    firsts = [ul.associate_rq("X", "WRONG", contexts_for([IMAGE])), ul.release_rq(), ul.pdu(0x42, b"hello")]
    for association, first in zip(associations, firsts, strict=True):
        association.write(first)
    assert associations[0].read_pdu()[0] == ul.RJ
    assert associations[1].read_pdu()[0] == ul.RELEASE_RP
    with pytest.raises(Aborted):
        associations[2].read_pdu()
    assert all(association.ended_within(ARTIM) for association in associations)
    for association in associations:
        association.close()


@pytest.mark.parametrize("sent", [1_000, 100_000, 390_000])
def test_a_reset_in_the_middle_of_data_is_noticed_at_once(router: Router, sent: int) -> None:
    """Not only when a deadline passes: the reset may come while there is still something to read."""
    image = synthetic.image("reset", 0, synthetic.Kind(size=400_000))
    for _ in range(10):
        association = router.caller().associate([image])
        association.write(b"".join(association.store_pdus(image))[:sent])
        association.reset()
    router.wait_status(lambda s: not s["associations"]["inbound"], 10, "no inbound association")


# --- Right, but unusual -----------------------------------------------------------------------------------------------


def fragments(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 2, 7, 1000], ids=lambda size: f"{size}-byte-values")
def test_odd_fragments(router: Router, end: ExactReceiver, size: int) -> None:
    image = synthetic.image(f"fragments{size}", 0, synthetic.Kind(size=512))
    first = len(end.stored())
    with router.caller().associate([image]) as association:
        context = association.context_of(image)
        command = fragments(ul.store_rq(1, image.sop_class, image.sop_instance), size)
        data = fragments(b"".join(image.chunks(1 << 20)), size)
        stream = [ul.pdv(context, ul.COMMAND, piece) for piece in command[:-1]]
        stream += [ul.pdv(context, ul.COMMAND | ul.LAST, command[-1]), *(ul.pdv(context, 0, piece) for piece in data)]
        association.write(b"".join([*stream, ul.pdv(context, ul.LAST, b"")]))
        assert association.read_response()[ul.STATUS] == 0
        association.release()
    end.wait_stored(first + 1)
    assert end.stored(first)[0].identity == image.identity


def test_command_and_data_in_one_pdu(router: Router, end: ExactReceiver) -> None:
    image = synthetic.image("one-pdu", 0, synthetic.Kind(size=512))
    first = len(end.stored())
    with router.caller().associate([image]) as association:
        pieces = [piece[6:] for piece in association.store_pdus(image)]
        association.write(ul.pdu(ul.PDATA, b"".join(pieces)))
        assert association.read_response()[ul.STATUS] == 0
        association.release()
    end.wait_stored(first + 1)
    assert end.stored(first)[0].identity == image.identity


def test_images_without_waiting_for_answers(router: Router) -> None:
    images = synthetic.series("impatient", 20)
    with router.caller().associate(images) as association:
        association.write(b"".join(piece for image in images for piece in association.store_pdus(image)))
        answers = [association.read_response() for _ in images]
        assert {(answer[ul.RESPONDED_ID], answer[ul.STATUS]) for answer in answers} == {(n + 1, 0) for n in range(20)}
        association.release()


def test_everything_in_one_write(router: Router) -> None:
    """Image and release request follow at once; both are answered, in order."""
    with router.caller().associate([IMAGE]) as association:
        association.write(b"".join(association.store_pdus(IMAGE)) + ul.release_rq())
        assert association.read_response()[ul.STATUS] == 0
        assert association.read_pdu()[0] == ul.RELEASE_RP


def test_an_abort_in_the_middle_leaves_nothing(router: Router) -> None:
    large = synthetic.image("aborted", 0, synthetic.Kind(size=30_000_000))
    with router.caller().associate([large]) as association:
        for piece in list(association.store_pdus(large))[:-1]:
            association.write(piece)
        association.abort()
    wait_until(lambda: not router.spool_files(), 10, "the half-received file is gone", router.spool_files)


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 4000, b"\x08\x00\x18\x00UI\xff\xff", bytes(1001)], ids=["empty", "ff", "cut", "zeros"]
)
def test_a_data_set_that_is_none(router: Router, data: bytes) -> None:
    """Whatever becomes of it, it is answered, and what was acknowledged is accounted for."""
    image = Image("none", synthetic.CT, synthetic.uid("none", len(data)), ul.EXPLICIT_LE, len(data), BytesSource(data))
    before = router.status()["totals"]
    with router.caller().associate([image]) as association:
        pieces = list(association.store_pdus(image))
        pieces += [] if data else [ul.pdv(association.context_of(image), ul.LAST, b"")]
        association.write(b"".join(pieces))
        answer = association.read_response()
        assert association.echo() == 0
        association.release()
    kept = 1 if answer[ul.STATUS] == 0 else 0
    router.wait_status(lambda s: accounted(s["totals"]) >= accounted(before) + kept, 20, "the image is accounted for")


def accounted(totals: dict[str, int]) -> int:
    return totals["delivered"] + totals["held"] + totals["failed"]


@pytest.mark.parametrize("uid", ["../../../../etc/passwd", "1.2/../3", "x" * 64, "", "1.2.3\\4"])
def test_a_uid_is_never_a_path(router: Router, uid: str) -> None:
    (plain,) = synthetic.series("path", 1)
    odd = Image("odd", plain.sop_class, uid, plain.transfer_syntax, plain.size, plain.source)
    with router.caller().associate([odd]) as association:
        association.store(odd)
        association.release()
    assert not list(router.data_dir.parent.rglob("*passwd*"))


# --- Destinations -----------------------------------------------------------------------------------------------------


def test_a_destination_that_stops_reading_holds_up_nobody(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    deaf, end = receivers.receiver(Behaviour(mute="read")), receivers.receiver()
    router = make_router(
        destination=[settings.dicom("deaf", deaf.port, response_timeout="2s"), settings.dicom("end", end.port)],
        route=[settings.route("all", ["deaf", "end"])],
    ).start()
    images = synthetic.series("deaf", 8, synthetic.Kind(size=8_000_000))
    send_all(router.caller(), images, associations=2)
    router.wait_delivered(8)
    assert_exactly(end, images)
    wait_until(lambda: router.channel("deaf")["last_error"], 20, "the deaf destination's error is shown")
    deaf.wait_events("closed-by-peer")
    assert owed(router.channel("deaf")) == 8
    router.stop()
