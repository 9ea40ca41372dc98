"""What association negotiation speaks of: its results, the A-ASSOCIATE PDUs' items, the short PDUs and their words.

Purpose: everything about negotiation that does not need pynetdicom, so that those who only look at a result do not load
it; `negotiate`, which passes on all public names, does the negotiating.
Guarantees: no I/O. Text and UIDs taken from a peer come out as plain, printable ASCII. Scanning is linear in the size
of the PDU and allows no more items than an honest one has.
Failures: `Malformed` for a PDU that breaks PS3.8; ValueError for a policy or proposal that cannot be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from asyncroute.wire import pdata
from asyncroute.wire.part10 import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION

MAX_CONTEXTS: Final = 128
"""Presentation contexts of one association: odd ids from 1 to 255 (PS3.8 9.3.2.2)."""
DEFAULT_MAX_PDU: Final = 16384
"""Assumed of a peer that does not say how long a PDU it takes: every implementation takes as much."""

VARIABLE: Final = 74
"""Offset of the first item of an A-ASSOCIATE-RQ and -AC (PS3.8 tables 9-11 and 9-17)."""
MOST_ITEMS: Final = 512
MOST_SUB_ITEMS: Final = 255
MOST_USER_ITEMS: Final = 1024
ACCEPTANCE, NO_REASON, NO_ABSTRACT, NO_TRANSFER = 0, 2, 3, 4
"""Results of a presentation context (PS3.8 table 9-18); 1, rejection by the user, is ACSE's answer to roles."""
SMALLEST_PDU: Final = 8
"""Bytes of one PDV header (6) and the shortest even fragment: less cannot carry anything."""


class Malformed(pdata.ProtocolError, ValueError):
    """A PDU that is not what PS3.8 says; `reason` is the A-ABORT provider reason (PS3.8 table 9-26)."""

    def __init__(self, message: str, reason: int = pdata.REASON_INVALID) -> None:
        super().__init__(message, reason)


# --- results ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context: its odd id, the SOP class, and the encoding of the data sets sent under it."""

    id: int
    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Named:
    """Who a peer says that it is (PS3.7 D.3.3.7): nobody has verified it.

    `kind`: 1 user name, 2 user name and passcode, 3 Kerberos ticket, 4 SAML assertion, 5 JSON web token. `primary` is
    the name (UTF-8) or the ticket, `secondary` the passcode. `wants_answer`: a positive response is asked for.
    """

    kind: int
    wants_answer: bool
    primary: bytes = field(repr=False)
    secondary: bytes = field(repr=False)

    @classmethod
    def of(cls, sub: bytes) -> Named | None:
        """Of a User Identity sub-item (PS3.7 table D.3-14); None for a kind that the standard does not know.

        Raises Malformed.
        """
        if len(sub) <= 4 or not 1 <= sub[4] <= 5:
            return None
        fields, at = [], 6
        for _ in range(2):
            end = at + 2 + int.from_bytes(sub[at : at + 2], "big")
            if end > len(sub) or at + 2 > len(sub):
                raise Malformed("a user identity sub-item is cut short")
            fields.append(sub[at + 2 : end])
            at = end
        return cls(sub[4], sub[5] == 1, *fields)


USER_VERIFIED: Final = b"\x59\x00\x00\x02\x00\x00"
"""The positive response to a user name with passcode: it has no server response (PS3.7 table D.3-15)."""


@dataclass(frozen=True, slots=True)
class AcceptorPolicy:
    """How a listener answers.

    `max_pdu`: bytes that a peer may send in one PDU, 0 without limit. `prefer`: transfer syntaxes, the most wanted
    first; where none of them is proposed, the first proposed is taken. `verifies_users`: the caller will verify who is
    named, so that a positive response may be promised. Raises ValueError.
    """

    ae_title: str
    max_pdu: int
    prefer: tuple[str, ...] = ()
    implementation_uid: str = IMPLEMENTATION_UID
    implementation_version: str = IMPLEMENTATION_VERSION
    verifies_users: bool = False

    def __post_init__(self) -> None:
        check_title(self.ae_title)
        _check_ours(self.max_pdu, self.implementation_uid, self.implementation_version)


@dataclass(frozen=True, slots=True)
class Accepted:
    """An association to be: send `pdu` (A-ASSOCIATE-AC) and go on.

    `contexts` by id; it may be empty, and must not be changed (it is shared). `peer_max_pdu`: bytes, header excluded,
    of the longest PDU that the peer takes; 0 is without limit. `named`: who the peer says that it is. `user`: who that
    is, once somebody has verified it.
    """

    pdu: bytes
    contexts: dict[int, Context]
    peer_max_pdu: int
    calling_aet: str
    called_aet: str
    implementation_uid: str
    implementation_version: str
    named: Named | None = None
    user: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """No association: send `pdu` (A-ASSOCIATE-RJ), then wait for the peer to close. `text` is for a person."""

    pdu: bytes
    result: int
    source: int
    reason: int
    text: str


