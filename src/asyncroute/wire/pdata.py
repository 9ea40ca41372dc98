"""Upper-layer PDUs in and out of byte streams (PS3.8 9.3), without I/O.

``PduReader`` takes bytes as they come, in pieces of any size, and tells its sink of every P-DATA fragment as a pair of
offsets into the caller's own view (no copy) and of every other PDU whole. It holds at most one header, or one capped
non-data PDU. ``fragments`` cuts a message into PDUs the size the peer allows.

Failures: ``ProtocolError``, carrying the A-ABORT reason (PS3.8 table 9-26). After one the reader is of no further use.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Protocol

from asyncroute.core.errors import PeerFault

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)

RELEASE_RQ_PDU = b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00"
RELEASE_RP_PDU = b"\x06\x00\x00\x00\x00\x04\x00\x00\x00\x00"

COMMAND, LAST = 1, 2
"""Bits of the message control header (PS3.8 E.2)."""

(
    REASON_NOT_SPECIFIED,
    REASON_UNRECOGNIZED,
    REASON_UNEXPECTED,
    _,
    REASON_UNRECOGNIZED_PARAMETER,
    REASON_UNEXPECTED_PARAMETER,
    REASON_INVALID,
) = range(7)
"""Provider reasons of A-ABORT (PS3.8 table 9-26)."""

_HEADER = struct.Struct(">BxI")
_PDV = struct.Struct(">IBB")
_BOTH = struct.Struct(">BxIIBB")
_UNLIMITED = 1 << 32
HEADERS = _BOTH.size
"""Bytes in front of a P-DATA-TF PDU's first fragment."""

MAX_ASSOCIATE = 1 << 20
"""Bytes of an A-ASSOCIATE PDU that are taken at most: 128 contexts of 100 transfer syntaxes stay below it."""

_TLS = (0x15, 0x16)
"""How TLS begins: an alert, a handshake (RFC 8446 5.1)."""


class ProtocolError(PeerFault):
    """The peer broke PS3.8; ``reason`` is the A-ABORT provider reason to answer with."""

    def __init__(self, message: str, reason: int = REASON_NOT_SPECIFIED) -> None:
        super().__init__(message)
        self.reason = reason


class Sink(Protocol):
    """What a ``PduReader`` talks to. Either method may raise ``ProtocolError``."""

    def fragment(self, context_id: int, control: int, lo: int, hi: int) -> None:
        """Bytes ``lo:hi`` of the view being fed belong to this context; ``control`` has LAST only when they end a PDV
        that does.
        """
        ...

    def pdu(self, kind: int, body: bytes) -> None:
        """A whole PDU other than P-DATA-TF; ``body`` is what follows its 6-byte header."""
        ...


class _Nobody:
    """The sink of a reader that has stopped: it and its sink do not hold each other any more."""

    def fragment(self, context_id: int, control: int, lo: int, hi: int) -> None:
        """See ``Sink``."""

    def pdu(self, kind: int, body: bytes) -> None:
        """See ``Sink``."""


_NOBODY = _Nobody()


