"""Collection only: marks and order by folder, and hypothesis' profile. Shared helpers live in tests/support."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

HERE = Path(__file__).parent
MARKED_FOLDERS = ("interop", "crash", "faults")
FIRST = ("soak", "power", "crash", "faults", "interop", "fuzz")
"""Folders with tests that take long: where many run at a time, none of these should be the last."""

# No deadline: a noisy machine is no failure. The usual run tries the same examples everywhere, so that it says
# something of the change and not of the dice; HYPOTHESIS_PROFILE=explore (`nox -s deep`) looks for new ones.
hypothesis.settings.register_profile("asyncroute", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "asyncroute"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test below these folders the marker of its folder, and let folders of slow tests begin."""
    for item in items:
        if folder_of(item) in MARKED_FOLDERS:
            item.add_marker(folder_of(item))
    items.sort(key=lambda item: FIRST.index(folder_of(item)) if folder_of(item) in FIRST else len(FIRST))


def folder_of(item: pytest.Item) -> str:
    """The folder below tests/ that it is in."""
    return item.path.relative_to(HERE).parts[0]
