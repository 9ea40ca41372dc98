"""The durable queue, as verbs: what a journal promises to the stages.

Writing verbs (``commit``) block and are called from committing threads only, a group at a time; a group is one
transaction. Reading verbs are coroutines and never hold up a writer. No stage may assume that it sees all deliveries:
``claim`` hands out what no other owner holds. A claim of the SQLite journal lives in memory, because its lock file
makes this process the only owner; a shared journal would write owner and lease.

Failures are ``StorageFault``s (disk full, I/O error, locked, damaged); after a failed ``commit`` nothing of the group
is in the journal. A fault that makes the journal itself doubtful (a failed fsync, damage) sets ``Writer.broken``: every
later ``commit`` fails at once, and only a restart, which reads the journal anew, helps.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from asyncroute.batch.base import Batches
from asyncroute.core.batches import BatchAction
from asyncroute.core.completion import Awaited, Completion
from asyncroute.core.groups import EndStudies, Move, Regrouped
from asyncroute.core.model import Delivery, Instance, RouteHit, Selection, Sent, Settlement, Source, Strand
from asyncroute.core.proof import Inquiry, Kept, Pledge, ProofAction, Reference, Unproven
from asyncroute.core.states import DeliveryState
from asyncroute.core.told import Part, QueueRow, Remembered


@dataclass(frozen=True, slots=True)
class Retry:
    """A person's word: failed deliveries become ready again, with no attempts charged.

    If ``selection.states`` names READY, those that wait for their next attempt become due at once.
    """

    selection: Selection


@dataclass(frozen=True, slots=True)
class Discard:
    """A person's word: failed deliveries (``selection.states`` may name WAITING and READY), or held images, go."""

    selection: Selection
    held: bool = False


@dataclass(frozen=True, slots=True)
class Reroute:
    """A held image gets deliveries after all (its hold ends), or a new hold reason where still none fits."""

    instance_id: int
    hits: tuple[RouteHit, ...]
    hold_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Redirect:
    """A person's word: failed deliveries (``selection.states`` may name WAITING and READY) go to another destination.

    Each is ended and begins anew there, ready. An image that goes or went there already is left as it is.
    """

    selection: Selection
    destination: str


@dataclass(frozen=True, slots=True)
class FileLost:
    """An image's spool file is missing or not what was written: its pending deliveries become failed with ``reason``.

    A held image keeps its hold, with ``reason`` in front. Either way an event is written, once.
    """

    instance_id: int
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Hold:
    """A person's word: nothing is sent to this destination until ``Release``. An event is written if it is news."""

    destination: str


@dataclass(frozen=True, slots=True)
class Release:
    """A person's word: the destination is held no more. An event is written if it was."""

    destination: str


@dataclass(frozen=True, slots=True)
class Complete:
    """These completions (``Completion.id``) are complete: all deliveries that wait for them become ready, together."""

    ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class SendNow:
    """A person's word: selected deliveries wait no longer for a completion. ``late``: only those that came late.

    Completions for which nothing waits then are over.
    """

    selection: Selection
    late: bool = False


Action = (
    Retry
    | Discard
    | Reroute
    | Redirect
    | FileLost
    | Hold
    | Release
    | Complete
    | SendNow
    | Move
    | EndStudies
    | ProofAction
    | BatchAction
)


@dataclass(slots=True)
class Group:
    """What one transaction writes. ``released``: instances whose files have left the spool.

    Times of actions (``Reroute``, ``Discard``, ...) are ``at``, seconds since the epoch; 0: now. It is also when the
    images are queued (their files are stored); 0: when they were received. ``later``: headers of the images, and the
    comparison with earlier copies, may wait for another group.
    """

    admits: Sequence[Instance] = ()
    settlements: Sequence[Settlement] = ()
    released: Sequence[int] = ()
    actions: Sequence[Action] = ()
    events: Sequence[Event] = ()
    at: float = 0.0
    later: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """An exception worth telling (a failure, a hold, a person's action), for an image's story or a destination's.

    ``kind`` of an image's: "retry", "failed" and "warning" (results), "attempt" (one that is not charged), "retried",
    "discarded", "replayed", "rerouted", "released" and "routed" (a person's word), "conflict", "file-lost", "moved" (to
    another member of a group), "confirmed" and "unconfirmed" (proof); of a destination's: "down", "up", "pause",
    "held", "failover". Of one image and destination the last hundred are kept.
    """

    at: float
    kind: str
    text: str
    instance_id: int | None = None
    destination: str | None = None


