"""The bench's fixtures for this folder: see ``tests/support/fixtures.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fixtures import (
    authority,
    make_module_router,
    make_router,
    pytest_runtest_makereport,
    receivers,
)

HERE = Path(__file__).parent

__all__ = ["authority", "make_module_router", "make_router", "pytest_runtest_makereport", "receivers"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker("faults")
