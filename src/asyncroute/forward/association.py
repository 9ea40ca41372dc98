"""The requestor's side of one association (PS3.8 9.2, states Sta4, Sta5, Sta6, Sta7).

``connect`` makes one: address look-up and TCP connect with a deadline, TLS, A-ASSOCIATE-RQ, and what the peer
answers. Then one message at a time: ``store`` or ``echo``; the response (or the end of the association) comes to the
owner, once. Reads go through one buffer that all requestors share, because what they read is used up at once.

Guarantees: bytes of a data set leave exactly as given, in PDUs no larger than the peer takes; a peer that stops
reading, answers nothing or drips is given up at its deadline. Failures are ``core.outcomes.Outcome``s: ``Failed``
while connecting, ``Owner.lost`` afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from asyncroute.core import outcomes
from asyncroute.core.errors import PeerFault
from asyncroute.core.outcomes import Outcome
from asyncroute.link import negotiate
from asyncroute.link.deadlines import Deadlines
from asyncroute.link.link import Link
from asyncroute.link.resolve import Resolver
from asyncroute.link.stream import Stream, TlsStream
from asyncroute.wire import command as dimse
from asyncroute.wire.pdata import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    COMMAND,
    LAST,
    REASON_NOT_SPECIFIED,
    REASON_UNEXPECTED,
    RELEASE_RP,
    RELEASE_RP_PDU,
    RELEASE_RQ,
    RELEASE_RQ_PDU,
    DataCutter,
    ProtocolError,
    command_pdus,
    data_pdu,
    pdu_room,
)

log = logging.getLogger(__name__)

RELEASE_TIMEOUT = 5.0
_scratch = memoryview(bytearray(64 << 10))


@dataclass(frozen=True, slots=True)
class Target:
    """Where an association goes, and its limits (seconds, bytes)."""

    host: str
    port: int
    called_aet: str
    connect_timeout: float = 10.0
    response_timeout: float = 60.0
    max_pdu: int = 128 << 10
    tls: ssl.SSLContext | None = None
    server_name: str | None = None


class Failed(PeerFault):
    """No association; ``outcome`` says why and what follows."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.text)
        self.outcome = outcome


class Owner(Protocol):
    """Who uses an association."""

    def responded(self, status: int, comment: str, early: bool = False) -> None:
        """The response to the message under way. ``early``: before the whole image was sent; then we ended it."""
        ...

    def room(self) -> None:
        """All bytes given so far are with the kernel; more of a data set may be given."""
        ...

    def lost(self, outcome: Outcome) -> None:
        """The association is over; ``outcome`` is of the message under way, if there was one."""
        ...


@dataclass(slots=True)
class Shared:
    """What all associations of a process use."""

    deadlines: Deadlines
    pool: Executor
    """Negotiates (pynetdicom)."""
    resolver: Resolver


