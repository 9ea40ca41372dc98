"""The studies (or series) that wait for their completion, as status shows them.

Guarantees: all are counted, the next ``MOST_TOLD`` that are due are named. Failures: none.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from math import inf
from typing import Any

from asyncroute.core.completion import Completion

MOST_TOLD = 100

Due = Callable[[int], float | None]
"""In how many seconds a completion (its id) is due; None: that cannot be told."""


def facts(completions: Iterable[Completion], now: float, due: Due) -> dict[str, Any]:
    """The ``incomplete`` of ``status --json``. ``now``: seconds since the epoch."""
    every = [(due(it.id), it) for it in completions]
    waiting = [it for _, it in every if not it.held]
    late = [it for _, it in every if it.held]
    first = heapq.nsmallest(MOST_TOLD, every, key=_order)
    soonest = first[0][0] if first else None
    return {
        "studies": len(waiting),
        "images": sum(it.images for it in waiting),
        "next_due_s": None if soonest is None else round(soonest, 1),
        "late_studies": len(late),
        "late_images": sum(it.images for it in late),
        "list": [_line(it, now, seconds) for seconds, it in first],
    }


def _order(pair: tuple[float | None, Completion]) -> tuple[float, bool, int]:
    seconds, it = pair
    return inf if seconds is None else seconds, it.held, it.id


def _line(it: Completion, now: float, due: float | None) -> dict[str, Any]:
    return {
        "route": it.route,
        "unit": it.unit,
        "uid": it.uid,
        "calling_aet": it.calling_aet,
        "images": it.images,
        "first_s": round(max(now - it.first_at, 0.0), 1),
        "last_s": round(max(now - it.last_at, 0.0), 1),
        "due_s": None if due is None else round(due, 1),
        "late": it.held,
    }
