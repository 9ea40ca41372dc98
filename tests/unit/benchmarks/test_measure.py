"""CPU time and memory of a process tree, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks import measure
from tests.support.waiting import wait_until

BURN = "import time\nwhile time.process_time() < 0.3: pass"
TREE = f"\"{sys.executable}\" -c '{BURN}'; sleep 100 & exec sleep 100"


@pytest.fixture
def tree() -> Iterator[measure.Tree]:
    """A shell whose first child has used up 0.3 s and ended, then two that sleep."""
    with subprocess.Popen(["sh", "-c", TREE], start_new_session=True) as process:
        yield measure.Tree(process.pid)
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def test_children_that_ended_are_counted(tree: measure.Tree) -> None:
    wait_until(lambda: tree.sample() >= 0.29, 20, "what the child used up is its parent's")
    assert tree.peak > 1 << 20


def test_a_tree_that_sleeps_is_idle(tree: measure.Tree) -> None:
    wait_until(lambda: tree.sample() >= 0.29, 20, "the child has ended")
    assert tree.settle() == pytest.approx(tree.sample(), abs=0.05)


def test_all_of_a_session_ends(tree: measure.Tree) -> None:
    wait_until(lambda: len(measure.members(tree.root, measure.processes())) == 2, 20, "two processes sleep")
    tree.end()
    assert measure.members(tree.root, measure.processes()) == set()


def test_members_are_the_session_and_all_descendants() -> None:
    def stat(parent: int, session: int) -> list[str]:
        return ["S", str(parent), "0", str(session)]

    stats = {10: stat(1, 10), 11: stat(10, 10), 12: stat(11, 12), 13: stat(12, 12), 14: stat(1, 10), 20: stat(1, 20)}
    assert measure.members(10, stats) == {10, 11, 12, 13, 14}
