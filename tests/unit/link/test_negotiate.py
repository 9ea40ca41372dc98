"""Inbound negotiation against pynetdicom's own PDUs, and against requests that break the rules."""

from __future__ import annotations

import itertools
import logging

import pynetdicom
import pytest
from pydicom._uid_dict import UID_dictionary
from pynetdicom import events
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ

from asyncroute.link import negotiate
from asyncroute.link.associate import _uid, items
from asyncroute.link.negotiate import (
    Aborted,
    AcceptorPolicy,
    Context,
    Malformed,
    Proposal,
    Rejected,
    accept,
    accept_cached,
    peek,
    request,
)
from asyncroute.link.recent import Recent
from asyncroute.wire import part10
from tests.unit.link.pdus import (
    APPLICATION,
    COMMITMENT,
    CT,
    DEFLATED,
    EVBE,
    EVLE,
    IVLE,
    J2K,
    JPEG,
    MR,
    POLICY,
    PRIVATE,
    VERIFICATION,
    WORKLIST,
    accepted,
    answered,
    associate,
    context,
    groups,
    identity,
    information,
    item,
    read_ac,
    results,
    role,
    user,
)


@pytest.fixture(autouse=True)
def _forget() -> None:
    negotiate._recent = Recent()  # type: ignore[misc]


# --- what is accepted -------------------------------------------------------------------------------------------------


def test_answers_pynetdicoms_own_request() -> None:
    ae = pynetdicom.AE("CT_A")
    for uid, syntaxes in ((VERIFICATION, [IVLE]), (CT, [EVLE, JPEG]), (WORKLIST, [IVLE])):
        ae.add_requested_context(uid, syntaxes)
    rq = associate(
        *(
            context(2 * i + 1, str(cx.abstract_syntax), *cx.transfer_syntax)
            for i, cx in enumerate(ae.requested_contexts)
        )
    )
    decoded = A_ASSOCIATE_RQ()
    decoded.decode(rq)
    answer = accepted(decoded.encode())
    assert answer.contexts == {1: Context(1, VERIFICATION, IVLE), 3: Context(3, CT, EVLE)}
    assert (answer.calling_aet, answer.called_aet) == ("CT_A", "ASYNCROUTE")
    assert (answer.peer_max_pdu, answer.implementation_uid, answer.named) == (16384, "1.2.3.4", None)
    assert results(answer.pdu) == {1: (0, IVLE), 3: (0, EVLE), 5: (3, IVLE)}
    assert read_ac(answer.pdu).application_context_name == APPLICATION
    assert information(answer.pdu).maximum_length == 131072
    assert information(answer.pdu).implementation_class_uid == part10.IMPLEMENTATION_UID
    assert information(answer.pdu).implementation_version_name == part10.IMPLEMENTATION_VERSION
    assert {type(text) for cx in answer.contexts.values() for text in (cx.abstract_syntax, cx.transfer_syntax)} == {str}


ODD_STORAGE = {
    "1.2.840.10008.5.1.1.27": "Stored Print Storage",
    "1.2.840.10008.5.1.1.29": "Hardcopy Grayscale Image Storage",
    "1.2.840.10008.5.1.1.30": "Hardcopy Color Image Storage",
    "1.2.840.10008.5.1.4.1.1.3": "Ultrasound Multi-frame Image Storage (retired)",
    "1.2.840.10008.5.1.4.1.1.9": "Standalone Curve Storage",
    "1.2.840.10008.5.1.4.1.1.12.77": "retired, without a name",
    "1.2.840.10008.5.1.4.1.1.40": "retired, without a name",
    "1.2.840.10008.5.1.4.1.1.88.2": "Audio SR Storage - Trial",
    "1.2.840.10008.5.1.4.1.1.501.1": "DICOS CT Image Storage",
    "1.2.840.10008.5.1.4.34.1": "RT Beams Delivery Instruction Storage - Trial",
    "1.2.840.10008.5.1.4.1.1.9999": "newer than the dictionary",
    "1.3.12.2.1107.5.9.1": "Siemens CSA Non-Image Storage (private)",
    "2.25.1": "private",
}
NOT_STORAGE = {
    "1.2.840.10008.1.3.10": "Media Storage Directory Storage",
    "1.2.840.10008.1.9": "Basic Study Content Notification (retired)",
    "1.2.840.10008.1.20.2": "Storage Commitment Pull Model (retired)",
    "1.2.840.10008.5.1.4.1.2.3.1": "Patient/Study Only Query/Retrieve - FIND (retired)",
    "1.2.840.10008.5.1.4.1.2.1.2": "Patient Root - MOVE",
    "1.2.840.10008.5.1.4.1.1.201.6": "Repository Query",
    "1.2.840.10008.5.1.1.9": "Basic Grayscale Print Management Meta",
    "1.2.840.10008.5.1.1.18.1": "Referenced Color Print Management Meta (retired)",
    "1.2.840.10008.5.1.1.26": "Print Queue Management (retired)",
    "1.2.840.10008.5.1.4.31": "Modality Worklist",
    "1.2.840.10008.5.1.4.32": "General Purpose Worklist Management Meta (retired)",
    "1.2.840.10008.3.1.2.3.3": "Modality Performed Procedure Step",
    "1.2.840.10008.3.1.2.5.4": "Detached Results Management Meta (retired)",
    "1.2.840.10008.5.1.4.34.6.1": "Unified Procedure Step - Push",
    "1.2.840.10008.5.1.4.34.4.1": "Unified Procedure Step - Push - Trial",
    "1.2.840.10008.5.1.4.34.2": "RT Conventional Machine Verification - Trial",
    "1.2.840.10008.10.1": "Video Endoscopic Image Real-Time Communication",
    "1.2.840.10008.4.2": "the Storage service class, which is no SOP class",
    EVLE: "a transfer syntax",
}


