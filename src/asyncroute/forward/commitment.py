"""Storage Commitment with a destination (PS3.4 annex J): asking as SCU, and taking reports on the same association.

Guarantees: a request that fails says whether the destination may have heard it. Failures: ``forward.base.NotAsked``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from asyncroute.core.outcomes import classify
from asyncroute.core.proof import Reference
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
        context_id = dialogue.peer.contexts.get((commitment.PUSH_MODEL, dimse.IMPLICIT_LE))
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
        dialogue.closed.add_done_callback(lambda _: self._quiet.set())

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
        if self._dialogue.busy:
            self._dialogue.abort()
        else:
            self._dialogue.release()

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
