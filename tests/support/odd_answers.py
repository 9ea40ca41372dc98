"""Answers that no honest peer gives, by name: to an A-ASSOCIATE-RQ and to a C-STORE-RQ."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from tests.support import ul

Request = Mapping[int, int | str]
LAST_COMMAND = ul.COMMAND | ul.LAST
MUCH = 4 << 20
"""Bytes of what is to be without end: a peer that takes them all is wrong long before."""


def _ac(request: ul.AssociateRQ, contexts: int | None = None) -> bytes:
    answers = [ul.Answer(context.id, 0, context.transfer[0]) for context in request.contexts[:contexts]]
    return ul.associate_ac(request, answers, 65536)


def _cut_in_an_item(request: ul.AssociateRQ) -> bytes:
    """Whole as a PDU, with half its items: the last of them goes past the end."""
    body = _ac(request)[6:]
    return ul.pdu(ul.AC, body[: len(body) // 2])


ASSOCIATION: dict[str, Callable[[ul.AssociateRQ], bytes]] = {
    "half header": lambda _: bytes((ul.AC, 0, 0)),
    "half an AC": lambda request: _ac(request)[:100],
    "cut items": _cut_in_an_item,
    "no contexts": lambda request: _ac(request, 0),
    "4 GiB": lambda request: struct.pack(">BxI", ul.AC, 0xFFFFFFFF) + _ac(request)[6:] + bytes(MUCH),
    "unknown type": lambda _: ul.pdu(0x2A, bytes(4)),
    "data": lambda _: ul.pdv(1, LAST_COMMAND, bytes(20)),
    "web page": lambda _: b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n<html>no</html>",
    "noise": lambda _: bytes(range(255, 0, -1)) * 40,
}


def _response(context: int, request: Request, **more: int | str) -> bytes:
    """A success whose command set has other values for some elements; an empty one leaves the element out."""
    said: dict[int, int | str] = {
        ul.AFFECTED_CLASS: request[ul.AFFECTED_CLASS],
        ul.COMMAND_FIELD: ul.C_STORE_RSP,
        ul.RESPONDED_ID: request[ul.MESSAGE_ID],
        ul.DATA_SET_TYPE: ul.NO_DATA_SET,
        ul.STATUS: 0,
        ul.AFFECTED_INSTANCE: request[ul.AFFECTED_INSTANCE],
    }
    said |= {getattr(ul, name): value for name, value in more.items()}
    return ul.pdv(context, LAST_COMMAND, ul.command({k: v for k, v in said.items() if v != ""}))


def _wrong_id(context: int, request: Request) -> bytes:
    return _response(context, request, RESPONDED_ID=(int(request[ul.MESSAGE_ID]) + 1) % 65536)


def _without_end(context: int, _: Request) -> bytes:
    """Fragments of one command set, none of them the last."""
    return ul.pdv(context, ul.COMMAND, bytes(8192)) * (MUCH // 8192)


RESPONSES: dict[str, Callable[[int, Request], bytes]] = {
    "half header": lambda context, request: _response(context, request)[:3],
    "half a PDU": lambda context, request: _response(context, request)[:-10],
    "half a command set": lambda context, request: ul.pdv(context, LAST_COMMAND, _response(context, request)[12:-30]),
    "wrong message id": _wrong_id,
    "other instance": lambda context, request: _response(context, request, AFFECTED_INSTANCE="1.2.3.4"),
    "answer to an echo": lambda context, request: _response(context, request, COMMAND_FIELD=ul.C_ECHO_RSP),
    "a request": lambda context, request: _response(context, request, COMMAND_FIELD=ul.C_STORE_RQ),
    "no status": lambda context, request: _response(context, request, STATUS=""),
    "a data set": lambda context, _: ul.pdv(context, ul.LAST, bytes(100)),
    "pending only": lambda context, request: _response(context, request, STATUS=0xFF00) * 3,
    "without end": _without_end,
    "empty fragments": lambda context, _: ul.pdv(context, ul.COMMAND, b"") * 20_000,
    "4 GiB": lambda context, _: struct.pack(">BxIIBB", ul.PDATA, 0xFFFFFFFF, 0xFFFFFFFB, context, 3) + bytes(MUCH),
    "unknown type": lambda *_: ul.pdu(0x2A, bytes(4)),
    "an AC": lambda *_: ul.pdu(ul.AC, bytes(100)),
    "a rejection": lambda *_: ul.associate_rj(1, 1, 1),
    "noise": lambda *_: bytes(range(255, 0, -1)) * 40,
}
"""Each with the context's id and the C-STORE-RQ's command set."""
