"""Several destinations as one: which member of a group a study belongs to, and what the journal is told of that.

Guarantees: pure. The order in which members are asked depends on nothing but the group's settings and the study, so
that it is the same after a restart, and late images of a study come out where the earlier ones did. Failures: none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log

from xxhash import xxh3_64_intdigest

_RANGE = 1 << 64


@dataclass(frozen=True, slots=True)
class Group:
    """A group whose images go to one member each. ``keep``: seconds for which a study that pauses is not over."""

    name: str
    balance: bool
    members: tuple[str, ...]
    weights: tuple[int, ...]
    keep: float

    def ranked(self, study: str) -> Sequence[str]:
        """The members, the one that ``study`` is for first, then those that take its place.

        Failover: in the order of the file. Balance: by rendezvous hashing, so that of many studies each member gets
        its weight's share, and one that comes, goes or is down changes nothing for the studies of the others.
        """
        if not self.balance:
            return self.members
        weighed = zip(self.members, self.weights, strict=True)
        distances = {member: _distance(member, study) / weight for member, weight in weighed}
        return sorted(self.members, key=distances.__getitem__)


def _distance(member: str, study: str) -> float:
    """A number of the exponential distribution, always the same for the two."""
    name = f"{member}\0{study}".encode("utf-8", "backslashreplace")
    return -log((xxh3_64_intdigest(name) + 1) / (_RANGE + 1))


@dataclass(frozen=True, slots=True)
class Move:
    """A study of a group is its ``member``'s from now on: all its images that are kept go there, those that an earlier
    member was still owed and those that one has. Doing it twice changes nothing. ``reason``: for the images' stories.

    It touches the images that the new member had not got yet.
    """

    group: str
    study: str
    member: str
    reason: str


@dataclass(frozen=True, slots=True)
class EndStudies:
    """Studies of groups that are over are forgotten, up to ``limit`` of them, and their images' files may go.

    Over: nothing is on its way to the member, and none came for ``keep`` ({group: seconds}; 0 for those not in it), or
    the study has gone on for ``longest`` seconds. It touches the studies that are over.
    """

    keep: Mapping[str, float]
    longest: float
    limit: int = 50


@dataclass(slots=True)
class Regrouped:
    """What a commit changed for groups.

    ``members``: (group, study, member, destination) of admitted images whose study is another member's than the
    destination that they were routed to.
    ``ended``: (group, study) of those that are over. ``taken``: (instance id, destination, bytes, whether it was a dead
    letter) of deliveries that are no more; ``given``: (instance id, destination, bytes) of those that are new.
    """

    members: list[tuple[str, str, str, str]] = field(default_factory=list)
    ended: list[tuple[str, str]] = field(default_factory=list)
    taken: list[tuple[int, str, int, bool]] = field(default_factory=list)
    given: list[tuple[int, str, int]] = field(default_factory=list)
