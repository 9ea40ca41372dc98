"""Large images: to disk as they come, no faster than the disk takes them, and nothing left of those that fail."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
import xxhash

from asyncroute.receive import message as module
from asyncroute.receive.association import MAX_PENDING
from asyncroute.streaming import HEAD
from tests.support import ul
from tests.unit.calling import Bench, data_set, receiving, store
from tests.unit.parts import files_in, on_loop, settle_loop, until

LARGE = 5 << 20
MIB = 1 << 20


def spooled(bench: Bench) -> dict[str, bytes]:
    return files_in(bench.spool.root)


def test_a_large_image_goes_to_disk_as_it_comes(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            data = data_set(1, LARGE)
            caller = await bench.associated()
            stream = store(1, data, piece=100_000)
            await caller.send(stream[:-1_000_000])
            await until(lambda: len(b"".join(spooled(bench).values())) > MIB, "its beginning is on disk")
            assert bench.gate.offered == []
            await caller.send(stream[-1_000_000:])
            assert await caller.statuses(1) == [(1, 0)]
            (received,) = bench.gate.offered
            assert received.image is None
            assert bytes(received.head) == data[:HEAD]
            instance = received.instance
            assert (instance.size, instance.checksum) == (LARGE, xxhash.xxh3_64_intdigest(data))
            assert bench.gate.data == [data]
            (file,) = spooled(bench).values()
            assert len(file) == instance.data_offset + LARGE

    body()


@pytest.mark.parametrize("size", [module.SPILL - 300_000, module.SPILL + 300_000, module.SPILL * 2 + 1])
def test_around_the_bound(tmp_path: Path, size: int) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            caller = await bench.associated()
            await caller.send(store(1, data_set(1, size), piece=130_000) + store(2, data_set(2, 1001)))
            assert sorted(await caller.statuses(2)) == [(1, 0), (2, 0)]
            assert sorted(bench.gate.data, key=len) == [data_set(2, 1001), data_set(1, size)]
            assert bool(bench.gate.streams) == (size > module.SPILL)

    body()


class Stuck:
    """Occupies every writing thread until it is let go."""

    def __init__(self, bench: Bench) -> None:
        self._free = threading.Event()
        self.begun = [bench.writers.submit(self._free.wait, 20) for _ in range(2)]

    def go(self) -> None:
        self._free.set()


def test_no_faster_than_the_disk(tmp_path: Path) -> None:
    """The socket is not read while the disk is behind: memory stays bounded, and others are served meanwhile."""

    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            disk = Stuck(bench)
            data = data_set(1, 24 << 20)
            caller, other = await bench.associated(), await bench.associated()
            sending = asyncio.create_task(caller.send(store(1, data, piece=130_000)))
            await until(lambda: any(s.pending > module.CONGESTED for s in bench.gate.streams), "the disk is behind")
            await settle_loop(50)
            used = bench.memory.used
            assert used < module.SPILL + 2 * module.LARGEST_BUFFER + MIB
            assert await other.echo() == 0
            await settle_loop(50)
            assert bench.memory.used == used
            assert not sending.done()
            disk.go()
            await sending
            assert await caller.statuses(1) == [(1, 0)]
            assert bench.gate.data == [data]

    body()


def test_a_disk_that_fails_refuses_the_image_and_keeps_the_association(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            caller = await bench.associated()
            bench.spool._tree.broken = "the disk is broken"
            await caller.send(store(1, data_set(1, LARGE), piece=100_000))
            answer = await caller.response()
            assert (answer[ul.STATUS], answer[ul.ERROR_COMMENT]) == (0xA700, "the disk is broken")
            assert bench.gate.offered == []
            bench.spool._tree.broken = None
            await caller.send(store(2, data_set(2, LARGE), piece=100_000))
            assert await caller.statuses(1) == [(2, 0)]
            assert len(spooled(bench)) == 1

    body()


def test_a_disk_that_fails_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            caller = await bench.associated()

            def no_space(number: int, path: str) -> None:
                raise OSError(28, "No space left on device")

            with monkeypatch.context() as patch:
                patch.setattr(bench.spool._tree, "sync_file", no_space)
                await caller.send(store(1, data_set(1, LARGE), piece=100_000))
                answer = await caller.response()
            assert answer[ul.STATUS] == 0xA700
            assert "No space left" in str(answer[ul.ERROR_COMMENT])
            assert bench.gate.offered == []
            assert spooled(bench) == {}
            assert await caller.echo() == 0

    body()


@pytest.mark.parametrize("how", ["abort", "close", "rubbish"])
def test_an_image_that_is_never_finished_leaves_no_file(tmp_path: Path, how: str) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            caller = await bench.associated()
            last = LARGE % 100_000 + 12
            await caller.send(store(1, data_set(1, LARGE), piece=100_000)[:-last])
            await until(lambda: spooled(bench), "its beginning is on disk")
            if how == "close":
                caller.close()
            else:
                await caller.send(ul.abort(0, 0) if how == "abort" else b"rubbish")
            await until(lambda: not spooled(bench), "its file is gone")
            assert bench.gate.offered == []

    body()


def test_over_the_limit_while_streaming(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path, max_image="4 MiB") as bench:
            caller = await bench.associated()
            await caller.send(store(1, data_set(1, 8 << 20), piece=100_000))
            assert await caller.statuses(1) == [(1, 0xA700)]
            await until(lambda: not spooled(bench), "its file is gone")
            assert await caller.echo() == 0

    body()


def test_large_images_without_waiting_for_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that only wait for the disk count, too: at most so many, then reading stops."""
    monkeypatch.setattr(module, "SPILL", 100_000)

    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            disk = Stuck(bench)
            caller = await bench.associated()
            stream = b"".join(store(n, data_set(n, 500_000)) for n in range(1, 21))
            sending = asyncio.create_task(caller.send(stream))
            await until(lambda: len(bench.gate.streams) >= MAX_PENDING, "as many as may wait")
            await settle_loop(100)
            await asyncio.sleep(0.1)
            assert len(bench.gate.streams) <= MAX_PENDING + 1
            disk.go()
            await sending
            assert sorted(await caller.statuses(20)) == [(n, 0) for n in range(1, 21)]
            assert sorted(bench.gate.data) == sorted(data_set(n, 500_000) for n in range(1, 21))

    body()


