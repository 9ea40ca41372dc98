"""Files go after their last settlement, and the journal hears of it last."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asyncroute import release
from asyncroute.core.model import Selection, Settlement
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Discard, Group
from asyncroute.recover import done_with
from asyncroute.spool import spare
from tests.unit.committing import committing, result
from tests.unit.parts import on_loop, settle_loop, until


def test_a_file_goes_after_the_last_settlement_and_the_journal_hears_of_it_last(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            received = bench.received(1000, "pacs", "copy")
            bench.committer.admit(received)
            await bench.answered(1)
            removed: list[tuple[list[Any], list[Any]]] = []
            release = bench.spool.release

            def watched(path: str, instance_id: int) -> bool:
                with sqlite3.connect(bench.folder / "journal.db") as reading:
                    states = reading.execute("SELECT state FROM delivery").fetchall()
                    paths = reading.execute("SELECT path FROM instance").fetchall()
                reading.close()
                removed.append((states, paths))
                return release(path, instance_id)

            bench.spool.release = watched  # type: ignore[method-assign]
            bench.committer.settle(result(1))
            await until(lambda: len(bench.settled) == 1, "the first")
            await bench.releaser.drained()
            assert len(bench.files()) == 1
            bench.committer.settle(Settlement(1, "copy", DeliveryState.DELIVERED, 1, time.time(), 0))
            await until(lambda: len(bench.settled) == 2, "the second")
            await bench.releaser.drained()
            assert removed == [([(3,), (3,)], [(received.instance.path,)])]
            assert bench.files() == {}
            await until(lambda: bench.rows("SELECT path FROM instance") == [None], "the release is written")

    body()


def test_a_dead_letter_s_file_stays(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            bench.admit(1)
            await bench.answered(1)
            bench.committer.settle(result(1, DeliveryState.FAILED))
            await until(lambda: bench.settled, "the result")
            await bench.releaser.drained()
            assert len(bench.files()) == 1
            await bench.committer.act(Discard(Selection((DeliveryState.FAILED,), "pacs")))
            await bench.releaser.drained()
            assert bench.files() == {}

    body()


def test_a_file_that_cannot_be_removed_keeps_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spare, "MOST_FILES", 0)

    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            made = bench.admit(3)
            await bench.answered(3)
            stuck = bench.spool.root / made[0].instance.path
            stuck.unlink()
            (stuck / "not a file").mkdir(parents=True)
            for number in (1, 2, 3):
                bench.committer.settle(result(number))
            await until(lambda: len(bench.settled) == 3, "the results")
            await bench.releaser.drained()
            await bench.committer.drained()
            assert bench.files() == {}
            assert bench.rows("SELECT id FROM instance WHERE path IS NOT NULL") == [1]
            assert "not removed" in caplog.text

    body()


def test_an_empty_release_and_one_during_another(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            bench.releaser.release([])
            await bench.releaser.drained()
            bench.releaser.release([(1, "000000/00000001.dcm")])
            draining = asyncio.create_task(bench.releaser.drained())
            await settle_loop(1)
            bench.releaser.release([(2, "000000/00000002.dcm")])
            await draining
            await bench.committer.drained()
            assert sorted(i for group in bench.writer.groups for i in group.released) == [1, 2]

    body()


def test_a_released_file_is_spare_until_it_is_used_or_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare, "STAY", 3600.0)
    monkeypatch.setattr(release, "TIDY", 0.01)

    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            bench.admit(2)
            await bench.answered(2)
            bench.committer.settle(result(1))
            await until(lambda: bench.rows("SELECT id FROM instance WHERE path IS NULL") == [1], "the release")
            assert (bench.spool.files, bench.spool.spare_files, len(bench.files())) == (1, 1, 2)
            await until(lambda: bench.spare == [["000000/00000001.dcm"]], "the journal's word")
            bench.admit(1)
            await bench.answered(3)
            assert (bench.spool.files, bench.spool.spare_files, bench.spool.reused) == (2, 0, 1)
            assert sorted(bench.files()) == ["000000/00000001.dcm", "000000/00000002.dcm"]
            bench.committer.settle(result(3))
            await until(lambda: bench.spool.spare_files == 1, "the other release")
            spare.STAY = 0.0
            await until(lambda: not bench.spool.spare_files, "it is old")
            assert list(bench.files()) == ["000000/00000002.dcm"]

    body()


def test_an_image_that_is_listed_again_does_not_take_the_next_ones_file_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result of a delivery that a person discarded comes between the release and its commit."""
    monkeypatch.setattr(spare, "STAY", 3600.0)

    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            bench.admit(1)
            await bench.answered(1)
            await bench.committer.act(Discard(Selection((DeliveryState.READY,), "pacs")))
            await until(lambda: bench.spool.spare_files == 1, "the release")
            listed = bench.journal.commit(Group(settlements=[result(1)])).releasable
            assert listed == [(1, "000000/00000001.dcm")]
            bench.releaser.release(listed)
            await until(lambda: bool(bench.spare), "the journal's word")
            (new,) = bench.admit(1)
            await bench.answered(2)
            assert bench.spool.reused == 1
            await until(lambda: sum(group.released.count(1) for group in bench.writer.groups) == 2, "released again")
            assert (bench.spool.files, bench.spool.spare_files) == (1, 0)
            bench.admit(1)
            await bench.answered(3)
            it = new.instance
            bench.spool.verify(it.path, it.data_offset, it.size, it.checksum)

    body()


