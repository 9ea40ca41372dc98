"""Association negotiation: an A-ASSOCIATE PDU in, its answer out (PS3.7 annex D, PS3.8 7.1 and 9.3).

Purpose: the only module that knows pynetdicom. Inbound, `accept` takes an A-ASSOCIATE-RQ apart, tolerantly, and has
pynetdicom's ACSE and its handlers negotiate (contexts, roles, asynchronous operations, user identity) on an association
that has neither threads nor a socket. Outbound, `request` and `conclude`. PDUs are whole, with their header.
Guarantees: pure functions of their arguments, safe in any thread; nothing that a peer sends makes them raise. Their
work is linear in the size of the PDU; what is remembered is bounded (`KEPT_ENTRIES` of at most `KEPT_BYTES` each).
Failures: they are results: `Rejected` and `Aborted` inbound, `Refused` and `Broken` outbound.

`accept`, `request` and `conclude` take milliseconds where there are many contexts: call them in a pool of threads.
`accept_cached`, `request_cached`, `conclude_cached`, `peek`, `reject` and `abort` are fit for the event loop. Importing
this module takes 0.25 s of CPU.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import starmap
from types import SimpleNamespace
from typing import Any, Final, cast

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID
from pynetdicom import events
from pynetdicom.acse import ACSE
from pynetdicom.association import ServiceUser
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_items import PDU_ITEM_TYPES
from pynetdicom.pdu_primitives import A_ASSOCIATE, SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from asyncroute.link.associate import (
    ACCEPTANCE,
    DEFAULT_MAX_PDU,
    MAX_CONTEXTS,
    MOST_ITEMS,
    MOST_SUB_ITEMS,
    NO_ABSTRACT,
    NO_REASON,
    NO_TRANSFER,
    USER_VERIFIED,
    VARIABLE,
    Aborted,
    Accepted,
    AcceptorPolicy,
    Broken,
    Context,
    Established,
    Malformed,
    Named,
    Proposal,
    Refused,
    Rejected,
    UserInformation,
    abort,
    abort_text,
    check_length,
    conformant,
    established,
    item,
    items,
    peek,
    reject,
    reject_text,
    splice,
    uid,
)
from asyncroute.link.recent import KEPT_BYTES, KEPT_ENTRIES, Agreed, Recent
from asyncroute.wire import pdata

__all__ = [
    "DEFAULT_MAX_PDU",
    "KEPT_BYTES",
    "KEPT_ENTRIES",
    "MAX_CONTEXTS",
    "Aborted",
    "Accepted",
    "AcceptorPolicy",
    "Broken",
    "Context",
    "Established",
    "Malformed",
    "Named",
    "Proposal",
    "Refused",
    "Rejected",
    "abort",
    "abort_text",
    "accept",
    "accept_cached",
    "conclude",
    "conclude_cached",
    "peek",
    "reject",
    "reject_text",
    "request",
    "request_cached",
]

_APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
_VERIFICATION: Final = "1.2.840.10008.1.1"
_COMMITMENT: Final = "1.2.840.10008.1.20.1"
_IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
_NATIVE: Final = (_IMPLICIT_LITTLE, "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")

# Its warnings and tracebacks about what peers send would fill the log; the results of this module say it once.
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)


def _not_storage() -> frozenset[str]:
    """Every UID of the standard that nothing is stored under: print, query, work lists, UPS, media directories, ...

    A storage SOP class says "Storage" in its name (PS3.6 annex A; two retired ones have lost theirs), commitment
    excepted. Whatever is not in the dictionary, being private or newer than it, may be stored.
    """
    storage = {
        known
        for known, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class" and (not name or "Storage" in name) and "Commitment" not in name
    }
    directory = "1.2.840.10008.1.3.10"  # "Media Storage Directory Storage": a DICOMDIR is written to media, never sent
    return frozenset(UID_dictionary.keys() - storage | {directory})


_NOT_STORAGE: Final = _not_storage()


# --- pynetdicom's association, without threads and socket -------------------------------------------------------------

_Handlers = dict[events.InterventionEvent, Callable[[events.Event], Any]]

# The defaults ignore extended negotiation, which means the service classes' defaults (PS3.7 D.3.3.5, D.3.3.6), and user
# identity, which means that nobody is verified here and no positive response is given (PS3.7 D.3.3.7): a listener that
# verifies users does so with what `accept` has found out, and before it sends the answer.
_HANDLERS: Final[_Handlers] = {
    events.EVT_ASYNC_OPS: lambda _: (1, 1),
    events.EVT_SOP_COMMON: events.get_default_handler(events.EVT_SOP_COMMON),
    events.EVT_SOP_EXTENDED: events.get_default_handler(events.EVT_SOP_EXTENDED),
    events.EVT_USER_ID: events.get_default_handler(events.EVT_USER_ID),
}


class _Association:
    """What ACSE and the service users need of pynetdicom's Association and DUL; keeps the primitive to be sent."""

    def __init__(self, ours: AcceptorPolicy | Proposal, *, requestor: bool) -> None:
        self.is_requestor, self.is_acceptor = requestor, not requestor
        self.ae = SimpleNamespace(
            implementation_class_uid=UID(ours.implementation_uid),
            require_calling_aet=[],
            require_called_aet=False,
            active_associations=[],
            maximum_associations=0,
        )
        self.dul = self
        self.sent = A_ASSOCIATE()
        self._accepted_cx: dict[int, PresentationContext] = {}
        self._rejected_cx: list[PresentationContext] = []
        itself = cast(Any, self)
        self.requestor, self.acceptor = ServiceUser(itself, "requestor"), ServiceUser(itself, "acceptor")
        self.acse = ACSE(itself)
        us = self.requestor if requestor else self.acceptor
        us.maximum_length = ours.max_pdu
        us.implementation_version_name = ours.implementation_version

    @property
    def accepted_contexts(self) -> list[PresentationContext]:
        return list(self._accepted_cx.values())

    @property
    def rejected_contexts(self) -> list[PresentationContext]:
        return self._rejected_cx

    def send_pdu(self, primitive: A_ASSOCIATE) -> None:
        self.sent = primitive

    def get_handlers(self, event: events.InterventionEvent) -> Any:
        return (_HANDLERS[event], None) if event in _HANDLERS else []

    def kill(self) -> None:
        """There is nothing to stop."""

    _abort_blocking = _abort_nonblocking = kill


