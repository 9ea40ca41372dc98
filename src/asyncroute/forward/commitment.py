"""Storage Commitment (PS3.4 annex J): asking a destination as SCU, and taking its reports on the same association;
reporting to a sender as SCP.

Guarantees: a request that fails says whether the destination may have heard it. Failures: ``forward.base.NotAsked``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from asyncroute.core.outcomes import Outcome, classify, lost
from asyncroute.core.proof import Commitment, Reference
from asyncroute.forward.association import connect_as
from asyncroute.forward.base import NotAsked, TakeReport
from asyncroute.forward.dial import Failed, Shared, Target
from asyncroute.forward.dialogue import Dialogue
from asyncroute.link.negotiate import Proposal
from asyncroute.wire import command as dimse
from asyncroute.wire import commitment
from asyncroute.wire.elements import Odd

log = logging.getLogger(__name__)

_CONTEXT = commitment.PUSH_MODEL, (dimse.IMPLICIT_LE,)
_PAIR = commitment.PUSH_MODEL, dimse.IMPLICIT_LE


class Committer:
    """``forward.base.Committer`` of one destination."""

    def __init__(self, target: Target, title: str, shared: Shared) -> None:
        self._target = target
        self._title = title
        self._shared = shared

    async def open(self, report: TakeReport) -> Committing:
        """See ``forward.base.Committer``."""
        target = self._target
        proposal = Proposal(self._title, target.called_aet, target.max_pdu, (_CONTEXT,))
        try:
            dialogue = await connect_as(Dialogue, target, proposal, self._shared)
        except Failed as failed:
            raise NotAsked(f"cannot be asked: {failed}", heard=False) from None
        assert dialogue.peer is not None
        context_id = dialogue.peer.contexts.get(_PAIR)
        if context_id is None:
            dialogue.release()
            raise NotAsked("does not accept Storage Commitment", heard=False)
        return Committing(dialogue, context_id, report)


class Committing:
    """``forward.base.Committing``: one association."""

    def __init__(self, dialogue: Dialogue, context_id: int, report: TakeReport) -> None:
        self._dialogue = dialogue
        self._context_id = context_id
        self._report = report
        self._open: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._quiet = asyncio.Event()
        dialogue.on_event = self._event
        dialogue.on_closed = self._quiet.set

    async def ask(self, transaction_uid: str, references: Sequence[Reference]) -> None:
        """See ``forward.base.Committing``."""
        dialogue, klass, instance = self._dialogue, commitment.PUSH_MODEL, commitment.WELL_KNOWN
        data = commitment.request(transaction_uid, references)
        command = dimse.action_request(klass, instance, commitment.REQUEST_COMMITMENT, dialogue.next_message())
        self._open.add(transaction_uid)
        self._quiet.clear()
        try:
            status, comment = await dialogue.exchange(self._context_id, dimse.N_ACTION_RQ, instance, command, data)
        except Failed as failed:
            raise NotAsked(f"no answer to the commitment request: {failed}", heard=True) from None
        if not (status == dimse.SUCCESS or classify(status, {}, comment).delivered):
            self._open.discard(transaction_uid)
            raise NotAsked(f"refuses to commit: {classify(status, {}, comment).text}", heard=False)

    async def linger(self, seconds: float) -> None:
        """See ``forward.base.Committing``."""
        if self._open and not self._dialogue.ended:
            try:
                async with asyncio.timeout(seconds):
                    await self._quiet.wait()
            except TimeoutError:
                pass
        if self._tasks:
            await asyncio.wait(self._tasks)

    def close(self) -> None:
        """See ``forward.base.Committing``."""
        for task in self._tasks:
            task.cancel()
        self._dialogue.leave()

    # ---- reports

    def _event(self, context_id: int, command: dimse.Command, data: bytes) -> None:
        task = asyncio.get_running_loop().create_task(self._take(context_id, command, data), name="commitment report")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, context_id: int, command: dimse.Command, data: bytes) -> None:
        try:
            done = commitment.parse(data, dimse.IMPLICIT_LE)
        except Odd as odd:
            log.warning("a commitment report cannot be read: %s", odd)
            self._dialogue.respond(context_id, command, dimse.PROCESSING_FAILURE, str(odd))
            return
        status, comment = await self._report(done)
        self._dialogue.respond(context_id, command, status, comment)
        self._open.discard(done.transaction_uid)
        if not self._open:
            self._quiet.set()


async def tell(target: Target, shared: Shared, calling_aet: str, done: Commitment) -> Outcome:
    """Report to a sender on an association of our own; the outcome.

    Raises:
        Failed: it has not heard it, or did not answer.
    """
    proposal = Proposal(calling_aet, target.called_aet, target.max_pdu, (_CONTEXT,), scp_of=(commitment.PUSH_MODEL,))
    dialogue = await connect_as(Dialogue, target, proposal, shared)
    try:
        assert dialogue.peer is not None
        context_id = dialogue.peer.contexts.get(_PAIR)
        if context_id is None:
            raise Failed(lost("does not accept Storage Commitment", image_in_flight=False))
        command = dimse.event_report_request(
            commitment.PUSH_MODEL, commitment.WELL_KNOWN, commitment.event_type(done), dialogue.next_message()
        )
        data = commitment.report(done)
        field, instance = dimse.N_EVENT_REPORT_RQ, commitment.WELL_KNOWN
        status, comment = await dialogue.exchange(context_id, field, instance, command, data)
        return classify(status, {}, comment)
    finally:
        dialogue.leave()