@dataclass(frozen=True, slots=True)
class Aborted:
    """The request is unusable: send `pdu` (A-ABORT), then wait for the peer to close. `text` is for a person."""

    pdu: bytes
    text: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """An association that we ask for; raises ValueError for what cannot be asked.

    `contexts`: (SOP class, its transfer syntaxes), one presentation context each, with ids 1, 3, 5, ... `max_pdu` and
    implementation as in `AcceptorPolicy`. `scp_of`: the SOP classes of which we want to be the SCP (PS3.7 D.3.3.4).
    """

    calling_aet: str
    called_aet: str
    max_pdu: int
    contexts: tuple[tuple[str, tuple[str, ...]], ...]
    implementation_uid: str = IMPLEMENTATION_UID
    implementation_version: str = IMPLEMENTATION_VERSION
    scp_of: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_title(self.calling_aet)
        check_title(self.called_aet)
        _check_ours(self.max_pdu, self.implementation_uid, self.implementation_version)
        if not 1 <= len(self.contexts) <= MAX_CONTEXTS:
            raise ValueError(f"an association has 1 to {MAX_CONTEXTS} presentation contexts, not {len(self.contexts)}")
        for abstract, syntaxes in self.contexts:
            if not 1 <= len(syntaxes) < MOST_SUB_ITEMS:
                raise ValueError(f"SOP class {abstract!r} with {len(syntaxes)} transfer syntaxes")
            for name in (abstract, *syntaxes):
                if not _ANY_UID.fullmatch(name):
                    raise ValueError(f"not a UID: {name!r}")

    def numbered(self) -> Iterator[tuple[int, str, tuple[str, ...]]]:
        """Context id, SOP class and transfer syntaxes of each context."""
        return ((2 * index + 1, *context) for index, context in enumerate(self.contexts))


@dataclass(frozen=True, slots=True)
class Established:
    """The peer accepted.

    `contexts`: (SOP class, transfer syntax) -> context id; it may be empty: then release at once. `rejected`: pairs of
    contexts that were not accepted -> result (PS3.8 table 9-18). Pairs that the peer passed over in favour of another
    of the same context are in neither. `notes`: what is odd about the answer, for a person. Not to be changed (shared).
    """

    contexts: dict[tuple[str, str], int]
    rejected: dict[tuple[str, str], int]
    peer_max_pdu: int
    implementation_uid: str
    implementation_version: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The peer answered A-ASSOCIATE-RJ (PS3.8 table 9-21): close the connection. `text` is for a person."""

    result: int
    source: int
    reason: int
    text: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The peer aborted, or its answer is unusable: then `pdu` is the A-ABORT to send. `text` is for a person."""

    text: str
    pdu: bytes = b""


# --- short PDUs and their words ---------------------------------------------------------------------------------------

_RESULTS: Final = {1: "permanently", 2: "for the moment"}
_REJECTIONS: Final = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given by the association service",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit of associations exceeded",
}
_ABORTS: Final = {
    pdata.REASON_NOT_SPECIFIED: "no reason given",
    pdata.REASON_UNRECOGNIZED: "unrecognized PDU",
    pdata.REASON_UNEXPECTED: "unexpected PDU",
    pdata.REASON_UNRECOGNIZED_PARAMETER: "unrecognized PDU parameter",
    pdata.REASON_UNEXPECTED_PARAMETER: "unexpected PDU parameter",
    pdata.REASON_INVALID: "invalid PDU parameter value",
}


def reject(result: int, source: int, reason: int) -> bytes:
    """The A-ASSOCIATE-RJ PDU (PS3.8 table 9-21)."""
    return bytes((pdata.ASSOCIATE_RJ, 0, 0, 0, 0, 4, 0, result, source, reason))


def abort(source: int, reason: int) -> bytes:
    """The A-ABORT PDU (PS3.8 table 9-26): source 0 is the service user, 2 the provider, whose reason alone counts."""
    return bytes((pdata.ABORT, 0, 0, 0, 0, 4, 0, 0, source, reason))


def reject_text(result: int, source: int, reason: int) -> str:
    """An A-ASSOCIATE-RJ for a person: ``rejected permanently: called AE title not recognized (1/1/7)``."""
    words = _REJECTIONS.get((source, reason), "unknown reason")
    return f"rejected {_RESULTS.get(result, 'with an unknown result')}: {words} ({result}/{source}/{reason})"


