"""The fixtures that run each suite over every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asyncroute.spool.base import Spool
from tests.contract import journals, spools
from tests.contract.journals import Journal


@pytest.fixture(params=journals.BACKENDS)
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    made = journals.BACKENDS[request.param](tmp_path / "data")
    yield made
    made.close()


@pytest.fixture(params=spools.BACKENDS)
def open_spool(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Spool]:
    """Opens the spool of one folder, again and again, as after a restart."""
    return lambda: spools.BACKENDS[request.param](tmp_path)


@pytest.fixture
def spool(open_spool: Callable[[], Spool]) -> Spool:
    return open_spool()
