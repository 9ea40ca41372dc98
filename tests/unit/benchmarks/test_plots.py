"""The benchmark's pictures are SVG that shows what it was given."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from benchmarks import plots

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [each.text or "" for each in ET.fromstring(svg).iter(f"{SVG}text")]


def test_bars_are_as_high_as_their_values_and_say_them() -> None:
    svg = plots.bars("Cost <of it>", "ms", {"34 KB": {"a": 1.0, "b": 100.0}, "0.5 MB": {"a": 10.0}})
    heights = [float(r.get("height", 0)) for r in ET.fromstring(svg).iter(f"{SVG}rect")][2:]  # two are the legend
    low, high, middle = heights
    assert low < middle < high
    assert middle - low == pytest.approx(high - middle, abs=0.2)  # the axis is logarithmic
    assert {"1", "10", "100", "34 KB", "0.5 MB", "a", "b", "Cost <of it> (ms)"} <= set(texts(svg))


def test_lines_rise_with_their_values() -> None:
    svg = plots.lines("Cost", "ms", "senders", {"a": [(1, 1.0), (10, 2.0), (100, 4.0)]})
    (line,) = ET.fromstring(svg).iter(f"{SVG}polyline")
    points = [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]
    xs, ys = zip(*points, strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys, reverse=True)
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert {"1", "10", "100", "senders"} <= set(texts(svg))


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0], (0.5, 2.0)), ([0.3, 120.0], (0.2, 200.0)), ([0.0, 5.0], (2.0, 10.0)), ([], (0.5, 2.0))],
)
def test_ends_hold_all_values(values: list[float], expected: tuple[float, float]) -> None:
    assert plots.ends(values) == pytest.approx(expected)


def test_ticks_are_round_and_within() -> None:
    assert plots.ticks(0.5, 20) == pytest.approx([0.5, 1, 2, 5, 10, 20])
    assert plots.ticks(0.2, 5000) == pytest.approx([1, 10, 100, 1000])


@pytest.mark.parametrize(
    ("value", "text"), [(0.123456, "0.123"), (12.34, "12.3"), (456.7, "457"), (1234, "1.23k"), (2_000_000, "2M")]
)
def test_short_numbers(value: float, text: str) -> None:
    assert plots.short(value) == text
