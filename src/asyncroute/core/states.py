"""The life of a delivery, as a table.

``waiting`` (for a completion, hours, a hold of its channel) -> ``ready`` -> ``sending`` -> ``delivered`` (->
``confirmed`` where the destination's ``verify`` asks), or ``failed`` (dead letter: a person may make it ``ready``
again), or ``discarded`` by a person or a user's function. ``sending`` -> ``ready`` after a transient failure.
"""

from __future__ import annotations

from enum import IntEnum


class DeliveryState(IntEnum):
    """The states, with the numbers that the journal stores (never renumber)."""

    WAITING = 0
    READY = 1
    SENDING = 2
    DELIVERED = 3
    CONFIRMED = 4
    FAILED = 5
    DISCARDED = 6

    @property
    def word(self) -> str:
        """The state's name as status and queue lists show it."""
        return self.name.lower()


S = DeliveryState

TRANSITIONS: dict[DeliveryState, frozenset[DeliveryState]] = {
    S.WAITING: frozenset({S.READY, S.FAILED, S.DISCARDED}),
    S.READY: frozenset({S.SENDING, S.WAITING, S.FAILED, S.DISCARDED}),
    S.SENDING: frozenset({S.DELIVERED, S.READY, S.FAILED, S.DISCARDED}),
    S.DELIVERED: frozenset({S.CONFIRMED, S.READY}),
    S.CONFIRMED: frozenset(),
    S.FAILED: frozenset({S.READY, S.DISCARDED}),
    S.DISCARDED: frozenset(),
}

OPEN = frozenset({S.WAITING, S.READY, S.SENDING, S.FAILED})
"""States in which the image's file is still needed."""

PENDING = frozenset({S.WAITING, S.READY, S.SENDING})
"""States that count as waiting in ``status``."""


def may(old: DeliveryState, new: DeliveryState) -> bool:
    """Whether the table allows ``old`` -> ``new``."""
    return new in TRANSITIONS[old]