def verdicts(uids: set[str]) -> set[int]:
    found: set[int] = set()
    rest = iter(sorted(uids))
    while batch := list(itertools.islice(rest, 128)):
        answer = accepted(associate(*(context(2 * i + 1, uid, PRIVATE, IVLE) for i, uid in enumerate(batch))))
        given = results(answer.pdu)
        assert len(given) == len(batch)
        assert {syntax for _, syntax in given.values()} == {PRIVATE}
        assert answer.contexts.keys() == {number for number, (result, _) in given.items() if result == 0}
        found |= {result for result, _ in given.values()}
    return found


def test_every_storage_class_is_accepted_in_any_transfer_syntax() -> None:
    assert len(groups(storage=True)) > 170
    assert verdicts(groups(storage=True) | ODD_STORAGE.keys()) == {0}


def test_storage_commitment_in_native_encodings_with_either_role() -> None:
    contexts = context(1, COMMITMENT, JPEG, EVLE), context(3, COMMITMENT, JPEG)
    for proposed in ((), (1, 0), (0, 1), (1, 1)):
        roles = [role(COMMITMENT, *proposed)] if proposed else []
        answer = accepted(associate(*contexts, last=user(*roles)))
        assert results(answer.pdu) == {1: (0, EVLE), 3: (4, JPEG)}
        given = {r.uid: (r.scu_role, r.scp_role) for r in information(answer.pdu).role_selection.values()}
        assert given == ({COMMITMENT: proposed} if proposed else {})


def test_every_other_class_is_not_supported() -> None:
    assert len(groups(storage=False)) > 60
    assert verdicts((groups(storage=False) | NOT_STORAGE.keys()) - {VERIFICATION, COMMITMENT}) == {3}


def test_the_dictionary_has_no_other_storage() -> None:
    """A new edition of it that names a class in a new way shall be looked at here."""
    storage = UID_dictionary.keys() - negotiate._NOT_STORAGE
    assert all(UID_dictionary[uid][1] == "SOP Class" for uid in storage)
    assert all(
        uid.startswith(("1.2.840.10008.5.1.4.", "1.2.840.10008.5.1.1.2", "1.2.840.10008.5.1.1.30")) for uid in storage
    )
    assert not [uid for uid in storage if "FIND" in UID_dictionary[uid][0] or "Query/" in UID_dictionary[uid][0]]


CHOICES = [
    ("the first proposed", (), CT, [J2K, IVLE], J2K),
    ("a private one", (), CT, [PRIVATE, IVLE], PRIVATE),
    ("the first preferred that is proposed", (JPEG, EVLE, IVLE), CT, [IVLE, EVLE], EVLE),
    ("none preferred is proposed", (JPEG,), CT, [DEFLATED, IVLE], DEFLATED),
    ("padded names", (), CT, [J2K + "\0", IVLE + " "], J2K),
    ("names that are none are passed over", (), CT, ["", "jpeg", "1" * 65, "1." * 3000, EVBE], EVBE),
    ("the same one twice", (), CT, [EVLE, EVLE], EVLE),
    ("verification: native", (), VERIFICATION, [JPEG, DEFLATED, EVBE, IVLE], EVBE),
    ("verification: preferred, native", (JPEG, IVLE), VERIFICATION, [JPEG, EVLE, IVLE], IVLE),
]


