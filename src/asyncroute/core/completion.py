"""Images that wait until their study or series is complete, as plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Completion:
    """Images of one study (or series: ``unit``) of one source that wait, by one route, until it is complete.

    ``held``: they came after it was, and wait for a person. ``first_at``, ``last_at``: when the first and the last
    image came, in seconds since the epoch; ``first_since``, ``last_since``: the same on the journal's clock
    (``Writer.clock``). ``images``: so many wait; ``owed``: {destination: deliveries}. Ids rise and never return.
    """

    id: int
    route: str
    calling_aet: str
    unit: str
    uid: str
    held: bool
    first_at: float
    last_at: float
    first_since: float
    last_since: float
    images: int
    owed: dict[str, int]


@dataclass(frozen=True, slots=True)
class Awaited:
    """What one delivery waits for, or waited for. ``complete_at`` None: it waits; times in seconds since the epoch."""

    id: int
    unit: str
    uid: str
    held: bool
    first_at: float
    last_at: float
    complete_at: float | None
