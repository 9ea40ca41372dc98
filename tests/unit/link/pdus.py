"""A-ASSOCIATE PDUs built byte by byte, and read back with pynetdicom's classes."""

from __future__ import annotations

from pynetdicom import sop_class
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.pdu_items import UserInformationItem

from asyncroute.link.negotiate import Accepted, AcceptorPolicy, accept

VERIFICATION, WORKLIST = "1.2.840.10008.1.1", "1.2.840.10008.5.1.4.31"
COMMITMENT = "1.2.840.10008.1.20.1"
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
IVLE, EVLE, EVBE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, JPEG, J2K = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
PRIVATE = "1.3.46.670589.33.1.4.1"
APPLICATION = "1.2.840.10008.3.1.1.1"
POLICY = AcceptorPolicy("ASYNCROUTE", 131072)


def item(kind: int, body: bytes, length: int | None = None) -> bytes:
    return bytes((kind, 0)) + (len(body) if length is None else length).to_bytes(2, "big") + body


def context(number: int, abstract: str | bytes, *syntaxes: str | bytes) -> bytes:
    raw = [uid.encode() if isinstance(uid, str) else uid for uid in (abstract, *syntaxes)]
    return item(0x20, bytes((number, 0, 0, 0)) + item(0x30, raw[0]) + b"".join(item(0x40, uid) for uid in raw[1:]))


def answered(number: int, result: int, *syntaxes: str) -> bytes:
    return item(0x21, bytes((number, 0, result, 0)) + b"".join(item(0x40, uid.encode()) for uid in syntaxes))


def role(uid: str, scu: int, scp: int) -> bytes:
    return item(0x54, len(uid).to_bytes(2, "big") + uid.encode() + bytes((scu, scp)))


def identity(kind: int = 2, respond: int = 1, primary: bytes = b"user", secondary: bytes = b"secret") -> bytes:
    fields = b"".join(len(field).to_bytes(2, "big") + field for field in (primary, secondary))
    return item(0x58, bytes((kind, respond)) + fields)


def user(*subs: bytes, max_pdu: int = 16384) -> bytes:
    return item(0x50, item(0x51, max_pdu.to_bytes(4, "big")) + item(0x52, b"1.2.3.4") + b"".join(subs))


def associate(
    *items: bytes,
    kind: int = 1,
    version: int = 1,
    called: bytes = b"ASYNCROUTE      ",
    calling: bytes = b"CT_A            ",
    reserved: bytes = bytes(32),
    application: bytes = item(0x10, APPLICATION.encode()),
    last: bytes = user(),
) -> bytes:
    body = version.to_bytes(2, "big") + b"\0\0" + called + calling + reserved + application + b"".join(items) + last
    return bytes((kind, 0)) + len(body).to_bytes(4, "big") + body


def accepted(rq: bytes, policy: AcceptorPolicy = POLICY) -> Accepted:
    answer = accept(rq, policy)
    assert isinstance(answer, Accepted), answer
    return answer


def read_ac(pdu: bytes) -> A_ASSOCIATE_AC:
    ac = A_ASSOCIATE_AC()
    ac.decode(pdu)
    assert len(ac) == len(pdu)
    return ac


def results(pdu: bytes) -> dict[int, tuple[int, str]]:
    """Result and transfer syntax by context id, as pynetdicom reads the answer; ids must be unique."""
    found = [(cx.context_id, (cx.result, str(cx.transfer_syntax))) for cx in read_ac(pdu).presentation_context]
    assert len(dict(found)) == len(found)
    return dict(found)  # type: ignore[arg-type]


def information(pdu: bytes) -> UserInformationItem:
    found = read_ac(pdu).user_information
    assert found is not None
    return found


def groups(*, storage: bool) -> set[str]:
    """pynetdicom's SOP classes: what its two storage services hold, or all other services."""
    names = {"_STORAGE_CLASSES", "_NON_PATIENT_OBJECT_CLASSES"}
    tables = [name for name in vars(sop_class) if name.endswith("_CLASSES") and name != "_SERVICE_CLASSES"]
    return {uid for name in tables if (name in names) == storage for uid in getattr(sop_class, name).values()}
