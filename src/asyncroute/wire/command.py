"""DIMSE command sets (PS3.7 6.3, E.1): the few that a storage router speaks, as bytes.

Command sets are implicit VR little endian, group 0000 only. ``parse`` is tolerant of order and unknown elements and
strict about lengths; it raises ``ProtocolError``.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from asyncroute.wire.pdata import REASON_INVALID, ProtocolError

C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001
C_ECHO_RQ, C_ECHO_RSP = 0x0030, 0x8030
C_FIND_RQ, C_FIND_RSP = 0x0020, 0x8020
N_EVENT_REPORT_RQ, N_EVENT_REPORT_RSP = 0x0100, 0x8100
N_ACTION_RQ, N_ACTION_RSP = 0x0130, 0x8130
C_CANCEL_RQ = 0x0FFF
RESPONSE = 0x8000
NO_DATA_SET = 0x0101

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
PROCESSING_FAILURE = 0x0110
NO_SUCH_INSTANCE = 0x0112
NO_SUCH_EVENT_TYPE = 0x0113
INVALID_ARGUMENT = 0x0115
INVALID_INSTANCE = 0x0117
NO_SUCH_CLASS = 0x0118
NO_SUCH_ACTION = 0x0123
UNRECOGNIZED_OPERATION = 0x0211
RESOURCE_LIMITATION = 0x0213

VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT_LE = "1.2.840.10008.1.2"

AFFECTED_CLASS, REQUESTED_CLASS, FIELD, MESSAGE_ID, RESPONDED_TO, PRIORITY, DATA_SET_TYPE = (
    0x0002,
    0x0003,
    0x0100,
    0x0110,
    0x0120,
    0x0700,
    0x0800,
)
STATUS, ERROR_COMMENT, AFFECTED_INSTANCE, REQUESTED_INSTANCE = 0x0900, 0x0902, 0x1000, 0x1001
EVENT_TYPE, ACTION_TYPE = 0x1002, 0x1008

_ELEMENT = struct.Struct("<HHI")
_US = struct.Struct("<H")
_ULONG = struct.Struct("<I")
_GROUP_LENGTH = _ELEMENT.pack(0, 0, 4)

LONGEST_UID = 64
"""Characters of a UID (PS3.5 9.1)."""

MAX_COMMAND = 16 << 10
"""Bytes of a command set that are taken at most."""


class Command:
    """A parsed command set: raw values by element number of group 0000."""

    __slots__ = ("values",)

    def __init__(self, values: dict[int, bytes]) -> None:
        self.values = values

    def number(self, element: int, default: int = -1) -> int:
        """An unsigned short (US), or ``default`` where it is absent or of another length."""
        value = self.values.get(element)
        return _US.unpack(value)[0] if value is not None and len(value) == 2 else default

    def text(self, element: int) -> str:
        """A UID or text without padding; bytes that are not ASCII come as ``\\xNN``."""
        value = self.values.get(element, b"")
        return value.rstrip(b"\x00 ").decode("ascii", "backslashreplace")

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows (PS3.7 E.1: any Command Data Set Type but 0101H)."""
        return self.number(DATA_SET_TYPE, NO_DATA_SET) != NO_DATA_SET


def parse(data: bytes | bytearray) -> Command:
    """Read a whole command set.

    Raises:
        ProtocolError: an element runs over the end, or is of another group.
    """
    values: dict[int, bytes] = {}
    at, end = 0, len(data)
    unpack = _ELEMENT.unpack_from
    while at + 8 <= end:
        group, element, length = unpack(data, at)
        at += 8
        if group or at + length > end:
            raise ProtocolError(
                f"command set: element ({group:04X},{element:04X}) of {length} bytes at byte {at - 8}", REASON_INVALID
            )
        values[element] = bytes(data[at : at + length])
        at += length
    if at != end:
        raise ProtocolError("command set ends within an element", REASON_INVALID)
    return Command(values)


