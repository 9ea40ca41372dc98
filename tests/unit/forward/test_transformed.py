"""Lanes that send what a transform makes of an image: from memory and from files, whatever goes wrong with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asyncroute.core.outcomes import SUCCESS, Kind, Outcome
from asyncroute.forward.heads import MOST_HEADER
from asyncroute.forward.reading import PIECE, WHOLE
from asyncroute.link.buffers import ImageBytes
from asyncroute.transform.remote import Remote
from tests.support.transforms import PRIVATE, Splice, deflated
from tests.unit.delivering import Archive, Bench, lane
from tests.unit.parts import CT, EXPLICIT_LE, MR, noise, on_loop, until

DEFLATED = "1.2.840.10008.1.2.1.99"
UID, OTHER = "1.2.3.1", "1.2.826.0.1.99999"


def element(tag: tuple[int, int], vr: bytes, value: bytes) -> bytes:
    head = tag[0].to_bytes(2, "little") + tag[1].to_bytes(2, "little") + vr
    if vr in (b"OW", b"OB", b"UN"):
        return head + b"\0\0" + len(value).to_bytes(4, "little") + value
    return head + len(value).to_bytes(2, "little") + value


def data_set(patient: bytes = b"1 ", pixels: int = 5000, behind: bool = False, long: int = 0, seed: int = 1) -> bytes:
    """Explicit VR little endian; ``long``: bytes of a private value in the header; ``behind``: a private element."""
    uid = UID.encode() + b"\0"
    data = element((8, 0x16), b"UI", CT.encode() + b"\0" * (len(CT) % 2)) + element((8, 0x18), b"UI", uid)
    data += element((9, 0x1010), b"UN", noise(long, 7)) if long else b""
    data += element((0x10, 0x20), b"LO", patient)
    data += element((0x7FE0, 0x10), b"OW", noise(pixels, seed)) if pixels else b""
    return data + (PRIVATE + (4).to_bytes(4, "little") + b"abcd" if behind else b"")


def expected(data: bytes, prefix: bytes = b"X-", behind: bool = False) -> bytes:
    new = data.replace(element((0x10, 0x20), b"LO", b"1 "), element((0x10, 0x20), b"LO", prefix + b"1" + b" "), 1)
    return new[: new.rindex(PRIVATE)] if behind else new


@asynccontextmanager
async def transforming(folder: Path, transform: Any, archive: Archive | None = None, **p: Any) -> AsyncIterator[Bench]:
    async with lane(folder, archive, **p) as bench:
        remotes = {} if transform.quick else {"ct": Remote(transform, 3.0)}
        bench.coercions.change({"ct": transform}, remotes, frozenset())
        yield bench


def stored(bench: Bench, content: bytes, in_memory: bool = False, **more: Any) -> Any:
    facts = {"route": "ct", "sop_class_uid": CT, "sop_instance_uid": UID, "transfer_syntax": EXPLICIT_LE}
    return bench.stored(content, in_memory, **facts | more)


SHAPES: list[dict[str, Any]] = [
    {},
    {"pixels": 0},
    {"pixels": WHOLE + 12},
    {"pixels": 3 * WHOLE},
    {"long": 400_000},
    {"long": 3 * PIECE, "pixels": 2 * WHOLE},
    {"pixels": WHOLE - 60},
]


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("in_memory", [True, False])
def test_the_new_header_and_the_rest_as_it_is(tmp_path: Path, in_memory: bool, quick: bool) -> None:
    @on_loop
    async def body() -> None:
        splice = Splice(quick=quick)
        async with transforming(tmp_path, splice, Archive(max_pdu=16_384)) as bench:
            for n, shape in enumerate(SHAPES):
                bench.archive.images.clear()
                data = data_set(seed=n, **shape)
                image = stored(bench, data, in_memory)
                assert await bench.send(image) == SUCCESS
                if isinstance(image.image, ImageBytes):
                    image.image.unpin()
                assert bench.archive.data == [expected(data)]
                assert image.sent is not None
                assert image.sent[:3] == ("site-a", CT, UID)
                assert image.sent.changes == '[["PatientID","1","X-1","site-a, step 1 (prefix)"]]'
            assert bench.memory.used == bench.memory._sending == 0
            assert not quick or splice.wholes == [shape.get("pixels") == 0 for shape in SHAPES]
            plain = stored(bench, data_set(), route="other")
            assert await bench.send(plain) == SUCCESS
            assert bench.archive.data[-1] == data_set()
            assert plain.sent is None
            assert len(bench.archive.requests) == 1

    body()


@pytest.mark.parametrize("edits_tail", [True, False])
def test_elements_behind_the_pixel_data(tmp_path: Path, edits_tail: bool) -> None:
    @on_loop
    async def body() -> None:
        async with transforming(tmp_path, Splice(edits_tail=edits_tail)) as bench:
            for pixels, in_memory in ((5000, True), (5000, False), (3 * WHOLE, True), (3 * WHOLE, False)):
                data = data_set(pixels=pixels, behind=True)
                image = stored(bench, data, in_memory)
                assert await bench.send(image) == SUCCESS
                assert bench.archive.data.pop() == expected(data, behind=edits_tail)
                bench.archive.images.clear()

    body()


@pytest.mark.parametrize("edits_tail", [True, False])
def test_deflated_data_sets(tmp_path: Path, edits_tail: bool) -> None:
    @on_loop
    async def body() -> None:
        async with transforming(tmp_path, Splice(edits_tail=edits_tail)) as bench:
            for pixels, in_memory in ((5000, True), (5000, False), (3 * WHOLE, False), (0, False)):
                plain = data_set(pixels=pixels, behind=bool(pixels))
                image = stored(bench, deflated(plain), in_memory, transfer_syntax=DEFLATED)
                assert await bench.send(image) == SUCCESS
                assert bench.archive.data.pop() == deflated(expected(plain, behind=edits_tail and bool(pixels)))
                bench.archive.images.clear()

    body()


def test_new_uids_and_another_class(tmp_path: Path) -> None:
    """In the command set, too; a context for the class is asked for."""

    @on_loop
    async def body() -> None:
        async with transforming(tmp_path, Splice(uid=OTHER)) as bench:
            image = stored(bench, data_set())
            assert await bench.send(image) == SUCCESS
            assert image.sent.sop_instance_uid == OTHER
            (_, message) = bench.archive.images[-1]
            assert message.command[0x1000] == OTHER
            assert OTHER.encode() in bench.archive.data[-1]
            bench.coercions.change({"ct": Splice(sop_class=MR)}, {}, frozenset())
            assert await bench.send(stored(bench, data_set(), True)) == SUCCESS
            (_, message) = bench.archive.images[-1]
            assert message.command[0x0002] == MR
            assert len(bench.archive.requests) == 2

    body()


TROUBLES: list[tuple[str, bool, Kind, str]] = [
    ("refuse", True, Kind.IMAGE_FAILED, "held: transform site-a, step 2 (prefix): 65 characters, LO has 64"),
    ("refuse", False, Kind.IMAGE_FAILED, "held: transform site-a, step 2 (prefix): 65 characters, LO has 64"),
    ("drop", True, Kind.DISCARDED, "dropped: transform site-a, step 3 (python): not for research"),
    ("drop", False, Kind.DISCARDED, "dropped: transform site-a, step 3 (python): not for research"),
    ("raise", True, Kind.IMAGE_FAILED, "held: transform site-a: unexpected error: ValueError('a bug')"),
    ("raise", False, Kind.IMAGE_FAILED, "held: transform site-a: ValueError: a bug (transforms.py, line"),
    ("hang", False, Kind.IMAGE_FAILED, "held: transform site-a: not done after 3 s"),
    ("crash", False, Kind.IMAGE_FAILED, "held: transform site-a: its process was ended by SIGABRT"),
]


def test_what_goes_wrong_costs_one_image(tmp_path: Path) -> None:
    """Neither an attempt nor an association, and nothing goes out."""

    @on_loop
    async def body() -> None:
        async with transforming(tmp_path, Splice()) as bench:
            assert await bench.send(stored(bench, data_set())) == SUCCESS
            for trouble, quick, kind, text in TROUBLES:
                splice = Splice(trouble=trouble, quick=quick)
                bench.coercions.change({"ct": splice}, {} if quick else {"ct": Remote(splice, 3.0)}, frozenset())
                for in_memory in (True, False) if quick else (True,):
                    outcome = await bench.send(stored(bench, data_set(), in_memory))
                    assert (outcome.kind, outcome.charge, outcome.ours) == (kind, False, True)
                    assert outcome.text.startswith(text)
            bench.coercions.change({"ct": Splice()}, {}, frozenset())
            assert await bench.send(stored(bench, data_set())) == SUCCESS
            assert (len(bench.archive.images), len(bench.archive.requests)) == (2, 1)
            assert bench.coercions.refused == {"pacs": 8}
            assert bench.memory._sending == 0

    body()


def test_a_refused_image_needs_no_association(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with transforming(tmp_path, Splice(trouble="refuse")) as bench:
            outcome = await bench.send(stored(bench, data_set(), True))
            assert outcome.text.startswith("held: ")
            assert not bench.lane.open
            assert not bench.archive.requests

    body()


UNREADABLE = [
    (b"\xff" * 100, EXPLICIT_LE, "its header cannot be read: "),
    (data_set(pixels=0)[:-3], EXPLICIT_LE, "its header cannot be read: the data set ends inside of an element"),
    (data_set(), "1.2.3.4", "how data sets of transfer syntax 1.2.3.4 are encoded is not known"),
    (deflated(data_set())[:-9], DEFLATED, "its data set cannot be inflated: "),
    (b"\xff" * 100, DEFLATED, "its data set cannot be inflated: "),
]


def test_a_length_that_is_known_is_not_looked_for_again(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with transforming(tmp_path, Splice()) as bench:
            data = data_set()
            end = data.index(b"\xe0\x7f\x10\x00OW")
            odd = data.replace(b"OW", b"\xff\xff", 1)  # nothing behind it is looked at
            for content, length, text in ((data, end, "success"), (odd, end, "success"), (odd, 0, "held: ")):
                image = stored(bench, content, True, header_length=length)
                assert (await bench.send(image)).text.startswith(text)
            assert bench.archive.data == [expected(data), expected(odd)]

    body()


def test_what_has_no_header_is_held(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with transforming(tmp_path, Splice()) as bench:
            for data, syntax, text in UNREADABLE:
                for in_memory in (True, False):
                    outcome = await bench.send(stored(bench, data, in_memory, transfer_syntax=syntax))
                    assert outcome.text.startswith(f"held: transform site-a: {text}")
            assert not bench.archive.requests

    body()


def test_a_header_beyond_the_bound_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncroute.forward.heads.MOST_HEADER", 1 << 20)
    assert MOST_HEADER == 64 << 20

    @on_loop
    async def body() -> None:
        async with transforming(tmp_path, Splice()) as bench:
            data = data_set(long=1_100_000)
            for content, syntax in ((data, EXPLICIT_LE), (deflated(data), DEFLATED)):
                outcome = await bench.send(stored(bench, content, transfer_syntax=syntax))
                assert outcome.text == "held: transform site-a: its header is longer than 1 MiB"

    body()


@pytest.mark.parametrize("at", [20, WHOLE * 2, -1])
def test_a_damaged_file_is_never_sent_whole(tmp_path: Path, at: int) -> None:
    @on_loop
    async def body() -> None:
        async with transforming(tmp_path, Splice()) as bench:
            image = stored(bench, data_set(pixels=3 * WHOLE))
            path = bench.path(image)
            content = bytearray(path.read_bytes())
            content[at if at < 0 else image.data_offset + at] ^= 0x10
            path.write_bytes(content)
            outcome = await bench.send(image)
            assert "damaged" in outcome.text or "cannot be read" in outcome.text
            assert not bench.archive.images

    body()


def test_the_association_may_end_while_it_is_made(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        splice = Splice(quick=False)
        async with transforming(tmp_path, splice) as bench:
            assert await bench.send(stored(bench, data_set(), route="other")) == SUCCESS
            association = bench.lane._association
            assert association is not None
            image = stored(bench, data_set())
            bench.lane.begin(image, "CT_A", False)
            association._gone("connection closed by peer")
            assert bench.lane.open
            await until(lambda: len(bench.reports.finishes) == 2, "the outcome")
            assert bench.reports.finishes[-1][1] == SUCCESS
            assert (bench.archive.data[-1], len(bench.archive.requests)) == (expected(data_set()), 2)

    body()


def test_an_aborted_lane_reports_nothing(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with transforming(tmp_path, Splice(quick=False)) as bench:
            bench.lane.begin(stored(bench, data_set(), True), "CT_A", False)
            await asyncio.sleep(0)
            bench.lane.abort()
            await until(lambda: not bench.processes.running, "the call's end")
            assert not bench.reports.finishes
            assert bench.memory._sending == 0

    body()


def test_a_route_that_is_gone_refuses_its_images(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with transforming(tmp_path, Splice()) as bench:
            bench.coercions.change({}, {}, frozenset({"ct"}))
            outcome: Outcome = await bench.send(stored(bench, data_set(), True))
            assert outcome.text == (
                "held: transform of route ct: the configuration has no route ct any more, whose transform this image "
                "needs; give a route this name again, then retry"
            )
            image = stored(bench, data_set(), True)
            bench.coercions.change({"ct": Splice()}, {}, frozenset({"ct"}))
            assert await bench.send(image) == SUCCESS
            bench.coercions.change({}, {}, frozenset())  # its transform was taken away, and it is sent again
            assert await bench.send(image) == SUCCESS
            assert image.sent is None
            assert bench.archive.data == [expected(data_set()), data_set()]

    body()