@pytest.mark.parametrize(
    ("prefer", "abstract", "syntaxes", "chosen"), [c[1:] for c in CHOICES], ids=[c[0] for c in CHOICES]
)
def test_transfer_syntax(prefer: tuple[str, ...], abstract: str, syntaxes: list[str], chosen: str) -> None:
    answer = accepted(associate(context(1, abstract, *syntaxes)), AcceptorPolicy("ASYNCROUTE", 0, prefer))
    assert answer.contexts == {1: Context(1, abstract, chosen)}
    assert results(answer.pdu) == {1: (0, chosen)}


def test_each_context_of_one_class_gets_its_own_first_syntax() -> None:
    rq = associate(context(1, CT, EVLE, IVLE), context(3, CT, IVLE, EVLE), context(5, CT, JPEG), context(7, CT))
    assert results(accepted(rq).pdu) == {1: (0, EVLE), 3: (0, IVLE), 5: (0, JPEG), 7: (4, IVLE)}


# (abnormal contexts beside a good one with id 1, what becomes of them)
CONTEXTS = {
    "no transfer syntax": ([context(3, CT)], {3: (4, IVLE)}),
    "no usable transfer syntax": ([context(3, CT, "x")], {3: (4, IVLE)}),
    "verification, compressed only": ([context(3, VERIFICATION, JPEG)], {3: (4, JPEG)}),
    "verification, also natively": (
        [context(3, VERIFICATION, JPEG), context(5, VERIFICATION, EVLE)],
        {3: (4, JPEG), 5: (0, EVLE)},
    ),
    "unsupported without transfer syntax": ([context(3, WORKLIST)], {3: (3, IVLE)}),
    "no abstract syntax": ([item(0x20, bytes((3, 0, 0, 0)) + item(0x40, EVLE.encode()))], {3: (3, EVLE)}),
    "nothing at all": ([item(0x20, bytes((3, 0, 0, 0)))], {3: (3, IVLE)}),
    "abstract syntax is no UID": ([context(3, "CT", EVLE)], {3: (3, EVLE)}),
    "abstract syntax of 65 characters": ([context(3, "1" * 65, EVLE)], {3: (3, EVLE)}),
    "abstract syntax in UTF-8": ([context(3, "1.2.é".encode(), EVLE)], {3: (3, EVLE)}),
    "abstract syntax of 60 KB": ([context(3, b"1" * 60000, EVLE)], {3: (3, EVLE)}),
    "leading zeros": ([context(3, "1.2.007.1", EVLE), context(5, MR, "1.2.03")], {3: (0, EVLE), 5: (0, "1.2.03")}),
    "unsupported with leading zeros in the syntax": ([context(3, WORKLIST, "1.2.03")], {3: (3, "1.2.03")}),
    "even id": ([context(2, CT, EVLE)], {2: (2, EVLE)}),
    "id 0": ([context(0, CT, EVLE)], {0: (2, EVLE)}),
    "id 255": ([context(255, CT, EVLE)], {255: (0, EVLE)}),
    "same context twice": ([context(3, CT, EVLE)] * 2, {3: (0, EVLE)}),
    "one id, two classes": ([context(3, CT, EVLE), context(3, MR, EVLE), context(3, CT, EVLE)], {3: (2, EVLE)}),
    "one id, two syntaxes": ([context(3, CT, EVLE), context(3, CT, IVLE)], {3: (2, EVLE)}),
    "unknown sub-item": (
        [item(0x20, bytes((3, 0, 0, 0)) + item(0x77, b"?") + context(3, CT, EVLE)[8:])],
        {3: (0, EVLE)},
    ),
    "unknown item": ([item(0x7F, b"???")], {}),
    "answer in a request": ([answered(3, 0, EVLE)], {}),
}


@pytest.mark.parametrize(("odd", "expected"), CONTEXTS.values(), ids=CONTEXTS.keys())
def test_an_abnormal_context_does_not_disturb_the_others(
    odd: list[bytes], expected: dict[int, tuple[int, str]]
) -> None:
    for contexts in ([*odd, context(1, MR, EVLE)], [context(1, MR, EVLE), *odd]):
        answer = accepted(associate(*contexts))
        raw = {pdu[4]: (pdu[6], pdu[12:].decode()) for kind, pdu in items(answer.pdu, 74, 300) if kind == 0x21}
        assert raw == {1: (0, EVLE), **expected}
        good = {1} | {number for number, (result, _) in expected.items() if result == 0}
        assert answer.contexts.keys() == good


