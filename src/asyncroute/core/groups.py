"""Several destinations as one: which member of a group a study belongs to.

Guarantees: pure. The order in which members are asked depends on nothing but the group's settings and the study, so
that it is the same after a restart, and late images of a study come out where the earlier ones did. Failures: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
