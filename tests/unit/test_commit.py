"""The one gate to stable storage: what is told only when it is safe, in which groups, and in which order."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from asyncroute.commit import MOST_BYTES, MOST_IMAGES
from asyncroute.core.model import Selection
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Discard, Event
from asyncroute.receive.base import Received
from tests.unit.committing import NO_SPACE, committing, result
from tests.unit.parts import noise, on_loop, settle_loop, until

# --- images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1000, 300_000])
def test_success_is_said_when_it_is_safe_and_not_before(tmp_path: Path, size: int) -> None:
    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            seen: list[int] = []

            def check(received: Received) -> None:
                i = received.instance
                assert bench.rows("SELECT id, path, size, checksum FROM instance") == [
                    (i.id, i.path, size, i.checksum if i.checksum < 1 << 63 else i.checksum - (1 << 64))
                ]
                assert bench.rows("SELECT instance, state FROM delivery") == [(i.id, int(DeliveryState.READY))]
                assert bench.spool.read(i.path, i.data_offset, i.size) == noise(size, i.id)
                bench.spool.verify(i.path, i.data_offset, i.size, i.checksum)
                seen.append(i.id)

            bench.check = check
            received = bench.received(size)
            bench.writer.gate.clear()
            bench.committer.admit(received)
            await until(lambda: bench.writer.groups, "the group is at the journal")
            await settle_loop(20)
            assert bench.stored == []
            assert bench.rows() == []
            bench.writer.gate.set()
            await bench.answered(1)
            assert seen == [received.instance.id]

    body()


def test_what_comes_while_a_group_is_under_way_goes_as_one(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            bench.writer.gate.clear()
            bench.admit(1)
            await until(lambda: bench.writer.groups, "the first group")
            bench.admit(3)
            await settle_loop(20)
            assert len(bench.writer.groups) == 1
            bench.admit(30)
            await until(lambda: len(bench.writer.groups) == 2, "the second group, on the other thread")
            bench.admit(30)
            await settle_loop(20)
            assert len(bench.writer.groups) == 2
            bench.writer.gate.set()
            await bench.answered(64)
            assert sum(len(group.admits) for group in bench.writer.groups) == 64
            assert len(bench.writer.groups) <= 5
            assert bench.writer.threads == {"commit_0", "commit_1"}
            assert len(bench.rows()) == len(bench.files()) == 64

    body()


@pytest.mark.parametrize(("count", "size"), [(300, 100), (30, 1 << 20)])
def test_groups_are_bounded(tmp_path: Path, count: int, size: int) -> None:
    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            bench.writer.gate.clear()
            bench.admit(count, size)
            bench.writer.gate.set()
            await bench.answered(count)
            groups = [[i.size for i in group.admits] for group in bench.writer.groups]
            assert sorted(x for group in groups for x in group) == [size] * count
            assert max(map(len, groups)) <= MOST_IMAGES
            assert max(map(sum, groups)) <= MOST_BYTES
            assert bench.stored == sorted(bench.stored) or len(bench.writer.threads) == 2

    body()


def test_one_larger_than_any_group_goes_alone(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            small, large = bench.received(10), bench.received(10)
            large.instance.size = 2 * MOST_BYTES
            for received in (large, small):
                bench.committer.admit(received)
            await bench.answered(2)
            assert len(bench.stored) == 2

    body()


def test_an_image_that_is_on_disk_already(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            received = bench.received()
            assert received.image is not None
            received.image.unpin()
            received.image = None
            incoming = bench.spool.incoming(received.instance)
            incoming.append([b"streamed", b" bytes"])
            incoming.finish()
            bench.committer.admit(received)
            await bench.answered(1)
            i = received.instance
            assert bench.spool.read(i.path, i.data_offset, i.size) == b"streamed bytes"
            assert bench.rows("SELECT size FROM instance") == [14]

    body()


# --- results and a person's words -------------------------------------------------------------------------------------


def test_results_alone_do_not_wait_long(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            bench.admit(10)
            await bench.answered(10)
            groups = len(bench.writer.groups)
            for number in range(1, 11):
                bench.committer.settle(result(number))
            await until(lambda: len(bench.settled) == 10, "the results")
            assert len(bench.writer.groups) == groups + 1
            bench.committer.record(Event(1.0, "kind", "text"))
            await until(lambda: bench.rows("SELECT text FROM event") == ["text"], "the event")

    body()


def test_a_person_s_word(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            bench.admit(3)
            await bench.answered(3)
            chosen = Selection((DeliveryState.READY,), "pacs", instance_ids=[1, 3])
            both = await asyncio.gather(
                bench.committer.act(Discard(chosen)), bench.committer.act(Discard(Selection(instance_ids=[77])))
            )
            assert list(both) == [2, 0]
            assert bench.rows("SELECT state FROM delivery ORDER BY instance") == [6, 1, 6]

    body()


def test_one_who_does_not_wait_for_the_answer(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            bench.admit(1)
            await bench.answered(1)
            bench.writer.gate.clear()
            task = asyncio.create_task(bench.committer.act(Discard(Selection((DeliveryState.READY,), "pacs"))))
            await until(lambda: len(bench.writer.groups) == 2, "the group")
            task.cancel()
            await settle_loop()
            bench.writer.gate.set()
            await until(lambda: bench.rows("SELECT state FROM delivery") == [6], "it is carried out all the same")

    body()


# --- draining ---------------------------------------------------------------------------------------------------------


def test_caught_up_means_that_results_so_far_are_durable(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            async with asyncio.timeout(5):
                await bench.committer.caught_up()
            for received in bench.admit(3):
                bench.committer.settle(result(received.instance.id, DeliveryState.READY))
            await bench.answered(3)
            bench.writer.gate.clear()
            bench.committer.settle(result(1))
            under_way = asyncio.create_task(bench.committer.act(Discard(Selection((DeliveryState.FAILED,), "pacs"))))
            await until(lambda: bench.writer.groups[-1].settlements, "a group with that result")
            bench.committer.settle(result(2))
            caught_up = asyncio.create_task(bench.committer.caught_up())
            await settle_loop()
            assert not caught_up.done()
            bench.writer.gate.set()
            await caught_up
            assert bench.rows("SELECT state FROM delivery ORDER BY instance") == [3, 3, 1]
            await under_way

    body()


def test_drained_means_durable(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            async with asyncio.timeout(5):
                await bench.committer.drained()
            made = bench.admit(200)
            for received in made:
                bench.committer.settle(result(received.instance.id, DeliveryState.READY))
            await bench.committer.drained()
            assert (len(bench.stored), len(bench.settled)) == (200, 200)
            assert len(bench.rows()) == 200
            bench.committer.settle(result(1))
            await bench.committer.drained()
            assert len(bench.settled) == 201

    body()


def test_draining_does_not_wait_for_a_journal_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            bench.writer.fails = [NO_SPACE] * 100
            bench.committer.settle(result(1))
            async with asyncio.timeout(5):
                await bench.committer.drained()
            assert bench.settled == []
            tries = 100 - len(bench.writer.fails)
            assert 1 <= tries <= 3

    body()


def test_draining_tries_once_more(tmp_path: Path) -> None:
    """The disk may have room again since the last try."""

    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            bench.admit(1)
            await bench.answered(1)
            bench.writer.fails = [NO_SPACE]
            bench.committer.settle(result(1))
            await until(lambda: bench.committer.trouble, "the trouble")
            async with asyncio.timeout(5):
                await bench.committer.drained()
            assert len(bench.settled) == 1

    body()
