"""What a destination's answer means: the outcome table.

Purpose: every way in which an attempt can end (a DIMSE status, a rejection, an abort, a failed connection) becomes an
`Outcome`, on which a channel acts without knowing status codes or exceptions.
Guarantees: pure and total: every status and every combination of rejection codes, valid or not, has an outcome and a
text in words. Unknown answers are treated as failures of the image, never as success.
Failures: none.

Sources: PS3.4 B.2.3 (C-STORE statuses), PS3.7 Annex C (general statuses), PS3.8 9.3.4 (A-ASSOCIATE-RJ) and 9.3.8
(A-ABORT).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, unique

SLOW = 15 * 60.0
"""Seconds between tries where a person has to change a setting, here or at the destination."""

REPEAT = 10 * 60.0
"""Seconds between tries of an image that a destination says it cannot understand."""


@unique
class Kind(Enum):
    """What a channel does."""

    DELIVERED = "delivered"
    DELIVERED_WITH_WARNING = "delivered, with a warning"
    DESTINATION_PAUSE = "destination pauses"  # after an answer: it is there, but cannot take images now
    ASSOCIATION_FAILED = "association failed"  # no image is to blame; three in a row open the breaker
    POISON_COUNT = "association lost"  # the same, and the image being sent may be the cause
    IMAGE_RETRY = "image is tried again"
    IMAGE_FAILED = "image failed"
    TITLE_PAUSE = "calling title pauses"
    CONFIG_PAUSE = "destination pauses for a person"
    DISCARDED = "discarded"


@unique
class Scope(Enum):
    """What is held up."""

    IMAGE = "image"
    TITLE = "title"  # this destination, for this calling AE title only
    DESTINATION = "destination"


@unique
class Action(Enum):
    """The words of `[[destination]] outcomes`, and the row of the table that each stands for."""

    DELIVER = "deliver"  # as B000: delivered, the status kept as a warning
    RETRY = "retry"  # as 0110: 5 attempts with the usual waits, then dead letter
    SLOW_RETRY = "slow-retry"  # as A900: 3 attempts 10 min apart, then dead letter
    PAUSE = "pause"  # as A700: the destination pauses, no attempt is charged
    FAIL = "fail"  # as 0122: dead letter at once


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended, and what follows.

    `text` is one line for a person. `charge`: the attempt counts against the image. `limit`: the image becomes a dead
    letter when this has happened to it so many times (None: never because of this); with `charge` these are its
    charged attempts, without it only times count while other images passed (or the destination would be to blame).
    `delay`: seconds before the next try; None leaves it to the channel's backoff. `scope`: what waits.
    `status`: the DIMSE status, if there was one. `loud`: a person should be told. `narrow`: use fewer associations.
    `ours`: the fault is on this side, so it says nothing about the destination.
    `unreached`: the destination was told nothing of the image, so it cannot be the cause.
    `studies`: after this many different studies in a row with this outcome the destination is held (None: no).
    `logged`: what the log says instead of `text`, where that may quote values of the image; empty: the same.
    """

    kind: Kind
    text: str
    charge: bool = False
    limit: int | None = None
    delay: float | None = None
    scope: Scope = Scope.IMAGE
    status: int | None = None
    loud: bool = False
    narrow: bool = False
    studies: int | None = None
    ours: bool = False
    unreached: bool = False
    logged: str = ""

    @property
    def delivered(self) -> bool:
        """Whether the destination has the image."""
        return self.kind in (Kind.DELIVERED, Kind.DELIVERED_WITH_WARNING)


# --- Statuses: PS3.4 B.2.3, PS3.7 Annex C -----------------------------------------------------------------------------

SUCCESS = Outcome(Kind.DELIVERED, "success", status=0x0000)

_ROWS: dict[Action, Outcome] = {
    Action.DELIVER: Outcome(Kind.DELIVERED_WITH_WARNING, ""),
    Action.RETRY: Outcome(Kind.IMAGE_RETRY, "", charge=True, limit=5),
    Action.SLOW_RETRY: Outcome(Kind.IMAGE_RETRY, "", charge=True, limit=3, delay=REPEAT),
    Action.PAUSE: Outcome(Kind.DESTINATION_PAUSE, "", limit=3, scope=Scope.DESTINATION),
    Action.FAIL: Outcome(Kind.IMAGE_FAILED, "", charge=True, limit=1),
}

