"""Converted files: made once, kept for a while, removed; what a codec, a full disk or a lost file costs whom."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import xxhash

from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Delivery
from asyncroute.core.outcomes import Kind
from asyncroute.core.syntaxes import BY_WORD, Wish
from asyncroute.forward import conversions as module
from asyncroute.forward.conversions import Conversions, Converted, ConvertedSpool, Limits, Trouble
from asyncroute.link.processes import Processes
from asyncroute.spool.local import LocalSpool
from asyncroute.wire.part10 import parse_meta
from tests.support.converted import file_of, pixels
from tests.unit.parts import delivery, on_loop, until

RLE, JLS, J2K = BY_WORD["rle"], BY_WORD["jpeg-ls"], BY_WORD["j2k"]
EXPLICIT = BY_WORD["none"]
WISH = Wish("rle")
CALLS = "tests.support.codec_calls:"
Found = Converted | Trouble


@dataclass
class Bench:
    """Conversions over a folder of real images that stands for the spool."""

    folder: Path
    full: bool = False
    least: int = 0
    deadline: float = 30.0
    number: int = 0
    conversions: Conversions = field(init=False)
    pool: Processes = field(init=False)

    def __post_init__(self) -> None:
        (self.folder / "spool").mkdir(exist_ok=True)
        self.pool = Processes(2, 1 << 30)
        limits = Limits(lambda: self.full, lambda: self.least, lambda: self.deadline)
        self.conversions = Conversions(self.pool, self.folder / "spool", self.converted, limits)

    @property
    def converted(self) -> Path:
        return self.folder / "converted"

    def image(self, name: str = "MR_small.dcm") -> Delivery:
        """A real image, as one that was received."""
        self.number += 1
        data = file_of(name).read_bytes()
        meta = parse_meta(data)
        path = f"{self.number}-{name}"
        (self.folder / "spool" / path).write_bytes(data)
        return delivery(
            self.number,
            path=path,
            data_offset=meta.data_offset,
            size=len(data) - meta.data_offset,
            checksum=xxhash.xxh3_64_intdigest(data[meta.data_offset :]),
            transfer_syntax=meta.transfer_syntax,
            sop_class_uid=meta.sop_class_uid,
            sop_instance_uid=meta.sop_instance_uid,
        )

    def mark(self, name: str, image: Delivery) -> None:
        (self.folder / name).write_text(str(self.folder / "spool" / image.path))

    async def ask(self, image: Delivery, syntax: str = RLE, wish: Wish = WISH) -> Found:
        came: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self.conversions.begin(image, syntax, wish, came.set_result)
        assert not came.done()  # never from within the call
        return await asyncio.wait_for(came, 60)

    async def made(self, image: Delivery, syntax: str = RLE, wish: Wish = WISH) -> Converted:
        found = await self.ask(image, syntax, wish)
        assert isinstance(found, Converted), found
        return found

    async def trouble(self, image: Delivery, syntax: str = RLE) -> Trouble:
        found = await self.ask(image, syntax)
        assert isinstance(found, Trouble), found
        return found

    def files(self) -> list[str]:
        return sorted(path.name for path in self.converted.iterdir())

    def file(self, converted: Converted) -> Path:
        return self.converted / Path(converted.delivery.path).name

    async def nothing_left(self) -> None:
        await until(lambda: not self.files(), "no file is left")


@contextlib.asynccontextmanager
async def bench(folder: Path) -> AsyncIterator[Bench]:
    made = Bench(folder)
    try:
        yield made
    finally:
        made.conversions.close()
        made.pool.close()


# --- once for all who ask ---------------------------------------------------------------------------------------------


@on_loop
async def test_one_conversion_for_all_who_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Together, one after the other, and after it was finished."""
    monkeypatch.setattr(module, "FUNCTION", CALLS + "counted")
    async with bench(tmp_path) as b:
        image = b.image()
        first, second = await asyncio.gather(b.made(image), b.made(image))
        third = await b.made(image)
        assert first.delivery == second.delivery == third.delivery
        assert (tmp_path / "calls").read_text().splitlines() == [str(tmp_path / "spool" / image.path)]
        assert (b.conversions.made, b.conversions.running, len(b.files())) == (1, 0, 1)
        assert np.array_equal(pixels(b.file(first)), pixels(file_of("MR_small.dcm")))
        told = first.delivery
        assert (told.transfer_syntax, told.size) == (RLE, b.file(first).stat().st_size - told.data_offset)


