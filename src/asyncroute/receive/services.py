"""Messages with a data set that are no images: Storage Commitment requests and reports (PS3.4 annex J).

``Request`` collects one on its association; ``Services`` reads it in a thread, hands it to whom it is for, and answers
when that is done. Guarantees: at most ``MAX_DATA`` bytes of a message are kept, in receive buffers that count as memory
for images; while memory is short, or at a stop, such a message is read to its end and refused. Every one is answered
once while its association lives.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Final

from asyncroute.core.errors import PeerFault
from asyncroute.core.model import Source
from asyncroute.core.outcomes import Outcome, classify
from asyncroute.core.proof import Commitment
from asyncroute.link.associate import Context
from asyncroute.link.buffers import Buffer, ImageBytes
from asyncroute.receive.assembly import Assembly
from asyncroute.wire import command as dimse
from asyncroute.wire import commitment
from asyncroute.wire.elements import Odd

if TYPE_CHECKING:
    from asyncroute.receive.association import Acceptor

log = logging.getLogger(__name__)

ANSWER: Final = 60.0
"""Seconds that a sender has to answer a report."""

MAX_DATA: Final = 2 << 20
BUFFER: Final = 64 << 10

Answer = tuple[int, str]
"""Status and Error Comment."""

Requested = Callable[[Source, Commitment, float, "Conversation"], Awaitable[Answer]]
"""Takes a request: from whom, what, seconds that deliveries have, and its association."""

Reported = Callable[[Commitment], Awaitable[Answer]]


def serves(context: Context, field: int) -> bool:
    """Whether a message with this Command Field is one of Storage Commitment."""
    return context.abstract_syntax == commitment.PUSH_MODEL and field in (dimse.N_ACTION_RQ, dimse.N_EVENT_REPORT_RQ)


def refusal(command: dimse.Command) -> Answer | None:
    """Why a request of Storage Commitment is none; None: it is one."""
    event = command.number(dimse.FIELD) == dimse.N_EVENT_REPORT_RQ
    instance = command.text(dimse.AFFECTED_INSTANCE if event else dimse.REQUESTED_INSTANCE)
    if command.text(dimse.AFFECTED_CLASS if event else dimse.REQUESTED_CLASS) != commitment.PUSH_MODEL:
        return dimse.NO_SUCH_CLASS, "only Storage Commitment is served here"
    if instance != commitment.WELL_KNOWN:
        return dimse.NO_SUCH_INSTANCE, "not the well-known SOP instance of Storage Commitment"
    if event:
        known = command.number(dimse.EVENT_TYPE) in (commitment.ALL_COMMITTED, commitment.SOME_FAILED)
        return None if known else (dimse.NO_SUCH_EVENT_TYPE, "event types are 1 and 2")
    known = command.number(dimse.ACTION_TYPE) == commitment.REQUEST_COMMITMENT
    return None if known else (dimse.NO_SUCH_ACTION, "the action type is 1")


class Request:
    """One message on its way in; what an ``Acceptor`` needs of a ``receive.message.Message``."""

    congested = False

    def __init__(self, owner: Acceptor, context: Context, command: dimse.Command) -> None:
        self.owner = owner
        self.context_id = context.id
        self._syntax = context.transfer_syntax
        self._command = command
        self._assembly: Assembly | None = Assembly()
        self._refusal = refusal(command)
        if self._refusal is not None:
            self.drop()

    def want(self, expected: int) -> int:
        """The size in bytes of the next receive buffer."""
        return BUFFER

    def add(self, buffer: Buffer, lo: int, hi: int) -> None:
        """Bytes ``lo:hi`` of ``buffer`` come next."""
        if self._assembly is None:
            return
        self._assembly.add(buffer, lo, hi)
        if self._assembly.size > MAX_DATA:
            self._refuse(f"a data set over {MAX_DATA} bytes")

    def buffer_ends(self) -> None:
        """The receive buffer is full."""
        if self._assembly is not None:
            self._assembly.seal()

    def in_memory(self, filling: Buffer | None) -> int:
        """Bytes of buffers, without the one being filled, that ``relieve`` would free."""
        if self._assembly is None:
            return 0
        return sum(b.capacity for b in self._assembly.image.buffers if b is not filling)

    def relieve(self) -> ImageBytes | None:
        """Memory is short: the message is refused."""
        self._refuse("memory is short")
        return None

    def complete(self) -> None:
        """The last fragment has come."""
        assembly, self._assembly = self._assembly, None
        if assembly is None:
            assert self._refusal is not None
            self.owner.respond(self.context_id, self._command, *self._refusal)
            return
        image = assembly.take()
        data = b"".join(image.parts)
        image.unpin()
        self.owner.waits()
        self.owner.listener.intake.services.handle(self.owner, self.context_id, self._command, data, self._syntax)

    def drop(self) -> None:
        """Forget it."""
        assembly, self._assembly = self._assembly, None
        if assembly is not None:
            assembly.drop()

    def _refuse(self, why: str) -> None:
        self._refusal = self._refusal or (dimse.RESOURCE_LIMITATION, why)
        self.drop()


class Conversation:
    """The association on which a request came, as a way back: ``queue.pledge.Asker``."""

    def __init__(self, owner: Acceptor, context_id: int, syntax: str) -> None:
        self._owner = owner
        self._context_id = context_id
        self._syntax = syntax

    def reports(self) -> bool:
        """Whether a report could go there now."""
        return self._syntax == dimse.IMPLICIT_LE and self._owner.may_invoke

    async def tell(self, calling_aet: str, done: Commitment) -> Outcome:
        """Report there; the outcome. ``calling_aet`` is what the association has anyway.

        Raises:
            PeerFault: no answer.
        """
        kind, klass, instance = commitment.event_type(done), commitment.PUSH_MODEL, commitment.WELL_KNOWN
        data = commitment.report(done)
        try:
            async with asyncio.timeout(ANSWER):
                status, comment = await self._owner.invoke(
                    self._context_id, lambda number: dimse.event_report_request(klass, instance, kind, number), data
                )
        except TimeoutError:
            raise PeerFault(f"no answer to a report within {ANSWER:g} s") from None
        return classify(status, {}, comment)


class Services:
    """See module. The loop's thread only. ``requested``, ``reported``: whom requests and reports are for."""

    def __init__(self, pool: Executor) -> None:
        self.requested: Requested = _unserved
        self.reported: Reported = _unserved
        self._pool = pool
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, owner: Acceptor, context_id: int, command: dimse.Command, data: bytes, syntax: str) -> None:
        """A whole request, which ``waits``."""
        work = self._handle(owner, context_id, command, data, syntax)
        task = asyncio.get_running_loop().create_task(work, name="storage commitment")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, owner: Acceptor, context_id: int, command: dimse.Command, data: bytes, syntax: str) -> None:
        try:
            status, comment = await self._answer(owner, context_id, command, data, syntax)
        except Odd as odd:
            status, comment = dimse.INVALID_ARGUMENT, odd.reason
        except Exception:
            log.exception("%s: unexpected error in Storage Commitment", owner.who)
            status, comment = dimse.PROCESSING_FAILURE, "unexpected error"
        if status:
            log.warning("%s: Storage Commitment refused with %04X: %s", owner.who, status, comment)
        owner.reply(context_id, command, status, comment)

    async def _answer(
        self, owner: Acceptor, context_id: int, command: dimse.Command, data: bytes, syntax: str
    ) -> Answer:
        loop = asyncio.get_running_loop()
        told = await loop.run_in_executor(self._pool, commitment.parse, data, syntax)
        if command.number(dimse.FIELD) == dimse.N_EVENT_REPORT_RQ:
            return await self.reported(told)
        wait = owner.listener.settings.commit_wait
        return await self.requested(owner.source, told, wait, Conversation(owner, context_id, syntax))


async def _unserved(*_: object) -> Answer:
    return dimse.UNRECOGNIZED_OPERATION, "not served here"
