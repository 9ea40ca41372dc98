"""The bench's fixtures for this folder, and a disk that loses power: see ``tests/support``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fixtures import (
    authority,
    make_module_router,
    make_router,
    pytest_runtest_makereport,
    receivers,
)
from tests.support.power_fs import PowerDisk

__all__ = ["authority", "disk", "make_module_router", "make_router", "pytest_runtest_makereport", "receivers"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[PowerDisk]:
    """A disk of its own, gone after the test. Name it before ``make_router``: routers have to die first."""
    with PowerDisk(tmp_path / "disk") as disk:
        yield disk
