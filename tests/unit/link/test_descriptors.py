"""How descriptors are shared out between callers and everything else."""

from __future__ import annotations

import resource

import pytest

from asyncroute.link import descriptors
from asyncroute.link.descriptors import FILES, KEPT, LEAST_KEPT, OWN, Descriptors


def test_where_there_are_plenty() -> None:
    plan = Descriptors.plan(20_000, 500)
    assert plan.callers == 20_000 - (OWN + 2 * FILES + 500 + KEPT)
    assert plan.kept == KEPT
    assert plan.files == FILES
    assert not plan.scarce(plan.callers - 1)
    assert plan.scarce(plan.callers)
    assert plan.room == plan.callers - OWN


@pytest.mark.parametrize("limit", [64, 128, 256, 1024])
def test_where_there_are_few_half_are_for_callers(limit: int) -> None:
    plan = Descriptors.plan(limit, 5000)
    assert plan.callers == limit // 2
    assert 4 <= plan.files <= limit // 16 or plan.files == 4
    assert plan.room >= 1
    assert plan.kept == 0


@pytest.mark.parametrize("more", [0, LEAST_KEPT - 1, LEAST_KEPT, KEPT, 2 * KEPT])
def test_files_stay_open_where_callers_have_half_without_them(more: int) -> None:
    limit = 2 * (OWN + 2 * FILES + 500 + more)
    plan = Descriptors.plan(limit, 500)
    assert plan.kept == (0 if more < LEAST_KEPT else min(more, KEPT))
    assert plan.callers >= limit // 2


def test_without_a_limit() -> None:
    plan = Descriptors.plan(0, 500)
    assert not plan.scarce(1 << 30)
    assert plan.kept == KEPT


def test_the_limit_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert descriptors.limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert descriptors.limit() == 0
