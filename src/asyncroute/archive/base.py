"""What the archive knows of its files, as a Protocol: which image lies where, and which steps are under way.

Every verb is one durable transaction. A step that changes files is written down before it (``intend``) and after it
(``arrived``, ``moved``), so that a crash between any two leaves nothing unknown: an intent names a place at which a
file may be, a leftover a file that is to be removed because another one is known to be safe, or its study ended.
Failures: ``StorageFault``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from asyncroute.spool.base import Facts


@dataclass(frozen=True, slots=True)
class TierRow:
    """A tier that is known. ``uid``: what its folder calls itself; ``unindexed``: it had files before it was known."""

    id: int
    uid: str
    path: str
    unindexed: bool = False


@dataclass(frozen=True, slots=True)
class Arrival:
    """An image that has got its place: the names that it is found by, and what its file says about itself.

    ``kept_at`` is when it was archived (seconds since the epoch); ``study_uid`` may be empty.
    """

    tier: int
    path: str
    facts: Facts
    study_uid: str
    patient_id: str
    accession: str
    study_date: str
    kept_at: float


@dataclass(frozen=True, slots=True)
class Kept:
    """One archived image. ``path``: below its tier. ``wrong``: what is wrong with its file; empty: nothing known."""

    id: int
    study: int
    tier: int
    path: str
    sop_instance_uid: str
    transfer_syntax: str
    number: int
    received_at: float
    kept_at: float
    data_offset: int
    size: int
    checksum: int
    wrong: str = ""

    @property
    def length(self) -> int:
        """Bytes of the whole file."""
        return self.data_offset + self.size


class Intent(NamedTuple):
    """A place at which a file may be. ``image``: the archived image that moves there; None: one from the spool."""

    id: int
    tier: int
    path: str
    image: int | None


class Leftover(NamedTuple):
    """A file that is not needed any more."""

    id: int
    tier: int
    path: str


class Holding(NamedTuple):
    """What a tier has of a study; ``last_at``: when the study's last image was archived, wherever."""

    study: int
    study_uid: str
    images: int
    bytes: int
    last_at: float


class Total(NamedTuple):
    """What a tier has in all; ``oldest``: when the last image of its oldest study was archived (0: it is empty)."""

    tier: int
    studies: int
    images: int
    bytes: int
    oldest: float
    wrong: int


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study, for a person. ``tiers``: {path of the tier: images}; ``wrong``: images whose files are."""

    study_uid: str
    patient_ids: tuple[str, ...]
    accessions: tuple[str, ...]
    dates: tuple[str, ...]
    first_at: float
    last_at: float
    images: int
    bytes: int
    tiers: dict[str, int]
    wrong: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which studies a person means: all that is given must hold. ``date``: of the study, or a range ``from-to``."""

    study_uid: str | None = None
    accession: str | None = None
    patient_id: str | None = None
    date: str | None = None


class Replay(NamedTuple):
    """An archived image that is to be sent again. ``target``: only there; empty: where the routes say."""

    id: int
    request: int
    image: int
    target: str


class Request(NamedTuple):
    """A person's word to send images again, and how far it has come."""

    id: int
    at: float
    what: str
    target: str
    images: int
    waiting: int
    failed: int
    error: str


class Index(Protocol):
    """See module. Any thread."""

    # ---- tiers

    def tiers(self) -> list[TierRow]:
        """All that are known, also those that are no longer configured."""
        ...

    def add_tier(self, uid: str, path: str, unindexed: bool) -> TierRow:
        """A new one, or the known one of this ``uid``, which is at ``path`` now."""
        ...

    def setting(self, key: str) -> float | None:
        """A number that was noted."""
        ...

    def note(self, key: str, value: float) -> None:
        """Note a number."""
        ...

    # ---- images come, move and go

    def taken(self, tier: int, path: str) -> bool:
        """Whether a place is an image's, or is about to be."""
        ...

    def alike(self, facts: Facts) -> list[Kept]:
        """Sound images with this SOP Instance UID, transfer syntax, length and checksum."""
        ...

    def intend(self, places: Sequence[tuple[int, str, int | None]]) -> list[int]:
        """Files may come to be at these (tier, path, image that moves or None); the intents' ids."""
        ...

    def intents(self, tier: int) -> list[Intent]:
        """Those whose files may be on this tier."""
        ...

    def withdraw(self, intents: Sequence[int]) -> None:
        """Nothing has come of these."""
        ...

    def arrived(self, arrivals: Sequence[tuple[int | None, Arrival]]) -> None:
        """These files are safe (with the intents that are over); one whose place is known already changes nothing."""
        ...

    def moved(self, moves: Sequence[tuple[int, int]]) -> None:
        """(intent, image): the new file is safe; the old one is a leftover now."""
        ...

    def leftovers(self, tier: int, limit: int) -> list[Leftover]:
        """Files that are to be removed from this tier."""
        ...

    def cleared(self, leftovers: Sequence[int]) -> None:
        """They are removed."""
        ...

    def blame(self, image: int, wrong: str) -> None:
        """What is wrong with an image's file; empty: nothing any more."""
        ...

    # ---- studies

    def oldest(self, tier: int, limit: int, before: float) -> list[Holding]:
        """Studies of which ``tier`` has sound images and whose last one was archived before ``before``."""
        ...

    def holding(self, study: int, tier: int) -> Holding | None:
        """What ``tier`` has of a study; None: nothing that is sound."""
        ...

    def newest(self) -> float | None:
        """When the last image was archived (seconds since the epoch); None: none was."""
        ...

    def images(self, study: int, tier: int | None = None, limit: int = -1) -> list[Kept]:
        """The sound images of a study (on one tier), by id."""
        ...

    def ending(self, before: float, limit: int) -> list[Holding]:
        """Studies whose last image was archived before ``before``, and that nobody is about to send again."""
        ...

    def end(self, study: int) -> int:
        """Forget a study; its files are leftovers now. The number of its images."""
        ...

    def moving(self, tier: int) -> list[int]:
        """Studies whose move to this tier has begun and has not ended."""
        ...

    def begin_move(self, study: int, tier: int) -> None:
        """It is to be moved whole."""
        ...

    def end_move(self, study: int, tier: int) -> None:
        """It is there, or stays where it is."""
        ...

    # ---- for people

    def totals(self) -> list[Total]:
        """What each tier has."""
        ...

    def find(self, wanted: Wanted, limit: int) -> list[FoundStudy]:
        """Studies, the last archived first."""
        ...

    def after(self, image: int, tier: int | None, limit: int) -> list[Kept]:
        """Images with ids above ``image``, sound or not, by id."""
        ...

    def image(self, image: int) -> Kept | None:
        """One of them; None: it has ended."""
        ...

    # ---- sending again

    def ask(self, what: str, target: str, studies: Sequence[str], since: float | None, until: float | None) -> Request:
        """Images of these studies (by UID or accession; none: of all), received in this time, are to be sent again."""
        ...

    def replays(self, limit: int, after: int = 0) -> list[Replay]:
        """What is still to be sent again, by id."""
        ...

    def replayed(self, done: Sequence[int]) -> None:
        """These are on their way, durably."""
        ...

    def not_replayed(self, replay: int, why: str) -> None:
        """This one cannot be sent again."""
        ...

    def requests(self) -> list[Request]:
        """The last ones, those that are not over first."""
        ...

    def close(self) -> None:
        """Close. Idempotent."""
        ...
