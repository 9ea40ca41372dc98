"""Whether something that was measured again and again grows: robust against single odd values.

Slopes are Theil and Sen's: the median of the slopes between all pairs of points.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

MOST_POINTS = 400


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """How much y grows for each unit of x; 0 if there are not two different x."""
    points = list(zip(xs, ys, strict=True))
    points = points[:: max(1, len(points) // MOST_POINTS)]
    slopes = [
        (points[j][1] - points[i][1]) / (points[j][0] - points[i][0])
        for i in range(len(points))
        for j in range(i + 1, len(points))
        if points[j][0] != points[i][0]
    ]
    return median(slopes) if slopes else 0.0


def growth(xs: Sequence[float], ys: Sequence[float]) -> float:
    """How much y has grown from the first x to the last, by ``slope``."""
    return slope(xs, ys) * (xs[-1] - xs[0]) if xs else 0.0


def quarter(values: Sequence[float], number: int) -> list[float]:
    """The ``number``-th (0 to 3) quarter of ``values``; never empty where there are four."""
    size = len(values)
    return list(values[size * number // 4 : size * (number + 1) // 4])