@dataclass(slots=True)
class Committed:
    """What a commit did. ``releasable``: (instance id, path) of images whose every delivery is settled.

    Those are the images that this group touched: settled, discarded, or admitted with neither delivery nor hold. One
    settled twice before its release may be listed twice.
    ``refused``: admitted instances that could not be written though the rest was, with the reason (one line).
    ``acted``: for each action of the group the number of deliveries or images it touched.
    ``conflicts``: ids of admitted instances whose SOP Instance UID was received before with other bytes.
    ``completions``: what admitted images wait for; their ``images`` and ``owed`` are those of this group.
    ``regrouped``: None where no group was concerned.
    """

    releasable: list[tuple[int, str]] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    acted: list[int] = field(default_factory=list)
    conflicts: list[int] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)
    regrouped: Regrouped | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """One time in which a person held a destination.

    ``at``: when it began, in seconds since the epoch. ``since``, ``until``: the same time on the journal's clock
    (``Writer.clock``); ``until`` None: it is still held.
    """

    at: float
    since: float
    until: float | None


@dataclass(slots=True)
class Counts:
    """Deliveries by destination and state, held images, and the totals that survive restarts and pruning.

    ``open``: {destination: {state: deliveries}} for states not yet settled. ``backlog_bytes``: data set bytes that
    still wait per destination (dead letters do not). ``oldest``: per destination, when its oldest waiting image was
    queued (seconds since epoch).
    ``totals``: {"received": images, "delivered": deliveries, "discarded": ..., "warned": ...};
    ``delivered``: {destination: deliveries}; ``unconfirmed``: those of them that wait for proof.
    ``holds``: {destination: times in which a person held it}, oldest first.
    """

    open: Mapping[str, Mapping[DeliveryState, int]]
    backlog_bytes: Mapping[str, int]
    oldest: Mapping[str, float]
    held: int
    totals: Mapping[str, int]
    delivered: Mapping[str, int]
    holds: Mapping[str, Sequence[Held]] = field(default_factory=dict)
    unconfirmed: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Unreleased:
    """An image whose file should be in the spool. ``length``: of the whole file, in bytes.

    ``pending``: it has deliveries that wait, are ready or were being sent; ``failed``: it has dead letters; ``kept``:
    its study at a group's member is not over.
    """

    id: int
    path: str
    length: int
    held: bool
    pending: bool
    failed: bool
    kept: bool = False


@dataclass(slots=True)
class OneDelivery:
    """A delivery, for a person. Times are seconds since the epoch; ``first_try_at``: when the first result came.

    ``sent``: what it last went out as; None: as it came, or not yet.
    """

    destination: str
    route: str
    state: DeliveryState
    attempts: int
    not_before: float
    last_status: int | None
    last_error: str
    queued_at: float
    first_try_at: float | None
    settled_at: float | None
    awaited: Awaited | None = None
    sent: Sent | None = None


@dataclass(slots=True)
class ImageStory:
    """What the journal knows of an image, for a person. ``received_at``: when its first bytes came.

    ``in_spool``: its file has not been released.
    """

    id: int
    source: Source
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    received_at: float
    size: int
    checksum: int
    study_uid: str
    series_uid: str
    patient_id: str
    accession: str
    modality: str
    hold_reason: str | None
    in_spool: bool
    deliveries: list[OneDelivery] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


class Writer(Protocol):
    """The committing threads' side. Thread-safe; groups are written one after the other."""

    @property
    def broken(self) -> str | None:
        """Why nothing can be written any more; None while all is well."""
        ...

    def commit(self, group: Group) -> Committed:
        """Write ``group`` durably in one transaction (PS-independent; SQLite: WAL, synchronous=FULL).

        Raises:
            StorageFault: nothing of the group was written.
        """
        ...

    def clock(self) -> float:
        """Seconds in which routers have run on this journal: it never jumps, and stands while none runs."""
        ...

    def prune(self, before: float, limit: int = 1000) -> int:
        """Forget up to ``limit`` images received before ``before`` (and old events and studies) whose story is over.

        Over: released, and every delivery settled. Totals stay. Returns the number of images forgotten: call again,
        with a pause, until 0. Each call is one small transaction.
        """
        ...

    def unreleased(self, after: int, limit: int) -> list[Unreleased]:
        """Up to ``limit`` images with ids above ``after`` whose files should exist, by ascending id (for recovery)."""
        ...

    @property
    def fresh(self) -> bool:
        """Whether there was no journal before this one was opened."""
        ...

    def was_admitted(self, instance_id: int, checksum: int | None) -> bool:
        """Whether the journal has this image, released or not (for recovery). None: whatever its checksum."""
        ...

    def is_owed(self, instance_id: int) -> bool:
        """Whether the journal has this image as not released, held, or with open deliveries (for recovery)."""
        ...

    def newest(self) -> float | None:
        """When the last image was received (seconds since the epoch); None: the journal remembers none."""
        ...

    def last_id(self) -> int:
        """The highest instance id that the journal ever held; 0: none."""
        ...

    def close(self) -> None:
        """Checkpoint and close. Idempotent."""
        ...


