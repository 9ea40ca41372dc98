"""Images back from disk: whole or in pieces, checked, and never a last byte of what is damaged."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asyncroute.core.errors import AsyncrouteError, StorageFault
from asyncroute.core.model import Delivery
from asyncroute.core.outcomes import Kind
from asyncroute.forward.reading import AT_ONCE, COLD, PIECE, WHOLE, Data, Readers, Reading, unreadable
from asyncroute.spool import system
from asyncroute.spool.local import LocalSpool
from tests.unit.parts import delivery, instance, noise, on_loop, until


class Bench:
    def __init__(self, folder: Path, threads: int) -> None:
        self.spool = LocalSpool(folder / "spool", "process-crash")
        self.readers = Readers(self.spool, threads)
        self.before = set(threading.enumerate())

    def stored(self, number: int, data: bytes) -> Delivery:
        made = instance(number, data_offset=0)
        assert self.spool.write([(made, [data])]) == {}
        return delivery(number, data_offset=made.data_offset, size=made.size, checksum=made.checksum)

    def path(self, stored: Delivery) -> Path:
        return self.spool.root / stored.path


@asynccontextmanager
async def reading(folder: Path, threads: int = 2) -> AsyncIterator[Bench]:
    bench = Bench(folder, threads)
    try:
        yield bench
    finally:
        bench.readers.close()
        bench.spool.close()
        assert not any(thread.name.startswith("read_") for thread in threading.enumerate())


async def piece(reading: Reading) -> bytes:
    """The next piece; raises the fault."""
    future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def done(data: Data | None, fault: AsyncrouteError | None) -> None:
        if fault is not None:
            future.set_exception(fault)
        else:
            assert data is not None
            future.set_result(bytes(data))

    reading.next(done)
    return await future


async def everything(reading: Reading, found: list[bytes] | None = None) -> list[bytes]:
    """All pieces, also in ``found`` as they come."""
    found = [] if found is None else found
    while not reading.ended or not found:
        found.append(await piece(reading))
    return found


@pytest.mark.parametrize("size", [0, 1, 1000, WHOLE - 1, WHOLE, WHOLE + 1, 4 * PIECE + WHOLE, 3_000_001])
def test_all_sizes(tmp_path: Path, size: int) -> None:
    @on_loop
    async def body() -> None:
        async with reading(tmp_path) as bench:
            data = noise(size)
            pieces = await everything(bench.readers.open(bench.stored(1, data)))
            assert b"".join(pieces) == data
            assert len(pieces) == (1 if size <= WHOLE else -(-size // PIECE))
            assert size <= WHOLE or max(map(len, pieces)) == PIECE

    body()


def flip(path: Path, at: int) -> None:
    """Change one byte."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("size", [1000, WHOLE, WHOLE + 700_001])
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_damaged_file_never_comes_to_its_end(tmp_path: Path, size: int, where: str) -> None:
    @on_loop
    async def body() -> None:
        async with reading(tmp_path) as bench:
            stored = bench.stored(1, noise(size))
            flip(bench.path(stored), stored.data_offset + {"first": 0, "middle": size // 2, "last": size - 1}[where])
            got: list[bytes] = []
            with pytest.raises(StorageFault, match="damaged") as caught:
                await everything(bench.readers.open(stored), got)
            assert sum(map(len, got)) < size
            assert unreadable(caught.value).kind is Kind.IMAGE_FAILED

    body()


@pytest.mark.parametrize("size", [1000, WHOLE + 700_001])
def test_a_short_or_missing_file(tmp_path: Path, size: int) -> None:
    @on_loop
    async def body() -> None:
        async with reading(tmp_path) as bench:
            short, missing = bench.stored(1, noise(size)), bench.stored(2, noise(size))
            with bench.path(short).open("r+b") as file:
                file.truncate(short.data_offset + size - 1)
            bench.path(missing).unlink()
            for stored in (short, missing):
                with pytest.raises(StorageFault) as caught:
                    await everything(bench.readers.open(stored))
                assert stored.path in str(caught.value)
                assert unreadable(caught.value).kind is Kind.IMAGE_FAILED

    body()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EMFILE, Kind.IMAGE_RETRY),
        (errno.ENOMEM, Kind.IMAGE_RETRY),
        (errno.EIO, Kind.IMAGE_RETRY),
        (errno.EACCES, Kind.IMAGE_RETRY),
        (errno.ENOENT, Kind.IMAGE_FAILED),
        (0, Kind.IMAGE_FAILED),
    ],
)
def test_what_may_pass_is_tried_again(number: int, kind: Kind) -> None:
    outcome = unreadable(StorageFault("reading 1: trouble", number))
    assert outcome.kind is kind
    assert outcome.ours
    assert outcome.loud
    assert outcome.charge == (kind is Kind.IMAGE_FAILED)