@lru_cache(4096)
def _pydicom(name: str) -> UID:
    return UID(name)


def _context(number: int | None, abstract: str, *syntaxes: str) -> PresentationContext:
    """A context of conformant UIDs, set past the setters: they validate each UID four times (3 ms for 128 contexts)."""
    context = PresentationContext()
    context._context_id, context._abstract_syntax = number, _pydicom(abstract)
    context._transfer_syntax = [_pydicom(name) for name in syntaxes]
    return context


# --- inbound: the request ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Offer:
    """A proposed context; what is no UID is left out, an abstract syntax that is none is empty."""

    id: int
    abstract: str
    syntaxes: tuple[str, ...]
    clashing: bool = False

    @classmethod
    def of(cls, whole: bytes) -> _Offer:
        if len(whole) < 8:
            raise Malformed("a presentation context item without a context id")
        found: dict[int, list[str]] = {0x30: [], 0x40: []}
        for kind, sub in items(whole, 8, MOST_SUB_ITEMS):
            if kind in found and (name := uid(sub[4:])):
                found[kind].append(name)
        return cls(whole[4], (found[0x30] or [""])[0], tuple(found[0x40]))


class _Request:
    """An A-ASSOCIATE-RQ taken apart. Items of other types are skipped (PS3.8 9.3.1); raises Malformed."""

    __slots__ = ("application", "called", "calling", "named", "offers", "user")

    def __init__(self, rq: bytes, called: str, calling: str) -> None:
        self.called, self.calling = called, calling
        self.application = ""
        self.offers: list[_Offer] = []
        self.user = UserInformation({}, {})
        for kind, whole in items(rq, VARIABLE, MOST_ITEMS):
            if kind == 0x20:
                self.offers.append(_Offer.of(whole))
            elif kind == 0x10:
                self.application = uid(whole[4:])
            elif kind == 0x50:
                self.user = UserInformation.of(whole)
        self.named = Named.of(self.user.single.get(0x58, b""))

    def refusal(self) -> Rejected | None:
        if self.application != _APPLICATION_CONTEXT:
            return _rejected(1, 1, 2)
        if not self.called or not self.calling:
            return _rejected(1, 1, 3 if self.called else 7)
        return None if self.offers else _rejected(1, 1, 1, "it proposes no presentation context")

    def primitive(self, contexts: list[PresentationContext], roles: Iterable[str]) -> A_ASSOCIATE:
        """pynetdicom's form of the request: these contexts, the roles of these SOP classes."""
        primitive = A_ASSOCIATE()
        primitive.called_ae_title, primitive.calling_ae_title = self.called, self.calling
        primitive.presentation_context_definition_list = contexts
        kinds = [0x53] * (0x53 in self.user.single) + [0x58] * (self.named is not None)
        primitive.user_information = [
            *(_decoded(kind, self.user.single[kind]) for kind in kinds),
            *(_role(name, *self.user.roles[name]) for name in roles if name in self.user.roles),
        ]
        return primitive


