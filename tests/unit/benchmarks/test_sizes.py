"""The benchmark obeys the program's limits on files and functions."""

from __future__ import annotations

import statistics

from tests.unit.test_architecture import (
    FEW,
    FEW_ABOVE_LINES,
    MAX_FILE_LINES,
    MAX_FUNCTION_LINES,
    MAX_MEDIAN_LINES,
    functions_in,
    python_files,
)

FILES = {path: path.read_text("utf-8") for path in python_files("benchmarks")}
LENGTHS = {f"{path.name} {name}": lines for path, text in FILES.items() for name, _, lines in functions_in(text)}


def test_files_are_short() -> None:
    assert {path: n for path, text in FILES.items() if (n := len(text.splitlines())) > MAX_FILE_LINES} == {}


def test_functions_are_small() -> None:
    assert {place: lines for place, lines in LENGTHS.items() if lines > MAX_FUNCTION_LINES} == {}
    assert statistics.median(LENGTHS.values()) <= MAX_MEDIAN_LINES
    assert sum(lines >= FEW_ABOVE_LINES for lines in LENGTHS.values()) <= FEW * len(LENGTHS)
