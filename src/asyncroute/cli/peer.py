"""Talking to one DICOM peer: address, TCP, TLS, association, C-ECHO, each step by itself, with advice where it fails.

The only command module that knows ``forward``: images and echoes leave exactly as the router sends them.
Guarantees: every step has a deadline; a failure names the side to look at. Failures: they are results (``Step``);
``OurFault`` for TLS files that cannot be used.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from asyncroute.core import outcomes
from asyncroute.core.outcomes import Kind, Outcome
from asyncroute.forward.association import Failed, Requestor, Shared, Target, connect
from asyncroute.link import tls
from asyncroute.link.deadlines import Deadlines
from asyncroute.link.negotiate import Proposal
from asyncroute.link.resolve import Resolver
from asyncroute.wire.command import IMPLICIT_LE, VERIFICATION

if TYPE_CHECKING:
    from asyncroute.config import DicomDestination

__all__ = [
    "Conversation",
    "Failed",
    "Requestor",
    "Shared",
    "Step",
    "Target",
    "Trial",
    "connect",
    "shared_means",
    "target_of",
    "try_out",
]

EXPLICIT_LE = "1.2.840.10008.1.2.1"
ADDRESS, TCP, TLS, ASSOCIATION, ECHO = "address", "TCP", "TLS", "association", "C-ECHO"


def target_of(d: DicomDestination) -> Target:
    """Where associations with it go. Raises OurFault: its TLS files cannot be used."""
    context = tls.client_context(d.tls.ca, d.tls.certificate, d.tls.key) if d.tls else None
    name = d.tls.server_name if d.tls else None
    return Target(d.host, d.port, d.ae_title, d.connect_timeout, d.response_timeout, d.max_pdu, context, name)


@asynccontextmanager
async def shared_means() -> AsyncIterator[Shared]:
    """What associations need, for the time of one command."""
    deadlines, resolver = Deadlines(), Resolver()
    deadlines.start()
    with ThreadPoolExecutor(2, thread_name_prefix="negotiate") as pool:
        try:
            yield Shared(deadlines, pool, resolver)
        finally:
            deadlines.stop()
            resolver.close()


class Conversation:
    """One association, one message at a time (``forward.association.Owner``)."""

    def __init__(self, requestor: Requestor) -> None:
        self.requestor = requestor
        self.flowing = asyncio.Event()
        """More of a data set may be given, or none will be needed."""
        self._answer: asyncio.Future[tuple[int, str]] | None = None
        requestor.owner = self

    def begin(self) -> asyncio.Future[tuple[int, str]]:
        """A message is about to be sent; the future gets status and comment of its response, or ``Failed``.

        Raises:
            Failed: the association is over.
        """
        if self.requestor.ended:
            raise Failed(outcomes.lost("the association ended", image_in_flight=False))
        self.flowing.clear()
        self._answer = asyncio.get_running_loop().create_future()
        self.requestor.owner = self
        return self._answer

    async def echo(self) -> tuple[int, str]:
        """C-ECHO: status and Error Comment. Raises Failed."""
        answer = self.begin()
        self.requestor.echo()
        return await answer

    async def release(self) -> None:
        """End in an orderly way."""
        self.requestor.release()
        while not self.requestor.ended:
            await asyncio.sleep(0.005)

    def responded(self, status: int, comment: str, early: bool = False) -> None:
        """See ``forward.association.Owner``."""
        self.flowing.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((status, comment))

    def room(self) -> None:
        """See ``forward.association.Owner``."""
        self.flowing.set()

    def lost(self, outcome: Outcome) -> None:
        """See ``forward.association.Owner``."""
        self.flowing.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Failed(outcome))
            self._answer.exception()  # looked at: nobody may be waiting yet


# --- step by step -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what came of it (``text``), how long it took (seconds; None: not measured by itself), and advice."""

    name: str
    ok: bool
    text: str = ""
    seconds: float | None = None
    advice: str = ""


@dataclass(slots=True)
class Trial:
    """All steps that were tried with one peer under one calling title."""

    name: str
    address: str
    calling: str
    steps: list[Step] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every step went well."""
        return all(step.ok for step in self.steps)


async def try_out(name: str, target: Target, calling: str, shared: Shared) -> Trial:
    """Every step up to C-ECHO, as far as it goes."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    trial = Trial(name, f"{target.called_aet}@{host}:{target.port}", calling)
    if await _looked_up(target, shared, trial):
        requestor = await _associated(target, calling, shared, trial)
        if requestor is not None:
            await _echoed(Conversation(requestor), trial)
    return trial


