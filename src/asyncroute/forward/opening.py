"""Associations in the making: from a proposal to an established association, or to the outcome that says why not.

``Opening`` goes by callbacks, step by step: the request, a connection (``forward.dial``), the answer and what it means.
What was asked and answered before costs no hand-over to the pool.
Guarantees: who opens is told once, and not before ``begin`` has returned if it failed; one that is cancelled leaves
nothing behind. What nobody expected fails like what one does. Failures are ``Failed``, with the outcome.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from asyncroute.core import outcomes
from asyncroute.core.errors import PeerFault
from asyncroute.core.outcomes import Outcome
from asyncroute.forward.dial import Dialing, Failed, Shared, Target
from asyncroute.link import negotiate
from asyncroute.link.stream import Stream

if TYPE_CHECKING:
    from asyncroute.forward.association import Requestor

log = logging.getLogger(__name__)

_Kind = TypeVar("_Kind", bound="Requestor")
_Made = TypeVar("_Made")


class Unanswered(PeerFault):
    """No answer to the association request in time."""


class Opening(Generic[_Kind]):
    """See module. ``propose`` is asked when it begins; ValueError: nobody could be offered that. ``done`` gets an
    association of this kind, or ``Failed``. The loop's thread only.
    """

    def __init__(
        self,
        kind: type[_Kind],
        target: Target,
        propose: Callable[[], negotiate.Proposal],
        shared: Shared,
        done: Callable[[_Kind | Failed], None],
    ) -> None:
        self.over = False
        """It is open, has failed, or was cancelled."""
        self._kind = kind
        self._target = target
        self._propose = propose
        self._shared = shared
        self._done = done
        self._loop = asyncio.get_running_loop()
        self._proposal: negotiate.Proposal | None = None
        self._request = b""
        self._dialing: Dialing | None = None
        self._requestor: _Kind | None = None

    def begin(self) -> None:
        """Once; nothing happens if it is over."""
        self._step(self._prepare)

    def cancel(self) -> None:
        """Give up; ``done`` is not called any more. Idempotent."""
        self._done = _nobody
        if not self.over:
            self.over = True
            self._drop()

    def _step(self, step: Callable[..., None], *given: object) -> None:
        if self.over:
            return
        try:
            step(*given)
        except (Exception, asyncio.CancelledError) as error:  # the latter from a pool that is closing
            log.exception("%s: unexpected error while connecting", self._target.called_aet)
            self._fail(outcomes.lost(f"unexpected error while connecting: {error!r}", image_in_flight=True))

    def _fail(self, outcome: Outcome) -> None:
        if not self.over:
            self.over = True
            self._drop()
            self._loop.call_soon(self._tell, Failed(outcome))

    def _tell(self, failed: Failed) -> None:
        self._done(failed)

    def _drop(self) -> None:
        dialing, self._dialing = self._dialing, None
        requestor, self._requestor = self._requestor, None
        if dialing is not None:
            dialing.cancel()
        if requestor is not None:
            requestor.abort()

    def _in_pool(self, then: Callable[[_Made], None], call: Callable[..., _Made], *given: object) -> None:
        """What takes long where there are many contexts."""
        future = self._loop.run_in_executor(self._shared.pool, call, *given)
        future.add_done_callback(lambda made: self._step(lambda: then(made.result())))

    # ---- the steps

    def _prepare(self) -> None:
        try:
            proposal = self._proposal = self._propose()
        except ValueError as error:  # the image's fault
            self._fail(outcomes.unsendable(f"cannot be proposed: {error}"))
            return
        request = negotiate.request_cached(proposal)
        if request is None:
            self._in_pool(self._dial, negotiate.request, proposal)
        else:
            self._dial(request)

    def _dial(self, request: bytes) -> None:
        self._request = request
        self._dialing = Dialing(self._target, self._shared, self._dialed)
        self._dialing.begin()

    def _dialed(self, found: Stream | Failed) -> None:
        self._step(self._ask, found)

    def _ask(self, found: Stream | Failed) -> None:
        self._dialing = None
        if isinstance(found, Failed):
            self._fail(found.outcome)
            return
        self._requestor = self._kind(found, self._target, self._shared)
        self._requestor.ask(self._request, self._answered)

    def _answered(self, answer: bytes | PeerFault) -> None:
        self._step(self._conclude, answer)

    def _conclude(self, answer: bytes | PeerFault) -> None:
        if isinstance(answer, PeerFault):
            self._fail(self._instead_of_answer(answer))
            return
        assert self._proposal is not None
        known = negotiate.conclude_cached(self._proposal, answer)
        if known is None:
            self._in_pool(self._concluded, negotiate.conclude, self._proposal, answer)
        else:
            self._concluded(known)

    def _concluded(self, result: negotiate.Established | negotiate.Refused | negotiate.Broken) -> None:
        requestor = self._requestor
        assert requestor is not None
        if not isinstance(result, negotiate.Established):
            self._fail(self._not_established(requestor, result))
        elif requestor.ended:
            self._fail(outcomes.lost("association ended as soon as it was accepted", image_in_flight=False))
        else:
            self.over, self._requestor = True, None
            requestor.peer = result
            self._shared.answers.watch(requestor.stream)
            self._give(requestor)

    def _give(self, requestor: _Kind) -> None:
        try:
            self._done(requestor)
        except Exception as error:  # as in a callback of the stream: it ends the association, which its owner is told
            requestor._on_fault(error)

    # ---- the words

    def _instead_of_answer(self, fault: PeerFault) -> Outcome:
        words = str(fault)
        if isinstance(fault, Unanswered):
            return outcomes.unanswered(words)
        if self._target.tls and words.startswith("TLS"):  # TLS 1.3: the server's verdict on our certificate
            return outcomes.tls_failed(f"refused by the destination: {words.removeprefix('TLS: ')}")
        return outcomes.unanswered(f"{words} instead of an answer to the association request")

    def _not_established(self, requestor: Requestor, result: negotiate.Refused | negotiate.Broken) -> Outcome:
        if isinstance(result, negotiate.Broken):
            if result.pdu:
                requestor.write(result.pdu)
            return outcomes.lost(result.text, image_in_flight=False)
        requestor.close()
        assert self._proposal is not None
        titles = self._proposal.calling_aet, self._proposal.called_aet
        return outcomes.rejected(result.result, result.source, result.reason, *titles)


def _nobody(_: object) -> None:
    """Who opened it has given up."""