@on_loop
async def test_other_syntaxes_and_ways_are_others(tmp_path: Path) -> None:
    """The settings that make a difference, and only those."""
    async with bench(tmp_path) as b:
        image = b.image("MR2_UNCR.dcm")
        wishes = [(RLE, WISH), (RLE, Wish("j2k", ratio=5)), (JLS, Wish("jpeg-ls")), (J2K, Wish("j2k", ratio=5))]
        wishes += [(J2K, Wish("j2k", ratio=20)), (J2K, Wish("j2k", ratio=20, verify=False))]
        found = [await b.made(image, syntax, wish) for syntax, wish in wishes]
        assert b.conversions.made == 4
        sizes = [each.delivery.size for each in found]
        assert sizes[0] == sizes[1]
        assert sizes[4] == sizes[5] < sizes[3]
        assert found[3].delivery.sop_instance_uid != found[4].delivery.sop_instance_uid != image.sop_instance_uid


@on_loop
async def test_who_wants_it_verified_gets_nothing_that_was_not(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        image = b.image()
        hasty, careful = Wish("rle", verify=False), Wish("rle")
        quick = (await b.made(image, RLE, hasty)).delivery
        assert quick.path != (await b.made(image, RLE, careful)).delivery.path
        assert b.conversions.made == 2
        await b.made(image, EXPLICIT, hasty)
        await b.made(image, EXPLICIT, careful)
        assert b.conversions.made == 3


@on_loop
async def test_who_goes_away_is_not_told_and_the_next_one_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FUNCTION", CALLS + "held_back")
    async with bench(tmp_path) as b:
        image = b.image()
        told: list[Found] = []
        cancel = b.conversions.begin(image, RLE, WISH, told.append)
        await until((tmp_path / "began").exists, "it is being made")
        cancel()
        cancel()
        (tmp_path / "go").touch()
        await until(lambda: not b.conversions.running, "it is made")
        found = await b.made(image)
        assert (told, b.conversions.made) == ([], 1)
        found.release()
        found.release()


@on_loop
async def test_threads_may_ask_too(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        image, loop = b.image(), asyncio.get_running_loop()
        found = await loop.run_in_executor(None, b.conversions.now, image, RLE, WISH)
        assert isinstance(found, Converted)
        assert b.file(found).exists()
        await loop.run_in_executor(None, b.conversions.let_go, found)
        refused = await loop.run_in_executor(None, b.conversions.now, b.image("liver_1frame.dcm"), RLE, WISH)
        assert refused == Trouble("Bits Allocated is 1, not 8 or 16")


@on_loop
async def test_who_waits_at_the_end_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also threads, which would wait for ever."""
    monkeypatch.setattr(module, "FUNCTION", CALLS + "held_back")
    async with bench(tmp_path) as b:
        image, loop = b.image(), asyncio.get_running_loop()
        told: list[Found] = []
        b.conversions.begin(image, RLE, WISH, told.append)
        waiting = loop.run_in_executor(None, b.conversions.now, image, RLE, WISH)
        await until(lambda: any(len(m.waiting) == 2 for m in b.conversions._files.values()), "both wait")
        b.conversions.close()
        later = await loop.run_in_executor(None, b.conversions.now, image, RLE, WISH)
        for trouble in (*told, await waiting, later, await b.trouble(b.image())):
            assert isinstance(trouble, Trouble)
            assert trouble.text == "the router is stopping"
        assert len(told) == 1


# --- what is kept -----------------------------------------------------------------------------------------------------


@on_loop
async def test_what_nobody_uses_goes_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 0.0)
    async with bench(tmp_path) as b:
        used, unused = await b.made(b.image()), await b.made(b.image())
        unused.release()
        await until(lambda: not b.file(unused).exists(), "it is removed")
        assert b.file(used).exists()
        used.release()
        await b.nothing_left()
        assert not b.conversions._files


@on_loop
async def test_beyond_the_room_the_longest_unused_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(tmp_path) as b:
        images = [b.image() for _ in range(4)]
        found = [await b.made(image) for image in images]
        monkeypatch.setattr(module, "MOST", 2 * found[0].delivery.size)
        for number in (2, 0, 3):  # 1 stays in use
            found[number].release()
        await until(lambda: len(b.files()) == 2, "there are two")
        assert b.file(found[1]).exists()
        assert b.file(found[3]).exists()


@on_loop
async def test_what_was_removed_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under another name, so that the removal of the old file is not that of the new one."""
    async with bench(tmp_path) as b:
        image = b.image()
        first = await b.made(image)
        first.release()
        removals: list[list[Path]] = []
        monkeypatch.setattr(b.conversions, "_remove", removals.append)  # as slow as a disk can be
        monkeypatch.setattr(module, "KEPT", 0.0)
        await until(lambda: removals, "it is to be removed")
        second = await b.made(image)
        assert b.conversions.made == 2
        for files in removals:
            module._remove(files)
        assert b.file(second).exists()
        assert b.file(second) != b.file(first)


@on_loop
async def test_what_somebody_else_removed_is_made_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        image = b.image()
        first = await b.made(image)
        b.file(first).unlink()
        assert b.file(await b.made(image)).exists()


@on_loop
async def test_nothing_is_left_of_an_earlier_run(tmp_path: Path) -> None:
    (tmp_path / "converted").mkdir()
    (tmp_path / "converted" / "old").write_bytes(b"x")
    async with bench(tmp_path) as b:
        assert b.files() == []


@on_loop
async def test_a_folder_that_cannot_be_cleared(tmp_path: Path) -> None:
    (tmp_path / "converted" / "folder").mkdir(parents=True)
    with pytest.raises(StorageFault, match="converted: cannot be cleared"):
        Bench(tmp_path)


# --- no space ---------------------------------------------------------------------------------------------------------


@on_loop
async def test_below_min_free_nothing_begins(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.full = True
        image = b.image()
        trouble = await b.trouble(image)
        assert trouble.outcome is not None
        assert (trouble.outcome.kind, trouble.outcome.text) == (
            Kind.IMAGE_RETRY,
            "storage almost full: nothing is converted",
        )
        assert not b.pool.alive
        b.full = False
        await b.made(image)


@pytest.mark.parametrize("name", ["MR_small.dcm", "image_dfl.dcm"])
@on_loop
async def test_a_conversion_leaves_what_must_stay_free(tmp_path: Path, name: str) -> None:
    """Also what it inflates."""
    async with bench(tmp_path) as b:
        b.least = 1 << 60
        image = b.image(name)
        trouble = await b.trouble(image)
        assert trouble.outcome is not None
        assert trouble.outcome.kind is Kind.IMAGE_RETRY
        assert "storage almost full (below min_free)" in trouble.text
        await b.nothing_left()
        b.least = 0
        await b.made(image)


@on_loop
async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """It is tried again: no fault of the image's."""
    async with bench(tmp_path) as b:
        b.converted.rmdir()
        trouble = await b.trouble(b.image())
        assert trouble.outcome is not None
        assert trouble.outcome.kind is Kind.IMAGE_RETRY
        b.converted.mkdir()


# --- codecs that misbehave --------------------------------------------------------------------------------------------


@on_loop
async def test_a_codec_that_hangs_costs_its_image_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is held at the deadline, its process is gone, nothing half made is left, and others are converted."""
    monkeypatch.setattr(module, "FUNCTION", CALLS + "hanging")
    async with bench(tmp_path) as b:
        bad, good = b.image(), b.image()
        await b.made(good, JLS)  # the process is there
        (worker,) = b.pool.alive
        b.deadline = 1.0
        b.mark("hang", bad)
        trouble = await b.trouble(bad)
        assert trouble.outcome is not None
        assert trouble.outcome.kind is Kind.IMAGE_FAILED
        assert trouble.outcome.text.startswith("held: it cannot be converted: not done after 1.0")
        assert worker not in b.pool.alive
        await until(lambda: len(b.files()) == 1, "only the other image's file is there")
        b.deadline = 30.0
        await b.made(good)
        (tmp_path / "hang").unlink()
        await b.made(bad)  # the next try begins anew


@on_loop
async def test_a_codec_that_crashes_twice_costs_its_image_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FUNCTION", CALLS + "crashing")
    async with bench(tmp_path) as b:
        bad, good = b.image(), b.image()
        b.mark("crash", bad)
        trouble = await b.trouble(bad)
        assert trouble.outcome is not None
        assert trouble.outcome.kind is Kind.IMAGE_FAILED
        assert trouble.outcome.text == "held: it cannot be converted: its process was ended by SIGKILL"
        await b.nothing_left()
        await b.made(good)


@on_loop
async def test_a_worker_killed_from_outside_costs_a_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FUNCTION", CALLS + "held_back")
    async with bench(tmp_path) as b:
        asking = asyncio.ensure_future(b.made(b.image()))
        await until((tmp_path / "began").exists, "it is being made")
        os.kill(b.pool.alive[0], 9)
        (tmp_path / "go").touch()
        assert b.file(await asking).exists()


@on_loop
async def test_a_broken_stream_is_held_in_the_codec_s_words(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        trouble = await b.trouble(b.image("emri_small_jpeg_2k_lossless_too_short.dcm"), EXPLICIT)
        assert trouble.outcome is not None
        assert (trouble.outcome.kind, trouble.outcome.text) == (
            Kind.IMAGE_FAILED,
            "held: it cannot be converted: the pixel data end without a delimiter",
        )
        await b.nothing_left()


@on_loop
async def test_what_cannot_be_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FUNCTION", CALLS + "counted")
    async with bench(tmp_path) as b:
        image = b.image("liver_1frame.dcm")
        assert await b.trouble(image) == await b.trouble(image) == Trouble("Bits Allocated is 1, not 8 or 16")
        assert len((tmp_path / "calls").read_text().splitlines()) == 1


# --- files of the spool, and ours -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "the file in the spool is gone"),
        (lambda path: os.truncate(path, 5000), "the file in the spool is damaged: the image's file ends after"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"~"), "its checksum is another one"),
    ],
)
@on_loop
async def test_a_damaged_file_of_the_spool_is_never_converted(tmp_path: Path, damage: object, words: str) -> None:
    async with bench(tmp_path) as b:
        image = b.image()
        assert callable(damage)
        damage(tmp_path / "spool" / image.path)
        trouble = await b.trouble(image)
        assert words in trouble.text
        assert trouble.outcome is not None
        assert trouble.outcome.kind is Kind.IMAGE_FAILED
        assert trouble.outcome.loud
        assert b.files() == []


@on_loop
async def test_readers_get_what_was_made(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        spool = ConvertedSpool(LocalSpool(tmp_path / "other"), b.converted)
        found = await b.made(b.image())
        told, data = found.delivery, b.file(found).read_bytes()
        plain = data[told.data_offset :]
        assert bytes(spool.load(told)) == plain == spool.read(told.path, told.data_offset, told.size)
        assert spool.at_once(told) is None
        spool.confirm(told)
        b.file(found).write_bytes(data[:-1] + b"~")
        with pytest.raises(StorageFault, match="is damaged") as damaged:
            spool.load(told)
        with pytest.raises(StorageFault, match="cannot be read") as gone:
            spool.load(told)
        assert damaged.value.errno == gone.value.errno == errno.EIO  # worth another try, which makes it anew
        assert not b.file(found).exists()
