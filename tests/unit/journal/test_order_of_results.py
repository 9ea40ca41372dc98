"""Two results of one delivery in one group, or in two groups that overtake each other: the later one must stand.

journal/write.py ``settle`` writes a group's results state by state, not in their order, and READY overwrites FAILED
(both count as open): a dead letter comes back as "ready" while the counters call it failed.
Proposed: the last result of each (image, destination) in a group; and READY only where attempts are not fewer than
those that are written already.
"""

from __future__ import annotations

import time
from pathlib import Path

from asyncroute.core.model import Settlement
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Group
from asyncroute.journal.sqlite import SqliteJournal
from tests.unit.parts import instance, states

FAILED, READY = DeliveryState.FAILED, DeliveryState.READY


def result(number: int, state: DeliveryState, attempts: int) -> Settlement:
    return Settlement(number, "pacs", state, attempts, time.time(), 0x0110, "busy")


def journal_with_two(folder: Path) -> SqliteJournal:
    journal = SqliteJournal.open(folder, "process-crash")
    journal.commit(Group(admits=[instance(1, "pacs"), instance(2, "pacs")]))
    return journal


def test_in_one_group(tmp_path: Path) -> None:
    journal = journal_with_two(tmp_path)
    journal.commit(Group(settlements=[result(1, FAILED, 5), result(2, READY, 4), result(2, FAILED, 5)]))
    assert states(journal, "pacs") == {1: "failed", 2: "failed"}
    journal.close()


def test_in_groups_that_overtake_each_other(tmp_path: Path) -> None:
    journal = journal_with_two(tmp_path)
    journal.commit(Group(settlements=[result(2, FAILED, 5)]))
    journal.commit(Group(settlements=[result(2, READY, 4)]))
    assert states(journal, "pacs") == {1: "ready", 2: "failed"}
    journal.close()