async def _looked_up(target: Target, shared: Shared, trial: Trial) -> bool:
    """The host's addresses; the resolver keeps them for the connection that follows."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(target.connect_timeout):
            found = await shared.resolver.addresses(target.host, target.port)
    except (OSError, TimeoutError) as error:
        words = getattr(error, "strerror", None) or f"no answer from the name server in {target.connect_timeout:g} s"
        advice = f"this side: check host = {target.host!r} and the name server of this machine"
        trial.steps.append(Step(ADDRESS, False, f"{target.host}: {words}", None, advice))
        return False
    if not _is_number(target.host):
        addresses = ", ".join(dict.fromkeys(str(each[4][0]) for each in found))
        trial.steps.append(Step(ADDRESS, True, addresses, time.monotonic() - began))
    return True


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


async def _associated(target: Target, calling: str, shared: Shared, trial: Trial) -> Requestor | None:
    began = time.monotonic()
    contexts = ((VERIFICATION, (IMPLICIT_LE, EXPLICIT_LE)),)
    reached = [TCP, TLS] if target.tls else [TCP]
    try:
        requestor = await connect(target, Proposal(calling, target.called_aet, target.max_pdu, contexts), shared)
    except Failed as failure:
        failed = await _failed_step(failure.outcome, target, reached)
        trial.steps += [Step(step, True) for step in reached[: _index(failed, reached)]]
        advice = _advice(failed, failure.outcome, target, calling)
        trial.steps.append(Step(failed, False, failure.outcome.text, None, advice))
        return None
    seconds = time.monotonic() - began
    peer = requestor.peer.implementation_version if requestor.peer else ""
    trial.steps += [*(Step(step, True) for step in reached), Step(ASSOCIATION, True, peer, seconds)]
    return requestor


def _index(step: str, steps: list[str]) -> int:
    return steps.index(step) if step in steps else len(steps)


async def _failed_step(outcome: Outcome, target: Target, reached: Iterable[str]) -> str:
    """Which step a failure to connect belongs to."""
    if outcome.text.startswith(outcomes.tls_failed("").text):
        return TLS
    if not outcome.text.startswith(outcomes.unreachable("").text):
        return ASSOCIATION
    return TLS if TLS in reached and await _connects(target) else TCP


async def _connects(target: Target) -> bool:
    """Whether plain TCP gets through: then it was the TLS handshake that nobody answered."""
    try:
        async with asyncio.timeout(target.connect_timeout):
            _, writer = await asyncio.open_connection(target.host, target.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _echoed(conversation: Conversation, trial: Trial) -> None:
    peer = conversation.requestor.peer
    if peer is None or not peer.contexts:
        advice = "the other side does not offer Verification; images may work all the same (asyncroute send)"
        trial.steps.append(Step(ECHO, False, "Verification is not accepted", None, advice))
    else:
        trial.steps.append(await _echo_step(conversation))
    if not conversation.requestor.ended:
        await conversation.release()


async def _echo_step(conversation: Conversation) -> Step:
    began = time.monotonic()
    try:
        status, comment = await conversation.echo()
    except Failed as failure:
        advice = "the other side: its log tells why it ends the association"
        return Step(ECHO, False, failure.outcome.text, None, advice)
    text = outcomes.classify(status, None, comment).text if status else ""
    advice = "the other side: its log tells why it answers so" if status else ""
    return Step(ECHO, not status, text, time.monotonic() - began, advice)


# --- advice -----------------------------------------------------------------------------------------------------------


def _advice(step: str, outcome: Outcome, target: Target, calling: str) -> str:
    if step == TCP and outcome.narrow:  # refused
        return f"the other side: nothing listens on port {target.port} there; or this side: host or port is wrong"
    if step == TCP:
        return "the network: a firewall on the way, or the other machine is off; or this side: host or port is wrong"
    if step == TLS:
        return (
            "both sides: does the other side speak TLS on this port? "
            "tls.ca here must know its certificate, tls.server_name its name; it may also want a certificate of ours"
        )
    return _association_advice(outcome, target, calling)


def _association_advice(outcome: Outcome, target: Target, calling: str) -> str:
    if outcome.kind is Kind.TITLE_PAUSE:
        return f"the other side does not know the AE title {calling}: add it there, with the address of this machine"
    if outcome.kind is Kind.CONFIG_PAUSE:
        return f"this side: is its AE title really {target.called_aet}? else the other side: its log tells why"
    if outcome.narrow and outcome.text.startswith(outcomes.REJECTED):
        return "the other side has no free place for an association at this moment; try again"
    speaks = "without TLS" if target.tls is None else "with TLS"
    return (
        f"the other side: many end associations of callers whose AE title ({calling}) or address is not in their list; "
        f"or it is no DICOM service, or none {speaks}"
    )