class Alike:
    """Command sets of C-STORE that differ only in a message number and the Affected SOP Instance UID, the last element.

    Those of one association nearly always do. Made by ``like``. Anything else, in whatever byte, does not match, and
    has to be parsed.
    """

    __slots__ = ("_head", "_number", "_tail", "_values")

    def __init__(
        self, number: int = 0, head: bytes = b"", tail: bytes = b"", values: dict[int, bytes] | None = None
    ) -> None:
        """``number``: the element that holds it. ``head`` stands between the group length's value and the number's,
        ``tail`` from there to the UID's length.
        """
        self._number = number
        self._head = head
        self._tail = tail
        self._values = values

    @classmethod
    def like(cls, data: bytes, number: int) -> Alike:
        """Those that are like ``data``, which ``parse`` took; none, if it is built in an unusual way."""
        values, places = {}, {}
        at, unpack = 0, _ELEMENT.unpack_from
        while at < len(data):
            _, element, length = unpack(data, at)
            places[element], at = at + 8, at + 8 + length
            values[element] = data[at - length : at]
        place, uid = places.get(number, 0), places.get(AFFECTED_INSTANCE, 0)
        if not 12 < place < uid or len(values[number]) != 2 or uid + len(values[AFFECTED_INSTANCE]) != len(data):
            return cls()
        if data[:12] != _GROUP_LENGTH + _ULONG.pack(len(data) - 12):
            return cls()
        return cls(number, data[12:place], data[place + 2 : uid - 4], values)

    def match(self, data: bytes) -> Command | None:
        """``data`` as ``parse`` would read it, if it is one of these."""
        place = 12 + len(self._head)
        uid = place + 6 + len(self._tail)
        if self._values is None or data != self.made(data[place : place + 2], data[uid:]):
            return None
        values = self._values.copy()
        values[0], values[self._number], values[AFFECTED_INSTANCE] = data[8:12], data[place : place + 2], data[uid:]
        return Command(values)

    def made(self, number: bytes, uid: bytes) -> bytes:
        """The command set with these two values (``uid`` padded to even length); empty if there is none alike."""
        if self._values is None:
            return b""
        head, tail = self._head, self._tail
        length = _ULONG.pack(len(head) + len(tail) + len(uid) + 6)
        return b"".join((_GROUP_LENGTH, length, head, number, tail, _ULONG.pack(len(uid)), uid))


def _even(value: bytes, pad: bytes = b"\x00") -> bytes:
    return value + pad if len(value) & 1 else value


def _element(element: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, element, len(value)) + value


def _short(element: int, value: int) -> bytes:
    return _ELEMENT.pack(0, element, 2) + _US.pack(value)


def _with_length(body: bytes) -> bytes:
    return _GROUP_LENGTH + _ULONG.pack(len(body)) + body


def _comment(comment: str) -> bytes:
    """Error Comment (0000,0902) is LO: 64 characters at most (PS3.7 C.4.2)."""
    return _element(ERROR_COMMENT, _even(comment[:64].encode("ascii", "replace"), b" ")) if comment else b""


@lru_cache(maxsize=1024)
def _stored_parts(affected_class: bytes) -> tuple[bytes, bytes]:
    """A successful C-STORE-RSP, before and behind the number of the message that it answers, up to the UID's tag."""
    head = _element(AFFECTED_CLASS, affected_class) + _short(FIELD, C_STORE_RSP) + _ELEMENT.pack(0, RESPONDED_TO, 2)
    tail = _short(DATA_SET_TYPE, NO_DATA_SET) + _short(STATUS, SUCCESS) + _ELEMENT.pack(0, AFFECTED_INSTANCE, 0)[:4]
    return head, tail


def stored(request: Command) -> bytes:
    """``response`` to a C-STORE-RQ with status success, at less cost."""
    values = request.values
    number, uid, affected = values.get(MESSAGE_ID, b""), values.get(AFFECTED_INSTANCE), values.get(AFFECTED_CLASS)
    if uid is None or affected is None or len(number) != 2 or len(affected) > LONGEST_UID:
        return response(request, SUCCESS)
    head, tail = _stored_parts(affected)
    return _with_length(b"".join((head, number, tail, _ULONG.pack(len(uid)), uid)))


