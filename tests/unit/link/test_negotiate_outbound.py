"""Outbound negotiation: what we propose, and every kind of answer; then real peers in both directions."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom.data
import pynetdicom
import pytest
from pynetdicom.pdu import A_ASSOCIATE_RQ

from asyncroute.link import negotiate
from asyncroute.link.negotiate import (
    Aborted,
    Accepted,
    AcceptorPolicy,
    Broken,
    Established,
    Proposal,
    Refused,
    Rejected,
    accept,
    conclude,
    request,
)
from asyncroute.wire import part10
from tests.support.peers import program
from tests.unit.link.pdus import (
    APPLICATION,
    CT,
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
    groups,
    item,
    user,
)

# --- outbound ---------------------------------------------------------------------------------------------------------

TWO = Proposal("CT_A", "PACS", 65536, ((CT, (EVLE, IVLE)), (MR, (JPEG,))))


def answer_to(*items: bytes, last: bytes = user()) -> bytes:
    return associate(*items, kind=2, last=last)


def established(*items: bytes, proposal: Proposal = TWO, last: bytes = user()) -> Established:
    outcome = conclude(proposal, answer_to(*items, last=last))
    assert isinstance(outcome, Established), outcome
    return outcome


def test_pynetdicom_reads_our_request() -> None:
    rq = A_ASSOCIATE_RQ()
    rq.decode(request(TWO))
    assert rq.encode() == request(TWO)
    assert (rq.calling_ae_title.strip(), rq.called_ae_title.strip()) == ("CT_A", "PACS")
    assert [(cx.context_id, cx.abstract_syntax, cx.transfer_syntax) for cx in rq.presentation_context] == [
        (1, CT, [EVLE, IVLE]),
        (3, MR, [JPEG]),
    ]
    assert rq.application_context_name == APPLICATION
    assert rq.user_information is not None
    assert rq.user_information.maximum_length == 65536
    assert rq.user_information.implementation_class_uid == part10.IMPLEMENTATION_UID
    assert rq.user_information.role_selection == {}


def test_128_contexts_there_and_back() -> None:
    uids = sorted(groups(storage=True))[:127]
    proposal = Proposal("A", "B", 0, (*((uid, (PRIVATE, IVLE)) for uid in uids), (WORKLIST, (IVLE,))))
    answer = accepted(request(proposal))
    assert answer.peer_max_pdu == 0
    outcome = conclude(proposal, answer.pdu)
    assert isinstance(outcome, Established)
    assert outcome.contexts == {(uid, PRIVATE): 2 * i + 1 for i, uid in enumerate(uids)}
    assert outcome.rejected == {(WORKLIST, IVLE): 3}
    assert outcome.peer_max_pdu == 131072
    assert outcome.implementation_uid == part10.IMPLEMENTATION_UID
    assert outcome.implementation_version == part10.IMPLEMENTATION_VERSION
    assert outcome.notes == ()
    assert conclude(proposal, bytes(bytearray(answer.pdu))) is outcome


def test_uids_with_leading_zeros_there_and_back() -> None:
    proposal = Proposal("A", "B", 0, (("1.2.007", ("1.02", EVLE)), (CT, (EVLE,))))
    outcome = conclude(proposal, accepted(request(proposal)).pdu)
    assert isinstance(outcome, Established)
    assert outcome.contexts == {("1.2.007", "1.02"): 1, (CT, EVLE): 3}


IMPOSSIBLE: list[tuple[str, dict[str, Any]]] = [
    ("no contexts", {"contexts": ()}),
    ("129 contexts", {"contexts": ((CT, (EVLE,)),) * 129}),
    ("no transfer syntax", {"contexts": ((CT, ()),)}),
    ("300 transfer syntaxes", {"contexts": ((CT, (EVLE,) * 300),)}),
    ("not a UID", {"contexts": (("CT Image Storage", (EVLE,)),)}),
    ("an empty UID", {"contexts": ((CT, ("",)),)}),
    ("a UID of 65 characters", {"contexts": ((CT, ("1" * 65,)),)}),
    ("a UID and a line break", {"contexts": ((CT, (EVLE + "\n",)),)}),
    ("no calling title", {"calling_aet": ""}),
    ("called title of 17 characters", {"called_aet": "A" * 17}),
    ("backslash", {"called_aet": "A\\B"}),
    ("padded", {"called_aet": "A "}),
    ("not ASCII", {"calling_aet": "MÜNCHEN"}),
    ("negative length", {"max_pdu": -1}),
    ("PDUs of 7 bytes", {"max_pdu": 7}),
    ("length of 33 bits", {"max_pdu": 1 << 32}),
    ("implementation", {"implementation_uid": "1.02"}),
]


@pytest.mark.parametrize("wrong", [wrong for _, wrong in IMPOSSIBLE], ids=[name for name, _ in IMPOSSIBLE])
def test_what_cannot_be_proposed(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {"calling_aet": "A", "called_aet": "B", "max_pdu": 0, "contexts": ((CT, (EVLE,)),)}
    Proposal(**right)
    with pytest.raises(ValueError):  # noqa: PT011 - each says what is wrong in its own words
        Proposal(**(right | wrong))


def test_what_cannot_be_a_policy() -> None:
    for wrong in (("", 0), ("A" * 17, 0), ("A", 5)):
        with pytest.raises(ValueError, match=r"AE title|max_pdu"):
            AcceptorPolicy(*wrong)


Pairs = dict[tuple[str, str], int]
ANSWERS: dict[str, tuple[list[bytes], Pairs, Pairs, str]] = {
    "both": ([answered(1, 0, IVLE), answered(3, 0, JPEG)], {(CT, IVLE): 1, (MR, JPEG): 3}, {}, ""),
    "in another order": ([answered(3, 0, JPEG), answered(1, 0, EVLE)], {(CT, EVLE): 1, (MR, JPEG): 3}, {}, ""),
    "one refused": ([answered(1, 0, EVLE), answered(3, 4, JPEG)], {(CT, EVLE): 1}, {(MR, JPEG): 4}, ""),
    "refused, no syntax": ([answered(1, 0, EVLE), answered(3, 1)], {(CT, EVLE): 1}, {(MR, JPEG): 1}, ""),
    "refused, junk for a syntax": ([answered(1, 0, EVLE), answered(3, 3, "x")], {(CT, EVLE): 1}, {(MR, JPEG): 3}, ""),
    "unknown result": ([answered(1, 0, EVLE), answered(3, 99, JPEG)], {(CT, EVLE): 1}, {(MR, JPEG): 99}, ""),
    "none": ([answered(1, 3, EVLE), answered(3, 3, JPEG)], {}, {(CT, EVLE): 3, (CT, IVLE): 3, (MR, JPEG): 3}, ""),
    "no answers": ([], {}, {(CT, EVLE): 2, (CT, IVLE): 2, (MR, JPEG): 2}, "not answered"),
    "one missing": ([answered(1, 0, EVLE)], {(CT, EVLE): 1}, {(MR, JPEG): 2}, "context 3: not answered"),
    "not proposed": (
        [answered(1, 0, EVLE), answered(3, 0, J2K)],
        {(CT, EVLE): 1},
        {(MR, JPEG): 4},
        f"accepted with {J2K}",
    ),
    "no syntax": ([answered(1, 0, EVLE), answered(3, 0)], {(CT, EVLE): 1}, {(MR, JPEG): 4}, "no transfer syntax"),
    "unknown id": (
        [answered(1, 0, EVLE), answered(3, 0, JPEG), answered(5, 0, EVLE)],
        {(CT, EVLE): 1, (MR, JPEG): 3},
        {},
        "5: answered",
    ),
    "twice the same": ([answered(1, 0, EVLE)] * 2 + [answered(3, 0, JPEG)], {(CT, EVLE): 1, (MR, JPEG): 3}, {}, ""),
    "twice, differently": (
        [answered(1, 0, EVLE), answered(1, 0, IVLE), answered(3, 0, JPEG)],
        {(MR, JPEG): 3},
        {(CT, EVLE): 2, (CT, IVLE): 2},
        "answered twice",
    ),
    "unknown items": (
        [item(0x7F, b"?"), answered(1, 0, EVLE), answered(3, 0, JPEG)],
        {(CT, EVLE): 1, (MR, JPEG): 3},
        {},
        "",
    ),
}


@pytest.mark.parametrize(("items", "contexts", "rejected", "note"), ANSWERS.values(), ids=ANSWERS.keys())
def test_answers(items: list[bytes], contexts: Pairs, rejected: Pairs, note: str) -> None:
    outcome = established(*items)
    assert outcome.contexts == contexts
    assert outcome.rejected == rejected
    assert note in "; ".join(outcome.notes)
    assert bool(note) == bool(outcome.notes)


def test_a_pair_that_another_context_has_is_not_rejected() -> None:
    proposal = Proposal("A", "B", 0, ((CT, (EVLE, IVLE)), (CT, (IVLE,)), (CT, (IVLE,))))
    outcome = established(answered(1, 4), answered(3, 0, IVLE), answered(5, 0, IVLE), proposal=proposal)
    assert outcome.contexts == {(CT, IVLE): 3}
    assert outcome.rejected == {(CT, EVLE): 4}


def test_titles_version_and_application_context_of_an_answer_are_no_matter() -> None:
    pdu = associate(
        answered(1, 0, EVLE), answered(3, 0, JPEG), kind=2, version=0, called=b"\xff" * 16, application=b"", last=b""
    )
    outcome = conclude(TWO, pdu)
    assert isinstance(outcome, Established)
    assert len(outcome.contexts) == 2
    assert (outcome.peer_max_pdu, outcome.implementation_uid) == (16384, "")


def test_a_rejection() -> None:
    assert conclude(TWO, negotiate.reject(2, 3, 2)) == Refused(2, 3, 2, negotiate.reject_text(2, 3, 2))
    assert isinstance(conclude(TWO, negotiate.reject(0, 9, 255)), Refused)


def test_an_abort_needs_no_answer() -> None:
    assert conclude(TWO, negotiate.abort(2, 6)) == Broken(negotiate.abort_text(2, 6))


GARBAGE = {
    "nothing": (b"", 1),
    "SSH": (b"SSH-2.0-OpenSSH_9.2p1\r\n", 1),
    "our own request": (request(TWO), 2),
    "A-RELEASE-RQ": (b"\5\0\0\0\0\4\0\0\0\0", 2),
    "half an answer": (answer_to(answered(1, 0, EVLE))[:-5], 6),
    "short answer": (b"\2\0\0\0\0\4\0\0\0\0", 6),
    "short rejection": (b"\3\0\0\0\0\2\0\1", 6),
    "short abort": (b"\7\0\0\0\0\0", 6),
    "context cut short": (answer_to(item(0x21, b"\1")), 6),
    "item beyond the end": (answer_to(item(0x21, b"\1\0\0\0", length=999)), 6),
    "PDUs of 7 bytes": (answer_to(answered(1, 0, EVLE), last=user(max_pdu=7)), 6),
}


@pytest.mark.parametrize(("pdu", "reason"), GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_answered_with_an_abort(pdu: bytes, reason: int) -> None:
    outcome = conclude(TWO, pdu)
    assert isinstance(outcome, Broken), outcome
    assert outcome.pdu == negotiate.abort(2, reason)
    assert outcome.text.isprintable()


# --- real peers -------------------------------------------------------------------------------------------------------


def read_pdu(stream: socket.socket) -> bytes:
    """One PDU, or what came before the end."""
    data = b""
    while len(data) < 6 or len(data) < 6 + int.from_bytes(data[2:6], "big"):
        if not (more := stream.recv(65536)):
            break
        data += more
    return data


class Acceptor(threading.Thread):
    """Accepts one association, answers it, keeps what the peer sends next, aborts."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(30)
        self.port: int = self.listener.getsockname()[1]
        self.answer: Accepted | Rejected | Aborted | None = None
        self.next = b""
        self.start()

    def run(self) -> None:
        with self.listener, self.listener.accept()[0] as stream:
            stream.settimeout(30)
            self.answer = accept(read_pdu(stream), POLICY)
            stream.sendall(self.answer.pdu)
            self.next = read_pdu(stream)
            stream.sendall(negotiate.abort(0, 0))