class Requestor(Link):
    """See module; made by ``connect``."""

    def __init__(self, stream: Stream, target: Target, shared: Shared) -> None:
        super().__init__(stream, shared.deadlines, max(target.max_pdu, 16 << 10), target.response_timeout, float("inf"))
        self.target = target
        self.peer: negotiate.Established | None = None
        self.answered: asyncio.Future[bytes] = self.loop.create_future()
        self.owner: Owner | None = None
        self.images = 0
        self.bytes = 0
        self.busy = False
        self._command = bytearray()
        self._message_id = 0
        self._all_sent = False
        self._cutter: DataCutter | None = None
        self._to_cut = 0
        self._releasing = False

    # ---- reading

    def _receive(self) -> bool:
        n = self.stream.recv_into(_scratch)
        if not n:
            self._gone("connection closed by peer")
            return False
        self.reader.feed(_scratch, 0, n)
        if self.ended:
            return False
        self.stream.quick_ack()
        return True

    def _progress(self) -> None:
        """Deadlines here are of sending and answering, set where those happen; a started PDU must end in time, too."""
        if self.reader.mid_pdu and self.reader.count != self._counted:
            self._counted = self.reader.count
            self.deadline = min(self.deadline, self.loop.time() + self._pdu_timeout)

    def pdu(self, kind: int, body: bytes) -> None:
        """Association control (PS3.8 table 9-10)."""
        if kind in (ASSOCIATE_AC, ASSOCIATE_RJ) and not self.answered.done():
            self.answered.set_result(bytes((kind, 0)) + len(body).to_bytes(4, "big") + body)
        elif kind == ABORT:
            self._gone(outcomes.abort_text(*(body + b"\0\0\0\0")[2:4]))
        elif kind == RELEASE_RP and self._releasing:
            self.close()
        elif kind == RELEASE_RQ and self.answered.done():
            if self._releasing:  # both at once (PS3.8 9.2.3, Sta9 to Sta12): answer, then wait for theirs
                self.write(RELEASE_RP_PDU)
            else:
                self.write(RELEASE_RP_PDU)
                self._gone("association released by the peer")
        else:
            raise ProtocolError(f"unexpected PDU type {kind:02X}H", REASON_UNEXPECTED)

    def fragment(self, context_id: int, control: int, lo: int, hi: int) -> None:
        """A piece of a response."""
        if self._releasing:
            return
        if self.peer is None or not control & COMMAND or len(self._command) + hi - lo > dimse.MAX_COMMAND:
            raise ProtocolError("unexpected data instead of a response", REASON_UNEXPECTED)
        self._command += _scratch[lo:hi]
        if control & LAST:
            data, self._command = self._command, bytearray()
            self._responded(dimse.parse(data))

    def _responded(self, command: dimse.Command) -> None:
        owner = self.owner
        if not command.number(dimse.FIELD) & dimse.RESPONSE or command.number(dimse.RESPONDED_TO) != self._message_id:
            raise ProtocolError("a message that answers nothing of ours", REASON_UNEXPECTED)
        if not self.busy or owner is None:
            raise ProtocolError("a response before the end of the request", REASON_UNEXPECTED)
        status = command.number(dimse.STATUS)
        if status < 0:
            raise ProtocolError("a response without a status", REASON_UNEXPECTED)
        if status & 0xFF00 == 0xFF00:
            return  # pending: not for C-STORE, but harmless
        if not self._all_sent:  # an early refusal (PS3.7 allows it): the rest cannot be taken back
            self._early(status, command.text(dimse.ERROR_COMMENT))
            return
        self.busy = False
        self.deadline = float("inf")
        owner.responded(status, command.text(dimse.ERROR_COMMENT))

    def _early(self, status: int, comment: str) -> None:
        owner = self.owner
        self.write(negotiate.abort(0, 0))
        self.close()
        if owner is not None:
            self.busy = False
            owner.responded(status, comment, early=True)

    # ---- messages

    def next_message(self) -> int:
        """A fresh message id."""
        self._message_id = self._message_id % 65535 + 1
        return self._message_id

    def echo(self) -> None:
        """C-ECHO; ``Owner.responded`` or ``lost`` follows."""
        assert self.peer is not None
        context_id = next(i for (abstract, _), i in self.peer.contexts.items() if abstract == dimse.VERIFICATION)
        self._begin()
        self._all_sent = True
        self.deadline = self.loop.time() + self.target.response_timeout
        room = pdu_room(self.peer.peer_max_pdu, self.target.max_pdu)
        self.write(command_pdus(context_id, dimse.echo_request(self.next_message()), room))

    def store(
        self, context_id: int, sop_class_uid: str, sop_instance_uid: str, size: int, parts: Sequence[memoryview]
    ) -> None:
        """C-STORE of a data set of ``size`` bytes; ``parts``: its beginning or all of it. More comes by ``more``."""
        assert self.peer is not None
        self._begin()
        self._all_sent = False
        room = pdu_room(self.peer.peer_max_pdu, self.target.max_pdu)
        self._cutter = DataCutter(context_id, size, room)
        self._to_cut = size
        command = dimse.store_request(sop_class_uid, sop_instance_uid, self.next_message())
        out: list[bytes | memoryview] = [command_pdus(context_id, command, room)]
        if not size:
            out.append(data_pdu(context_id, LAST, b""))
        self._send(parts, out)

    def more(self, parts: Sequence[memoryview]) -> None:
        """The data set goes on."""
        self._send(parts, [])

    def _begin(self) -> None:
        self.busy = True

    def _send(self, parts: Sequence[memoryview], out: list[bytes | memoryview]) -> None:
        assert self._cutter is not None
        self._cutter.cut(parts, out)
        for part in parts:
            self._to_cut -= len(part)
        self.deadline = self.loop.time() + self.target.response_timeout
        self.transmit(out)

    def _written(self, n: int) -> None:
        self.bytes += n
        if self.busy and not self._all_sent:
            self.deadline = self.loop.time() + self.target.response_timeout
        super()._written(n)

    def drained(self) -> None:
        """All given bytes are with the kernel."""
        if not self.busy or self._all_sent or self.owner is None:
            return
        if self._to_cut:
            self.deadline = float("inf")  # until ``more``: the time that our own disk needs is not the peer's
            self.owner.room()
            return
        self._all_sent = True
        self.stream.quick_ack()
        self.deadline = self.loop.time() + self.target.response_timeout

    # ---- the end

    def release(self) -> None:
        """End in an orderly way; nothing more is reported. Only between messages."""
        if not self.ended and not self._releasing:
            self._releasing = True
            self.owner = None
            self.deadline = self.loop.time() + RELEASE_TIMEOUT
            self.write(RELEASE_RQ_PDU)

    def abort(self) -> None:
        """End at once with A-ABORT; nothing more is reported."""
        if not self.ended:
            self.owner = None
            with contextlib.suppress(OSError):
                self.stream.send((negotiate.abort(0, 0),)) if not self._out else None
            self.close()

    def broke(self, error: PeerFault) -> None:
        """See ``Link``."""
        reason = error.reason if isinstance(error, ProtocolError) else REASON_NOT_SPECIFIED
        if not self._out:
            self.write(negotiate.abort(2, reason))
        self._gone(f"protocol error: {error}")

    def expired(self) -> None:
        """See ``Link``."""
        if self._releasing:
            self.close()
            return
        if not self._all_sent and self.busy:
            what = f"took no bytes for {self.target.response_timeout:g} s"
        else:
            what = f"no response within {self.target.response_timeout:g} s"
        if not self._out:
            self.write(negotiate.abort(0, 0))
        self._gone(what)

    def lost(self, fault: PeerFault) -> None:
        """See ``Link``."""
        if not self.answered.done():
            self.answered.set_exception(fault)
            self.answered.exception()  # looked at: nobody may be waiting any more
        owner, self.owner = self.owner, None
        if owner is not None:
            owner.lost(outcomes.lost(str(fault), image_in_flight=self.busy))


