"""A-ASSOCIATE PDUs (PS3.8 9.3.2, 9.3.3) for the benchmark's sender and sink; all else is ``asyncroute.wire``'s.

The sender proposes one presentation context; the sink accepts whatever it is offered, first transfer syntax first.
Failures: ``struct.error`` or ``IndexError`` for bytes that are no such PDU; both end the benchmark's connection.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from asyncroute.wire.pdata import ASSOCIATE_AC, ASSOCIATE_RQ

_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_IMPLEMENTATION = b"2.25.236184627108340591842375540267192483713"
_TITLES = slice(4, 20), slice(20, 36)
_FIXED = 68
"""Bytes of an A-ASSOCIATE PDU's content in front of its first item."""


@dataclass
class Association:
    """What an A-ASSOCIATE PDU said: titles, (abstract syntax, transfer syntax) by context id, the peer's maximum PDU.

    Of an RQ the first transfer syntax of each context; of an AC only the accepted contexts.
    """

    called: str
    calling: str
    contexts: dict[int, tuple[str, str]] = field(default_factory=dict)
    max_pdu: int = 0


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def _items(content: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(content):
        kind, length = struct.unpack_from(">BxH", content, at)
        yield kind, content[at + 4 : at + 4 + length]
        at += 4 + length


def _pdu(kind: int, calling: str, called: str, contexts: bytes, max_pdu: int) -> bytes:
    user = _item(0x51, struct.pack(">I", max_pdu)) + _item(0x52, _IMPLEMENTATION)
    body = struct.pack(">HH", 1, 0) + called.encode().ljust(16) + calling.encode().ljust(16) + bytes(32)
    body += _item(0x10, _APPLICATION_CONTEXT) + contexts + _item(0x50, user)
    return struct.pack(">BxI", kind, len(body)) + body


def request(calling: str, called: str, abstract: str, transfer: str, max_pdu: int) -> bytes:
    """An A-ASSOCIATE-RQ with one context, id 1."""
    inner = _item(0x30, abstract.encode()) + _item(0x40, transfer.encode())
    return _pdu(ASSOCIATE_RQ, calling, called, _item(0x20, b"\x01\0\0\0" + inner), max_pdu)


def accept(asked: Association, max_pdu: int) -> bytes:
    """The A-ASSOCIATE-AC that takes every context of ``asked``."""
    answers = (
        _item(0x21, struct.pack(">BxBx", number, 0) + _item(0x40, transfer.encode()))
        for number, (_, transfer) in asked.contexts.items()
    )
    return _pdu(ASSOCIATE_AC, asked.calling, asked.called, b"".join(answers), max_pdu)


def read(body: bytes) -> Association:
    """The content (without the PDU's header) of an A-ASSOCIATE-RQ or -AC."""
    called, calling = (body[at].decode("ascii", "replace").strip(" \0") for at in _TITLES)
    found = Association(called, calling)
    for kind, content in _items(body[_FIXED:]):
        if kind == 0x20 or (kind == 0x21 and not content[2]):
            found.contexts[content[0]] = _syntaxes(content[4:])
        elif kind == 0x50:
            found.max_pdu = next((struct.unpack(">I", c)[0] for k, c in _items(content) if k == 0x51), 0)
    return found


def _syntaxes(content: bytes) -> tuple[str, str]:
    inner = list(_items(content))
    names = [next((c.decode("ascii", "replace").strip("\0") for k, c in inner if k == kind), "") for kind in (48, 64)]
    return names[0], names[1]
