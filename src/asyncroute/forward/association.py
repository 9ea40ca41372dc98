"""The requestor's side of one association (PS3.8 9.2, states Sta4, Sta5, Sta6, Sta7).

``connect`` makes one, as ``forward.opening`` does, which has it ``ask`` and gives it its ``peer``. Then one message at
a time: ``store`` or ``echo``; the response (or the end of the association) comes to the owner, once. Reads go through
one buffer that all requestors share, because what they read is used up at once.

Guarantees: bytes of a data set leave exactly as given, in PDUs no larger than the peer takes; a peer that stops
reading, answers nothing or drips is given up at its deadline. Failures: what ``ask`` says while there is no
association yet, ``Owner.lost`` with its ``core.outcomes.Outcome`` afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from asyncroute.core import outcomes
from asyncroute.core.errors import PeerFault
from asyncroute.core.outcomes import Outcome
from asyncroute.forward.dial import Failed, Shared, Target
from asyncroute.forward.opening import Opening, Unanswered
from asyncroute.link import negotiate
from asyncroute.link.deadlines import NEVER
from asyncroute.link.link import Link
from asyncroute.link.stream import Stream
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

__all__ = ["Answer", "Failed", "Owner", "Requestor", "Shared", "Target", "connect", "connect_as"]

RELEASE_TIMEOUT = 5.0
LOOK = 1.0
"""Seconds between looks at what a peer has taken, while it is waited for."""

MOVES = 16 << 10
"""Bytes (or all that is left) that a peer must take in every ``response_timeout``: the shortest usual PDU. Less is not
moving: an image of a CT would take hours, and its lane as long."""

_scratch = memoryview(bytearray(64 << 10))


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


class Answer:
    """The owner of one message that is given at once. ``came``: its status and comment, or ``Failed``."""

    def __init__(self) -> None:
        self.came: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    def responded(self, status: int, comment: str, early: bool = False) -> None:
        """See ``Owner``."""
        if not self.came.done():
            self.came.set_result((status, comment))

    def room(self) -> None:
        """See ``Owner``: there is no more."""

    def lost(self, outcome: Outcome) -> None:
        """See ``Owner``."""
        if not self.came.done():
            self.came.set_exception(Failed(outcome))
            self.came.exception()  # looked at: nobody may be waiting any more


class Requestor(Link):
    """See module. ``on_closed`` is called once, when the connection is closed."""

    def __init__(self, stream: Stream, target: Target, shared: Shared) -> None:
        super().__init__(stream, shared.deadlines, max(target.max_pdu, 16 << 10), target.response_timeout, float("inf"))
        self.target = target
        self.peer: negotiate.Established | None = None
        self.on_closed: Callable[[], None] | None = None
        self.owner: Owner | None = None
        self.images = 0
        self.busy = False
        self._command = b""
        self._all_usual, self._who = shared.usual, (target.host, target.port, target.called_aet)
        self._usual = shared.usual.get(self._who) or dimse.Alike()  # what its successful responses look like
        self._hoped = b""  # the whole of one to the message under way
        self._message_id = 0
        self._all_sent = False
        self._cutter: DataCutter | None = None
        self._to_cut = 0
        self._releasing = False
        self._on_answer: Callable[[bytes | PeerFault], None] | None = None
        self._answer = b""
        self._awaited = (0, "")  # command field and SOP instance of the response
        self._until = NEVER  # the peer has until then to move or to answer
        self._pdu_until = NEVER  # and until then to end the PDU that it has begun
        self._taken = 0  # bytes that it was seen to have taken
        self._look = min(LOOK, target.response_timeout / 4)
        self._answers = shared.answers

    # ---- the association request

    def ask(self, request: bytes, on_answer: Callable[[bytes | PeerFault], None]) -> None:
        """Send the A-ASSOCIATE-RQ. ``on_answer`` is called once, with the A-ASSOCIATE-AC or -RJ, or with what came
        instead in ``connect_timeout``; the connection is closed then."""
        self._on_answer = on_answer
        self.deadline = self._until = self.loop.time() + self.target.connect_timeout
        self.write(request)
        self.stream.watch_read()

    def _tell(self, answer: bytes | PeerFault) -> None:
        on_answer, self._on_answer = self._on_answer, None
        if on_answer is not None:
            self.deadline = self._until = NEVER
            on_answer(answer)

    # ---- reading

    def _receive(self) -> bool:
        n = self.stream.recv_into(_scratch)
        if not n:
            self._gone("connection closed by peer")
            return False
        if _scratch[:n] == self._hoped and self._all_sent and not self.reader.mid_pdu and not self._command:
            self._succeeded()
        else:
            self.reader.feed(_scratch, 0, n)
            if self._answer and self._on_answer is not None:  # not before what came with it has been looked at, too
                self._tell(self._answer)
        if self.ended:
            return False
        if self.reader.mid_pdu or self._command:  # else our next message acknowledges
            self.stream.quick_ack()
        return not self.stream.exhausted(n, len(_scratch))

    def _progress(self) -> None:
        """Deadlines here are of sending and answering, set where those happen; a started PDU must end in time, too."""
        if not self.reader.mid_pdu:
            self._pdu_until = NEVER
        elif self.reader.count != self._counted:
            self._counted = self.reader.count
            self._pdu_until = self.loop.time() + self._pdu_timeout
            self.deadline = min(self.deadline, self._pdu_until)

    def pdu(self, kind: int, body: bytes) -> None:
        """Association control (PS3.8 table 9-10)."""
        if kind in (ASSOCIATE_AC, ASSOCIATE_RJ) and not self._answer:
            self.reader.associated = True
            self._answer = bytes((kind, 0)) + len(body).to_bytes(4, "big") + body
        elif kind == ABORT:
            self._gone(outcomes.abort_text(*(body + b"\0\0\0\0")[2:4]))
        elif kind == RELEASE_RP and self._releasing:
            self.close()
        elif kind == RELEASE_RQ and self._answer:
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
        self._command += self.piece(lo, hi)
        if control & LAST:
            data, self._command = self._command, b""
            self._responded(data)

    @staticmethod
    def piece(lo: int, hi: int) -> bytes:
        """Bytes ``lo:hi`` of what was just read."""
        return bytes(_scratch[lo:hi])

    def _succeeded(self) -> None:
        """The usual response, to the byte: success, to what we sent, or to our wish to end."""
        if self._releasing:
            self.close()
            return
        owner = self.owner
        self._hoped = b""
        self.busy = False
        self.deadline = self._until = NEVER
        if owner is not None:
            owner.responded(dimse.SUCCESS, "")

    def _responded(self, data: bytes) -> None:
        command = dimse.parse(data)
        owner = self.owner
        field, instance = self._awaited
        if command.number(dimse.FIELD) != field or command.number(dimse.RESPONDED_TO) != self._message_id:
            raise ProtocolError("a message that answers nothing of ours", REASON_UNEXPECTED)
        if command.text(dimse.AFFECTED_INSTANCE) not in ("", instance):  # optional, but equal (PS3.7 table 9.3-2)
            raise ProtocolError("a response for another SOP instance", REASON_UNEXPECTED)
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
        self._hoped = b""
        self.deadline = self._until = NEVER
        comment = command.text(dimse.ERROR_COMMENT)
        if status == dimse.SUCCESS and not comment and field == dimse.C_STORE_RSP and instance:
            self._usual = self._all_usual[self._who] = dimse.Alike.like(data, dimse.RESPONDED_TO)
        owner.responded(status, comment)

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
        self._begin(dimse.C_ECHO_RQ, "")
        self._all_sent = True
        self._wait()
        room = pdu_room(self.peer.peer_max_pdu, self.target.max_pdu)
        self.write(command_pdus(context_id, dimse.echo_request(self.next_message()), room))

    def store(
        self, context_id: int, sop_class_uid: str, sop_instance_uid: str, size: int, parts: Sequence[memoryview]
    ) -> None:
        """C-STORE of a data set of ``size`` bytes; ``parts``: its beginning or all of it. More comes by ``more``."""
        assert self.peer is not None
        self._begin(dimse.C_STORE_RQ, sop_instance_uid)
        self._all_sent = False
        room = pdu_room(self.peer.peer_max_pdu, self.target.max_pdu)
        self._cutter = DataCutter(context_id, size, room)
        self._to_cut = size
        number, uid = self.next_message(), dimse.padded_uid(sop_instance_uid)
        command = dimse.store_request(sop_class_uid, uid, number)
        usual = self._usual.made(number.to_bytes(2, "little"), uid)
        self._hoped = data_pdu(context_id, COMMAND | LAST, usual) if usual else b""
        out: list[bytes | memoryview] = [command_pdus(context_id, command, room)]
        if not size:
            out.append(data_pdu(context_id, LAST, b""))
        self._send(parts, out)

    def more(self, parts: Sequence[memoryview]) -> None:
        """The data set goes on."""
        self._send(parts, [])

    def _begin(self, field: int, sop_instance_uid: str) -> None:
        self.busy = True
        self._hoped = b""
        self._awaited = field | dimse.RESPONSE, sop_instance_uid

    def _send(self, parts: Sequence[memoryview], out: list[bytes | memoryview]) -> None:
        assert self._cutter is not None
        self._cutter.cut(parts, out)
        for part in parts:
            self._to_cut -= len(part)
        self._wait()
        self.transmit(out)

    def _wait(self) -> None:
        """The peer has ``response_timeout`` from now to move or to answer. We look at it before that is over: what is
        with our kernel may be long in leaving, and only the kernel knows."""
        now = self.loop.time()
        self._until = now + self.target.response_timeout
        self.deadline = now + self._look

    def _moved(self) -> bool:
        """Whether the peer has taken (acknowledged, TCP) ``MOVES`` bytes more, or all there is, since this was so."""
        queued = self.stream.unacknowledged()
        taken = self.written - queued
        if taken - self._taken < MOVES and (queued or taken <= self._taken):
            return False
        self._taken = taken
        return True

    def drained(self) -> None:
        """All given bytes are with the kernel."""
        if not self.busy or self._all_sent or self.owner is None:
            return
        if self._to_cut:
            self.deadline = self._until = NEVER  # until ``more``: the time that our own disk needs is not the peer's
            self.owner.room()
            return
        self._all_sent = True
        self._wait()

    # ---- the end

    def close(self) -> None:
        """See ``Link``."""
        self._answers.forget(self.stream)
        super().close()
        on_closed, self.on_closed = self.on_closed, None
        if on_closed is not None:
            on_closed()

    def release(self) -> None:
        """End in an orderly way; nothing more is reported. Only between messages."""
        if not self.ended and not self._releasing:
            self._releasing = True
            self.owner = None
            self._hoped = RELEASE_RP_PDU
            self.deadline = self.loop.time() + RELEASE_TIMEOUT
            self.write(RELEASE_RQ_PDU)

    def abort(self) -> None:
        """End at once with A-ABORT; nothing more is reported."""
        if not self.ended:
            self.owner = None
            with contextlib.suppress(OSError):
                self.stream.send((negotiate.abort(0, 0),)) if not self._out else None
            self.close()

    def leave(self) -> None:
        """End: in an orderly way, or at once in the middle of a message."""
        if self.busy:
            self.abort()
        else:
            self.release()

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
        now = self.loop.time()
        if self._on_answer is None and self._until < NEVER and self._moved():
            self._until = now + self.target.response_timeout
        last = min(self._until, self._pdu_until)
        if now < last:
            self.deadline = min(now + self._look, last)
            return
        if self._on_answer is not None and now >= self._until:
            self.abort()
            words = f"no answer to the association request in {self.target.connect_timeout:g} s"
            self._tell(Unanswered(words))
            return
        what = self._overdue(now)
        if not self._out:
            self.write(negotiate.abort(0, 0))
        self._gone(what)

    def _overdue(self, now: float) -> str:
        seconds = f"{self.target.response_timeout:g} s"
        if now >= self._pdu_until:
            return f"no response within {seconds}: one was begun and not ended"
        left = self.stream.unacknowledged()
        if not left and self._all_sent:
            return f"no response within {seconds}"
        taken = self.written - left - self._taken
        return f"took only {taken} bytes in {seconds}" if taken > 0 else f"took no bytes for {seconds}"

    def lost(self, fault: PeerFault) -> None:
        """See ``Link``."""
        self._tell(self._answer or fault)
        owner, self.owner = self.owner, None
        if owner is not None:
            owner.lost(outcomes.lost(str(fault), image_in_flight=self.busy))


_Kind = TypeVar("_Kind", bound=Requestor)


async def connect_as(kind: type[_Kind], target: Target, proposal: negotiate.Proposal, shared: Shared) -> _Kind:
    """An established association of this kind.

    Raises:
        Failed: with the outcome.
    """
    came: asyncio.Future[_Kind | Failed] = asyncio.get_running_loop().create_future()

    def done(found: _Kind | Failed) -> None:
        if not came.done():
            came.set_result(found)
        elif not isinstance(found, Failed):  # cancelled, but not told yet
            found.abort()

    opening = Opening(kind, target, lambda: proposal, shared, done)
    opening.begin()
    try:
        found = await came
    except asyncio.CancelledError:
        opening.cancel()
        if came.done() and not came.cancelled() and not isinstance(late := came.result(), Failed):
            late.abort()
        raise
    if isinstance(found, Failed):
        raise found
    return found


async def connect(target: Target, proposal: negotiate.Proposal, shared: Shared) -> Requestor:
    """``connect_as`` for what images need."""
    return await connect_as(Requestor, target, proposal, shared)
