"""Runs scenarios, and what is kept of them: one JSON file.

Of each case and router the medians of all rounds are kept, of the proof the worst. A router that cannot run a case is
told once and left out; the rest goes on.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import asyncroute
from benchmarks.evaluate import Outcome, Proof
from benchmarks.peers import PEERS
from benchmarks.run import BenchError
from benchmarks.scenarios import Check, Scenario

Say = Callable[[str], None]


@dataclass
class Row:
    """The medians of one case with one router."""

    case: str
    peer: str
    x: float
    runs: int
    figures: dict[str, float]
    proof: Proof
    trouble: str = ""


@dataclass
class Told:
    """A check and what came of it; ``value`` in the check's unit."""

    text: str
    value: float
    most: float
    how: str
    unit: str

    @property
    def kept(self) -> bool:
        """Whether the target is reached."""
        return self.value <= self.most

    def __str__(self) -> str:
        value = f"{self.value:.2f}x" if self.how == "ratio" else f"{self.value:.1f}{self.unit}"
        most = f"{self.most:g}x" if self.how == "ratio" else f"{self.most:g}{self.unit}"
        return f"{self.text}: {value} (target: at most {most}{'' if self.kept else ', MISSED'})"


@dataclass
class Result:
    """All of one scenario."""

    name: str
    title: str
    axis: str
    compares: bool
    rows: list[Row] = field(default_factory=list)
    checks: list[Told] = field(default_factory=list)

    def row(self, case: str, peer: str) -> Row | None:
        """One of the rows."""
        return next((row for row in self.rows if (row.case, row.peer) == (case, peer)), None)

    @property
    def peers(self) -> list[str]:
        """The routers, in order of appearance."""
        return list(dict.fromkeys(row.peer for row in self.rows))


@dataclass
class Results:
    """What a run of the benchmark gives. ``stages`` and ``profile``: see the modules of these names."""

    machine: dict[str, Any]
    scenarios: dict[str, Result] = field(default_factory=dict)
    stages: dict[str, Any] = field(default_factory=dict)
    profile: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")

    @classmethod
    def read(cls, path: Path) -> Results:
        """What ``write`` wrote."""
        raw = json.loads(path.read_text("utf-8"))
        return cls(
            raw["machine"], {name: _result(each) for name, each in raw["scenarios"].items()}, raw["stages"],
            raw["profile"],
        )  # fmt: skip

    @property
    def unclean(self) -> list[str]:
        """Where our own router lost, doubled or changed an image, or got stuck."""
        rows = [(s, row) for s in self.scenarios.values() for row in s.rows if row.peer.startswith("asyncroute")]
        return [
            f"{scenario.name}, {row.case}, {row.peer}: {row.trouble or row.proof}"
            for scenario, row in rows
            if row.trouble or not row.proof.clean
        ]


def _result(raw: Mapping[str, Any]) -> Result:
    rows = [Row(**{**row, "proof": Proof(**row["proof"])}) for row in raw["rows"]]
    plain = {name: raw[name] for name in ("name", "title", "axis", "compares")}
    return Result(**plain, rows=rows, checks=[Told(**check) for check in raw["checks"]])


def machine(mode: str) -> dict[str, Any]:
    """What the figures are of."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "mode": mode,
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "processor": models[0].partition(":")[2].strip() if models else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "asyncroute": asyncroute.__version__,
    }


def run_scenario(scenario: Scenario, wanted: Sequence[str], say: Say) -> Result:
    """All rounds of a scenario, with those of its routers that are wanted."""
    pairs = [(case, name) for case in scenario.cases for name in case.peers if name in wanted]
    outcomes: dict[tuple[str, str], list[Outcome]] = {}
    for turn in range(scenario.rounds):
        for case, name in pairs if turn % 2 == 0 else reversed(pairs):
            try:
                outcome = case.course(PEERS[name], case.load)
            except BenchError as error:
                outcome = Outcome(trouble=str(error))
            outcomes.setdefault((case.label, name), []).append(outcome)
            say(f"  {scenario.name}, {case.label}, {name}: {brief(outcome)}")
    result = Result(scenario.name, scenario.title, scenario.axis, scenario.compares)
    result.rows = [row(case.label, name, case.x, outcomes[case.label, name]) for case, name in pairs]
    result.checks = [told for check in scenario.checks if (told := tell(check, result)) is not None]
    return result


def brief(outcome: Outcome) -> str:
    """One run in a line."""
    figures = outcome.figures
    known = {"images_per_s": "{:.3g} images/s", "cpu_ms_per_image": "{:.2f} ms CPU each", "peak_mb": "{:.0f} MB"}
    told = [text.format(figures[name]) for name, text in known.items() if name in figures]
    return ", ".join([*told, outcome.trouble or str(outcome.proof)])


def row(case: str, peer: str, x: float, outcomes: Sequence[Outcome]) -> Row:
    """Medians of the runs that came to their end (of all, if none did); of what must not happen, the worst."""
    good = [each for each in outcomes if each.figures and not each.trouble] or [o for o in outcomes if o.figures]
    names = good[0].figures if good else ()
    figures = {name: _median([each.figures[name] for each in good if name in each.figures]) for name in names}
    worst = {name: max(asdict(each.proof)[name] for each in outcomes) for name in asdict(Proof())}
    trouble = next((each.trouble for each in outcomes if each.trouble), "")
    return Row(case, peer, x, len(good), figures, Proof(**worst), trouble)


def _median(values: Sequence[float]) -> float:
    """With as many digits as may mean something."""
    return float(f"{statistics.median(values):.5g}")


def tell(check: Check, result: Result) -> Told | None:
    """What a check says; None where its figures are missing."""
    of, to = result.row(check.of, check.peer), result.row(check.to, check.peer)
    if of is None or check.figure not in of.figures or (check.to and (to is None or check.figure not in to.figures)):
        return None
    value = of.figures[check.figure]
    if to is not None and check.how == "ratio":
        value /= to.figures[check.figure] or float("inf")
    elif to is not None:
        value -= to.figures[check.figure]
    return Told(check.text, value * check.scale, check.most, check.how, check.unit)