CT_FILE = str(pydicom.data.get_testdata_file("CT_small.dcm"))
SENDERS = {
    "echoscu": ["echoscu", "-aec", "ASYNCROUTE"],
    "echoscu proposing 38 transfer syntaxes": ["echoscu", "-aec", "ASYNCROUTE", "-pts", "38"],
    "storescu": ["storescu", "-aec", "ASYNCROUTE"],
    "storescu proposing JPEG first": ["storescu", "-aec", "ASYNCROUTE", "-xy"],
    "dcmsend": ["dcmsend", "-aec", "ASYNCROUTE"],
}


@pytest.mark.interop
@pytest.mark.parametrize("command", SENDERS.values(), ids=SENDERS.keys())
def test_dcmtk_sends_on_a_context_that_we_accepted(command: list[str]) -> None:
    acceptor = Acceptor()
    files = [] if command[0] == "echoscu" else [CT_FILE]
    subprocess.run(
        [program(command[0]), *command[1:], "127.0.0.1", str(acceptor.port), *files],
        timeout=60,
        check=False,
        capture_output=True,
    )
    acceptor.join(30)
    assert isinstance(acceptor.answer, Accepted), acceptor.answer
    assert acceptor.next[0] == 4
    assert acceptor.answer.contexts[acceptor.next[10]].abstract_syntax == (CT if files else VERIFICATION)


