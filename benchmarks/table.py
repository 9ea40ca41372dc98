"""Tables of results, as plain text for a terminal and as Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.peers import OURS
from benchmarks.results import Result, Results, Row

COLUMNS = {
    "images_per_s": "images/s",
    "mb_per_s": "MB/s",
    "cpu_ms_per_image": "CPU ms/image",
    "cpu_s_per_gb": "CPU s/GB",
    "peak_mb": "peak MB",
    "ack_p50_ms": "ack p50 ms",
    "ack_p95_ms": "ack p95",
    "ack_p99_ms": "ack p99",
    "e2e_p50_ms": "e2e p50 ms",
    "e2e_p95_ms": "e2e p95",
    "e2e_p99_ms": "e2e p99",
}
"""Figures by name, with their headings."""
MORE = {
    "arriving_peak_mb": "peak MB arriving",
    "core_share": "cores",
    "buffer_bytes": "bytes of buffers each",
    "memory_bytes": "bytes of memory each",
    "wall_s": "s",
    "others": "others' cores",
}
"""Figures that some courses give, or that are no matter of ratios."""


@dataclass(frozen=True)
class Table:
    """Cells of text, all rows as long as the columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """Aligned: the first two columns to the left, figures to the right."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[n]) for line in lines) for n in range(len(self.columns))]
        left = self._names()
        told = [
            "  ".join(
                f"{cell:<{w}}" if n < left else f"{cell:>{w}}"
                for n, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        ]
        return "\n".join([self.title, *(line.rstrip() for line in told)])

    def markdown(self) -> str:
        """Without the title."""
        left = self._names()
        rule = ["---" if n < left else "---:" for n in range(len(self.columns))]
        lines = [self.columns, rule, *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def _names(self) -> int:
        """How many columns at the left are names."""
        return 2 if len(self.columns) > 1 and self.columns[1] == "router" else 1


def number(value: float) -> str:
    """With three digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 or not value else f"{value:.3f}"


def absolute(result: Result) -> Table:
    """Every row's figures as they are."""
    columns = COLUMNS | MORE
    present = [name for name in columns if any(name in row.figures for row in result.rows)]
    rows = [[row.case, row.peer, *(_cell(row, name) for name in present), _remark(row)] for row in result.rows]
    return Table(result.title, [result.axis, "router", *(columns[name] for name in present), "arrived"], rows)


def _cell(row: Row, name: str) -> str:
    return number(row.figures[name]) if name in row.figures else "-"


def _remark(row: Row) -> str:
    return row.trouble or ("all" if row.proof.clean else str(row.proof))


def ratios(results: Results) -> Table:
    """asyncroute divided by every other router, figure by figure, over all scenarios that compare routers."""
    rows = [
        [f"{result.name}: {row.case}", row.peer, *(_ratio(ours, row, name) for name in COLUMNS)]
        for result in results.scenarios.values()
        if result.compares
        for ours, row in _pairs(result)
    ]
    return Table("asyncroute divided by ...", ["scenario", "router", *COLUMNS.values()], rows)


def _pairs(result: Result) -> Iterator[tuple[Row, Row]]:
    for row in result.rows:
        ours = result.row(row.case, OURS)
        if row.peer != OURS and ours is not None:
            yield ours, row


def _ratio(of: Row, to: Row, name: str) -> str:
    if name not in of.figures or not to.figures.get(name):
        return "-"
    return f"{number(of.figures[name] / to.figures[name])}x"


def growth(result: Result) -> Table:
    """The same router's figures divided by those of its first case."""
    base = {row.peer: row for row in reversed(result.rows)}
    present = [name for name in COLUMNS if any(name in row.figures for row in result.rows)]
    rows = [[row.case, row.peer, *(_ratio(row, base[row.peer], name) for name in present)] for row in result.rows]
    return Table(f"{result.title}: growth", [result.axis, "router", *(COLUMNS[name] for name in present)], rows)


def checks(results: Results) -> str:
    """Every target and what came of it, a line each."""
    return "\n".join(str(told) for result in results.scenarios.values() for told in result.checks)


def stages(result: Results) -> Table:
    """One image's path: a row per stage, a column per load, milliseconds."""
    loads = result.stages
    names = next((list(each["stages_ms"]) for each in loads.values()), [])
    rows = [[name, *(number(each["stages_ms"][name]) for each in loads.values())] for name in names]
    rows.append(
        ["whole, to the last byte at the destination", *(number(each["delivered_ms"]) for each in loads.values())]
    )
    rows.append(["... explained by arrive to send", *(f"{each['explained_delivered']:.0%}" for each in loads.values())])
    rows.append(["whole, to the durable result", *(number(each["settled_ms"]) for each in loads.values())])
    rows.append(["... explained by all stages", *(f"{each['explained_settled']:.0%}" for each in loads.values())])
    return Table("One image's path by stage, ms", ["stage", *loads], rows)


def profile(result: Results, what: str) -> Table:
    """Shares of the router's CPU time by ``what``: rooms or functions."""
    loads = result.profile
    names = dict.fromkeys(name for each in loads.values() for name in each[what])
    rows = [[name, *(f"{each[what].get(name, 0):.1%}" for each in loads.values())] for name in names]
    return Table(f"CPU time by {what}", [what[:-1], *loads], rows)
