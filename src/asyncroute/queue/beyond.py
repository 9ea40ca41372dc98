"""What the journal has more of than a channel holds: strands that were left there, or read in part. Pure.

Before the first answer, and of more than ``MOST`` strands, nothing is known: then all count as such.
"""

from __future__ import annotations

from asyncroute.core.model import Strand
from asyncroute.journal.base import Claim

MOST = 10_000
"""Strands that are remembered."""

LEAST = 100
"""Deliveries that begin before a strand that has ended here is a reason to read."""


class Beyond:
    """See module."""

    def __init__(self) -> None:
        self._dry: set[Strand] = set()
        """Strands that have ended here, of which the journal has more."""
        self._urgent = False
        self.begun = 0
        """Deliveries that began since the journal was read (the owner counts)."""
        self._strands: set[Strand] = set()
        self._known = self._partial = self._appeared = False

    def __contains__(self, strand: Strand) -> bool:
        return strand in self._strands or not self._known or len(self._strands) >= MOST

    def leave(self, strand: Strand) -> None:
        """One of this strand is not taken."""
        if len(self._strands) < MOST:
            self._strands.add(strand)

    def appear(self) -> None:
        """The journal has something new that may be next."""
        self._appeared = True

    def ended(self, strand: Strand, *, rest: bool) -> None:
        """The last of ``strand`` that was here has begun. ``rest``: others as urgent are here."""
        if strand in self:
            self._dry.add(strand)
            self._urgent = self._urgent or not rest

    @property
    def due(self) -> bool:
        """Whether to read what is new, or what has ended here: the latter at once if all that is left is less urgent,
        not if others are next."""
        return self._appeared or (bool(self._dry) and (self._urgent or (self.begun >= LEAST and not self._partial)))

    def reads(self) -> None:
        """The journal is being read."""
        self._dry.clear()
        self._urgent = self._appeared = False
        self.begun = 0

    def read(self, found: Claim) -> None:
        """It has answered."""
        self._known, self._partial = True, found.partial
        if not found.more:
            self._strands.clear()
        here = {d.strand for d in found.deliveries}
        self._dry -= here
        self._urgent = self._urgent and bool(self._dry)
        self._strands -= here - found.cut
        if len(self._strands) < MOST:
            self._strands |= found.cut
