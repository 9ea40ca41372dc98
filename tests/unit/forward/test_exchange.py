"""In which transfer syntax a lane sends, over real associations, with real conversions in worker processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from asyncroute.core.model import Delivery
from asyncroute.core.outcomes import SUCCESS, Kind
from asyncroute.core.syntaxes import BY_WORD, Wish
from asyncroute.forward import conversions as module
from asyncroute.forward.conversions import Conversions, ConvertedSpool, Limits
from asyncroute.forward.reading import Readers
from asyncroute.wire.part10 import parse_meta
from tests.support.converted import converted, file_of
from tests.unit.delivering import Archive, Bench, lane
from tests.unit.parts import on_loop, until

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
RLE, JLS, J2K = BY_WORD["rle"], BY_WORD["jpeg-ls"], BY_WORD["j2k"]


def stored(bench: Bench, name: str) -> Delivery:
    """A real image in the spool."""
    data = file_of(name).read_bytes()
    meta = parse_meta(data)
    uids = {key: getattr(meta, key) for key in ("sop_class_uid", "sop_instance_uid", "transfer_syntax")}
    return bench.stored(data[meta.data_offset :], **uids)


@asynccontextmanager
async def converting(folder: Path, wish: Wish, archive: Archive | None = None) -> AsyncIterator[Bench]:
    """A lane to a destination with this ``wish``."""
    async with lane(folder, archive, wish=wish) as bench:
        bench.lane.abort()
        place = folder / "converted"
        conversions = Conversions(
            bench.processes, bench.spool.root, place, Limits(lambda: False, lambda: 0, lambda: 30.0)
        )
        bench.means.readers.close()
        readers = Readers(ConvertedSpool(bench.spool, place), 2)
        bench.means = replace(bench.means, readers=readers, conversions=conversions)
        bench.make_lane()
        yield bench
        bench.lane.abort()
        await until(lambda: not any(made.users for made in conversions._files.values()), "no file is in use")
        conversions.close()


def proposed(bench: Bench, request: int = -1) -> list[str]:
    """Transfer syntaxes in the order in which they were offered."""
    return [context.transfer[0] for context in bench.archive.requests[request].contexts]


def went_as(bench: Bench, image: int = -1) -> str:
    number, message = bench.archive.images[image]
    return next(c.transfer[0] for c in bench.archive.requests[number].contexts if c.id == message.context)


def changes(delivery: Delivery) -> list[list[str]]:
    assert delivery.sent is not None
    found: list[list[str]] = json.loads(delivery.sent.changes)
    return found


@on_loop
async def test_what_is_wanted_is_offered_first_and_sent(tmp_path: Path) -> None:
    async with converting(tmp_path, Wish("rle")) as bench:
        image = stored(bench, "MR_small.dcm")
        assert await bench.send(image) == SUCCESS
        assert (proposed(bench), went_as(bench)) == ([RLE, EXPLICIT, IMPLICIT], RLE)
        told = converted(file_of("MR_small.dcm"), "rle", tmp_path)
        whole = told["path"].read_bytes()
        assert bench.archive.data == [whole[told["offset"] :]]
        assert changes(image) == [
            ["TransferSyntaxUID", f"Explicit VR Little Endian ({EXPLICIT})", f"RLE Lossless ({RLE})", "compress"]
        ]


@pytest.mark.parametrize(
    ("wish", "name", "refuses", "sent", "why"),
    [
        (Wish("jpeg-ls"), "MR_small.dcm", (JLS,), EXPLICIT, ""),
        (Wish("jpeg-ls"), "MR_small_RLE.dcm", (JLS, RLE), EXPLICIT, "transcode"),
        (Wish("jpeg-ls"), "MR_small_RLE.dcm", (JLS,), RLE, ""),
        (Wish(transcode=True), "MR_small_RLE.dcm", (RLE, EXPLICIT), IMPLICIT, "transcode"),
        (Wish("none"), "MR_small_RLE.dcm", (), EXPLICIT, "compress"),
        (Wish("j2k"), "examples_palette.dcm", (), EXPLICIT, ""),  # it cannot be: as stored, over the same association
    ],
)
@on_loop
async def test_the_best_that_is_accepted_and_can_be(
    tmp_path: Path, wish: Wish, name: str, refuses: tuple[str, ...], sent: str, why: str
) -> None:
    async with converting(tmp_path, wish, Archive(refuses=refuses)) as bench:
        image = stored(bench, name)
        assert await bench.send(image) == SUCCESS
        assert went_as(bench) == sent
        assert len(bench.archive.requests) == 1
        assert [row[3] for row in changes(image)] == [why] if why else image.sent is None


@on_loop
async def test_an_association_that_was_not_offered_the_best_is_left(tmp_path: Path) -> None:
    """What is compressed is not decoded because the association was opened for something else; once it was offered
    everything, it serves both, and for long."""
    async with converting(tmp_path, Wish("jpeg-ls"), Archive(refuses=(JLS,))) as bench:
        bench.reports.pairs = []
        plain, compressed = stored(bench, "MR_small.dcm"), stored(bench, "MR_small_RLE.dcm")
        assert await bench.send(plain) == SUCCESS
        assert await bench.send(compressed) == SUCCESS
        assert (went_as(bench, 0), went_as(bench, 1)) == (EXPLICIT, RLE)
        assert len(bench.archive.requests) == 2
        bench.lane._opened_at -= 30  # what was refused is not forgotten: no new association for each image
        for image in (plain, compressed, plain):
            assert await bench.send(replace(image)) == SUCCESS
        assert [went_as(bench, n) for n in (2, 3, 4)] == [EXPLICIT, RLE, EXPLICIT]
        assert len(bench.archive.requests) == 2


@on_loop
async def test_what_nothing_fits_says_all_that_was_tried(tmp_path: Path) -> None:
    async with converting(tmp_path, Wish("j2k"), Archive(refuses=(EXPLICIT, IMPLICIT))) as bench:
        outcome = await bench.send(stored(bench, "examples_palette.dcm"))
        assert outcome.kind is Kind.IMAGE_FAILED
        assert "no presentation context accepted" in outcome.text
        assert outcome.text.endswith(
            "and it cannot be converted: its colours are a palette's, which are not to be changed"
        )
        image = stored(bench, "MR2_UNCR.dcm")
        assert await bench.send(image) == SUCCESS  # what was refused was that image's alone
        assert changes(image)[1][0] == "SOPInstanceUID"
        assert image.sent is not None
        assert bench.archive.images[-1][1].command[0x00001000] == image.sent.sop_instance_uid != image.sop_instance_uid


@on_loop
async def test_a_broken_image_is_held_and_the_association_goes_on(tmp_path: Path) -> None:
    async with converting(tmp_path, Wish("none")) as bench:
        outcome = await bench.send(stored(bench, "emri_small_jpeg_2k_lossless_too_short.dcm"))
        assert outcome.text == "held: it cannot be converted: the pixel data end without a delimiter"
        assert await bench.send(stored(bench, "emri_small_jpeg_2k_lossless.dcm")) == SUCCESS
        assert len(bench.archive.requests) == 1


def waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FUNCTION", "tests.support.codec_calls:held_back")


@on_loop
async def test_an_association_that_ends_meanwhile_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits(monkeypatch)
    async with converting(tmp_path, Wish("rle")) as bench:
        image = stored(bench, "MR_small.dcm")
        sending = asyncio.ensure_future(bench.send(image))
        await until((tmp_path / "began").exists, "it is being converted")
        association = bench.lane._association
        assert association is not None
        association.abort()
        await until(lambda: bench.lane._association is None or association.ended, "the association is gone")
        (tmp_path / "go").touch()
        assert await sending == SUCCESS
        assert (went_as(bench), len(bench.archive.requests)) == (RLE, 2)


@on_loop
async def test_a_lane_that_is_cut_off_waits_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits(monkeypatch)
    async with converting(tmp_path, Wish("rle")) as bench:
        bench.lane.begin(stored(bench, "MR_small.dcm"), "CT_A", False)
        await until((tmp_path / "began").exists, "it is being converted")
        bench.lane.abort()
        (tmp_path / "go").touch()
        assert bench.means.conversions is not None
        await until(lambda: bench.means.conversions.made == 1, "it is made all the same")  # type: ignore[union-attr]
        assert bench.reports.finishes == []
        bench.make_lane()
        assert await bench.send(stored(bench, "MR_small.dcm")) == SUCCESS


@on_loop
async def test_two_destinations_cost_one_conversion(tmp_path: Path) -> None:
    async with converting(tmp_path, Wish("rle")) as bench:
        image = stored(bench, "MR_small.dcm")
        first, second = bench.lane, bench.make_lane()
        for each in (first, second):
            each.begin(replace(image), "CT_A", False)
        await until(lambda: len(bench.reports.finishes) == 2, "both have it")
        assert [outcome for _, outcome in bench.reports.finishes] == [SUCCESS, SUCCESS]
        assert bench.archive.data[0] == bench.archive.data[1]
        assert bench.means.conversions is not None
        assert bench.means.conversions.made == 1
        first.abort()


@on_loop
async def test_a_lost_file_of_ours_is_made_anew(tmp_path: Path) -> None:
    """After a while, as after any trouble of this machine's."""
    async with converting(tmp_path, Wish("rle")) as bench:
        image = stored(bench, "MR_small.dcm")
        assert await bench.send(image) == SUCCESS
        (made,) = (tmp_path / "converted").iterdir()
        made.write_bytes(made.read_bytes()[:-1] + b"~")
        outcome = await bench.send(replace(image))
        assert (outcome.kind, outcome.ours) == (Kind.IMAGE_RETRY, True)
        assert "is damaged" in outcome.text
        assert await bench.send(replace(image)) == SUCCESS
        assert bench.archive.data[0] == bench.archive.data[-1]
