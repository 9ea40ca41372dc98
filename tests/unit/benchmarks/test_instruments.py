"""What the benchmark puts on the router from outside: stages, profile."""

from __future__ import annotations

import sys
import time
from types import FrameType
from typing import Any

import pytest

from benchmarks import profile, stages
from benchmarks.launch import wrap
from benchmarks.run import BenchError
from benchmarks.sampler import ELSEWHERE, START, Sampler, place_of
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    "place", ["asyncroute.nowhere:A.b", "asyncroute.commit:Nobody.work", "asyncroute.commit:Committer.x"]
)
def test_a_method_that_is_gone_is_named(place: str) -> None:
    with pytest.raises(SystemExit, match=f"{place} is gone"):
        wrap(place, lambda plain: plain)


def passed(began: float) -> dict[str, float]:
    """An image that took 10 ms in each stage but 1 ms without one between "whole" and "scanning"."""
    times = {"begun": began + 0.01, "whole": began + 0.02, "scanning": began + 0.021, "scanned": began + 0.031}
    later = ("writing", "synced", "committed", "queued", "sending")
    times |= {point: began + 0.041 + 0.01 * n for n, point in enumerate(later)}
    return times | {"settled": began + 0.101}


def test_stages_add_up_to_the_whole_but_for_what_none_explains() -> None:
    times = {"a": passed(5.0), "b": passed(7.0), "lost on the way": {"begun": 1.0}}
    found = stages.explain({"a": 5.0, "b": 7.0, "lost on the way": 1.0}, {"a": 5.091, "b": 7.091}, times)
    assert found["images"] == 2
    assert found["stages_ms"] == pytest.approx(dict.fromkeys(stages.STAGES, 10.0))
    assert (found["delivered_ms"], found["settled_ms"]) == pytest.approx((91.0, 101.0))
    assert found["explained_delivered"] == pytest.approx(90 / 91)
    assert found["explained_settled"] == pytest.approx(100 / 101)


def test_stages_of_nothing_are_an_error() -> None:
    with pytest.raises(BenchError):
        stages.explain({}, {}, {})


def frame_in(module: str, code: str = "def f(): return sys._getframe()\nframe = f()") -> FrameType:
    names: dict[str, Any] = {"__name__": module, "sys": sys}
    exec(compile(code, module, "exec"), names)
    frame = names["frame"]
    assert isinstance(frame, FrameType)
    return frame


def test_costs_go_to_the_innermost_function_of_the_program() -> None:
    assert place_of(frame_in("asyncroute.wire.pdata")) == ("wire", "wire/pdata.py f")
    assert place_of(frame_in("asyncroute.cli.serve")) == (START, START)
    assert place_of(frame_in("asyncroute.wire.header", "frame = sys._getframe()")) == (START, START)
    assert place_of(frame_in("asyncrouter")) == (ELSEWHERE, ELSEWHERE)


def test_shares_are_of_all_but_the_start() -> None:
    raw = {"rooms": {"wire": 30, START: 900, "spool": 70}, "functions": {"a": 70, START: 900, "b": 30}}
    found = profile.shares(raw)
    assert list(found["rooms"].items()) == [("spool", 0.7), ("wire", 0.3)]
    assert found["functions"] == {"a": 0.7, "b": 0.3}


def test_what_a_thread_uses_up_is_put_to_where_it_is() -> None:
    sampler = Sampler()
    sampler.look()
    before = sampler.rooms[ELSEWHERE]

    def more() -> bool:
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass
        sampler.look()
        return sampler.rooms[ELSEWHERE] > before

    wait_until(more, 20, "the kernel's account of this thread grows")
    assert set(sampler.rooms) == {ELSEWHERE}  # none of the program's functions ran