def _decoded(kind: int, sub: bytes) -> Any:
    decoder: Any = PDU_ITEM_TYPES[kind]()
    decoder.decode(sub)
    return decoder.to_primitive()


def _role(name: str, scu: bool, scp: bool) -> SCP_SCU_RoleSelectionNegotiation:
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = name, scu, scp
    return role


# --- inbound: the answer ----------------------------------------------------------------------------------------------


def _rejected(result: int, source: int, reason: int, why: str = "") -> Rejected:
    words = reject_text(result, source, reason)
    return Rejected(reject(result, source, reason), result, source, reason, f"{words}: {why}" if why else words)


def _unusable(fault: Exception) -> tuple[bytes, str]:
    """The A-ABORT, and what was wrong: Malformed says it, else pynetdicom found a value that it does not take."""
    reason = fault.reason if isinstance(fault, Malformed) else pdata.REASON_INVALID
    words = "".join(char if char.isprintable() else "?" for char in str(fault)[:200])
    return abort(2, reason), words if isinstance(fault, Malformed) else f"{words} ({type(fault).__name__})"


class _Plan:
    """What becomes of each proposed context: `chosen` by id, and `settled` items that are answered without ACSE.

    ACSE sees contexts with the one transfer syntax that is wanted: it would choose by our order, not by the peer's.
    It does not see those that it cannot stand: without a usable transfer syntax; with an id that is even or means two
    things (PS3.8 9.3.2.2; rejected, no reason given, so that the others go on); and with a UID that pydicom would warn
    of, since Python remembers the text of every warning.
    """

    def __init__(self, offers: Iterable[_Offer], prefer: tuple[str, ...]) -> None:
        self.chosen: dict[int, Context] = {}
        self.settled: list[bytes] = []
        self.proposed: list[PresentationContext] = []
        self.supported: dict[str, PresentationContext] = {}
        for offer in _distinct(offers):
            result, syntax = _verdict(offer, prefer)
            if result == ACCEPTANCE:
                self.chosen[offer.id] = Context(offer.id, offer.abstract, syntax)
            if result in (ACCEPTANCE, NO_ABSTRACT) and conformant(offer.abstract, syntax):
                self._ask(offer, syntax, supported=result == ACCEPTANCE)
            else:
                self.settled.append(item(0x21, bytes((offer.id, 0, result, 0)) + item(0x40, syntax.encode())))

    def _ask(self, offer: _Offer, syntax: str, *, supported: bool) -> None:
        self.proposed.append(_context(offer.id, offer.abstract, syntax))
        if not supported:
            return
        ours = self.supported.setdefault(offer.abstract, _context(None, offer.abstract))
        # What the requestor may be (PS3.7 D.3.3.4): we are SCU of Storage Commitment only, on which it may report.
        ours.scu_role, ours.scp_role = True, offer.abstract == _COMMITMENT
        if _pydicom(syntax) not in ours.transfer_syntax:
            ours.transfer_syntax.append(_pydicom(syntax))


