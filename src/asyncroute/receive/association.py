"""The acceptor's side of one association (PS3.8 9.2, states Sta2, Sta3, Sta6, Sta8, Sta13).

From the first byte to the last: reads the A-ASSOCIATE-RQ, lets the listener decide and the pool negotiate, receives
data sets into memory (or, when large or when memory is short, into the spool as they come), answers C-ECHO, hands
whole images to ``admit`` and sends the answers it gives. Guarantees: every C-STORE-RQ that arrives whole is answered
while the association lives; at most ``MAX_PENDING`` images wait for their answers, then reading stops; an association
between messages holds no buffer. Failures end in an A-ABORT with the reason of PS3.8 table 9-26 and one log line.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from asyncroute.core.errors import PeerFault
from asyncroute.core.model import Source
from asyncroute.link import negotiate
from asyncroute.link.buffers import Buffer, ImageBytes
from asyncroute.link.certificates import shorten
from asyncroute.link.deadlines import NEVER
from asyncroute.link.link import Link
from asyncroute.link.stream import Stream as ByteStream
from asyncroute.receive.base import Received
from asyncroute.receive.message import Message, next_buffer
from asyncroute.receive.services import Request, serves
from asyncroute.wire import command as dimse
from asyncroute.wire.pdata import (
    ASSOCIATE_RQ,
    COMMAND,
    LAST,
    REASON_INVALID,
    REASON_NOT_SPECIFIED,
    REASON_UNEXPECTED,
    RELEASE_RP_PDU,
    RELEASE_RQ,
    DataCutter,
    ProtocolError,
    command_pdus,
    pdu_room,
)

if TYPE_CHECKING:
    from asyncroute.receive.listener import Listener

log = logging.getLogger(__name__)

SMALLEST = 8 << 10
"""Bytes of the buffer that there is even while memory is full."""

MAX_PENDING = 4
"""Images of one association that may wait for their answers before we stop reading."""

CLOSING = 10.0
"""Seconds that a peer has to close the connection after its A-RELEASE-RP, A-ASSOCIATE-RJ or A-ABORT (ARTIM)."""

MOST_IGNORED = 16 << 20
"""Bytes that a peer may go on sending meanwhile."""

AWAITING, NEGOTIATING, ESTABLISHED, CLOSED_BY_US = "awaiting", "negotiating", "established", "closing"


class Acceptor(Link):
    """See module. Lives from accept to close; the listener keeps it in ``listener.associations``."""

    def __init__(self, stream: ByteStream, listener: Listener) -> None:
        settings = listener.settings
        super().__init__(stream, listener.deadlines, settings.max_pdu, settings.pdu_timeout, settings.idle_timeout)
        self.listener: Listener = listener
        self.state = AWAITING
        self.source: Source = Source("", "", settings.label, stream.peer)
        self.contexts: Mapping[int, negotiate.Context] = {}
        self.user = ""
        self.images = 0
        self.bytes = 0
        self.pending = 0
        self.message: Message | Request | None = None
        self._memory = listener.memory
        self._answers = listener.intake.answers
        self._buffer: Buffer | None = None
        self._filled = 0
        self.expect = SMALLEST  # bytes of the next image with its command set
        self._command = b""
        self._usual = dimse.Alike()
        self._command_context = 0
        self._releasing = False
        self._room = 0
        self._ignored = 0
        self._invoked: dict[int, asyncio.Future[tuple[int, str]]] = {}
        self.deadline = self.since + settings.association_timeout

    # ---- reading

    def _on_readable(self) -> None:
        super()._on_readable()
        self._answers.read()

    def _receive(self) -> bool:
        buffer = self._buffer
        if buffer is None:
            size = self._next_buffer()
            if not size:
                return False
            buffer = self._buffer = self._memory.take(size)
            self._filled = 0
        lo, view = self._filled, buffer.view
        try:
            n = self.stream.recv_into(view[lo:] if lo else view)
        except OSError:
            if not lo:
                self._let_go()
            raise
        if not n:
            self._gone("connection closed by peer")
            return False
        self._filled = hi = lo + n
        try:
            self.reader.feed(view, lo, hi)
        finally:
            if hi == buffer.capacity or self.message is None:
                self._let_go()
        if self.ended:
            return False
        if self.state == CLOSED_BY_US:
            self._ignored += n
            if self._ignored > MOST_IGNORED:
                self._gone("goes on sending after the end of the association")
                return False
        if self.message is not None or self.reader.mid_pdu or self._command:  # else our answer acknowledges
            self.stream.quick_ack()
        return not self.stream.exhausted(n, buffer.capacity - lo)

    def _let_go(self) -> None:
        buffer, self._buffer = self._buffer, None
        if self.message is not None:
            self.message.buffer_ends()
        if buffer is not None:
            buffer.drop()

    def _next_buffer(self) -> int:
        """The size in bytes of the buffer to read into; 0: memory is full, we read on when there is room.

        A smallest buffer there is always: who has no image under way is served, and holds it no longer than a moment.
        """
        message, memory = self.message, self._memory
        if not memory.short:
            return message.want(self.expect) if message is not None else next_buffer(self.expect)
        self.listener.intake.relieve()
        if message is None:
            return SMALLEST
        if memory.short:
            self.pause()
            memory.when_room(self.resume_if_able)
            return 0
        return message.want(self.expect)

    @property
    def held(self) -> int:
        """Bytes of receive buffers that ``relieve`` would free before long."""
        buffer, message = self._buffer, self.message
        return (buffer.capacity if buffer else 0) + (message.in_memory(buffer) if message else 0)

    def relieve(self) -> ImageBytes | None:
        """Memory is short: an incomplete image goes to disk, and the buffer with it. What is on its way now."""
        image = self.message.relieve() if self.message is not None else None
        self._let_go()
        return image

    def _progress(self) -> None:
        if self.state == ESTABLISHED:
            super()._progress()
        elif self.state == AWAITING:
            self.listener.intake.requests.holds(self, self.reader.collected)

    # ---- PDUs

    def pdu(self, kind: int, body: bytes) -> None:
        """Association control, by PS3.8 table 9-10."""
        if self.state == CLOSED_BY_US:
            return  # Sta13: ignored until the peer closes
        if kind == ASSOCIATE_RQ and self.state == AWAITING:
            self._requested(body)
        elif kind == RELEASE_RQ and self.state == ESTABLISHED and self.message is None:
            self._releasing = True
            self._release_when_answered()
        elif kind == 7:
            source, reason = (body + b"\0\0\0\0")[2:4]
            self._gone(f"aborted by peer ({negotiate.abort_text(source, reason)})")
        else:
            raise ProtocolError(f"unexpected PDU type {kind:02X}H while {self.state}", REASON_UNEXPECTED)

    def _requested(self, body: bytes) -> None:
        self.reader.associated = True
        rq = b"\x01\x00" + len(body).to_bytes(4, "big") + body
        try:
            called, calling = negotiate.peek(rq)
        except ValueError as error:
            raise ProtocolError(str(error), REASON_INVALID) from None
        self.source = Source(calling, called, self.listener.settings.label, self.stream.peer)
        self.listener.intake.requests.holds(self, len(rq))
        if self.ended:  # it was the one that had to go
            return
        refused = self.listener.refuses(self)
        if refused:
            self._reject(*refused)
            return
        self.state = NEGOTIATING
        self.deadline = self.loop.time() + self.listener.settings.association_timeout
        self.listener.negotiate(rq, self.stream.peer, self._negotiated)

    def _negotiated(self, answer: negotiate.Accepted | negotiate.Rejected | negotiate.Aborted) -> None:
        self.listener.intake.requests.holds(self, 0)
        if self.ended or self.state != NEGOTIATING:
            return
        if isinstance(answer, negotiate.Accepted):
            self.contexts, self.user = answer.contexts, answer.user
            self._room = pdu_room(answer.peer_max_pdu, 128 << 10)
            self.state = ESTABLISHED
            self.since = self.loop.time()
            self.deadline = self.since + self.listener.settings.idle_timeout
            self.write(answer.pdu)
            return
        log.warning("%s: association refused: %s", self.who, answer.text)
        self._finish(answer.pdu)

    def turned_away(self) -> None:
        """No TLS session: its alert is sent; wait for the peer's close, so that no reset overtakes it (see Sta13)."""
        self.state = CLOSED_BY_US
        self.reader.stopped = True
        self.stream.end()
        self.stream.watch_read()
        self.deadline = self.loop.time() + CLOSING

    def _reject(self, result: int, source: int, reason: int, why: str) -> None:
        log.warning("%s: association rejected: %s", self.who, why)
        self._finish(negotiate.reject(result, source, reason))

    def _finish(self, last_pdu: bytes) -> None:
        """Send our last word and wait for the peer to close (Sta13)."""
        self._drop_message()
        self._let_go()
        self.state = CLOSED_BY_US
        self.write(last_pdu)
        self.read_to_the_end()
        self.deadline = self.loop.time() + CLOSING
        self.listener.left(self)

    def _release_when_answered(self) -> None:
        if self._releasing and not self.pending and self.state == ESTABLISHED:
            self._finish(RELEASE_RP_PDU)

    # ---- P-DATA

    def fragment(self, context_id: int, control: int, lo: int, hi: int) -> None:
        """A piece of a command set or data set."""
        message = self.message
        if control & COMMAND == 0 and message is not None and message.context_id == context_id:
            if hi > lo:
                buffer = self._buffer
                assert buffer is not None
                message.add(buffer, lo, hi)
            if control & LAST:
                self.message = None
                message.complete()
            return
        if self.state == CLOSED_BY_US:
            return
        if self.state != ESTABLISHED or not control & COMMAND or message is not None or self._releasing:
            what = "command" if control & COMMAND else "data set"
            raise ProtocolError(f"unexpected {what} fragment on context {context_id}", REASON_UNEXPECTED)
        self._command_fragment(context_id, control, lo, hi)

    def _command_fragment(self, context_id: int, control: int, lo: int, hi: int) -> None:
        if self._command and context_id != self._command_context:
            raise ProtocolError("a command set in two contexts", REASON_UNEXPECTED)
        if len(self._command) + hi - lo > dimse.MAX_COMMAND:
            raise ProtocolError(f"command set over {dimse.MAX_COMMAND} bytes", REASON_INVALID)
        self._command_context = context_id
        if hi > lo:
            buffer = self._buffer
            assert buffer is not None
            self._command += bytes(buffer.view[lo:hi])
        if control & LAST:
            data, self._command = bytes(self._command), b""
            self._commanded(context_id, data)

    def _commanded(self, context_id: int, data: bytes) -> None:
        context = self.contexts.get(context_id)
        if context is None:
            raise ProtocolError(f"message on presentation context {context_id}, which was not accepted", REASON_INVALID)
        command = self._usual.match(data)
        if command is not None:
            self.message = Message(self, context, command)
            return
        command = dimse.parse(data)
        field = command.number(dimse.FIELD)
        if field < 0:
            raise ProtocolError("command set without a Command Field", REASON_INVALID)
        if field == dimse.C_STORE_RQ and command.has_data_set:
            self._usual = dimse.Alike.like(data, dimse.MESSAGE_ID)
            self.message = Message(self, context, command)
        elif field == dimse.C_CANCEL_RQ or field & dimse.RESPONSE:
            self._was_answered(command)  # nothing of ours to cancel
        elif serves(context, field) and command.has_data_set:
            self.message = Request(self, context, command)
        else:
            status = dimse.SUCCESS if field == dimse.C_ECHO_RQ else dimse.UNRECOGNIZED_OPERATION
            if command.has_data_set:
                self.message = Message.unwanted(self, context, command, status)
            else:
                self.respond(
                    context_id, command, status, "" if status == 0 else "only C-STORE and C-ECHO are served here"
                )

    # ---- answers

    def respond(self, context_id: int, command: dimse.Command, status: int, comment: str = "") -> None:
        """Send a response message."""
        if self.state == ESTABLISHED and not self.ended:
            self.write(command_pdus(context_id, dimse.response(command, status, comment), self._room))

    # ---- requests of ours

    @property
    def may_invoke(self) -> bool:
        """Whether a request of ours can be sent now."""
        return self.state == ESTABLISHED and not self.ended and not self._releasing

    async def invoke(self, context_id: int, command: Callable[[int], bytes], data: bytes) -> tuple[int, str]:
        """Send a request with a data set; status and comment of the response. ``command``: by message id.

        Raises:
            PeerFault: the association is over.
        """
        if not self.may_invoke:
            raise PeerFault("the association is over")
        number = next(n for n in range(1, 1 << 16) if n not in self._invoked)
        answer: asyncio.Future[tuple[int, str]] = self.loop.create_future()
        self._invoked[number] = answer
        out: list[bytes | memoryview] = [command_pdus(context_id, command(number), self._room)]
        DataCutter(context_id, len(data), self._room).cut((memoryview(data),), out)
        self.write(b"".join(out))
        try:
            return await answer
        finally:
            self._invoked.pop(number, None)

    def _was_answered(self, command: dimse.Command) -> None:
        answer = self._invoked.pop(command.number(dimse.RESPONDED_TO), None)
        if answer is not None and not answer.done():
            answer.set_result((command.number(dimse.STATUS), command.text(dimse.ERROR_COMMENT)))

    def offer(self, received: Received) -> None:
        """A whole image that ``waits``: hand it on."""
        self.images += 1
        self.bytes += received.instance.size
        self.listener.admit.offer(received)

    def waits(self) -> None:
        """One more image is whole and waits for its answer; too many: stop reading."""
        self.pending += 1
        if self.pending >= MAX_PENDING:
            self.pause()

    def answer(self, received: Received, status: int, comment: str) -> None:
        """See ``receive.base.Owner``."""
        self.tell(received, status, comment)
        self._answered()

    def reply(self, context_id: int, command: dimse.Command, status: int, comment: str) -> None:
        """The answer to a message of another service that ``waits``."""
        self.respond(context_id, command, status, comment)
        self._answered()

    def _answered(self) -> None:
        self.pending -= 1
        if not self.ended:
            self.resume_if_able()
            if self._releasing:
                self._release_when_answered()

    def tell(self, received: Received, status: int, comment: str) -> None:
        """Send the answer to an image; a refusal is logged, too."""
        if status == dimse.SUCCESS and not comment:
            if self.state == ESTABLISHED and not self.ended:
                self.write(command_pdus(received.context_id, dimse.stored(received.command), self._room))
            return
        if status:
            log.warning("%s: %s refused with %04X: %s", self.who, received.instance.sop_instance_uid, status, comment)
        self.respond(received.context_id, received.command, status, comment)

    def resume_if_able(self) -> None:
        """Read on unless images or disk writes are still too far behind."""
        if not self._paused_at:
            return
        message = self.message
        if self.pending < MAX_PENDING and (message is None or not message.congested):
            self.resume()

    # ---- the end

    @property
    def who(self) -> str:
        """The peer, as logs name it."""
        user = f" ({shorten(self.user)})" if self.user else ""
        return f"{self.source.calling_aet or '?'}@{self.stream.peer}{user}"

    @property
    def awaiting(self) -> bool:
        """See ``receive.waiting.Caller``."""
        return self.state == AWAITING

    @property
    def address(self) -> str:
        """See ``receive.waiting.Caller``."""
        return self.stream.peer

    def crowded_out(self, why: str) -> None:
        """See ``receive.waiting.Caller``."""
        log.warning("%s: closed to make room: %s", self.who, why)
        self.close()

    @property
    def busy(self) -> bool:
        """Whether an image is arriving or waits for its answer."""
        return self.message is not None or self.pending > 0

    def broke(self, error: PeerFault) -> None:
        """Protocol error: A-ABORT from the provider, then wait for the close."""
        if self.state == CLOSED_BY_US:
            self.reader.stop()
            return
        reason = error.reason if isinstance(error, ProtocolError) else REASON_NOT_SPECIFIED
        log.warning("%s: aborting: %s", self.who, error)
        self.abort(2, reason)

    def abort(self, source: int, reason: int) -> None:
        """Send A-ABORT and wait for the peer to close."""
        if not self.ended and self.state != CLOSED_BY_US:
            self._finish(negotiate.abort(source, reason))
            self.reader.stop()

    def expired(self) -> None:
        """A deadline passed (PS3.8 ARTIM, or our own)."""
        if self.state == CLOSED_BY_US or self.state == AWAITING:
            if self.state == AWAITING:
                log.warning("%s: no association request in time", self.who)
            self._gone("timeout")
            return
        if self.pending and not self.reader.mid_pdu:  # it is us who owe something
            self.deadline = self.loop.time() + self.listener.settings.idle_timeout
            return
        what = "a PDU was not finished in time" if self.reader.mid_pdu else "idle for too long"
        log.warning("%s: aborting: %s", self.who, what)
        self.abort(2, REASON_NOT_SPECIFIED)

    def lost(self, fault: PeerFault) -> None:
        """The connection is over."""
        if self.message is not None or self._command:
            log.warning("%s: lost in the middle of a message: %s", self.who, fault)
        self.listener.left(self)

    def close(self) -> None:
        """See ``Link.close``; an incomplete image is dropped (it was never acknowledged)."""
        self._drop_message()
        super().close()
        for answer in self._invoked.values():
            if not answer.done():
                answer.set_exception(PeerFault("the association is over"))
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            buffer.drop()
        self.listener.closed(self)
        self.deadline = NEVER

    def _drop_message(self) -> None:
        message, self.message = self.message, None
        if message is not None:
            message.drop()