ROLES = [
    ("default roles proposed", (1, 0), 0, (1, 0)),
    ("both proposed", (1, 1), 0, (1, 0)),
    ("SCP only: C-GET, which we do not do", (0, 1), 1, None),
    ("none", (0, 0), 1, None),
]


@pytest.mark.parametrize(("proposed", "result", "given"), [c[1:] for c in ROLES], ids=[c[0] for c in ROLES])
def test_roles(proposed: tuple[int, int], result: int, given: tuple[int, int] | None) -> None:
    roles = [role(CT, *proposed), role(WORKLIST, 1, 0), role("1.2.03", 1, 0), role("9.9", 1, 1)]
    rq = associate(context(1, MR, EVLE), context(3, CT, EVLE), context(5, WORKLIST, EVLE), last=user(*roles))
    answer = accepted(rq)
    assert results(answer.pdu) == {1: (0, EVLE), 3: (result, EVLE), 5: (3, EVLE)}
    assert answer.contexts.keys() == ({1, 3} if result == 0 else {1})
    replies = {str(uid): (ii.scu_role, ii.scp_role) for uid, ii in information(answer.pdu).role_selection.items()}
    assert replies == ({CT: given} if given else {})


USERS = {
    "no user information": (b"", 16384),
    "empty": (item(0x50, b""), 16384),
    "no limit": (user(max_pdu=0), 0),
    "4 GiB": (user(max_pdu=0xFFFFFFFF), 0xFFFFFFFF),
    "unknown sub-item": (user(item(0x7E, b"?")), 16384),
    "extended negotiation for storage": (
        user(item(0x56, len(CT).to_bytes(2, "big") + CT.encode() + b"\2\0\3\0\1\0")),
        16384,
    ),
    "broken extended negotiation": (user(item(0x56, b"\xff"), item(0x57, b"\xff\xff\0")), 16384),
    "two maximum lengths": (user(item(0x51, bytes(4))), 16384),
    "version name too long, not ASCII": (user(item(0x55, "VÉRSION \\ OF A LONG NAME".encode())), 16384),
    "unknown kind of user identity": (user(identity(kind=6)), 16384),
    "empty user identity": (user(item(0x58, b"")), 16384),
}


@pytest.mark.parametrize(("last", "max_pdu"), USERS.values(), ids=USERS.keys())
def test_user_information(last: bytes, max_pdu: int) -> None:
    answer = accepted(associate(context(1, CT, EVLE), last=last))
    assert (answer.peer_max_pdu, answer.named) == (max_pdu, None)
    assert {item.item_type for item in information(answer.pdu).user_data} == {0x51, 0x52, 0x55}
    assert answer.implementation_version.isascii()
    assert len(answer.implementation_version) <= 16


def test_asynchronous_operations_are_answered_with_one_each() -> None:
    answer = accepted(associate(context(1, CT, EVLE), last=user(item(0x53, b"\0\x10\0\0"))))
    window = information(answer.pdu).async_ops_window
    assert window is not None
    assert (window.max_operations_invoked, window.max_operations_performed) == (1, 1)


def test_a_handlers_refusal_is_a_rejection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(negotiate._HANDLERS, events.EVT_USER_ID, lambda event: (False, None))
    answer = accept(associate(context(1, CT, EVLE), last=user(identity())), POLICY)
    assert isinstance(answer, Rejected)
    assert answer.pdu == negotiate.reject(2, 2, 1)


def test_the_answer_repeats_the_reserved_bytes() -> None:
    called, calling, reserved = b"ASYNC\0ROUTE\xe9\x01\xff\xff ", b"  CT \\ A".ljust(16, b"\0"), bytes(range(32))
    answer = accepted(associate(context(1, CT, EVLE), called=called, calling=calling, reserved=reserved))
    assert answer.pdu[10:74] == called + calling + reserved
    assert (answer.called_aet, answer.calling_aet) == ("ASYNC", "CT ? A")


# --- what is not ------------------------------------------------------------------------------------------------------