class PduReader:
    """Cuts a byte stream into fragments and PDUs. ``max_pdu``: the variable length we told the peer (0: no limit)."""

    __slots__ = (
        "_collected",
        "_context",
        "_control",
        "_head",
        "_kind",
        "_pdu_left",
        "_pdv_left",
        "_sink",
        "_wanted",
        "associated",
        "count",
        "limit",
        "stopped",
    )

    def __init__(self, sink: Sink, max_pdu: int) -> None:
        self._sink = sink
        self.limit = max_pdu
        self.count = 0  # PDUs begun, so that a deadline can tell a new PDU from more of the old one
        self.stopped = False  # set by the sink: ignore the rest
        self.associated = False  # set by the sink: the A-ASSOCIATE PDUs are through, further ones are not collected
        self._head = b""  # an incomplete header
        self._pdu_left = 0  # bytes left of the current P-DATA PDU, headers of its PDVs included
        self._pdv_left = 0  # bytes left of the current fragment
        self._context = self._control = 0
        self._kind = 0  # a non-data PDU being collected
        self._wanted = 0
        self._collected = bytearray()

    @property
    def mid_pdu(self) -> bool:
        """Whether a PDU has begun and not ended."""
        return bool(self._pdu_left or self._pdv_left or self._kind or self._head)

    @property
    def collected(self) -> int:
        """Bytes held of a PDU that is not P-DATA and not yet whole."""
        return len(self._collected)

    def stop(self) -> None:
        """Ignore the rest, and hold nothing: what holds the reader may live on for a while."""
        self.stopped = True
        self._collected = bytearray()
        self._sink = _NOBODY

    def feed(self, view: memoryview, lo: int, hi: int) -> None:
        """Take bytes ``lo:hi`` of ``view``, all of them.

        Raises:
            ProtocolError: the bytes are no PDUs, or exceed a limit.
        """
        fragment, limit = self._sink.fragment, self.limit or _UNLIMITED
        while lo < hi and not self.stopped:
            left = self._pdv_left
            if left:
                end = lo + left
                if end <= hi:
                    self._pdv_left = 0
                    fragment(self._context, self._control, lo, end)
                    lo = end
                else:
                    self._pdv_left = end - hi
                    fragment(self._context, self._control & COMMAND, lo, hi)
                    return
            elif self._kind:
                lo = self._collect(view, lo, hi)
            elif self._pdu_left or self._head or hi - lo < HEADERS:
                lo = self._header(view, lo, hi)
            else:
                kind, length, pdv, context, control = _BOTH.unpack_from(view, lo)
                if kind == P_DATA and pdv + 4 == length and 6 < length <= limit:  # one fragment, as nearly always
                    self._context, self._control, self._pdv_left = context, control, pdv - 2
                    self.count += 1
                    lo += HEADERS
                else:
                    lo = self._header(view, lo, hi)

    def _begin_data(self, length: int) -> None:
        if self.limit and length > self.limit:
            raise ProtocolError(f"P-DATA PDU of {length} bytes, over the {self.limit} that we accept", REASON_INVALID)
        if length < 6:
            raise ProtocolError(f"P-DATA PDU of {length} bytes holds no fragment", REASON_INVALID)
        self._pdu_left = length

    def _begin_pdv(self, length: int) -> None:
        if length < 2 or length + 4 > self._pdu_left:
            raise ProtocolError(f"fragment of {length} bytes in {self._pdu_left} bytes of P-DATA PDU", REASON_INVALID)
        self._pdu_left -= length + 4
        if 0 < self._pdu_left < 6:
            raise ProtocolError(f"{self._pdu_left} stray bytes behind the fragments of a P-DATA PDU", REASON_INVALID)
        self._pdv_left = length - 2
        if not self._pdv_left:  # an empty fragment: no bytes will come to announce it
            self._sink.fragment(self._context, self._control, 0, 0)

    def _header(self, view: memoryview, lo: int, hi: int) -> int:
        """Take what is there of a 6-byte PDU or PDV header; return the new ``lo``."""
        if not self._head and not self._pdu_left:
            self.count += 1
        take = min(6 - len(self._head), hi - lo)
        head = self._head + bytes(view[lo : lo + take])
        lo += take
        if len(head) < 6:
            self._head = head
            return lo
        self._head = b""
        if self._pdu_left:
            pdv, self._context, self._control = _PDV.unpack(head)
            self._begin_pdv(pdv)
            return lo
        kind, length = _HEADER.unpack(head)
        if kind == P_DATA:
            self._begin_data(length)
        else:
            self._begin_other(kind, length)
        return lo

    def _begin_other(self, kind: int, length: int) -> None:
        if not ASSOCIATE_RQ <= kind <= ABORT:
            end = "H (the other side speaks TLS)" if kind in _TLS else "H"
            raise ProtocolError(f"unknown PDU type {kind:02X}{end}", REASON_UNRECOGNIZED)
        if kind > P_DATA and length != 4:
            raise ProtocolError(f"PDU type {kind:02X}H with a length of {length} bytes instead of 4", REASON_INVALID)
        if kind < P_DATA and self.associated:
            raise ProtocolError(f"unexpected PDU type {kind:02X}H after the association request", REASON_UNEXPECTED)
        if length > MAX_ASSOCIATE or length == 0:
            raise ProtocolError(f"PDU type {kind:02X}H with a length of {length} bytes", REASON_INVALID)
        self._kind, self._wanted = kind, length

    def _collect(self, view: memoryview, lo: int, hi: int) -> int:
        take = min(self._wanted - len(self._collected), hi - lo)
        self._collected += view[lo : lo + take]
        if len(self._collected) == self._wanted:
            kind, body = self._kind, bytes(self._collected)
            self._kind, self._collected = 0, bytearray()
            self._sink.pdu(kind, body)
        return lo + take


def data_pdu(context_id: int, control: int, fragment: bytes) -> bytes:
    """One P-DATA-TF PDU with one fragment (a command set, as a rule)."""
    n = len(fragment)
    return _BOTH.pack(P_DATA, n + 6, n + 2, context_id, control) + fragment


def command_pdus(context_id: int, command: bytes, room: int) -> bytes:
    """A whole command set in P-DATA-TF PDUs with fragments of ``room`` bytes at most (one, as a rule)."""
    if len(command) <= room:
        return data_pdu(context_id, COMMAND | LAST, command)
    pieces = [command[at : at + room] for at in range(0, len(command), room)]
    last = len(pieces) - 1
    return b"".join(data_pdu(context_id, COMMAND | (LAST if n == last else 0), p) for n, p in enumerate(pieces))


def pdu_room(peer_max_pdu: int, ours: int) -> int:
    """Bytes of data set per PDU: the least of what the peer takes (0: no limit) and what we like, even (PS3.8 D.1,
    E.1).
    """
    limit = min(peer_max_pdu, ours) if peer_max_pdu else ours
    return max(limit - 6, 2) & ~1


class DataCutter:
    """Cuts a data set, given in parts, into P-DATA PDUs of ``room`` bytes; the last one carries the LAST bit.

    ``size`` is the whole data set's length; parts may come in several calls, in order. A PDU header is made when its
    first byte is, so the parts of one PDU may come in different calls.
    """

    __slots__ = ("_context_id", "_left", "_pdu_left", "_room")

    def __init__(self, context_id: int, size: int, room: int) -> None:
        self._context_id = context_id
        self._left = size  # bytes not yet covered by a PDU header
        self._pdu_left = 0
        self._room = room

    def cut(self, parts: Iterable[memoryview], out: list[bytes | memoryview]) -> None:
        """Append headers and slices for ``parts`` to ``out``."""
        room, left, pdu_left, cx = self._room, self._left, self._pdu_left, self._context_id
        pack = _BOTH.pack
        append = out.append
        for part in parts:
            lo, n = 0, len(part)
            while lo < n:
                if not pdu_left:
                    pdu_left = room if room < left else left
                    left -= pdu_left
                    append(pack(P_DATA, pdu_left + 6, pdu_left + 2, cx, 0 if left else LAST))
                take = n - lo
                if take <= pdu_left:
                    append(part[lo:] if lo else part)
                    pdu_left -= take
                    break
                append(part[lo : lo + pdu_left])
                lo += pdu_left
                pdu_left = 0
        self._left, self._pdu_left = left, pdu_left
