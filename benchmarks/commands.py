"""How long commands take, a new process each time, as a person would: for ``archive`` and ``batches``.

Rounds alternate (A B C, C B A, ...); of each command the median of processor and of wall time is printed. Python may
keep what it compiled, as it does where asyncroute is installed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROUNDS = 5
Words = Sequence[str]


def run(config: Path, words: Words) -> tuple[float, float]:
    """Seconds of processor and of wall time of one run."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, began = os.times(), time.monotonic()
    command = [sys.executable, "-m", "asyncroute", *words, "-c", str(config)]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, env=env)
    wall, after = time.monotonic() - began, os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system, wall


def measure(config: Path, commands: Sequence[Words]) -> None:
    """Run each of them several times, and print what it took."""
    figures: list[list[tuple[float, float]]] = [[] for _ in commands]
    for number in range(ROUNDS):
        order = range(len(commands)) if number % 2 else reversed(range(len(commands)))
        for n in order:
            figures[n].append(run(config, commands[n]))
    for words, taken in zip(commands, figures, strict=True):
        cpu, wall = (statistics.median(column) for column in zip(*taken, strict=True))
        print(f"asyncroute {' '.join(words):45} {cpu:6.2f} s CPU  {wall:6.2f} s", flush=True)