def test_many_at_once(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with reading(tmp_path, threads=4) as bench:
            stored = [bench.stored(n, noise(1000 + n, n)) for n in range(1, 200)]
            found = await asyncio.gather(*(everything(bench.readers.open(one)) for one in stored))
            assert [b"".join(pieces) for pieces in found] == [noise(1000 + n, n) for n in range(1, 200)]

    body()


def test_two_readings_of_one_image(tmp_path: Path) -> None:
    """Two destinations: each has its own place and its own checksum."""

    @on_loop
    async def body() -> None:
        async with reading(tmp_path) as bench:
            data = noise(WHOLE + 700_000)
            stored = bench.stored(1, data)
            one, two = bench.readers.open(stored), bench.readers.open(stored)
            first = [await piece(one)]
            assert b"".join(await everything(two)) == data
            while not one.ended:
                first.append(await piece(one))
            assert b"".join(first) == data

    body()


def test_one_who_stumbles_does_not_keep_the_others(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with reading(tmp_path, threads=1) as bench:
            stored = bench.stored(1, b"1234")
            found: list[Data | None] = []

            def stumbles(data: Data | None, fault: AsyncrouteError | None) -> None:
                raise ZeroDivisionError

            for n in range(20):
                bench.readers.open(stored).next(stumbles if n % 2 else lambda data, fault: found.append(data))
            await until(lambda: len(found) == 10, "the others")
            assert found == [b"1234"] * 10

    body()


def test_an_unexpected_error_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @on_loop
    async def body() -> None:
        async with reading(tmp_path) as bench:
            stored = bench.stored(1, b"1234")

            def broken(*_: object) -> bytes:
                raise ZeroDivisionError("a bug")

            monkeypatch.setattr(bench.spool, "load", broken)
            with pytest.raises(StorageFault, match="a bug"):
                await piece(bench.readers.open(stored))
            monkeypatch.undo()
            assert await piece(bench.readers.open(stored)) == b"1234"

    body()


# --- at once ----------------------------------------------------------------------------------------------------------


def not_in_memory(path: Path) -> None:
    """Make the system forget what the file has."""
    number = os.open(path, os.O_RDWR)
    os.fsync(number)
    os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(number)


def is_left(bench: Bench, stored: Delivery, damage: Callable[[Path], object]) -> bool:
    """Whether a damaged file is not handed out; one that is only forgotten, a quick disk may bring back in time."""
    for _ in range(20 if damage is not_in_memory else 1):
        damage(bench.path(stored))
        if bench.readers.at_once(stored) is None:
            return True
    return False


@pytest.mark.parametrize("size", [0, 1, 34_000, AT_ONCE, AT_ONCE + 1])
def test_small_images_in_memory_are_read_at_once(tmp_path: Path, size: int) -> None:
    @on_loop
    async def body() -> None:
        async with reading(tmp_path) as bench:
            data = noise(size)
            found = bench.readers.at_once(bench.stored(1, data))
            assert (found is None) == (size > AT_ONCE)
            assert found is None or bytes(found) == data

    body()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
        lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"),
        lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"CT_A", b"CT_B")),
        lambda path: path.write_bytes(path.with_name("00000002.dcm").read_bytes()),
        Path.unlink,
        not_in_memory,
    ],
    ids=["shorter", "longer", "data set", "preamble", "header", "another image", "gone", "not in memory"],
)
def test_anything_else_is_left_to_a_thread(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """What is wrong is told there; here it is only not handed out. The next one is tried again."""

    @on_loop
    async def body() -> None:
        async with reading(tmp_path) as bench:
            first, second = (bench.stored(number, b"\0" + noise(5000)) for number in (1, 2))
            assert bench.readers.at_once(first) is not None
            assert is_left(bench, first, damage)
            assert bench.readers.at_once(second) is not None
            descriptors = len(os.listdir("/proc/self/fd"))
            bench.readers.at_once(first)
            assert len(os.listdir("/proc/self/fd")) == descriptors

    body()


def test_after_several_that_were_not_in_memory_fewer_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @on_loop
    async def body() -> None:
        async with reading(tmp_path) as bench:
            here, elsewhere = (bench.stored(number, b"\0" + noise(5000)) for number in (1, 2))
            tried: list[int] = []
            at_once = bench.readers.spool.at_once

            def counted(delivery: Delivery) -> memoryview | None:
                tried.append(delivery.instance_id)
                return at_once(delivery) if delivery is here else None

            monkeypatch.setattr(bench.readers.spool, "at_once", counted)
            for _ in range(10 * COLD):
                assert bench.readers.at_once(elsewhere) is None
            assert 10 <= len(tried) <= 16
            found = [bench.readers.at_once(here) is not None for _ in range(COLD + 1)]
            assert found[-1], "tried again in the end"
            bench.readers.at_once(elsewhere)
            assert bench.readers.at_once(here) is not None, "what was before is forgotten"

    body()


def test_what_is_not_in_memory_comes_from_the_disk(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with reading(tmp_path) as bench:
            data = noise(5000)
            stored = bench.stored(1, data)
            assert is_left(bench, stored, not_in_memory)
            assert await everything(bench.readers.open(stored)) == [data]

    body()


def test_a_system_that_cannot_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 5.12, or where a container forbids the call."""
    monkeypatch.setattr(system, "_at_once", lambda *_: -1)

    @on_loop
    async def body() -> None:
        async with reading(tmp_path) as bench:
            data = noise(5000)
            stored = bench.stored(1, data)
            assert bench.readers.at_once(stored) is None
            assert await everything(bench.readers.open(stored)) == [data]

    body()
