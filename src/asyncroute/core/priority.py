"""Classes of urgency: ``[[route]] priority``, as the journal keeps it (the lower number goes first)."""

from __future__ import annotations

from collections.abc import Mapping

STAT, HIGH, NORMAL, LOW = -2, -1, 0, 1

PRIORITIES: Mapping[str, int] = {"stat": STAT, "high": HIGH, "normal": NORMAL, "low": LOW}


def nearest(number: int) -> int:
    """The class that ``number``, which a journal had, stands for."""
    return min(max(number, STAT), LOW)
