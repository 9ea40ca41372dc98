"""The nouns of delivery proof: what is asked of a destination, what it answers, and what follows.

A destination whose ``verify`` asks for it has to prove that it keeps an image before the image's file is released:
by Storage Commitment (PS3.4 annex J), or by showing it in a query. Everything here is plain data or a pure function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from asyncroute.core.retry import Backoff
from asyncroute.core.states import DeliveryState

PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_INSTANCE: Final = 0x0112
CLASS_CONFLICT: Final = 0x0119
DUPLICATE_TRANSACTION: Final = 0x0131

_REASONS: Final[Mapping[int, tuple[str, int | None]]] = {
    PROCESSING_FAILURE: ("processing failure", 5),
    NO_SUCH_INSTANCE: ("no such object instance", 5),
    0x0213: ("resource limitation", None),
    0x0122: ("referenced SOP class not supported", 0),
    CLASS_CONFLICT: ("class-instance conflict", 0),
}
"""Failure reasons (PS3.3 C.14.1.1): in words, and after how many attempts sending again is no use (None: it may be)."""

_UNKNOWN: Final = ("an unknown failure reason", 3)


class Reference(NamedTuple):
    """A SOP instance by its UIDs, as a Referenced SOP Sequence has it."""

    sop_class_uid: str
    sop_instance_uid: str


class Failed(NamedTuple):
    """A SOP instance that is not committed; ``reason`` as in PS3.3 C.14.1.1."""

    sop_class_uid: str
    sop_instance_uid: str
    reason: int


@dataclass(frozen=True, slots=True)
class Commitment:
    """A Storage Commitment request (``references``: what is asked for) or report (what is committed; ``failed``)."""

    transaction_uid: str
    references: tuple[Reference, ...]
    failed: tuple[Failed, ...] = ()


class Unproven(NamedTuple):
    """A delivery that a destination has not proved yet.

    ``attempts`` and ``since`` are as in ``core.model.Delivery``; ``at``: when it was delivered (seconds since the
    epoch). ``open``: it still waits for proof; ``newest``: no later transaction asks for it.
    """

    instance_id: int
    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    route: str
    calling_aet: str
    called_aet: str
    listener: str
    attempts: int
    since: float
    size: int
    at: float
    open: bool = True
    newest: bool = True


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A transaction that a destination was asked to report on; ``images`` as far as they are not forgotten."""

    transaction_uid: str
    destination: str
    images: Sequence[Unproven]


class Setback(NamedTuple):
    """A delivery that was not confirmed: READY again from ``not_before`` on, or FAILED. ``error``: one line."""

    instance_id: int
    state: DeliveryState
    reason: int | None
    error: str
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class Ask:
    """To the journal: these deliveries are asked for in a new transaction, which is overdue at ``due``.

    Until ``Asked`` or ``Unask`` follows it is not known whether the destination has heard of it.
    """

    transaction_uid: str
    destination: str
    instance_ids: Sequence[int]
    due: float


@dataclass(frozen=True, slots=True)
class Asked:
    """To the journal: the destination has taken the request; it should report until ``due``."""

    transaction_uid: str
    due: float


@dataclass(frozen=True, slots=True)
class Unask:
    """To the journal: the request was not made, or (``heard``) it is not known whether it was: ask again."""

    transaction_uid: str
    heard: bool


@dataclass(frozen=True, slots=True)
class Overdue:
    """To the journal: transactions without a report at ``now``, or due more than ``ahead`` seconds from then (a clock
    that was wrong), are asked anew. ``unsure``: those of which it is not known whether they were heard, too."""

    destination: str
    now: float
    ahead: float
    unsure: bool = False


@dataclass(frozen=True, slots=True)
class Proven:
    """To the journal: what a destination has said of its deliveries. ``how``: one line, for people.

    It was the report on ``transaction_uid`` (empty: there is none); what that asked for and is in neither list is
    waited for until it is overdue.
    """

    destination: str
    transaction_uid: str
    confirmed: Sequence[int]
    setbacks: Sequence[Setback]
    how: str


@dataclass(frozen=True, slots=True)
class Waive:
    """To the journal: this destination's deliveries need no proof any more."""

    destination: str


@dataclass(frozen=True, slots=True)
class Pledge:
    """To the journal, and from it: a sender asks us to commit; what is not delivered at ``until`` has failed.

    ``id`` is the journal's, 0 before it has one. ``until``: seconds since the epoch.
    """

    transaction_uid: str
    calling_aet: str
    called_aet: str
    until: float
    references: tuple[Reference, ...]
    id: int = 0


@dataclass(frozen=True, slots=True)
class Redeem:
    """To the journal: the sender has our report on this pledge, or will never have it."""

    pledge_id: int


ProofAction = Ask | Asked | Unask | Overdue | Proven | Waive | Pledge | Redeem


class Kept(NamedTuple):
    """What became of the latest copy of a SOP instance; ``sop_class_uid`` None: it is unknown."""

    sop_class_uid: str | None
    held: bool
    deliveries: int
    undelivered: int
    discarded: int
    unproven: int


def verdict(reference: Reference, kept: Kept, late: bool) -> int | None:
    """The failure reason with which we report on ``reference``; 0: it is committed; None: not decided yet.

    ``late``: what is not delivered by now has failed.
    """
    if kept.sop_class_uid is None:
        return NO_SUCH_INSTANCE
    if kept.sop_class_uid != reference.sop_class_uid:
        return CLASS_CONFLICT
    if kept.discarded or not (kept.deliveries or kept.held):
        return PROCESSING_FAILURE
    if kept.held or kept.undelivered or kept.unproven:
        return PROCESSING_FAILURE if late else None
    return 0


def reason_text(reason: int) -> str:
    """A failure reason in words: ``0112 (no such object instance)``."""
    return f"{reason:04X} ({_REASONS.get(reason, _UNKNOWN)[0]})"


def setback(image: Unproven, reason: int | None, error: str, retry: Backoff, age: float, at: float) -> Setback:
    """What follows where ``image`` was not confirmed: it is sent again, unless that is no use or ``retry`` is spent.

    ``reason``: the failure reason, None if there is none. ``age``: seconds since it was queued. ``at``: seconds since
    the epoch, now.
    """
    limit = _REASONS.get(reason, _UNKNOWN)[1] if reason is not None else 5
    spent = limit is not None and image.attempts >= limit
    if spent or retry.exhausted(image.attempts, age):
        return Setback(image.instance_id, DeliveryState.FAILED, reason, error)
    return Setback(image.instance_id, DeliveryState.READY, reason, error, at + retry.ceiling(image.attempts))
