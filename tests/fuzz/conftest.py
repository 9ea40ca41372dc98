"""The bench's fixtures for this folder: see ``tests/support/fixtures.py``."""

from __future__ import annotations

from tests.support.fixtures import make_module_router, make_router, pytest_runtest_makereport, receivers

__all__ = ["make_module_router", "make_router", "pytest_runtest_makereport", "receivers"]