def abort_text(source: int, reason: int) -> str:
    """An A-ABORT for a person: ``aborted by the DICOM service provider: unexpected PDU (2/2)``."""
    if source == 0:
        return "aborted by the application (0)"
    by = "the DICOM service provider" if source == 2 else "an unknown source"
    return f"aborted by {by}: {_ABORTS.get(reason, 'unknown reason')} ({source}/{reason})"


# --- values -----------------------------------------------------------------------------------------------------------

_ANY_UID: Final = re.compile(r"[0-9.]{1,64}")
_CONFORMANT_UID: Final = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")
_LONGEST_UID: Final = 72  # with some padding; longer ones are not worth remembering
_PRINTABLE: Final = bytes(byte if 0x20 <= byte < 0x7F and byte != ord("\\") else ord("?") for byte in range(256))


def text(raw: bytes) -> str:
    """Text that a peer sent: ended by a NUL where it has one, stripped; what an AE title may not hold becomes ``?``."""
    return raw.lstrip(b"\0 ").partition(b"\0")[0].translate(_PRINTABLE).decode("ascii").strip()


def uid(raw: bytes) -> str:
    """A UID without its padding, the same object each time; empty where it is none. Leading zeros pass (PS3.5 9.1)."""
    return _uid(raw) if len(raw) <= _LONGEST_UID else ""


@lru_cache(4096)
def _uid(raw: bytes) -> str:
    name = raw.strip(b"\0 ").decode("ascii", "replace")
    return name if _ANY_UID.fullmatch(name) else ""


def conformant(*uids: str) -> bool:
    """Whether these are UIDs to the letter of PS3.5 9.1, leading zeros included."""
    return all(map(_CONFORMANT_UID.fullmatch, uids))


def check_title(title: str) -> None:
    """Raise ValueError unless this is an AE title without padding (PS3.5 6.2)."""
    if not title or len(title) > 16 or not title.isascii() or text(title.encode()) != title:
        raise ValueError(f"not an AE title (1 to 16 printable ASCII characters, no backslash): {title!r}")


def _check_ours(max_pdu: int, implementation_uid: str, implementation_version: str) -> None:
    if max_pdu and not SMALLEST_PDU <= max_pdu < 1 << 32:
        raise ValueError(f"max_pdu is 0 or {SMALLEST_PDU} to {(1 << 32) - 1} bytes, not {max_pdu}")
    if not conformant(implementation_uid) or len(implementation_uid) > 64:
        raise ValueError(f"not a UID: {implementation_uid!r}")
    check_title(implementation_version)


# --- items ------------------------------------------------------------------------------------------------------------


def peek(rq: bytes) -> tuple[str, str]:
    """Called and calling AE title of an A-ASSOCIATE-RQ, stripped and printable, either may be empty (PS3.8 table 9-11).

    Raises Malformed for anything else and for one that ends before its first item.
    """
    if rq[:1] != bytes((pdata.ASSOCIATE_RQ,)):
        known = rq[:1] and pdata.ASSOCIATE_RQ <= rq[0] <= pdata.ABORT
        raise Malformed(
            f"PDU of type {rq[:1].hex() or '?'}H where an A-ASSOCIATE-RQ belongs",
            pdata.REASON_UNEXPECTED if known else pdata.REASON_UNRECOGNIZED,
        )
    if len(rq) < VARIABLE:
        raise Malformed(f"A-ASSOCIATE-RQ of only {len(rq)} bytes")
    return text(rq[10:26]), text(rq[26:42])


def check_length(pdu: bytes, least: int) -> None:
    """Raise Malformed where the PDU's length field is wrong or the PDU is shorter than `least` bytes."""
    said = int.from_bytes(pdu[2:6], "big")
    if len(pdu) < least or said != len(pdu) - 6:
        raise Malformed(f"the PDU is {len(pdu)} bytes long, and says that {said} follow its 6-byte header")


def items(data: bytes, at: int, most: int) -> Iterator[tuple[int, bytes]]:
    """Type and whole of each item from `at` on (PS3.8 9.3.1: unrecognized types are for the caller to skip).

    Raises Malformed where an item does not fit or is not among the first `most`.
    """
    end = len(data)
    while at < end:
        stop = at + 4 + int.from_bytes(data[at + 2 : at + 4], "big")
        most -= 1
        if stop > end or most < 0:
            what = "runs past the end" if most >= 0 else "is one too many"
            raise Malformed(f"the item of type {data[at]:02X}H at byte {at} {what}")
        yield data[at], data[at:stop]
        at = stop


def item(kind: int, body: bytes) -> bytes:
    """An item or sub-item."""
    return bytes((kind, 0)) + len(body).to_bytes(2, "big") + body


