"""Queries for the images of a series (C-FIND, Study Root, IMAGE level: PS3.4 C.4.1, C.6.2), as SCU.

Guarantees: of the matches only those are kept that are wanted. Failures: ``forward.base.NotAsked``.
"""

from __future__ import annotations

from asyncroute.core.outcomes import classify
from asyncroute.forward.association import connect_as
from asyncroute.forward.base import NotAsked
from asyncroute.forward.dial import Failed, Shared, Target
from asyncroute.forward.dialogue import Dialogue
from asyncroute.link.negotiate import Proposal
from asyncroute.wire import command as dimse
from asyncroute.wire import commitment

_PAIR = commitment.STUDY_ROOT_FIND, dimse.IMPLICIT_LE


class Querier:
    """``forward.base.Querier`` of one destination."""

    def __init__(self, target: Target, shared: Shared) -> None:
        self._target = target
        self._shared = shared

    async def open(self, title: str) -> Querying:
        """See ``forward.base.Querier``."""
        target = self._target
        context = commitment.STUDY_ROOT_FIND, (dimse.IMPLICIT_LE,)
        try:
            proposal = Proposal(title, target.called_aet, target.max_pdu, (context,))
            dialogue = await connect_as(Dialogue, target, proposal, self._shared)
        except (Failed, ValueError) as failed:
            raise NotAsked(f"cannot be queried: {failed}", heard=False) from None
        assert dialogue.peer is not None
        context_id = dialogue.peer.contexts.get(_PAIR)
        if context_id is None:
            dialogue.release()
            raise NotAsked("does not accept queries (Study Root C-FIND)", heard=False)
        return Querying(dialogue, context_id)


class Querying:
    """``forward.base.Querying``: one association."""

    def __init__(self, dialogue: Dialogue, context_id: int) -> None:
        self._dialogue = dialogue
        self._context_id = context_id

    async def find(self, study_uid: str, series_uid: str, wanted: frozenset[str]) -> set[str]:
        """See ``forward.base.Querying``."""
        found: set[str] = set()

        def match(data: bytes) -> None:
            uid = commitment.instance_of(data, dimse.IMPLICIT_LE)
            if uid in wanted:
                found.add(uid)

        self._dialogue.on_match = match
        command = dimse.find_request(commitment.STUDY_ROOT_FIND, self._dialogue.next_message())
        data = commitment.images_of(study_uid, series_uid)
        try:
            status, comment = await self._dialogue.exchange(self._context_id, dimse.C_FIND_RQ, "", command, data)
        except Failed as failed:
            raise NotAsked(f"no answer to a query: {failed}", heard=True) from None
        if status != dimse.SUCCESS:
            raise NotAsked(f"refuses a query: {classify(status, {}, comment).text}", heard=True)
        return found

    def close(self) -> None:
        """See ``forward.base.Querying``."""
        self._dialogue.leave()
