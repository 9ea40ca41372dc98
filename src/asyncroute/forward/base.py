"""What a channel and its lanes know of each other, as Protocols.

A lane is one parallel path to a destination (an association, a folder writer). The channel decides what goes next and
on which lane; a lane carries it out and reports exactly one ``Outcome`` per delivery it was given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from asyncroute.core.errors import PeerFault
from asyncroute.core.model import Delivery
from asyncroute.core.outcomes import Outcome
from asyncroute.core.proof import Commitment, Reference

Pair = tuple[str, str]
"""(SOP class UID, transfer syntax UID): what a presentation context is needed for."""

Bond = str
"""What the deliveries of one association have in common: the calling AE title and, where more is asked for (all of one
study, say), that behind a backslash, which no AE title has."""

Key = tuple[Bond, str, str]
"""(bond, SOP class UID, transfer syntax UID): deliveries that are alike for an association."""


def title_of(bond: Bond) -> str:
    """Its calling AE title."""
    return bond.partition("\\")[0]


class Titles(frozenset[str]):
    """Calling AE titles, in which bonds are looked up."""

    def __contains__(self, bond: object) -> bool:
        return super().__contains__(title_of(str(bond)))


FIRST = 1 << 20
"""Bytes of an image that the channel counts when it begins; for those behind them see ``Reports.spend``."""


class Lane(Protocol):
    """See module. The loop's thread only."""

    open: bool
    """Whether it has a connection (or a connection is being made)."""

    def carries(self, key: Key) -> bool:
        """Whether such deliveries can begin without a new association."""
        ...

    def begin(self, delivery: Delivery, bond: Bond, probe: bool) -> None:
        """Deliver; ``Reports.finished`` follows, never from within this call. ``probe``: with C-ECHO first."""
        ...

    def close(self) -> None:
        """Release what is open, politely. Only while it has no delivery. Idempotent."""
        ...

    def abort(self) -> None:
        """End at once; a delivery under way is not reported any more. Idempotent."""
        ...

    def info(self) -> dict[str, Any] | None:
        """Its line for ``status``'s outbound associations, or None while nothing is open."""
        ...


class Reports(Protocol):
    """The channel, as its lanes see it."""

    def finished(self, lane: Lane, delivery: Delivery, outcome: Outcome) -> None:
        """What became of the delivery; the lane is free for the next one, which may begin within this call."""
        ...

    def opened(self, lane: Lane, seconds: float) -> None:
        """Its association, for the delivery that it was given, is there ``seconds`` after it was asked for."""
        ...

    def restarted(self, lane: Lane) -> None:
        """Only now it begins to send what it was given: until then what goes out was being made here."""
        ...

    def closed(self, lane: Lane) -> None:
        """The lane's connection is gone while it had nothing to do."""
        ...

    def spend(self, count: int, resume: Callable[[], None] | None = None) -> bool:
        """``count`` bytes are sent besides the first ``FIRST`` of the image. With ``resume`` they are not if that would
        be too fast: then the answer is False, and ``resume`` is called when it is worth while to ask again."""
        ...

    def wanted(self, bond: Bond) -> Iterable[Pair]:
        """What ready deliveries of this bond need, oldest first, then what its title or anybody needed before."""
        ...


class Forwarder(Protocol):
    """A kind of destination: makes lanes and knows how its deliveries are alike."""

    kind: str

    def key(self, delivery: Delivery) -> Key:
        """See ``Key`` and ``Bond``.

        Raises:
            core.titles.WrongTitle: there is none for it.
        """
        ...

    def lane(self, reports: Reports) -> Lane:
        """A new lane, nothing open yet."""
        ...


# --- proof of deliveries ----------------------------------------------------------------------------------------------

TakeReport = Callable[[Commitment], Awaitable[tuple[int, str]]]
"""Who takes reports of Storage Commitment: status and comment of the answer. What it says is durable by then."""


class NotAsked(PeerFault):
    """A destination could not be asked to prove its deliveries. ``heard``: it may have heard the request anyway."""

    def __init__(self, message: str, heard: bool) -> None:
        super().__init__(message)
        self.heard = heard


class Committing(Protocol):
    """An association on which a destination is asked to commit images."""

    async def ask(self, transaction_uid: str, references: Sequence[Reference]) -> None:
        """Ask, one transaction at a time. The report may come by any way, also before this returns.

        Raises:
            NotAsked: it did not take the request.
        """
        ...

    async def linger(self, seconds: float) -> None:
        """Wait for reports to what was asked here; at most so long, and no longer than the association lives."""
        ...

    def close(self) -> None:
        """End the association. Idempotent."""
        ...


class Committer(Protocol):
    """How a destination is asked to commit images."""

    async def open(self, report: TakeReport) -> Committing:
        """An association; ``report`` takes what it reports there.

        Raises:
            NotAsked: there is none.
        """
        ...


class Querying(Protocol):
    """An association on which a destination is queried for images."""

    async def find(self, study_uid: str, series_uid: str, wanted: frozenset[str]) -> set[str]:
        """Those of the ``wanted`` SOP Instance UIDs that it has in this series.

        Raises:
            NotAsked: it did not answer, or refused.
        """
        ...

    def close(self) -> None:
        """End the association. Idempotent."""
        ...


class Querier(Protocol):
    """How a destination is queried for images."""

    async def open(self, title: str) -> Querying:
        """An association under this calling AE title.

        Raises:
            NotAsked: there is none.
        """
        ...