@pytest.mark.interop
def test_pynetdicom_is_established_with_the_roles_that_we_gave() -> None:
    acceptor = Acceptor()
    ae = pynetdicom.AE("CT_A")
    ae.add_requested_context(CT, [J2K, IVLE])
    ae.add_requested_context(MR, [EVLE])
    ae.add_requested_context(WORKLIST)
    roles: Any = [pynetdicom.build_role(CT, scu_role=True, scp_role=True)]
    assoc = ae.associate("127.0.0.1", acceptor.port, ae_title="ASYNCROUTE", ext_neg=roles)
    assert assoc.is_established
    try:
        got = {str(cx.abstract_syntax): (cx.transfer_syntax, cx.as_scu, cx.as_scp) for cx in assoc.accepted_contexts}
        assert got == {CT: ([J2K], True, False), MR: ([EVLE], True, False)}
        assert [cx.result for cx in assoc.rejected_contexts] == [3]
    finally:
        assoc.abort()
    acceptor.join(30)


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, condition
        time.sleep(0.02)
    return value


def connected(port: int) -> socket.socket | None:
    try:
        return socket.create_connection(("127.0.0.1", port), timeout=30)
    except OSError:
        return None


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program(command[0]), *command[1:]], cwd=folder, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


ORTHANC: dict[str, Any] = {
    "DicomAet": "PACS",
    "DicomCheckCalledAet": True,
    "HttpServerEnabled": False,
    "IndexDirectory": "db",
    "StorageDirectory": "db",
}
RECEIVERS = {
    "storescp": (["storescp", "--aetitle", "PACS", "{port}"], {(WORKLIST, IVLE): 3, (CT, J2K): 4}),
    "orthanc": (["Orthanc", "orthanc.json"], {}),
}


