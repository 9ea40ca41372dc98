"""Small SVG pictures: lines over a logarithmic axis, bars in groups. Legible on light and on dark backgrounds.

Values are positive; both kinds have a logarithmic axis of values, since routers differ by factors of a hundred. Bars
carry their values, so that nobody has to read them off. No script, no font file, no library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 760, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 72, 44
COLOURS = ("#2f7ed8", "#e07b00", "#3a9d4f", "#c4375a", "#8a63d2", "#7d7d7d")
STYLE = """<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-size: 14px; font-weight: 600 }
.grid { stroke: #8c959f; stroke-opacity: .3 }
.axis { stroke: #57606a }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .axis { stroke: #9198a1 } }
</style>"""

Points = Sequence[tuple[float, float]]


@dataclass
class Picture:
    """An SVG being drawn. ``low`` and ``high``: the ends of the axis of values."""

    title: str
    unit: str
    low: float
    high: float
    parts: list[str] = field(default_factory=list)

    def y(self, value: float) -> float:
        """Where a value stands."""
        share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def text(self, x: float, y: float, text: str, anchor: str = "middle", kind: str = "") -> None:
        """Write something."""
        what = f' class="{kind}"' if kind else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{what}>{escape(text)}</text>')

    def above(self, x: float, y: float, text: str, room: float) -> None:
        """Write a bar's value over it; upright where the bar is too slender."""
        if room < 7.0 * len(text):
            turned = f'transform="rotate(-90 {x + 4:.1f} {y:.1f})"'
            self.parts.append(f'<text x="{x + 4:.1f}" y="{y:.1f}" {turned}>{escape(text)}</text>')
        else:
            self.text(x, y, text)

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """A line of the frame."""
        self.parts.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def frame(self, names: Sequence[str]) -> None:
        """Title, legend, axis of values."""
        self.text(12, 20, f"{self.title} ({self.unit})", "start", "title")
        x = 12.0
        for name, colour in zip(names, COLOURS, strict=False):
            self.parts.append(f'<rect x="{x:.1f}" y="32" width="12" height="12" fill="{colour}"/>')
            self.text(x + 17, 42, name, "start")
            x += 32 + 7.2 * len(name)
        for tick in ticks(self.low, self.high):
            self.line(LEFT, self.y(tick), WIDTH - RIGHT, self.y(tick), "grid")
            self.text(LEFT - 6, self.y(tick) + 4, short(tick), "end")
        self.line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "axis")

    def svg(self) -> str:
        """The whole."""
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        return "\n".join([head, f"<title>{escape(self.title)}</title>", STYLE, *self.parts, "</svg>\n"])


def short(value: float) -> str:
    """A tick's or a bar's number in few characters."""
    if value >= 1e6:
        return f"{value / 1e6:g}M" if value % 1e5 == 0 else f"{value / 1e6:.1f}M"
    if value >= 1000:
        return f"{value / 1000:.3g}k"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from ``low`` to ``high``: powers of ten; and twice and five times them where those are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if high / low <= 100 else (1,)
    found = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return [tick for tick in found if low * 0.999 <= tick <= high * 1.001]


def ends(values: Sequence[float]) -> tuple[float, float]:
    """An axis that holds all positive ``values``, with some room; its ends are 1, 2 or 5 times a power of ten."""
    positive = [value for value in values if value > 0] or [1.0]
    steps = [step * 10.0**power for power in range(-6, 10) for step in (1, 2, 5)]
    low = max(step for step in steps if step <= min(positive) * 0.9)
    high = min(step for step in steps if step >= max(positive) * 1.1)
    return low, high


def lines(title: str, unit: str, axis: str, series: Mapping[str, Points]) -> str:
    """Values over a logarithmic axis, a line for each name."""
    values = [y for points in series.values() for _, y in points]
    places = sorted({x for points in series.values() for x, _ in points})
    picture = Picture(title, unit, *ends(values))
    picture.frame(list(series))
    least, most = math.log(places[0]), math.log(places[-1])

    def at(x: float) -> float:
        share = (math.log(x) - least) / (most - least) if most > least else 0.5
        return LEFT + 24 + share * (WIDTH - LEFT - RIGHT - 48)

    for x in places:
        picture.text(at(x), HEIGHT - BOTTOM + 18, short(x))
    picture.text((LEFT + WIDTH) / 2, HEIGHT - 8, axis)
    for points, colour in zip(series.values(), COLOURS, strict=False):
        route = " ".join(f"{at(x):.1f},{picture.y(y):.1f}" for x, y in sorted(points))
        picture.parts.append(f'<polyline points="{route}" fill="none" stroke="{colour}" stroke-width="2"/>')
        picture.parts += [
            f'<circle cx="{at(x):.1f}" cy="{picture.y(y):.1f}" r="3.5" fill="{colour}"/>' for x, y in points
        ]
    return picture.svg()


def bars(title: str, unit: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """A group of bars for each key, in it a bar for each name."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    picture = Picture(title, unit, *ends([value for group in groups.values() for value in group.values()]))
    picture.frame(names)
    room = (WIDTH - LEFT - RIGHT) / max(len(groups), 1)
    wide = room * 0.86 / max(len(names), 1)
    for n, (label, group) in enumerate(groups.items()):
        left = LEFT + n * room + room * 0.07
        picture.text(left + room * 0.43, HEIGHT - BOTTOM + 18, label)
        for name, value in group.items():
            place = names.index(name)
            x, top = left + place * wide, picture.y(value)
            colour, tall = COLOURS[place % len(COLOURS)], HEIGHT - BOTTOM - top
            picture.parts.append(
                f'<rect x="{x:.1f}" y="{top:.1f}" width="{wide * 0.9:.1f}" height="{tall:.1f}" fill="{colour}"/>'
            )
            picture.above(x + wide * 0.45, top - 4, short(value), wide)
    return picture.svg()