def splice(pdu: bytes, reserved: bytes, extra: Iterable[bytes]) -> bytes:
    """An A-ASSOCIATE PDU with its bytes 10 to 73 replaced and `extra` items behind its first one."""
    at = VARIABLE + 4 + int.from_bytes(pdu[VARIABLE + 2 : VARIABLE + 4], "big")
    body = b"".join((pdu[6:10], reserved, pdu[VARIABLE:at], *extra, pdu[at:]))
    return pdu[:2] + len(body).to_bytes(4, "big") + body


@dataclass(slots=True)
class UserInformation:
    """The sub-items of a User Information item, by type, the first of each; roles by SOP class (PS3.7 annex D.3.3)."""

    single: dict[int, bytes]
    roles: dict[str, tuple[bool, bool]]

    @classmethod
    def of(cls, whole: bytes) -> UserInformation:
        """Take the item apart; raises Malformed."""
        found = cls({}, {})
        for kind, sub in items(whole, 4, MOST_USER_ITEMS):
            if kind == 0x54:
                _take_role(sub, found.roles)
            else:
                found.single.setdefault(kind, sub)
        return found

    @property
    def max_pdu(self) -> int:
        """Bytes that the peer takes in one PDU, 0 without limit (PS3.8 D.1); raises Malformed."""
        sub = self.single.get(0x51)
        if sub is None:
            return DEFAULT_MAX_PDU
        said = int.from_bytes(sub[4:], "big")
        if len(sub) != 8 or 0 < said < SMALLEST_PDU:
            raise Malformed(f"the maximum length of a PDU is said to be {said} (in {len(sub) - 4} bytes)")
        return said

    @property
    def implementation(self) -> tuple[str, str]:
        """Class UID and version name, as sent: they are shown, not judged."""
        return text(self.single.get(0x52, b"")[4:])[:64], text(self.single.get(0x55, b"")[4:])[:16]


def _take_role(sub: bytes, roles: dict[str, tuple[bool, bool]]) -> None:
    """Note the SCU and SCP role of an SCP/SCU Role Selection sub-item (PS3.7 table D.3-9); raises Malformed."""
    at = 6 + int.from_bytes(sub[4:6], "big")
    if len(sub) < at + 2:
        raise Malformed("a role selection sub-item is cut short")
    roles[uid(sub[6:at])] = bool(sub[at]), bool(sub[at + 1])


# --- the answer to a proposal -----------------------------------------------------------------------------------------


def established(proposal: Proposal, pdu: bytes) -> Established:
    """What an A-ASSOCIATE-AC gives us of what we proposed; raises Malformed.

    Titles, protocol version and application context are not tested (PS3.8 table 9-17, PS3.7 A.2.1).
    """
    user, notes = UserInformation({}, {}), list[str]()
    answers: dict[int, tuple[int, str]] = {}
    for kind, whole in items(pdu, VARIABLE, MOST_ITEMS):
        if kind == 0x21:
            _take_answer(whole, answers, notes)
        elif kind == 0x50:
            user = UserInformation.of(whole)
    contexts, rejected = _match(proposal, answers, notes)
    return Established(contexts, rejected, user.max_pdu, *user.implementation, tuple(notes))


def _take_answer(whole: bytes, answers: dict[int, tuple[int, str]], notes: list[str]) -> None:
    """Note result and transfer syntax of a context; an id that is answered twice, differently, cannot be used."""
    if len(whole) < 8:
        raise Malformed("a presentation context item without a result")
    number, accepted = whole[4], whole[6] == ACCEPTANCE
    names = [uid(sub[4:]) for kind, sub in items(whole, 8, MOST_SUB_ITEMS) if kind == 0x40] if accepted else []
    answer = whole[6], (names or [""])[0]
    if answers.setdefault(number, answer) != answer:
        answers[number] = NO_REASON, ""
        notes.append(f"context {number}: answered twice, differently")


def _match(
    proposal: Proposal, answers: dict[int, tuple[int, str]], notes: list[str]
) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], int]]:
    contexts: dict[tuple[str, str], int] = {}
    rejected: dict[tuple[str, str], int] = {}
    for number, abstract, syntaxes in proposal.numbered():
        result, syntax = answers.pop(number, (NO_REASON, "?"))
        if syntax == "?":
            notes.append(f"context {number}: not answered")
        if result == ACCEPTANCE and syntax not in syntaxes:
            notes.append(f"context {number}: accepted with {syntax or 'no transfer syntax'}, which was not proposed")
            result = NO_TRANSFER
        if result == ACCEPTANCE:
            contexts.setdefault((abstract, syntax), number)
        else:
            rejected |= {(abstract, name): result for name in syntaxes}
    notes += [f"context {number}: answered, but not proposed" for number in answers]
    return contexts, {pair: result for pair, result in rejected.items() if pair not in contexts}