# --- memory -----------------------------------------------------------------------------------------------------------


def test_when_memory_is_short_the_largest_goes_to_disk(tmp_path: Path) -> None:
    """And reading goes on for everybody: one sender's stalled images do not stop the others."""

    @on_loop
    async def body() -> None:
        async with receiving(tmp_path, memory=6 << 20) as bench:
            halves = []
            for number in range(1, 5):
                caller = await bench.associated()
                data = data_set(number, 2_000_000)
                await caller.send(store(number, data, piece=50_000)[:-100_000])
                halves.append((caller, data, number))
            await until(lambda: bench.gate.streams, "one of them goes to disk")
            other = await bench.associated()
            await other.send(store(9, data_set(9, 1_000_000)))
            assert await other.statuses(1) == [(9, 0)]
            for caller, data, number in halves:
                await caller.send(store(number, data, piece=50_000)[-100_000:])
                assert await caller.statuses(1) == [(number, 0)]
                assert bench.gate.data[-1] == data

    body()


def test_when_there_is_nothing_to_move_images_wait_for_room_and_others_are_served(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path, memory=128 << 10) as bench:
            bench.gate.status = None
            first = await bench.associated()
            await first.send(store(1, data_set(1, 100_000)))
            await until(lambda: bench.gate.waiting, "the first image")
            assert bench.memory.full
            second = await bench.associated()
            assert await second.echo() == 0
            await second.send(store(2, data_set(2, 100_000))[:-10])
            await until(lambda: bench.memory._waiters, "the second image waits for room")
            await settle_loop(20)
            assert bench.memory.used < (128 << 10) + 2 * module.LARGEST_BUFFER
            bench.gate.answer()
            bench.gate.status = 0
            assert await first.statuses(1) == [(1, 0)]
            await second.send(store(2, data_set(2, 100_000))[-10:])
            assert await second.statuses(1) == [(2, 0)]
            assert bench.gate.data == [data_set(1, 100_000), data_set(2, 100_000)]

    body()


OTHER_SIZES = [pytest.param(size, marks=pytest.mark.long) for size in (40_000, 400_000)]


@pytest.mark.parametrize("size", [3_000, 100_000, 1_000_000, *OTHER_SIZES])
def test_a_crowd_that_stalls_in_the_middle_of_images_of_any_size_holds_up_nobody(tmp_path: Path, size: int) -> None:
    """All that they hold can go to disk: the bound is kept, whatever part of a buffer they fill."""
    limit = 4 * MIB

    @on_loop
    async def body() -> None:
        async with receiving(tmp_path, memory=limit, max_associations=1000) as bench:
            most = 0
            crowd = [await bench.associated() for _ in range(min(2 * limit // size, 600))]
            for number, caller in enumerate(crowd):
                await caller.send(store(number, data_set(1, size + 5), piece=30_000)[:-5])
                most = max(most, bench.memory.used)
            other = await bench.associated()
            for number in range(3):
                await other.send(store(number, data_set(2, 1_000_000), piece=100_000))
                assert await other.statuses(1) == [(number, 0)]
                most = max(most, bench.memory.used)
            assert most < limit + MIB
            for number, caller in enumerate(crowd):
                await caller.send(store(number, data_set(1, size + 5), piece=30_000)[-5:])
                assert await caller.statuses(1) == [(number, 0)]
            assert bench.gate.data == [data_set(2, 1_000_000)] * 3 + [data_set(1, size + 5)] * len(crowd)

    body()


def test_a_refused_image_that_stalls_holds_no_memory_that_others_need(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path, memory=MIB, max_image="1 MiB") as bench:
            crowd = [await bench.associated() for _ in range(20)]
            bench.gate.refuses = "storage almost full"
            for number, caller in enumerate(crowd):
                await caller.send(store(number, data_set(1, 100_000), piece=30_000)[:-5])
            bench.gate.refuses = None
            other = await bench.associated()
            await other.send(store(1, data_set(2, 900_000)))
            assert await other.statuses(1) == [(1, 0)]

    body()