def _distinct(offers: Iterable[_Offer]) -> Iterable[_Offer]:
    """One offer for each id; it is marked `clashing` where the id means two things."""
    by_id: dict[int, _Offer] = {}
    for offer in offers:
        if by_id.setdefault(offer.id, offer) != offer:
            by_id[offer.id] = replace(by_id[offer.id], clashing=True)
    return by_id.values()


def _verdict(offer: _Offer, prefer: tuple[str, ...]) -> tuple[int, str]:
    """Result of a context and the transfer syntax to name with it: all but the roles, which are ACSE's matter."""
    first = offer.syntaxes[0] if offer.syntaxes else _IMPLICIT_LITTLE
    if offer.clashing or offer.id % 2 == 0:
        return NO_REASON, first
    native = offer.abstract in (_VERIFICATION, _COMMITMENT)
    if not offer.abstract or (offer.abstract in _NOT_STORAGE and not native):
        return NO_ABSTRACT, first
    usable = tuple(name for name in offer.syntaxes if name in _NATIVE) if native else offer.syntaxes
    if not usable:
        return NO_TRANSFER, first
    if offer.abstract == _COMMITMENT and _IMPLICIT_LITTLE in usable:
        return ACCEPTANCE, _IMPLICIT_LITTLE  # in which we report
    return ACCEPTANCE, next((wanted for wanted in prefer if wanted in usable), usable[0])


def _negotiate(rq: bytes, request: _Request, policy: AcceptorPolicy) -> Accepted | Rejected:
    plan = _Plan(request.offers, policy.prefer)
    association = _Association(policy, requestor=False)
    association.requestor.primitive = request.primitive(plan.proposed, plan.supported)
    association.acceptor.ae_title = policy.ae_title
    association.acceptor.supported_contexts = list(plan.supported.values())
    association.acse._negotiate_as_acceptor()
    sent = association.sent
    if sent.result:
        return _rejected(sent.result, cast(int, sent.result_source), cast(int, sent.diagnostic))
    refused = {context.context_id for context in association.rejected_contexts}
    pdu = splice(A_ASSOCIATE_AC(sent).encode(), rq[10:VARIABLE], plan.settled)
    return Accepted(
        _promising(pdu, request.named) if policy.verifies_users else pdu,
        {number: context for number, context in plan.chosen.items() if number not in refused},
        request.user.max_pdu,
        request.calling,
        request.called,
        *request.user.implementation,
        request.named,
    )


def _promising(pdu: bytes, named: Named | None) -> bytes:
    """The A-ASSOCIATE-AC with the positive response that a user name with passcode asks for (PS3.7 D.3.3.7.2).

    pynetdicom would leave it out. The User Information item is the last of its A-ASSOCIATE-AC.
    """
    if named is None or named.kind != 2 or not named.wants_answer:
        return pdu
    *_, (kind, last) = items(pdu, VARIABLE, MOST_ITEMS)
    body = pdu[6 : -len(last)] + item(kind, last[4:] + USER_VERIFIED)
    return pdu[:2] + len(body).to_bytes(4, "big") + body


def _answer(rq: bytes, policy: AcceptorPolicy) -> Accepted | Rejected:
    titles = peek(rq)
    check_length(rq, VARIABLE)
    if not rq[7] & 1:  # judged before the items, whose form another version may have changed (PS3.8 table 9-11)
        return _rejected(1, 2, 2)
    request = _Request(rq, *titles)
    return request.refusal() or _negotiate(rq, request, policy)


_recent: Final = Recent[tuple[bytes, AcceptorPolicy], Accepted]()


