"""Sharing out the process's descriptors: callers must not take those that images need on their way.

The kernel gives every new descriptor the lowest free number (POSIX, "file descriptor allocation"), so the number of a
connection that was just accepted tells how many are taken at that moment, whoever has them: no counting is needed, and
none can be forgotten. Connections with a number at or above ``callers`` are too many; what lies above is for files
being written and read, for associations to destinations, for the journal and for those who ask for the status.
"""

from __future__ import annotations

import logging
import resource
from dataclasses import dataclass

log = logging.getLogger(__name__)

OWN = 40
"""Descriptors of the process itself: libraries, journal, log, sockets that listen, people's commands."""

FILES = 64
"""Files that one committing thread may have open at a time, where there are enough descriptors."""

KEPT, LEAST_KEPT = 768, 64
"""Files that stay open for the next images, where there are many descriptors (at 2,000 images a second those of the
images that are under way or just released), and below how many it is not worth it any more."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """``limit``: of the process, 0 where there is none. ``callers``: see module. ``files``: for ``FILES``.

    ``kept``: of files that are written and may stay open for the next images, none where descriptors are few.
    """

    limit: int
    callers: int
    files: int
    kept: int = 0

    @classmethod
    def plan(cls, limit: int, associations: int, committing: int = 2) -> Descriptors:
        """Share ``limit`` out, at least half of it to callers.

        ``associations``: how many there may be in all; an inbound one may have a file of its own open, an outbound one
        is a descriptor. ``committing``: threads.
        """
        wanted = OWN + committing * FILES + associations
        spare = min(wanted, limit // 2)
        kept = min(KEPT, limit // 2 - wanted) if limit else KEPT
        kept = kept if kept >= LEAST_KEPT else 0
        return cls(limit, limit - spare - kept, max(4, min(FILES, spare // 8)), kept)

    def scarce(self, number: int) -> bool:
        """Whether a connection that was given descriptor ``number`` is one too many."""
        return bool(self.limit) and number >= self.callers

    @property
    def room(self) -> int:
        """Callers that there is certainly room for at a time."""
        return max(self.callers - OWN, 1)


def limit() -> int:
    """The number of descriptors that this process may have (RLIMIT_NOFILE, the soft limit); 0 for any number."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if soft == resource.RLIM_INFINITY else soft


def shared_out(callers: int, outbound: int) -> Descriptors:
    """Those of this process, for so many inbound and outbound associations; a limit that is too low is told."""
    plan = Descriptors.plan(limit(), outbound + callers)
    if plan.limit and plan.room < callers:
        log.warning(
            "open files are limited to %d: room for some %d callers, max_associations allows %d (raise the limit)",
            plan.limit,
            plan.room,
            callers,
        )
    return plan
