"""Fixtures and hooks for the folders' conftest.py files: receivers, certificates, routers and their logs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.certs import Authority
from tests.support.exact_receiver import ReceiverHost
from tests.support.router import Router

MakeRouter = Callable[..., Router]


@pytest.fixture(scope="module")
def receivers() -> Iterator[ReceiverHost]:
    """A process for exact receivers, one per test module."""
    with ReceiverHost() as host:
        yield host


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The certificate authority that every peer trusts."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def make_router(tmp_path: Path) -> Iterator[MakeRouter]:
    """Makes routers (not started) that are killed after the test."""
    yield from _routers(tmp_path)


@pytest.fixture(scope="module")
def make_module_router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeRouter]:
    """Makes routers (not started) that are killed after the module's last test."""
    yield from _routers(tmp_path_factory.mktemp("module"))


def _routers(folder: Path) -> Iterator[MakeRouter]:
    made: list[Router] = []

    def make(**config: Any) -> Router:
        made.append(Router(folder / f"router{len(made)}", config))
        return made[-1]

    yield make
    for router in made:
        router.kill()
        Router.made.remove(router)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Add the output of every router of this moment to the report of a failed test."""
    report: Any = yield
    if report.failed:
        for router in Router.made:
            report.sections.append((f"router in {router.folder.name}", router.log_tail(80)))
    return report
