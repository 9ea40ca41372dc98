"""From results to what people read: the tables on the terminal, the pictures, and the page docs/performance.md.

The page is written by hand but for what stands between ``<!-- bench: NAME -->`` and ``<!-- /bench -->``, which is made
anew from the results. Failures: ``SystemExit`` with one line, for a page that asks for a table that there is not.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import plots, stages, table
from benchmarks.results import Result, Results

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = "performance.md"
DATA = "performance.json"
RESULTS = "results.json"
_MARK = re.compile(r"(<!-- bench: ([a-z-]+) -->\n).*?(<!-- /bench -->)", re.DOTALL)
_CPU, _RATE, _PER_GB, _LATE = "cpu_ms_per_image", "images_per_s", "cpu_s_per_gb", "e2e_p99_ms"


def console(results: Results) -> str:
    """Everything as text, the ratios first."""
    parts = [table.ratios(results).text()] if any(r.compares for r in results.scenarios.values()) else []
    for result in results.scenarios.values():
        parts.append(table.absolute(result).text())
        if len({row.case for row in result.rows}) > 1 and any(row.x for row in result.rows):
            parts.append(table.growth(result).text())
    if results.stages:
        parts.append(table.stages(results).text())
    if results.profile:
        parts += [table.profile(results, what).text() for what in ("rooms", "functions")]
    parts.append(table.checks(results))
    return "\n\n".join(filter(None, parts))


def pictures(results: Results) -> Iterator[tuple[str, str]]:
    """(name, SVG) of every picture that the results give."""
    scenarios = results.scenarios
    for name in ("peers", "calls"):
        if name in scenarios:
            yield f"{name}-cpu", _bars(scenarios[name], "CPU time per image", "ms", _CPU)
    if "peers" in scenarios:
        yield "peers-rate", _bars(scenarios["peers"], "Throughput", "images/s", _RATE)
        yield "peers-latency", _bars(scenarios["peers"], "End-to-end latency, 99th percentile", "ms", _LATE)
    for name, figure, unit in (
        ("associations", _CPU, "ms per image"),
        ("destinations", _CPU, "ms per image"),
        ("backlog", _CPU, "ms per image"),
        ("sizes", _PER_GB, "s per GB"),
    ):
        if name in scenarios and (picture := _lines(scenarios[name], figure, unit)):
            yield name, picture
    if results.stages:
        yield "stages", plots.bars("One image's path by stage", "ms", _by_stage(results))
    if results.profile:
        yield "profile", plots.bars("CPU time by room", "%", _by_room(results))


def _by_stage(results: Results) -> dict[str, dict[str, float]]:
    loads = {name: each["stages_ms"] for name, each in results.stages.items()}
    return {stage: {name: ms[stage] for name, ms in loads.items()} for stage in stages.STAGES}


def _by_room(results: Results, most: int = 8) -> dict[str, dict[str, float]]:
    """Per cent, for the rooms that cost most."""
    loads = {name: each["rooms"] for name, each in results.profile.items()}
    largest = list(next(iter(loads.values())))[:most]
    return {room: {name: 100 * rooms[room] for name, rooms in loads.items() if room in rooms} for room in largest}


def _bars(result: Result, title: str, unit: str, figure: str) -> str:
    groups: dict[str, dict[str, float]] = {}
    for row in result.rows:
        if figure in row.figures:
            groups.setdefault(row.case, {})[row.peer] = row.figures[figure]
    return plots.bars(title, unit, groups)


def _lines(result: Result, figure: str, unit: str) -> str:
    """Empty where nothing was measured."""
    series = {
        peer: [(row.x, row.figures[figure]) for row in result.rows if row.peer == peer and row.figures.get(figure)]
        for peer in result.peers
    }
    series = {peer: points for peer, points in series.items() if points}
    return plots.lines(f"{result.title}: CPU time", unit, result.axis, series) if series else ""


def draw(results: Results, folder: Path, prefix: str = "") -> list[Path]:
    """Write the pictures into a folder."""
    written = []
    for name, svg in pictures(results):
        path = folder / f"{prefix}{name}.svg"
        path.write_text(svg, "utf-8")
        written.append(path)
    return written


def pieces(results: Results) -> dict[str, Callable[[], str]]:
    """What the page may ask for, by name."""
    made: dict[str, Callable[[], str]] = {
        "machine": lambda: _machine(results),
        "ratios": table.ratios(results).markdown,
        "checks": lambda: "\n".join(f"- {line}" for line in table.checks(results).splitlines()),
        "stages": table.stages(results).markdown,
        "meaning": lambda: "\n".join(f"- *{name}*: {text}" for name, text in stages.MEANING.items()),
        "rooms": table.profile(results, "rooms").markdown,
        "functions": table.profile(results, "functions").markdown,
    }
    for name, result in results.scenarios.items():
        made[name] = table.absolute(result).markdown
        made[f"{name}-growth"] = table.growth(result).markdown
    return made


def _machine(results: Results) -> str:
    m = results.machine
    return (
        f"asyncroute {m['asyncroute']}, {m['date']}: {m['cores']} cores ({m['processor']}), Linux {m['kernel']}, "
        f"Python {m['python']}; the {m['mode']} version."
    )


def page(text: str, results: Results) -> str:
    """The page with all its pieces made anew."""
    made = pieces(results)

    def anew(found: re.Match[str]) -> str:
        name = found[2]
        if name not in made:
            sys.exit(f"benchmarks: {PAGE} asks for {name!r}, which was not measured; run the benchmark whole")
        return f"{found[1]}\n{made[name]()}\n\n{found[3]}"

    return _MARK.sub(anew, text)


def publish(results: Results, docs: Path = DOCS) -> list[Path]:
    """Rewrite the documentation's pictures, tables and data."""
    new = page((docs / PAGE).read_text("utf-8"), results)
    for old in docs.glob("performance-*.svg"):
        old.unlink()
    written = draw(results, docs, "performance-")
    (docs / PAGE).write_text(new, "utf-8")
    results.write(docs / DATA)
    return [docs / PAGE, docs / DATA, *written]