def accept_cached(rq: bytes, policy: AcceptorPolicy) -> Accepted | None:
    """The answer to a request of the same bytes, if it was accepted lately: microseconds, on any thread.

    Never one that names a user: who somebody is has to be verified each time.
    """
    return _recent.get((rq, policy)) if len(rq) <= KEPT_BYTES else None


def accept(rq: bytes, policy: AcceptorPolicy) -> Accepted | Rejected | Aborted:
    """Answer an A-ASSOCIATE-RQ. Titles and addresses are the caller's to allow (see `peek`); blank titles are rejected.

    Every storage, private or unknown SOP class is accepted in any transfer syntax, Verification and Storage Commitment
    in a native one, and nothing else (result 3). Never raises for anything in `rq`.
    """
    if (known := accept_cached(rq, policy)) is not None:
        return known
    try:
        answer = _answer(rq, policy)
    except Exception as fault:  # whatever pynetdicom says to what a peer made up
        return Aborted(*_unusable(fault))
    if isinstance(answer, Accepted) and answer.named is None and len(rq) <= KEPT_BYTES:
        _recent.keep((rq, policy), answer)
    return answer


# --- outbound ---------------------------------------------------------------------------------------------------------


_agreed: Final = Agreed()
request_cached = _agreed.request
conclude_cached = _agreed.conclusion


def request(proposal: Proposal) -> bytes:
    """The A-ASSOCIATE-RQ PDU for a proposal. Without roles we are SCU (PS3.7 D.3.3.4)."""
    if (known := request_cached(proposal)) is not None:
        return known
    association = _Association(proposal, requestor=True)
    association.requestor.ae_title = proposal.calling_aet
    association.acceptor.ae_title = proposal.called_aet
    for name in proposal.scp_of:
        association.requestor.add_negotiation_item(_role(name, False, True))
    association.acse.send_request()
    rq = A_ASSOCIATE_RQ(association.sent).encode()
    # The contexts are added here: pynetdicom would take 20 ms for many of them, and warn of UIDs with leading zeros.
    pdu = splice(rq, rq[10:VARIABLE], starmap(_proposed, proposal.numbered()))
    _agreed.keep_request(proposal, pdu)
    return pdu


def _proposed(number: int, abstract: str, syntaxes: Iterable[str]) -> bytes:
    names = [item(0x30, abstract.encode()), *(item(0x40, name.encode()) for name in syntaxes)]
    return item(0x20, bytes((number, 0, 0, 0)) + b"".join(names))


def conclude(proposal: Proposal, pdu: bytes) -> Established | Refused | Broken:
    """What the peer's answer to `request(proposal)` means. Never raises for anything in `pdu`."""
    if (known := conclude_cached(proposal, pdu)) is not None:
        return known
    conclusion = _conclude(proposal, pdu)
    if isinstance(conclusion, Established):
        _agreed.keep_conclusion(proposal, pdu, conclusion)
    return conclusion


def _conclude(proposal: Proposal, pdu: bytes) -> Established | Refused | Broken:
    try:
        kind = _kind_of_answer(pdu)
        if kind == pdata.ASSOCIATE_RJ:
            result, source, reason = pdu[7:10]
            return Refused(result, source, reason, reject_text(result, source, reason))
        if kind == pdata.ABORT:
            return Broken(abort_text(pdu[8], pdu[9]))
        return established(proposal, pdu)
    except Malformed as fault:
        answer, words = _unusable(fault)
        return Broken(f"unusable answer to our A-ASSOCIATE-RQ: {words}", answer)


def _kind_of_answer(pdu: bytes) -> int:
    kind = pdu[0] if pdu else 0
    if kind not in (pdata.ASSOCIATE_AC, pdata.ASSOCIATE_RJ, pdata.ABORT):
        known = pdata.ASSOCIATE_RQ <= kind <= pdata.ABORT
        raise Malformed(f"a PDU of type {kind:02X}H", pdata.REASON_UNEXPECTED if known else pdata.REASON_UNRECOGNIZED)
    check_length(pdu, VARIABLE if kind == pdata.ASSOCIATE_AC else 10)
    return kind