@pytest.mark.interop
@pytest.mark.parametrize(("command", "rejected"), RECEIVERS.values(), ids=RECEIVERS.keys())
def test_real_receivers_answer_our_request(command: list[str], rejected: Pairs, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "orthanc.json").write_text(json.dumps(ORTHANC | {"DicomPort": port}))
    wanted = ((CT, (EVLE,)), (CT, (J2K,)), (WORKLIST, (IVLE,)), (VERIFICATION, (IVLE,)), (MR, (EVLE, IVLE)))
    proposal = Proposal("ASYNCROUTE", "PACS", 65536, wanted)
    with running([part.format(port=port) for part in command], tmp_path), until(lambda: connected(port)) as stream:
        stream.sendall(request(proposal))
        outcome = conclude(proposal, read_pdu(stream))
        assert isinstance(outcome, Established), outcome
        stream.sendall(b"\5\0\0\0\0\4\0\0\0\0")
        assert read_pdu(stream)[0] == 6
    assert {(CT, EVLE): 1, (VERIFICATION, IVLE): 7}.items() <= outcome.contexts.items()
    assert rejected.items() <= outcome.rejected.items()
    assert {outcome.contexts.get((MR, EVLE)), outcome.contexts.get((MR, IVLE))} == {9, None}
    assert outcome.peer_max_pdu
    assert outcome.implementation_version
    assert outcome.notes == ()


@pytest.mark.interop
def test_a_real_rejection(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "orthanc.json").write_text(json.dumps(ORTHANC | {"DicomPort": port}))
    proposal = Proposal("ASYNCROUTE", "SOMEBODY", 65536, ((CT, (EVLE,)),))
    with running(["Orthanc", "orthanc.json"], tmp_path), until(lambda: connected(port)) as stream:
        stream.sendall(request(proposal))
        outcome = conclude(proposal, read_pdu(stream))
    assert isinstance(outcome, Refused), outcome
    assert (outcome.result, outcome.source, outcome.reason) == (1, 1, 7)