def test_what_the_journal_is_asked_for_too_early_does_not_take_the_next_ones_files_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More images are done than fit in memory: the journal lists those again of which it does not know yet."""
    monkeypatch.setattr(release, "MOST", 2)
    monkeypatch.setattr(spare, "STAY", 3600.0)

    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            bench.releaser.remember = partial(done_with, bench.journal)
            bench.admit(4)
            await bench.answered(4)
            for number in (1, 2, 3, 4):
                bench.committer.settle(result(number))
            await until(lambda: bool(bench.spare), "the journal's word")
            (new,) = bench.admit(1)
            await bench.answered(5)
            assert bench.spool.reused == 1
            left = "SELECT id FROM instance WHERE path IS NOT NULL AND id < 5"
            await until(lambda: not bench.rows(left), "all have left")
            bench.admit(4)
            await bench.answered(9)
            it = new.instance
            bench.spool.verify(it.path, it.data_offset, it.size, it.checksum)
            facts = bench.spool.facts(it.path)
            assert facts is not None
            assert facts.instance_id == it.id

    body()


def test_an_orderly_stop_leaves_no_spare_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare, "STAY", 3600.0)

    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            bench.admit(3)
            await bench.answered(3)
            for number in (1, 2, 3):
                bench.committer.settle(result(number))
            await until(lambda: bench.spool.spare_files == 3, "the releases")
            await bench.releaser.drained()
            assert (bench.spool.spare_files, bench.files()) == (0, {})

    body()


class Keeper:
    """Keeps what it is told to, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.open = False
        self.asked: list[int] = []

    def keep(self, batch: Sequence[release.Releasable]) -> list[release.Releasable]:
        self.asked += [number for number, _ in batch]
        return list(batch) if self.open else []


def test_nothing_goes_that_is_not_kept_and_more_than_fits_in_memory_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "MOST", 3)
    monkeypatch.setattr(release, "AGAIN", 0.02)

    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            keeper = Keeper()
            bench.releaser.keeping = keeper
            bench.releaser.remember = partial(done_with, bench.journal)
            bench.admit(8)
            await bench.answered(8)
            for number in range(1, 9):
                bench.committer.settle(result(number))
            await until(lambda: len(keeper.asked) > 6, "it is asked again")
            assert len(bench.files()) == 8
            assert set(keeper.asked) <= set(range(1, 9))
            keeper.open = True
            await until(lambda: not bench.files(), "all are gone")
            assert set(keeper.asked) == set(range(1, 9))

    body()
