"""Deliveries of a channel become another's: while they move in the journal, the channel rests.

Resting it begins nothing and reads nothing, so that once its results are durable the journal says all there is to say.
What it then lets go, it holds no more; an image of that which is just being sent ends without a result, and its lane
with it. Guarantees: nothing that was let go is settled by this channel, or sent by it again, unless the journal says so
after the rest. Failures: none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from asyncroute.core.model import Delivery
from asyncroute.core.outcomes import Outcome
from asyncroute.forward.base import Lane

if TYPE_CHECKING:
    from asyncroute.queue.channel import Channel


class Handover:
    """See module. The loop's thread only."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._disowned: set[Lane] = set()

    def rest(self, resting: bool) -> None:
        """Begin or end a rest; afterwards the journal is read anew."""
        channel = self._channel
        channel.halted = resting or channel.stopping
        if not channel.halted:
            channel.look_again()

    @property
    def at_rest(self) -> bool:
        """Whether no refill is under way, and every result is durable."""
        channel = self._channel
        held = channel._flows.held + len(channel._delayed) + len(channel.sending)
        return not channel._refill.running and len(channel.known) <= held

    def let_go(self, chosen: Callable[[Delivery], bool]) -> None:
        """While at rest: hold these no more, and disown what is being sent of them."""
        channel = self._channel
        for delivery in channel._give_up(chosen):
            channel.known.discard(delivery.instance_id)
        lanes = {lane for lane, delivery in channel.sending.items() if chosen(delivery)}
        self._disowned |= lanes
        channel._outdated |= lanes

    def ended(self, lane: Lane, delivery: Delivery, outcome: Outcome, now: float) -> bool:
        """Whether ``delivery``, which ended on ``lane``, was disowned: then all is done that follows from it."""
        if lane not in self._disowned:
            return False
        channel = self._channel
        self._disowned.discard(lane)
        channel.known.discard(delivery.instance_id)
        channel._ledger.finished_with(delivery)
        channel.verdict.of_nobody(outcome, now)
        channel._refill.look()  # the journal may have it here after all
        return True

    @property
    def empty(self) -> bool:
        """Whether the channel has nothing to send, now or later, as far as it knows."""
        channel = self._channel
        return not (channel.sending or channel._flows.held or len(channel._delayed) or channel._refill.behind)
