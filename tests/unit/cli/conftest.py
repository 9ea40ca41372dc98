"""Fixtures of this folder: the command line in this process, and the bench's peers and routers."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncroute.cli import root
from tests.support.fixtures import authority, make_router, pytest_runtest_makereport, receivers
from tests.unit.cli.running import Cli, Done

__all__ = ["authority", "make_router", "pytest_runtest_makereport", "receivers"]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Runs command lines in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASYNCROUTE_DEBUG", raising=False)

    def run(*arguments: object) -> Done:
        status = root.run([str(argument) for argument in arguments])
        return Done(status, *capsys.readouterr())

    return run