_TEXTS: dict[int, str] = {
    0x0000: "success",
    0x0105: "no such attribute",
    0x0106: "invalid attribute value",
    0x0107: "attribute list error",
    0x0110: "processing failure",
    0x0111: "duplicate SOP instance",
    0x0112: "no such SOP instance",
    0x0113: "no such event type",
    0x0114: "no such argument",
    0x0115: "invalid argument value",
    0x0116: "attribute value out of range",
    0x0117: "invalid SOP instance",
    0x0118: "no such SOP class",
    0x0119: "class-instance conflict",
    0x0120: "missing attribute",
    0x0121: "missing attribute value",
    0x0122: "SOP class not supported",
    0x0123: "no such action type",
    0x0124: "not authorized",
    0x0210: "duplicate invocation",
    0x0211: "unrecognized operation",
    0x0212: "mistyped argument",
    0x0213: "resource limitation",
    0xB000: "coercion of data elements",
    0xB006: "elements discarded",
    0xB007: "data set does not match SOP class (warning)",
    0xFE00: "cancelled",
}

_WARNINGS = frozenset({0x0001, 0x0107, 0x0111, 0x0116})
_TRANSIENT = frozenset({0x0110, 0x0210})
_FINAL = frozenset({0x0112, 0x0117, 0x0118, 0x0119, 0x0122, 0x0124, 0x0211, 0x0212})
_NOT_AUTHORIZED = 0x0124
_RESOURCES = 0x0213
_STUDIES_TO_HOLD = 5


def status_text(status: int) -> str:
    """A C-STORE response's status in words, with its number: ``0xA700 out of resources``."""
    return f"0x{status:04X} {_TEXTS.get(status) or _class_text(status)}"


def _class_text(status: int) -> str:
    if status >> 8 == 0xA7:
        return "out of resources"
    if status >> 8 == 0xA9:
        return "data set does not match SOP class"
    return {0xC: "cannot understand", 0xB: "warning"}.get(status >> 12, "warning" if status == 1 else "unknown status")


def action(status: int) -> Action:
    """The row of the table for a status other than success."""
    if status in _WARNINGS or status >> 12 == 0xB:
        return Action.DELIVER
    if status >> 8 == 0xA7 or status == _RESOURCES:
        return Action.PAUSE
    if status in _TRANSIENT:
        return Action.RETRY
    return Action.FAIL if status in _FINAL else Action.SLOW_RETRY


def classify(status: int, overrides: Mapping[int, Action] | None = None, comment: str = "") -> Outcome:
    """The outcome of a C-STORE response (or what stands for one) with this status, 0 to 0xFFFF.

    `overrides` come from the destination's `outcomes`; success cannot be overridden. `comment` is the peer's Error
    Comment (0000,0902).
    """
    if status == 0:
        return SUCCESS
    told = overrides.get(status) if overrides else None
    row = _ROWS[told or action(status)]
    outcome = replace(row, status=status, text=_with_comment(status_text(status), comment))
    if status == _NOT_AUTHORIZED and told is None:
        return replace(outcome, studies=_STUDIES_TO_HOLD, loud=True)
    return outcome


_COMMENT = 256
"""Characters of an Error Comment that are kept: four times what its VR allows."""


def _with_comment(text: str, comment: str) -> str:
    words = " ".join("".join(c if c.isprintable() else " " for c in comment[:_COMMENT]).split())
    return f'{text}: "{words}"' if words else text


# --- Rejections: PS3.8 9.3.4, table 9-21 ------------------------------------------------------------------------------

_REASONS: dict[tuple[int, int], str] = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given (ACSE)",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}
_PERMANENT, _TRANSIENT_RESULT = 1, 2
_CALLING_TITLE = (1, 3)
_CALLED_TITLE = (1, 7)
_BUSY = frozenset({(3, 1), (3, 2)})


REJECTED = "association rejected"
"""How the text of every A-ASSOCIATE-RJ begins."""


def rejection_text(result: int, source: int, reason: int) -> str:
    """An A-ASSOCIATE-RJ in words, with its numbers: ``association rejected 1/1/7: called AE title not recognized``."""
    words = _REASONS.get((source, reason), "unknown reason")
    return f"{REJECTED} {result}/{source}/{reason}: {words}"


