"""How ``echo`` and ``check --connect`` show what became of each step."""

from __future__ import annotations

from typing import Any

from asyncroute.cli import output
from asyncroute.cli.peer import Trial


def show(trial: Trial) -> None:
    """The steps in a line each."""
    name = f"{trial.name}: " if trial.name != trial.address else ""
    output.say(f"{name}{trial.address} as {trial.calling}")
    for step in trial.steps:
        took = f"  ({step.seconds * 1000:.1f} ms)" if step.seconds is not None else ""
        words = f"  {step.text}" if step.text else ""
        output.say(f"  {step.name:<11}  {'ok' if step.ok else 'FAILED'}{words}{took}")
        if step.advice:
            output.say(f"    -> {step.advice}")


def as_facts(trial: Trial) -> dict[str, Any]:
    """The same for a program; seconds are null where a step was not measured by itself."""
    steps = [
        {"step": s.name, "ok": s.ok, "text": s.text, "seconds": s.seconds and round(s.seconds, 6), "advice": s.advice}
        for s in trial.steps
    ]
    return {
        "name": trial.name,
        "address": trial.address,
        "calling_aet": trial.calling,
        "ok": trial.ok,
        "steps": steps,
    }
