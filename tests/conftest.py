"""Collection only: marks by folder and hypothesis' profile. Shared helpers live in tests/support."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

HERE = Path(__file__).parent
MARKED_FOLDERS = ("interop", "crash", "faults")

# No deadline: a noisy machine is no failure. The blob lets a failure of another machine be repeated here.
hypothesis.settings.register_profile("asyncroute", deadline=None, print_blob=True)
hypothesis.settings.load_profile("asyncroute")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test below these folders the marker of its folder."""
    for item in items:
        folder = item.path.relative_to(HERE).parts[0]
        if folder in MARKED_FOLDERS:
            item.add_marker(folder)