def rejected(result: int, source: int, reason: int, calling: str = "", called: str = "") -> Outcome:
    """The outcome of an A-ASSOCIATE-RJ; `calling` and `called` are the AE titles that were used, for the text.

    ``2/3/1`` and ``2/3/2`` also ask for fewer associations.
    """
    text, why = rejection_text(result, source, reason), (source, reason)
    if result == _PERMANENT and why == _CALLING_TITLE:
        hint = f"; add {calling or 'the calling AE title'} to the AE titles that the destination knows"
        return Outcome(Kind.TITLE_PAUSE, text + hint, delay=SLOW, scope=Scope.TITLE, loud=True)
    if result == _PERMANENT:
        hint = f"; check ae_title ({called}) here and there" if why == _CALLED_TITLE and called else ""
        return Outcome(Kind.CONFIG_PAUSE, text + hint, delay=SLOW, scope=Scope.DESTINATION, loud=True)
    return _association_failed(text, narrow=result == _TRANSIENT_RESULT and why in _BUSY)


# --- Everything else that can happen to an association ---------------------------------------------------------------

_ABORTS = {
    0: "no reason given",
    1: "unrecognized PDU",
    2: "unexpected PDU",
    4: "unrecognized PDU parameter",
    5: "unexpected PDU parameter",
    6: "invalid PDU parameter value",
}
_PROVIDER = 2


def abort_text(source: int, reason: int) -> str:
    """An A-ABORT in words (PS3.8 9.3.8)."""
    if source == _PROVIDER:
        return f"aborted by the peer's protocol layer: {_ABORTS.get(reason, f'unknown reason {reason}')}"
    return "aborted by the peer"


def unsendable(text: str) -> Outcome:
    """The outcome of a delivery for which no association can be asked for; nobody was asked."""
    return Outcome(Kind.IMAGE_FAILED, text, charge=True, limit=1, ours=True)


def _association_failed(text: str, *, loud: bool = False, narrow: bool = False, unreached: bool = False) -> Outcome:
    return Outcome(
        Kind.ASSOCIATION_FAILED, text, scope=Scope.DESTINATION, loud=loud, narrow=narrow, unreached=unreached
    )


def unreachable(detail: str) -> Outcome:
    """No connection: refused, no route, time-out while connecting; `detail` says which."""
    return _association_failed(f"cannot connect: {detail}", unreached=True)


def refused(detail: str = "connection refused") -> Outcome:
    """Nothing listens there, or its queue of callers is full: also a sign to use fewer associations."""
    return _association_failed(f"cannot connect: {detail}", narrow=True, unreached=True)


def unresolved(detail: str) -> Outcome:
    """The host name is not known."""
    return _association_failed(f"cannot find the host's address: {detail}", unreached=True)


def tls_failed(detail: str) -> Outcome:
    """No TLS session: certificates, names, versions. Transient, but a person should look."""
    return _association_failed(f"TLS: {detail}", loud=True, unreached=True)


def unanswered(detail: str) -> Outcome:
    """The peer took the connection and does not grant the association: some do so with what is too many for them."""
    return _association_failed(detail, narrow=True)


def lost(detail: str, *, image_in_flight: bool) -> Outcome:
    """The association ended by abort, reset, time-out, protocol error, or without an answer.

    With an image in flight that image may be the cause: three times while others pass, and it is a dead letter.
    """
    if image_in_flight:
        return Outcome(Kind.POISON_COUNT, detail, limit=3, scope=Scope.DESTINATION)
    return _association_failed(detail)


def unreadable(detail: str, *, for_good: bool) -> Outcome:
    """Our own copy of the image cannot be read: missing or damaged (`for_good`), or the disk is in trouble just now."""
    if for_good:
        return Outcome(Kind.IMAGE_FAILED, detail, charge=True, limit=1, loud=True, ours=True)
    return Outcome(Kind.IMAGE_RETRY, detail, delay=30.0, loud=True, ours=True)


def held(text: str, logged: str = "") -> Outcome:
    """Not sent: what would have to be sent cannot be made. The destination is not asked, no attempt is charged."""
    return Outcome(Kind.IMAGE_FAILED, f"held: {text}", ours=True, logged=logged and f"held: {logged}")


def dropped(text: str, logged: str = "") -> Outcome:
    """Not sent at a user's function's word."""
    return Outcome(Kind.DISCARDED, f"dropped: {text}", ours=True, logged=logged and f"dropped: {logged}")


def no_context(sop_class: str, transfer_syntax: str) -> Outcome:
    """The destination accepted the association, but not what this image needs."""
    text = f"no presentation context accepted for {sop_class} in {transfer_syntax}"
    return Outcome(Kind.IMAGE_FAILED, text, charge=True, limit=1)
