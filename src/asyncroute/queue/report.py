"""What a channel shows of itself: its part of the ``channels`` lines of ``status --json``; and counts by the second.

The latter are what rates are told from. Nothing here changes a channel.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncroute.queue.channel import Channel


def of(channel: Channel, now: float) -> dict[str, Any]:
    """``channel`` at ``now`` (loop time)."""
    window, trusted = channel.window, channel.breaker.lanes
    return {
        "name": channel.name,
        "kind": channel.forwarder.kind,
        "state": channel.verdict.state(now),
        "sending": len(channel.sending),
        "window": window.size if trusted is None else min(window.size, trusted),
        "window_most": window.most,
        "window_why": window.why,
        "lanes": sum(lane.open for lane in channel.lanes),
        "bandwidth": channel.pace.describe(now),
        "held_since": channel.times.hold.at,
        "closed_until": channel.times.closed_until(now),
        "last_error": channel.verdict.last_error,
    }


def removed(name: str) -> dict[str, Any]:
    """A destination that the journal knows and the configuration no longer does."""
    text = "no longer in the configuration"
    counts = {"sending": 0, "window": 0, "window_most": 0, "window_why": "", "lanes": 0}
    times = {"bandwidth": None, "held_since": None, "closed_until": None}
    return {"name": name, "kind": "", "state": "removed", **counts, **times, "last_error": text}


def count_second(recent: deque[list[int]], now: float, number: int, keep: float) -> None:
    """Add to what happens in this second; ``recent``: [second, number], of the last ``keep`` seconds."""
    second = int(now)
    if recent and recent[-1][0] == second:
        recent[-1][1] += number
        return
    recent.append([second, number])
    while recent[0][0] < second - keep:
        recent.popleft()
