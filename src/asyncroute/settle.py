"""The only writer of delivery results: from a channel's verdict to the journal.

A result is handed to the group commit at once; failures and retries take an event along for the image's story. The
channel hears of it again when it is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from asyncroute.commit import Committer
from asyncroute.core.model import Settlement
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Event

_KINDS = {DeliveryState.FAILED: "failed", DeliveryState.READY: "retry", DeliveryState.DISCARDED: "discarded"}


class Settler:
    """See module."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self.proving: Container[str] = ()
        """Destinations that have yet to prove what was delivered."""
        self.on_unproven: Callable[[str], None] = lambda name: None

    def settle(self, settlement: Settlement) -> None:
        """Make one result durable."""
        if settlement.destination in self.proving and settlement.state is DeliveryState.DELIVERED:
            settlement = settlement._replace(unproven=True)
            self.on_unproven(settlement.destination)
        self._committer.settle(settlement, _event(settlement))


def _event(settlement: Settlement) -> Event | None:
    """Clean successes are no exceptions: they have no event."""
    kind = _KINDS.get(settlement.state) or ("warning" if settlement.error else None)
    if kind is None:
        return None
    return Event(settlement.at, kind, settlement.error, settlement.instance_id, settlement.destination)
