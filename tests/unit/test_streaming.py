"""Large images to disk: in order, one job at a time, counted while they wait, and gone when they fail."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import xxhash

from asyncroute.link.buffers import ImageBytes, Memory
from asyncroute.spool.local import LocalSpool
from asyncroute.streaming import StreamWriter
from tests.unit.parts import files_in, instance, noise, on_loop, settle_loop, until


class Watcher:
    """Who fills the stream."""

    def __init__(self) -> None:
        self.moved = 0
        self.ends: list[str] = []

    def stream_moved(self) -> None:
        self.moved += 1

    def stream_finished(self) -> None:
        self.ends.append("finished")

    def stream_failed(self, reason: str) -> None:
        self.ends.append(reason)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pool = ThreadPoolExecutor(2)
        self.spool = LocalSpool(folder / "spool", "process-crash")
        self.memory = Memory(1 << 30)
        self.watcher = Watcher()
        number, path = self.spool.allocate()
        self.instance = instance(number, path=path, data_offset=0, size=0)
        self.writer = StreamWriter(self.spool, self.instance, self.watcher, self.pool)
        self.free = threading.Event()

    def push(self, data: bytes) -> None:
        image = ImageBytes()
        buffer = self.memory.take(len(data))
        buffer.view[: len(data)] = data
        image.buffers, image.parts, image.size = [buffer], [buffer.view[: len(data)]], len(data)
        self.writer.push(image)

    def block(self) -> None:
        """Occupy both threads until ``free`` is set."""
        for _ in range(2):
            self.pool.submit(self.free.wait, 20)

    def files(self) -> dict[str, bytes]:
        return files_in(self.spool.root)

    async def over(self) -> str:
        await until(lambda: self.watcher.ends, "the end")
        await settle_loop()
        (end,) = self.watcher.ends
        return end


@asynccontextmanager
async def streaming(folder: Path) -> AsyncIterator[Bench]:
    bench = Bench(folder)
    try:
        yield bench
        await until(lambda: not bench.memory.used, "its memory is free")
    finally:
        bench.free.set()
        bench.pool.shutdown()
        bench.spool.close()


@pytest.mark.parametrize("seed", range(3))
def test_what_was_pushed_is_what_is_there(tmp_path: Path, seed: int) -> None:
    @on_loop
    async def body() -> None:
        rng = random.Random(seed)
        async with streaming(tmp_path) as bench:
            data = noise(2_000_000, 1000 + seed)
            at = 0
            while at < len(data):
                size = rng.choice([1, 1000, 70_000, 500_000])
                bench.push(data[at : at + size])
                at += size
                if rng.random() < 0.5:
                    await asyncio.sleep(rng.choice([0, 0.001]))
            bench.writer.finish()
            assert await bench.over() == "finished"
            i = bench.instance
            assert (i.size, i.checksum) == (len(data), xxhash.xxh3_64_intdigest(data))
            assert bench.spool.read(i.path, i.data_offset, i.size) == data
            assert bench.spool.facts(i.path) is not None
            assert bench.writer.pending == 0
            assert bench.spool.write([(i, ())]) == {}

    body()


def test_what_waits_is_counted_and_goes_at_once_afterwards(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with streaming(tmp_path) as bench:
            bench.block()
            bench.push(b"a" * 1000)
            for _ in range(50):
                bench.push(b"b" * 1000)
            await settle_loop(20)
            assert bench.writer.pending == 51_000
            bench.free.set()
            await until(lambda: bench.writer.pending == 0, "all is written")
            assert bench.watcher.moved == 2
            assert bench.memory.used == 0
            bench.writer.finish()
            assert await bench.over() == "finished"

    body()


def test_an_empty_image(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with streaming(tmp_path) as bench:
            bench.writer.finish()
            assert await bench.over() == "finished"
            assert bench.instance.size == 0
            assert bench.spool.facts(bench.instance.path) is not None

    body()


@pytest.mark.parametrize("when", ["idle", "writing", "waiting", "never begun"])
def test_abandoned_it_leaves_nothing(tmp_path: Path, when: str) -> None:
    @on_loop
    async def body() -> None:
        async with streaming(tmp_path) as bench:
            if when != "never begun":
                bench.push(b"a" * 1000)
                await until(lambda: bench.writer.pending == 0, "it is written")
                assert len(bench.files()) == 1
            if when in ("writing", "waiting"):
                bench.block()
                bench.push(b"b" * 1000)
            if when == "waiting":
                await settle_loop()
                bench.push(b"c" * 1000)
            bench.writer.abandon()
            bench.writer.abandon()
            bench.free.set()
            await until(lambda: not bench.files(), "its file is gone")
            await until(lambda: not bench.writer._running, "no job is left")
            assert bench.watcher.ends == []
            assert (bench.spool.files, bench.spool.bytes) == (0, 0)

    body()


def test_a_failure_is_told_once_and_leaves_nothing(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with streaming(tmp_path) as bench:
            path = bench.spool.root / bench.instance.path
            path.parent.mkdir(parents=True)
            path.touch()
            bench.push(b"a" * 1000)
            bench.push(b"b" * 1000)
            assert "File exists" in await bench.over()
            bench.writer.abandon()
            await settle_loop(20)
            assert len(bench.watcher.ends) == 1
            assert bench.files() == {bench.instance.path: b""}

    body()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ZeroDivisionError("a bug")], ids=repr)
def test_a_failure_in_the_middle(tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    @on_loop
    async def body() -> None:
        async with streaming(tmp_path) as bench:
            bench.push(b"a" * 1000)
            await until(lambda: bench.writer.pending == 0, "the first piece is written")

            def fails(*_: object) -> int:
                raise error

            monkeypatch.setattr("asyncroute.spool.streamed.write_all", fails)
            bench.push(b"b" * 1000)
            bench.push(b"c" * 1000)
            bench.writer.finish()
            assert str(error).rpartition("] ")[2] in await bench.over()
            assert bench.files() == {}
            assert bench.spool.files == 0

    body()


def test_finish_comes_after_everything(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with streaming(tmp_path) as bench:
            bench.block()
            bench.push(b"a" * 10)
            bench.push(b"b" * 10)
            bench.writer.finish()
            await settle_loop(20)
            assert bench.watcher.ends == []
            bench.free.set()
            assert await bench.over() == "finished"
            assert bench.instance.size == 20

    body()