async def connect(target: Target, proposal: negotiate.Proposal, shared: Shared) -> Requestor:
    """An established association.

    Raises:
        Failed: with the outcome.
    """
    try:
        async with asyncio.timeout(target.connect_timeout):
            stream = await _stream(target, shared)
    except TimeoutError:
        raise Failed(
            outcomes.unreachable(f"no answer from {target.host}:{target.port} in {target.connect_timeout:g} s")
        ) from None
    requestor = Requestor(stream, target, shared)
    try:
        async with asyncio.timeout(target.connect_timeout):
            await _negotiate(requestor, proposal, shared)
    except TimeoutError:
        requestor.abort()
        raise Failed(
            outcomes.lost(
                f"no answer to the association request in {target.connect_timeout:g} s", image_in_flight=False
            )
        ) from None
    except BaseException:
        requestor.abort()
        raise
    return requestor


async def _negotiate(requestor: Requestor, proposal: negotiate.Proposal, shared: Shared) -> None:
    loop = requestor.loop
    rq = await loop.run_in_executor(shared.pool, negotiate.request, proposal)
    requestor.write(rq)
    requestor.stream.watch_read()
    try:
        answer = await asyncio.shield(requestor.answered)
    except PeerFault as fault:
        if requestor.stream.tls and str(fault).startswith("TLS"):  # TLS 1.3: the server's verdict on our certificate
            why = str(fault).removeprefix("TLS: ")
            raise Failed(outcomes.tls_failed(f"refused by the destination: {why}")) from None
        raise Failed(
            outcomes.lost(f"{fault} instead of an answer to the association request", image_in_flight=False)
        ) from None
    result = await loop.run_in_executor(shared.pool, negotiate.conclude, proposal, answer)
    if isinstance(result, negotiate.Refused):
        refusal = outcomes.rejected(
            result.result, result.source, result.reason, proposal.calling_aet, proposal.called_aet
        )
        requestor.close()
        raise Failed(refusal)
    if isinstance(result, negotiate.Broken):
        if result.pdu:
            requestor.write(result.pdu)
        raise Failed(outcomes.lost(result.text, image_in_flight=False))
    if requestor.ended:
        raise Failed(outcomes.lost("association ended as soon as it was accepted", image_in_flight=False))
    requestor.peer = result
    requestor.deadline = float("inf")


async def _stream(target: Target, shared: Shared) -> Stream:
    """A connected stream, TLS done."""
    loop = asyncio.get_running_loop()
    try:
        found = await shared.resolver.addresses(target.host, target.port)
    except OSError as error:
        raise Failed(outcomes.unresolved(f"{target.host}: {error.strerror or error}")) from None
    failure: OSError | None = None
    for family, kind, proto, _, address in found:
        sock = socket.socket(family, kind, proto)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = error
            continue
        except BaseException:
            sock.close()
            raise
        return await _secured(sock, target, str(address[0]))
    raise Failed(_connect_failed(target, failure))


async def _secured(sock: socket.socket, target: Target, peer: str) -> Stream:
    if target.tls is None:
        return Stream(sock, peer)
    stream = TlsStream(sock, peer, target.tls, server=False, server_name=target.server_name or target.host)
    try:
        await stream.handshake()
    except OSError as error:
        stream.close()
        raise Failed(outcomes.tls_failed(_tls_words(error))) from None
    except BaseException:
        stream.close()
        raise
    return stream


def _connect_failed(target: Target, error: OSError | None) -> Outcome:
    where = f"{target.host}:{target.port}"
    if isinstance(error, ConnectionRefusedError):
        return outcomes.refused(f"connection refused by {where}")
    return outcomes.unreachable(f"{where}: {error.strerror if error and error.strerror else error}")


def _tls_words(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the destination's certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return error.strerror or str(error) or type(error).__name__