class Stories(Protocol):
    """What the journal remembers of images, for people: searches may take seconds. Lists of ids are oldest first."""

    async def copies(self, sop_instance_uid: str) -> list[int]:
        """Every time that this SOP instance was received."""
        ...

    async def belonging(self, name: str) -> list[int]:
        """Images whose Study Instance UID or accession number is ``name``: looks at all images."""
        ...

    async def images(self, ids: Sequence[int]) -> list[ImageStory]:
        """Those of ``ids`` that there are, in that order."""
        ...

    async def troubles(self, destinations: Collection[str], since: float, until: float, limit: int) -> list[Event]:
        """The last ``limit`` events of these destinations themselves, oldest first."""
        ...

    async def tallies(self, ids: Sequence[int]) -> list[tuple[str, DeliveryState, int]]:
        """How many of these images' deliveries are in which state, by destination."""
        ...

    async def parts(self, ids: Sequence[int]) -> list[Part]:
        """What these images are and where they came from."""
        ...

    async def remarkable(self, ids: Sequence[int]) -> list[int]:
        """Those that are not plainly delivered: dead letters and held ones, then what is owed, then the rest."""
        ...

    async def memory(self) -> Remembered:
        """See ``Remembered``."""
        ...

    async def sources(self, study_uid: str) -> list[tuple[str, int, float, float]]:
        """Calling AE title, images received, first and last time: also of a study whose images are forgotten."""
        ...


class Claim(NamedTuple):
    """What ``Reader.claim`` found, by priority, then by id."""

    deliveries: list[Delivery]
    more: bool = False
    """Whether there may be more that is due."""
    cut: frozenset[Strand] = frozenset()
    """Strands of which there may be more."""
    partial: bool = False
    """Whether there are so many strands that others have to be next."""


class Proofs(Protocol):
    """What the journal knows of deliveries that wait for proof (``core.proof``)."""

    async def of(self, ids: Sequence[int]) -> dict[tuple[int, str], str]:
        """Those of these images, by instance and destination: the transaction that asks for it; empty: none yet."""
        ...

    async def waiting(self, destination: str, limit: int, after: int = 0) -> list[Unproven]:
        """Up to ``limit`` that no transaction asks for now, of images with ids above ``after``, oldest first."""
        ...

    async def inquiry(self, transaction_uid: str) -> Inquiry | None:
        """A transaction that a destination was asked for, also one that is over; None: it is not known (any more)."""
        ...

    async def next_due(self, destination: str) -> float | None:
        """When the next transaction is overdue (seconds since the epoch); None: there is none."""
        ...

    async def pledges(self) -> list[int]:
        """The ids of all pledges, oldest first."""
        ...

    async def pledge(self, pledge_id: int) -> Pledge | None:
        """One of them; None: it is redeemed."""
        ...

    async def kept(self, references: Sequence[Reference]) -> list[Kept]:
        """What became of each of these SOP instances."""
        ...


class Reader(Protocol):
    """The event loop's side."""

    @property
    def batches(self) -> Batches:
        """What it knows of batches."""
        ...

    @property
    def proofs(self) -> Proofs:
        """What it knows of deliveries that wait for proof."""
        ...

    @property
    def stories(self) -> Stories:
        """What it tells people."""
        ...

    async def claim(self, destination: str, rooms: Mapping[int, int], now: float, exclude: Collection[int]) -> Claim:
        """Ready deliveries of ``destination`` that are due, none of ``exclude``: of each class as many as ``rooms``.

        Due: ``not_before`` <= ``now``, or so far ahead that only a clock jump explains it. Of each strand the oldest,
        and as many as of each other one, if it has them. Of very many strands those that are next by turns.
        """
        ...

    async def next_due(self, destination: str, now: float, exclude: Collection[int]) -> float | None:
        """Seconds from ``now`` until the next ready delivery of ``destination``, none of ``exclude``, is due.

        Those already due do not count. None: there is none.
        """
        ...

    async def group_studies(self, limit: int) -> list[tuple[str, str, str]]:
        """(group, study, member) of studies that are not over, up to ``limit``, the last active ones first."""
        ...

    async def group_owed(self, group: str, member: str, limit: int) -> list[tuple[str, int]]:
        """Up to ``limit`` studies of ``group`` of which ``member`` is still owed images, with the number of all."""
        ...

    async def group_strays(self) -> list[tuple[str, str, str]]:
        """(group, study, destination): images of the study are on their way there, but it is another member's."""
        ...

    async def counts(self) -> Counts:
        """See ``Counts``."""
        ...

    async def completions(self) -> list[Completion]:
        """All for which images wait, by id."""
        ...

    async def rows(self, selection: Selection, limit: int, held: bool = False) -> list[QueueRow]:
        """Open deliveries (or held images) of ``selection``, oldest first."""
        ...

    async def instance(self, instance_id: int) -> Instance | None:
        """One instance, or None."""
        ...

    async def close(self) -> None:
        """Close. Idempotent."""
        ...