GOOD = associate(context(1, CT, EVLE))
UNUSABLE = {
    "empty": (b"", 1),
    "an HTTP request": (b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n".ljust(100), 1),
    "a TLS hello": (b"\x16\x03\x01\x02\0\x01".ljust(100, b"\0"), 1),
    "P-DATA-TF": (b"\x04" + GOOD[1:], 2),
    "an answer": (b"\x02" + GOOD[1:], 2),
    "only a header": (GOOD[:6], 6),
    "fixed fields cut short": (GOOD[:73], 6),
    "cut short": (GOOD[:-1], 6),
    "longer than it says": (GOOD + item(0x7F, b""), 6),
    "item beyond the end": (associate(item(0x20, b"\1\0\0\0", length=5000)), 6),
    "half an item header": (associate(last=b"\x50\0"), 6),
    "sub-item beyond the end": (associate(item(0x20, b"\1\0\0\0" + item(0x30, CT.encode(), length=600))), 6),
    "context without an id": (associate(item(0x20, b"")), 6),
    "user sub-item beyond the end": (associate(context(1, CT, EVLE), last=item(0x50, item(0x51, b"", length=4))), 6),
    "maximum length of 2 bytes": (associate(context(1, CT, EVLE), last=item(0x50, item(0x51, b"\0\0"))), 6),
    "maximum length of 8 bytes": (associate(context(1, CT, EVLE), last=item(0x50, item(0x51, bytes(8)))), 6),
    "PDUs of 7 bytes": (associate(context(1, CT, EVLE), last=user(max_pdu=7)), 6),
    "role cut short": (associate(context(1, CT, EVLE), last=user(item(0x54, b"\0\x10" + b"1.2"))), 6),
    "asynchronous operations cut short": (associate(context(1, CT, EVLE), last=user(item(0x53, b"\0"))), 6),
    "user identity cut short": (associate(context(1, CT, EVLE), last=user(item(0x58, b"\2\1\0"))), 6),
    "600 items": (associate(*[item(0x7F, b"")] * 600), 6),
    "300 transfer syntaxes": (associate(context(1, CT, *(f"1.2.{i}" for i in range(300)))), 6),
    "2000 user items": (associate(context(1, CT, EVLE), last=user(*[item(0x7E, b"")] * 2000)), 6),
}


@pytest.mark.parametrize(("rq", "reason"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_an_unusable_request_is_aborted(rq: bytes, reason: int) -> None:
    answer = accept(rq, POLICY)
    assert isinstance(answer, Aborted), answer
    assert answer.pdu == negotiate.abort(2, reason)
    assert answer.text
    assert answer.text.isprintable()


REFUSED = {
    "protocol version 2": (associate(context(1, CT, EVLE), version=2), (1, 2, 2)),
    "protocol version 0": (associate(version=0, last=b"\xff"), (1, 2, 2)),
    "unknown application context": (associate(context(1, CT, EVLE), application=item(0x10, b"1.2.3")), (1, 1, 2)),
    "no application context": (associate(context(1, CT, EVLE), application=b""), (1, 1, 2)),
    "blank called title": (associate(context(1, CT, EVLE), called=b" " * 16), (1, 1, 7)),
    "calling title of NULs": (associate(context(1, CT, EVLE), calling=bytes(16)), (1, 1, 3)),
    "no context": (associate(), (1, 1, 1)),
}


@pytest.mark.parametrize(("rq", "triple"), REFUSED.values(), ids=REFUSED.keys())
def test_rejections(rq: bytes, triple: tuple[int, int, int]) -> None:
    answer = accept(rq, POLICY)
    assert isinstance(answer, Rejected), answer
    assert (answer.result, answer.source, answer.reason) == triple
    assert answer.pdu == negotiate.reject(*triple)
    assert answer.text.startswith(negotiate.reject_text(*triple))


def test_protocol_versions_beside_ours_are_no_matter() -> None:
    assert accepted(associate(context(1, CT, EVLE), version=0xFFFF)).contexts


def test_nothing_is_logged_or_warned(caplog: pytest.LogCaptureFixture) -> None:
    """pynetdicom writes a traceback for a title that is not ASCII, and pydicom warns of leading zeros."""
    logging.getLogger("pynetdicom.utils").error("shown to nobody")
    roles = [role("1.2.007", 1, 1), role(CT + " ", 1, 1)]
    accept(
        associate(context(1, "1.2.007", "1.02"), context(3, CT, EVLE), called=b"\xe9" * 16, last=user(*roles)), POLICY
    )
    request(Proposal("A", "B", 0, (("1.2.007", ("1.02",)),)))
    assert not caplog.records


# --- short PDUs, titles, memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "triple", [(1, 1, 1), (1, 1, 2), (1, 1, 3), (1, 1, 7), (1, 2, 1), (1, 2, 2), (2, 3, 1), (2, 3, 2)]
)
def test_rejections_are_read_by_pynetdicom(triple: tuple[int, int, int]) -> None:
    pdu = A_ASSOCIATE_RJ()
    pdu.decode(negotiate.reject(*triple))
    assert (pdu.result, pdu.source, pdu.reason_diagnostic) == triple
    assert pdu.encode() == negotiate.reject(*triple)
    assert "unknown" not in negotiate.reject_text(*triple)


@pytest.mark.parametrize(("source", "reason"), [(0, 0), (2, 0), (2, 1), (2, 2), (2, 4), (2, 5), (2, 6)])
def test_aborts_are_read_by_pynetdicom(source: int, reason: int) -> None:
    pdu = A_ABORT_RQ()
    pdu.decode(negotiate.abort(source, reason))
    assert (pdu.source, pdu.reason_diagnostic) == (source, reason)
    assert pdu.encode() == negotiate.abort(source, reason)
    assert "unknown" not in negotiate.abort_text(source, reason)


def test_words_for_what_the_standard_does_not_know() -> None:
    assert negotiate.reject_text(9, 9, 9) == "rejected with an unknown result: unknown reason (9/9/9)"
    assert negotiate.abort_text(1, 9) == "aborted by an unknown source: unknown reason (1/9)"


TITLES = {
    b"  CT A  ".ljust(16): "CT A",
    b"CT_A\0\0\0\0\0\0\0\0\0\0\0\0": "CT_A",
    b"CT_A\0leftovers !": "CT_A",
    b"\0\0CT_A          ": "CT_A",
    b"M\xc3\x9cNCHEN\x1b[31m\\XY": "M??NCHEN?[31m?XY",
    bytes(16): "",
    b"0123456789ABCDEF": "0123456789ABCDEF",
}


@pytest.mark.parametrize(("raw", "title"), TITLES.items())
def test_peek(raw: bytes, title: str) -> None:
    assert len(raw) == 16
    assert peek(associate(called=raw, calling=b"SCU             ")) == (title, "SCU")
    assert peek(associate(called=b"SCP             ", calling=raw)) == ("SCP", title)


@pytest.mark.parametrize("junk", [b"", b"\1", b"\1" + bytes(72), b"GET / HTTP/1.1" + bytes(100), b"\2" + GOOD[1:]])
def test_peek_at_junk(junk: bytes) -> None:
    with pytest.raises(Malformed):
        peek(junk)


def numbered(number: int) -> bytes:
    return associate(context(1, CT, EVLE), reserved=number.to_bytes(32, "big"))


def test_a_repeated_request_is_answered_from_memory() -> None:
    assert accept_cached(GOOD, POLICY) is None
    answer = accept(GOOD, POLICY)
    assert accept_cached(bytes(bytearray(GOOD)), AcceptorPolicy("ASYNCROUTE", 131072)) is answer
    assert accept_cached(GOOD, AcceptorPolicy("ASYNCROUTE", 16384)) is None
    assert accept_cached(numbered(1), POLICY) is None


def test_memory_is_bounded_and_keeps_the_latest() -> None:
    for number in range(negotiate.KEPT_ENTRIES + 10):
        accept(numbered(number), POLICY)
        assert accept_cached(numbered(0), POLICY)
    assert len(negotiate._recent) == negotiate.KEPT_ENTRIES
    assert accept_cached(numbered(1), POLICY) is None
    big = associate(context(1, CT, EVLE), item(0x7F, bytes(negotiate.KEPT_BYTES)))
    kept = dict(negotiate._recent._kept)
    assert accepted(big).contexts
    assert accept_cached(big, POLICY) is None
    assert negotiate._recent._kept == kept


def test_long_names_are_not_remembered() -> None:
    accept(GOOD, POLICY)
    before = _uid.cache_info().misses
    accept(associate(context(1, b"3" * 50000, b"4" * 80)), POLICY)
    assert _uid.cache_info().misses == before


def test_refusals_are_not_kept() -> None:
    for rq in (associate(), associate(application=b""), b"junk"):
        accept(rq, POLICY)
        assert accept_cached(rq, POLICY) is None