def response(request: Command, status: int, comment: str = "") -> bytes:
    """The response to any DIMSE request, without a data set (PS3.7 9.3, 10.3): echoes its UIDs and message id."""
    values = request.values
    affected_class = values.get(AFFECTED_CLASS, values.get(REQUESTED_CLASS))
    instance = values.get(AFFECTED_INSTANCE, values.get(REQUESTED_INSTANCE))
    body = b"".join(
        (
            _element(AFFECTED_CLASS, affected_class) if affected_class is not None else b"",
            _short(FIELD, request.number(FIELD) | RESPONSE),
            _short(RESPONDED_TO, request.number(MESSAGE_ID, 0)),
            _short(DATA_SET_TYPE, NO_DATA_SET),
            _short(STATUS, status),
            _comment(comment),
            _element(AFFECTED_INSTANCE, instance) if instance is not None else b"",
        )
    )
    return _with_length(body)


@lru_cache(maxsize=1024)
def _store_head(sop_class_uid: str) -> bytes:
    """A C-STORE-RQ as far as its Message ID."""
    return (
        _element(AFFECTED_CLASS, _even(sop_class_uid.encode()))
        + _short(FIELD, C_STORE_RQ)
        + _ELEMENT.pack(0, MESSAGE_ID, 2)
    )


_STORE_TAIL = _short(PRIORITY, 0) + _short(DATA_SET_TYPE, 0x0001) + _ELEMENT.pack(0, AFFECTED_INSTANCE, 0)[:4]


def padded_uid(uid: str) -> bytes:
    """A UID as it stands in a command set (PS3.5 9.1)."""
    return _even(uid.encode())


def store_request(sop_class_uid: str, sop_instance_uid: bytes, message_id: int) -> bytes:
    """C-STORE-RQ (PS3.7 9.3.1.1), medium priority; ``sop_instance_uid`` is padded."""
    head, number, length = _store_head(sop_class_uid), _US.pack(message_id), _ULONG.pack(len(sop_instance_uid))
    return _with_length(b"".join((head, number, _STORE_TAIL, length, sop_instance_uid)))


def echo_request(message_id: int) -> bytes:
    """C-ECHO-RQ (PS3.7 9.3.5.1)."""
    body = _element(AFFECTED_CLASS, _even(VERIFICATION.encode())) + _short(FIELD, C_ECHO_RQ)
    return _with_length(body + _short(MESSAGE_ID, message_id) + _short(DATA_SET_TYPE, NO_DATA_SET))


_WITH_DATA_SET = _short(DATA_SET_TYPE, 0x0001)


def action_request(sop_class_uid: str, sop_instance_uid: str, action_type: int, message_id: int) -> bytes:
    """N-ACTION-RQ (PS3.7 10.3.4.1), with a data set."""
    body = (
        _element(REQUESTED_CLASS, padded_uid(sop_class_uid))
        + _short(FIELD, N_ACTION_RQ)
        + _short(MESSAGE_ID, message_id)
        + _WITH_DATA_SET
        + _element(REQUESTED_INSTANCE, padded_uid(sop_instance_uid))
        + _short(ACTION_TYPE, action_type)
    )
    return _with_length(body)


def event_report_request(sop_class_uid: str, sop_instance_uid: str, event_type: int, message_id: int) -> bytes:
    """N-EVENT-REPORT-RQ (PS3.7 10.3.1.1), with a data set."""
    body = (
        _element(AFFECTED_CLASS, padded_uid(sop_class_uid))
        + _short(FIELD, N_EVENT_REPORT_RQ)
        + _short(MESSAGE_ID, message_id)
        + _WITH_DATA_SET
        + _element(AFFECTED_INSTANCE, padded_uid(sop_instance_uid))
        + _short(EVENT_TYPE, event_type)
    )
    return _with_length(body)


def find_request(sop_class_uid: str, message_id: int) -> bytes:
    """C-FIND-RQ (PS3.7 9.3.2.1), medium priority, with a data set."""
    body = _element(AFFECTED_CLASS, padded_uid(sop_class_uid)) + _short(FIELD, C_FIND_RQ)
    return _with_length(body + _short(MESSAGE_ID, message_id) + _short(PRIORITY, 0) + _WITH_DATA_SET)
