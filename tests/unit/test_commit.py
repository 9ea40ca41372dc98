"""The one gate to stable storage, over a real spool and journal that fail where a test says so."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from errno import EIO
from pathlib import Path
from typing import Any

import pytest

from asyncroute import commit as module
from asyncroute.commit import MOST_BYTES, MOST_IMAGES, Committer
from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Selection, Settlement
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Committed, Discard, Event, Group
from asyncroute.journal.sqlite import SqliteJournal
from asyncroute.link.buffers import ImageBytes, Memory
from asyncroute.receive.base import Received
from asyncroute.release import Releaser
from asyncroute.spool.local import LocalSpool
from tests.unit.parts import command, files_in, instance, noise, on_loop, settle_loop, until

NO_SPACE = StorageFault("journal.db: no space left on the disk", 28)


class Doubtful:
    """The real journal; ``fails``: errors of the next commits; ``gate``: shut, commits wait."""

    def __init__(self, real: SqliteJournal) -> None:
        self._real = real
        self.fails: list[Exception] = []
        self.gate = threading.Event()
        self.gate.set()
        self.groups: list[Group] = []
        self.threads: set[str] = set()

    def commit(self, group: Group) -> Committed:
        self.groups.append(group)
        self.threads.add(threading.current_thread().name)
        assert self.gate.wait(20)
        if self.fails:
            raise self.fails.pop(0)
        return self._real.commit(group)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class Bench:
    """A committer, what it told, and what is on the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spool = LocalSpool(folder / "spool", "process-crash")
        self.journal = SqliteJournal.open(folder, "process-crash")
        self.writer = Doubtful(self.journal)
        self.memory = Memory(1 << 30)
        self.committer = Committer(self.spool, self.writer)
        self.stored: list[int] = []
        self.refused: dict[int, str] = {}
        self.settled: list[Settlement] = []
        self.troubles: list[bool] = []
        self.order: list[str] = []
        self.check: Callable[[Received], None] = lambda received: None
        self.committer.on_stored = self._stored
        self.committer.on_refused = self._refused
        self.committer.on_settled = self._settled
        self.committer.on_trouble = self.troubles.append
        self.releaser = Releaser(self.spool, self.committer.release)
        self.committer.on_releasable = self.releaser.release
        self._reading = sqlite3.connect(folder / "journal.db")

    def _stored(self, received: Received) -> None:
        self.check(received)
        self.stored.append(received.instance.id)
        self.order.append(f"stored {received.instance.id}")
        if received.image is not None:
            received.image.unpin()

    def _refused(self, received: Received, why: str) -> None:
        self.refused[received.instance.id] = why
        if received.image is not None:
            received.image.unpin()

    def _settled(self, settlements: list[Settlement]) -> None:
        self.settled += settlements
        self.order += [f"settled {s.instance_id}" for s in settlements]

    def received(self, size: int = 1000, *destinations: str, **more: Any) -> Received:
        """An image in memory, in two slices."""
        number, path = self.spool.allocate()
        made = instance(number, *(destinations or ("pacs",)), path=path, data_offset=0, size=size, header=b"head")
        for name, value in more.items():
            setattr(made, name, value)
        received = Received(self, command(), 1, made)  # type: ignore[arg-type]
        received.image = image = ImageBytes()
        buffer = self.memory.take(size)
        buffer.view[:size] = noise(size, number)
        image.buffers, image.size = [buffer], size
        image.parts = [part for part in (buffer.view[: size // 2], buffer.view[size // 2 : size]) if len(part)]
        return received

    def admit(self, count: int, size: int = 1000) -> list[Received]:
        made = [self.received(size) for _ in range(count)]
        for received in made:
            self.committer.admit(received)
        return made

    def rows(self, sql: str = "SELECT id FROM instance ORDER BY id") -> list[Any]:
        """What is committed: a connection of its own sees nothing else."""
        found = self._reading.execute(sql).fetchall()
        self._reading.rollback()
        return [row[0] if len(row) == 1 else row for row in found]

    def files(self) -> dict[str, bytes]:
        return files_in(self.spool.root)

    async def answered(self, count: int) -> None:
        await until(lambda: len(self.stored) + len(self.refused) >= count, f"{count} answers")
        assert len(self.stored) + len(self.refused) == count

    def close(self) -> None:
        self.writer.gate.set()
        self.releaser.close()
        self.committer.close()
        self._reading.close()
        self.journal.close()
        self.spool.close()


@asynccontextmanager
async def committing(folder: Path) -> AsyncIterator[Bench]:
    bench = Bench(folder)
    try:
        yield bench
        assert bench.memory.used == 0, "an image was not let go"
    finally:
        bench.close()


def result(number: int, state: DeliveryState = DeliveryState.DELIVERED, attempts: int = 1) -> Settlement:
    return Settlement(number, "pacs", state, attempts, time.time(), 0)


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


@pytest.mark.parametrize(("count", "size"), [(300, 100), (50, 1 << 20)])
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
            assert released.count(99) == 4 - len(bench.writer.fails)

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
            assert [found.instance_id for found in bench.spool.sweep()] == [1]

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


# --- release ----------------------------------------------------------------------------------------------------------


def test_a_file_goes_after_the_last_settlement_and_the_journal_hears_of_it_last(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with committing(tmp_path) as bench:
            received = bench.received(1000, "pacs", "copy")
            bench.committer.admit(received)
            await bench.answered(1)
            removed: list[tuple[list[Any], list[Any]]] = []
            remove = bench.spool.remove

            def watched(path: str) -> None:
                with sqlite3.connect(bench.folder / "journal.db") as reading:
                    states = reading.execute("SELECT state FROM delivery").fetchall()
                    paths = reading.execute("SELECT path FROM instance").fetchall()
                reading.close()
                removed.append((states, paths))
                remove(path)

            bench.spool.remove = watched  # type: ignore[method-assign]
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


def test_a_file_that_cannot_be_removed_keeps_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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


# --- draining ---------------------------------------------------------------------------------------------------------


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
