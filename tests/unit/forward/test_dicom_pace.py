"""A lane asks before each further piece of a large image, and waits where it is told to."""

from __future__ import annotations

from pathlib import Path

from asyncroute.core.outcomes import SUCCESS
from asyncroute.forward.base import FIRST
from asyncroute.forward.reading import PIECE
from tests.unit.delivering import lane
from tests.unit.parts import on_loop, until

SIZE = FIRST + 2 * PIECE + 1000


def test_all_bytes_are_counted_whether_from_memory_or_from_the_file(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with lane(tmp_path) as bench:
            assert await bench.send(bench.stored(SIZE, in_memory=True)) == SUCCESS
            assert bench.reports.spent == [SIZE - FIRST]
            assert await bench.send(bench.stored(SIZE)) == SUCCESS
            assert bench.reports.spent[1:] == [PIECE, PIECE, 1000]
            for in_memory in (True, False):
                assert await bench.send(bench.stored(FIRST, in_memory=in_memory)) == SUCCESS
            assert len(bench.reports.spent) == 4, "the first MiB is the channel's"

    body()


def test_it_waits_for_each_piece_and_the_image_is_whole(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with lane(tmp_path) as bench:
            reports, image = bench.reports, bench.stored(SIZE)
            reports.spare = 0
            bench.lane.begin(image, "CT_A", False)
            for piece in range(3):
                await until(lambda: reports.waiting, f"it waits with piece {piece}")
                assert reports.finishes == []
                reports.spare = 1
                reports.waiting.pop()()
            await until(lambda: reports.finishes, "the outcome")
            assert reports.finishes == [(image.instance_id, SUCCESS)]
            assert len(bench.archive.data[0]) == SIZE

    body()


def test_what_waits_for_an_image_that_is_over_is_nothing(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with lane(tmp_path) as bench:
            reports = bench.reports
            reports.spare = 0
            bench.lane.begin(bench.stored(SIZE), "CT_A", False)
            await until(lambda: reports.waiting, "it waits")
            bench.lane.abort()
            reports.spare = 1
            reports.waiting.pop()()
            assert (reports.spare, reports.finishes) == (1, [])

    body()
