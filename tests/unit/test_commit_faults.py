"""The gate to stable storage when an image, the journal or the spool fails: who hears of it, and what stays."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from errno import EIO
from pathlib import Path

import pytest

from asyncroute import commit as module
from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Selection
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Discard, Event
from asyncroute.receive.base import Received
from tests.unit.committing import NO_SPACE, committing, result
from tests.unit.parts import on_loop, settle_loop, until

# --- one image's failure ----------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_written_is_that_image_s_failure_alone(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            made = [bench.received() for _ in range(5)]
            blocked = made[2].instance
            in_the_way = bench.spool.root / blocked.path
            in_the_way.parent.mkdir(parents=True, exist_ok=True)
            in_the_way.write_bytes(b"here before")
            for received in made:
                bench.committer.admit(received)
            await bench.answered(5)
            assert list(bench.refused) == [blocked.id]
            assert "File exists" in bench.refused[blocked.id]
            assert bench.rows() == [r.instance.id for r in made if r.instance is not blocked]
            assert in_the_way.read_bytes() == b"here before"

    body()


def test_a_row_that_cannot_be_written_is_that_image_s_failure_alone(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            bench.writer.gate.clear()
            bench.admit(1)
            await until(lambda: bench.writer.groups, "the first group")
            made = [bench.received() for _ in range(5)]
            made[3].instance.received_at = float("nan")  # SQLite makes NULL of it, which the column does not take
            for received in made:
                bench.committer.admit(received)
            bench.writer.gate.set()
            await bench.answered(6)
            bad = made[3].instance
            assert list(bench.refused) == [bad.id]
            assert "journal cannot hold this image" in bench.refused[bad.id]
            assert bad.id not in bench.rows()
            assert bad.path not in bench.files()
            assert len(bench.files()) == len(bench.rows()) == 5

    body()


# --- the journal's failure --------------------------------------------------------------------------------------------


def test_when_the_journal_fails_images_are_refused_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY", 0.05)

    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            bench.writer.fails = [NO_SPACE]
            made = bench.admit(1)
            await bench.answered(1)
            assert bench.refused == {made[0].instance.id: str(NO_SPACE)}
            assert bench.files() == {}
            assert bench.rows() == []
            bench.admit(3)
            await bench.answered(4)
            assert len(bench.stored) == 3
            assert bench.troubles == [True, False]
            assert bench.committer.trouble is None

    body()


@pytest.mark.parametrize(
    ("fault", "full", "told"),
    [
        (NO_SPACE, 1, str(NO_SPACE)),
        (StorageFault("/var/lib/a/journal.db: no space left on the disk", 28), 1, str(NO_SPACE)),
        (StorageFault("/var/lib/a/journal.db: another program has locked it", 16), 0, "journal.db: another"),
    ],
)
def test_a_full_disk_is_told_and_senders_hear_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: StorageFault, full: int, told: str
) -> None:
    monkeypatch.setattr(module, "RETRY", 0.05)

    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            calls: list[None] = []
            bench.committer.on_full = lambda: calls.append(None)
            bench.writer.fails = [fault]
            made = bench.admit(1)
            await bench.answered(1)
            assert len(calls) == full
            assert bench.refused[made[0].instance.id].startswith(told)

    body()


@pytest.mark.parametrize("error", [NO_SPACE, ZeroDivisionError("a bug")], ids=["full", "bug"])
def test_results_survive_the_journal_s_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """In their order, before newer ones, with their events; a person's word is answered with the reason instead."""
    monkeypatch.setattr(module, "RETRY", 0.05)

    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            bench.admit(3)
            await bench.answered(3)
            bench.writer.fails = [error] * 3
            event = Event(1.0, "failed", "why", 1, "pacs")
            bench.committer.settle(result(1, DeliveryState.READY), event)
            bench.committer.settle(result(1, DeliveryState.FAILED, 2))
            bench.committer.release([99])
            bench.writer.gate.clear()
            acting = asyncio.create_task(bench.committer.act(Discard(Selection())))
            groups = len(bench.writer.groups)
            await until(lambda: len(bench.writer.groups) > groups, "they are at the journal")
            bench.committer.settle(result(2))
            bench.writer.gate.set()
            with pytest.raises(StorageFault, match=str(error)[:10]):
                await acting
            assert bench.committer.trouble is not None
            assert bench.settled == []
            await until(lambda: len(bench.settled) == 3, "the results")
            assert [(s.instance_id, s.state.word) for s in bench.settled] == [
                (1, "ready"),
                (1, "failed"),
                (2, "delivered"),
            ]
            assert bench.rows("SELECT state FROM delivery ORDER BY instance") == [5, 3, 1]
            assert bench.rows("SELECT text FROM event") == ["why"]
            assert bench.troubles == [True, False]
            released = [i for group in bench.writer.groups for i in group.released]
            assert 2 <= released.count(99) <= 4 - len(bench.writer.fails), "again with a later try"

    body()


def test_trouble_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nothing more comes: lanes wait for this, and without them there are no results that would try."""
    monkeypatch.setattr(module, "RETRY", 0.05)

    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            bench.writer.fails = [NO_SPACE]
            bench.admit(1)
            await bench.answered(1)
            assert bench.troubles == [True]
            await until(lambda: bench.troubles == [True, False], "the end of the trouble", 3)

    body()


def test_files_stay_where_the_journal_may_have_their_group_after_all(tmp_path: Path) -> None:
    """Its sync failed: only the next start can tell. Later groups never got so far: their files go."""

    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            bench.writer.fails = [StorageFault("journal.db: the disk reports an I/O error", EIO)]
            bench.writer._real.broken = "journal.db: the disk reports an I/O error; restart asyncroute"
            for number in (1, 2):
                bench.admit(1)
                await bench.answered(number)
            assert set(bench.refused) == {1, 2}
            assert [found.number for found in bench.spool.sweep()] == [1]

    body()


def test_a_spool_that_fails_as_a_whole_refuses_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", 0.05)

    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:

            def broken(images: Sequence[object]) -> dict[int, StorageFault]:
                raise RuntimeError("a bug")

            with monkeypatch.context() as patch:
                patch.setattr(bench.spool, "write", broken)
                bench.admit(2)
                await bench.answered(2)
            assert set(bench.refused) == {1, 2}
            assert bench.rows() == []
            bench.admit(1)
            await bench.answered(3)
            assert bench.stored == [3]

    body()


def test_one_who_stumbles_over_an_answer_does_not_cost_the_others_theirs(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            bench.writer.gate.clear()
            bench.admit(1)
            await until(lambda: bench.writer.groups, "the first group")

            def check(received: Received) -> None:
                if received.instance.id == 3:
                    assert received.image is not None
                    received.image.unpin()
                    raise RuntimeError("a bug")

            bench.check = check
            made = bench.admit(5)
            bench.committer.settle(result(1))
            action = asyncio.create_task(bench.committer.act(Discard(Selection())))
            await settle_loop()
            bench.writer.gate.set()
            await bench.answered(5)
            assert await action == 0
            assert len(made) == 5
            await until(lambda: bench.settled, "the result")

    body()
