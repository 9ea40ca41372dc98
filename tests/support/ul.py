"""The DICOM upper layer and DIMSE command sets as bytes, for the test bench (PS3.8 9.3, PS3.7 E.1).

Builds and reads exactly what it is told, right or wrong; independent of the router's own code and of pynetdicom.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

RQ, AC, RJ, PDATA, RELEASE_RQ, RELEASE_RP, ABORT = 1, 2, 3, 4, 5, 6, 7
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT_LE, EXPLICIT_LE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
IMPLEMENTATION_UID = "2.25.271828182845904523536028747135266249"

COMMAND, LAST = 1, 2
C_STORE_RQ, C_STORE_RSP, C_ECHO_RQ, C_ECHO_RSP = 0x0001, 0x8001, 0x0030, 0x8030
NO_DATA_SET = 0x0101
AFFECTED_CLASS, COMMAND_FIELD, MESSAGE_ID, RESPONDED_ID, PRIORITY = 0x0002, 0x0100, 0x0110, 0x0120, 0x0700
DATA_SET_TYPE, STATUS, ERROR_COMMENT, AFFECTED_INSTANCE = 0x0800, 0x0900, 0x0902, 0x1000
_TEXT = frozenset({AFFECTED_CLASS, AFFECTED_INSTANCE, ERROR_COMMENT})


class WireError(Exception):
    """Bytes that are not what the standard says."""


@dataclass(frozen=True)
class Context:
    """A proposed presentation context: odd ``id``, abstract syntax, transfer syntaxes in order of preference."""

    id: int
    abstract: str
    transfer: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """An answered presentation context: ``result`` 0 accepted, 1 user rejection, 3 abstract, 4 transfer syntaxes."""

    id: int
    result: int
    transfer: str


@dataclass
class AssociateRQ:
    """What an A-ASSOCIATE-RQ said; ``max_pdu`` 0 means no limit."""

    called: str
    calling: str
    contexts: list[Context] = field(default_factory=list)
    max_pdu: int = 0


@dataclass
class AssociateAC:
    """What an A-ASSOCIATE-AC said."""

    answers: dict[int, Answer] = field(default_factory=dict)
    max_pdu: int = 0


def pdu(kind: int, body: bytes) -> bytes:
    """A PDU: type, reserved byte, length of ``body``, ``body``."""
    return struct.pack(">BxI", kind, len(body)) + body


def item(kind: int, body: bytes) -> bytes:
    """An item or sub-item: type, reserved byte, 16-bit length, ``body``."""
    return struct.pack(">BxH", kind, len(body)) + body


def title(text: str) -> bytes:
    """An AE title field: 16 characters, space padded."""
    return text.encode("ascii").ljust(16)


def associate_rq(
    calling: str, called: str, contexts: Sequence[Context], max_pdu: int = 65536, extra_items: bytes = b""
) -> bytes:
    """A whole A-ASSOCIATE-RQ PDU (PS3.8 9.3.2)."""
    body = struct.pack(">HH", 1, 0) + title(called) + title(calling) + bytes(32)
    body += item(0x10, APPLICATION_CONTEXT.encode())
    body += b"".join(proposed(context) for context in contexts)
    return pdu(RQ, body + user_information(max_pdu, extra_items))


def proposed(context: Context) -> bytes:
    """A presentation context item of an A-ASSOCIATE-RQ."""
    inner = item(0x30, context.abstract.encode()) + b"".join(item(0x40, uid.encode()) for uid in context.transfer)
    return item(0x20, struct.pack(">Bxxx", context.id) + inner)


def user_information(max_pdu: int, extra_items: bytes = b"") -> bytes:
    """The user information item: maximum length, implementation class UID, further sub-items."""
    inner = item(0x51, struct.pack(">I", max_pdu)) + item(0x52, IMPLEMENTATION_UID.encode())
    return item(0x50, inner + extra_items)


def associate_ac(request: AssociateRQ, answers: Sequence[Answer], max_pdu: int) -> bytes:
    """A whole A-ASSOCIATE-AC PDU (PS3.8 9.3.3)."""
    body = struct.pack(">HH", 1, 0) + title(request.called) + title(request.calling) + bytes(32)
    body += item(0x10, APPLICATION_CONTEXT.encode())
    for answer in answers:
        inner = struct.pack(">BxBx", answer.id, answer.result) + item(0x40, answer.transfer.encode())
        body += item(0x21, inner)
    return pdu(AC, body + user_information(max_pdu))


def associate_rj(result: int, source: int, reason: int) -> bytes:
    """An A-ASSOCIATE-RJ PDU (PS3.8 9.3.4)."""
    return pdu(RJ, bytes((0, result, source, reason)))


def release_rq() -> bytes:
    """An A-RELEASE-RQ PDU."""
    return pdu(RELEASE_RQ, bytes(4))


def release_rp() -> bytes:
    """An A-RELEASE-RP PDU."""
    return pdu(RELEASE_RP, bytes(4))


def abort(source: int = 0, reason: int = 0) -> bytes:
    """An A-ABORT PDU."""
    return pdu(ABORT, bytes((0, 0, source, reason)))


def items(body: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
    """The (type, content) pairs of a sequence of items.

    Raises:
        WireError: a length goes past the end.
    """
    at = 0
    while at < len(body):
        if at + 4 > len(body):
            raise WireError("half an item header")
        kind, size = struct.unpack_from(">BxH", body, at)
        if at + 4 + size > len(body):
            raise WireError(f"item 0x{kind:02x} longer than what holds it")
        yield kind, bytes(body[at + 4 : at + 4 + size])
        at += 4 + size


def text(value: bytes) -> str:
    """A UID or AE title without its padding."""
    return value.decode("ascii", "replace").strip(" \0")


def read_associate_rq(body: bytes) -> AssociateRQ:
    """The content of an A-ASSOCIATE-RQ, given without the PDU header."""
    request = AssociateRQ(text(body[4:20]), text(body[20:36]))
    for kind, content in items(body[68:]):
        if kind == 0x20:
            request.contexts.append(_read_proposed(content))
        elif kind == 0x50:
            request.max_pdu = _read_max_pdu(content)
    return request


def read_associate_ac(body: bytes) -> AssociateAC:
    """The content of an A-ASSOCIATE-AC, given without the PDU header."""
    accepted = AssociateAC()
    for kind, content in items(body[68:]):
        if kind == 0x21:
            transfer = [text(value) for inner, value in items(content[4:]) if inner == 0x40]
            accepted.answers[content[0]] = Answer(content[0], content[2], transfer[0] if transfer else "")
        elif kind == 0x50:
            accepted.max_pdu = _read_max_pdu(content)
    return accepted


def _read_proposed(content: bytes) -> Context:
    inner = list(items(content[4:]))
    abstract = [text(value) for kind, value in inner if kind == 0x30]
    return Context(content[0], abstract[0] if abstract else "", tuple(text(v) for kind, v in inner if kind == 0x40))


def _read_max_pdu(content: bytes) -> int:
    for kind, value in items(content):
        if kind == 0x51:
            return int(struct.unpack(">I", value)[0])
    return 0


def pdv(context: int, control: int, fragment: bytes | memoryview) -> bytes:
    """A P-DATA-TF PDU with one presentation data value; ``control``: COMMAND and LAST bits."""
    return struct.pack(">BxIIBB", PDATA, len(fragment) + 6, len(fragment) + 2, context, control) + fragment


def pdvs(body: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """The (context id, control, fragment) triples of a P-DATA-TF's content.

    Raises:
        WireError: a length goes past the end.
    """
    at = 0
    while at < len(body):
        size = int.from_bytes(body[at : at + 4], "big")
        if size < 2 or at + 4 + size > len(body):
            raise WireError(f"presentation data value of {size} bytes in {len(body) - at}")
        yield body[at + 4], body[at + 5], body[at + 6 : at + 4 + size]
        at += 4 + size


def command(elements: Mapping[int, int | str]) -> bytes:
    """A command set (Implicit VR Little Endian, group 0000) with its group length; numbers are US, texts are padded."""
    body = b"".join(_element(tag, elements[tag]) for tag in sorted(elements))
    return _element_bytes(0, struct.pack("<I", len(body))) + body


def _element(tag: int, value: int | str) -> bytes:
    if isinstance(value, int):
        return _element_bytes(tag, struct.pack("<H", value))
    raw = value.encode("ascii")
    pad = b" " if tag == ERROR_COMMENT else b"\0"
    return _element_bytes(tag, raw + pad * (len(raw) & 1))


def _element_bytes(tag: int, raw: bytes) -> bytes:
    return struct.pack("<HHI", 0, tag, len(raw)) + raw


def read_command(body: bytes) -> dict[int, int | str]:
    """The elements of a command set by element number; those that are neither US nor a known text are left out.

    Raises:
        WireError: a length goes past the end.
    """
    found: dict[int, int | str] = {}
    at = 0
    while at < len(body):
        if at + 8 > len(body):
            raise WireError("half a command element")
        _, tag, size = struct.unpack_from("<HHI", body, at)
        raw = body[at + 8 : at + 8 + size]
        if len(raw) != size:
            raise WireError(f"command element (0000,{tag:04X}) longer than the command set")
        if tag in _TEXT:
            found[tag] = text(raw)
        elif size == 2:
            found[tag] = int.from_bytes(raw, "little")
        at += 8 + size
    return found


def store_rq(message_id: int, sop_class: str, sop_instance: str) -> bytes:
    """The command set of a C-STORE-RQ (PS3.7 9.3.1.1)."""
    return command(
        {
            AFFECTED_CLASS: sop_class,
            COMMAND_FIELD: C_STORE_RQ,
            MESSAGE_ID: message_id,
            PRIORITY: 0,
            DATA_SET_TYPE: 0,
            AFFECTED_INSTANCE: sop_instance,
        }
    )


def echo_rq(message_id: int) -> bytes:
    """The command set of a C-ECHO-RQ (PS3.7 9.3.5.1)."""
    return command(
        {AFFECTED_CLASS: VERIFICATION, COMMAND_FIELD: C_ECHO_RQ, MESSAGE_ID: message_id, DATA_SET_TYPE: NO_DATA_SET}
    )


def response(request: Mapping[int, int | str], status: int, comment: str = "") -> bytes:
    """The command set that answers a C-STORE-RQ or C-ECHO-RQ with ``status``."""
    elements: dict[int, int | str] = {
        AFFECTED_CLASS: request[AFFECTED_CLASS],
        COMMAND_FIELD: int(request[COMMAND_FIELD]) | 0x8000,
        RESPONDED_ID: request[MESSAGE_ID],
        DATA_SET_TYPE: NO_DATA_SET,
        STATUS: status,
    }
    if AFFECTED_INSTANCE in request:
        elements[AFFECTED_INSTANCE] = request[AFFECTED_INSTANCE]
    if comment:
        elements[ERROR_COMMENT] = comment
    return command(elements)
