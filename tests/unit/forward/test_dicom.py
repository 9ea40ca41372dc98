"""Lanes of DICOM destinations over real associations: what is sent, what is reused, and what ends when."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from asyncroute.core.outcomes import SUCCESS, Kind
from asyncroute.forward import dicom as module
from asyncroute.forward.reading import WHOLE
from asyncroute.link.buffers import ImageBytes
from tests.support import ul
from tests.unit.answering import Peer, serving, target
from tests.unit.delivering import Archive, lane
from tests.unit.parts import CT, EXPLICIT_LE, IMPLICIT_LE, JPEG, MR, noise, on_loop, until

# --- what is sent -----------------------------------------------------------------------------------------------------

SIZES = [0, 1, 2, 1001, 65_530, 65_531, 262_144, WHOLE - 1, WHOLE, WHOLE + 1, 3_500_001]


@pytest.mark.parametrize("in_memory", [True, False])
def test_all_sizes_from_memory_and_from_the_file(tmp_path: Path, in_memory: bool) -> None:
    @on_loop
    async def body() -> None:
        async with lane(tmp_path, Archive(max_pdu=16_384)) as bench:
            for size in SIZES:
                stored = bench.stored(size, in_memory)
                assert await bench.send(stored) == SUCCESS
                if isinstance(stored.image, ImageBytes):
                    stored.image.unpin()
            assert bench.archive.data == [noise(size, 101 + n) for n, size in enumerate(SIZES)]
            assert bench.memory.used == bench.memory._sending == 0
            info = bench.lane.info()
            assert info is not None
            assert (info["images"], info["state"], info["destination"]) == (len(SIZES), "idle", "pacs")
            assert info["bytes"] > sum(SIZES)
            assert len(bench.archive.requests) == 1

    body()


def test_an_image_that_has_left_memory_comes_from_its_file(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with lane(tmp_path) as bench:
            gone, refused = bench.stored(1000, True), bench.stored(1000, True)
            assert isinstance(gone.image, ImageBytes)
            gone.image.unpin()
            assert await bench.send(gone) == SUCCESS
            bench.memory.keep = 10
            assert await bench.send(refused) == SUCCESS
            assert bench.archive.data == [noise(1000, 101), noise(1000, 102)]

    body()


def test_several_classes_and_syntaxes_in_one_association(tmp_path: Path) -> None:
    """What is queued is proposed with what is at hand, one context each, the image at hand first."""

    @on_loop
    async def body() -> None:
        async with lane(tmp_path) as bench:
            pairs = [(MR, EXPLICIT_LE), (CT, JPEG), (CT, EXPLICIT_LE), (MR, IMPLICIT_LE)]
            bench.reports.pairs = pairs
            for sop_class, syntax in [(CT, EXPLICIT_LE), *pairs]:
                stored = bench.stored(sop_class_uid=sop_class, transfer_syntax=syntax)
                assert await bench.send(stored) == SUCCESS
            (request,) = bench.archive.requests
            proposed = [(x.abstract, x.transfer) for x in request.contexts]
            assert proposed[0] == (CT, (EXPLICIT_LE,))
            assert sorted(proposed) == sorted((sop_class, (syntax,)) for sop_class, syntax in pairs)
            by_id = {x.id: (x.abstract, x.transfer[0]) for x in request.contexts}
            used = [by_id[message.context] for _, message in bench.archive.images]
            assert used == [(CT, EXPLICIT_LE), *pairs]
            assert (request.calling, request.called) == ("CT_A", "PACS")

    body()


def test_what_arrives_together_is_proposed_together(tmp_path: Path) -> None:
    """A lane is given the first image of a group before the channel knows the others."""

    @on_loop
    async def body() -> None:
        async with lane(tmp_path) as bench:
            first, second = bench.stored(), bench.stored(sop_class_uid=MR)
            bench.lane.begin(first, "CT_A", False)
            bench.reports.pairs = [(MR, EXPLICIT_LE)]
            await until(lambda: bench.reports.finishes, "the first has arrived")
            assert await bench.send(second) == SUCCESS
            assert len(bench.archive.requests) == 1

    body()


@pytest.mark.parametrize("most", [1, 5, 128])
def test_no_more_contexts_than_allowed(tmp_path: Path, most: int) -> None:
    @on_loop
    async def body() -> None:
        async with lane(tmp_path, max_contexts=most) as bench:
            bench.reports.pairs = [(f"1.2.{n}", EXPLICIT_LE) for n in range(200)]
            assert await bench.send(bench.stored()) == SUCCESS
            assert len(bench.archive.requests[0].contexts) == most
            assert bench.lane.carries(("CT_A", "1.2.150", EXPLICIT_LE)) is False
            assert await bench.send(bench.stored(sop_class_uid="1.2.150")) == SUCCESS
            assert len(bench.archive.requests) == 2
            await until(lambda: bench.archive.ends == ["released"], "the first one was released")

    body()


def test_a_new_title_is_a_new_association(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with lane(tmp_path) as bench:
            for title in ("CT_A", "CT_A", "MR_B", "CT_A"):
                assert await bench.send(bench.stored(), title) == SUCCESS
            assert [request.calling for request in bench.archive.requests] == ["CT_A", "MR_B", "CT_A"]
            assert [number for number, _ in bench.archive.images] == [0, 0, 1, 2]
            assert len(bench.reports.opens) == 3
            assert all(0 <= seconds < 30 for seconds in bench.reports.opens)
            assert bench.lane.carries(("CT_A", CT, EXPLICIT_LE))
            assert not bench.lane.carries(("MR_B", CT, EXPLICIT_LE))

    body()


# --- how long an association lives ------------------------------------------------------------------------------------


def test_idle_for_long_enough_it_is_released(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with lane(tmp_path, idle_close=0.1) as bench:
            assert not bench.lane.open
            for _ in range(3):
                assert await bench.send(bench.stored()) == SUCCESS
                assert bench.lane.open
            await until(lambda: bench.reports.closes, "it is closed")
            assert not bench.lane.open
            assert bench.lane.info() is None
            await until(lambda: bench.archive.ends, "the archive has seen the end")
            assert bench.archive.ends == ["released"]
            assert await bench.send(bench.stored()) == SUCCESS
            assert len(bench.archive.requests) == 2
            assert bench.reports.closes == 1

    body()


def test_busy_it_is_not_idle(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with lane(tmp_path, Archive(silent=True), idle_close=0.05) as bench:
            bench.lane.begin(bench.stored(), "CT_A", False)
            await until(lambda: bench.archive.images, "the image")
            begun = bench.lane._loop.time()
            await until(lambda: bench.lane._loop.time() > begun + 0.2, "longer than idle_close")
            assert bench.lane.open
            assert bench.reports.closes == 0

    body()


def test_too_old_it_is_released_after_the_image(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with lane(tmp_path, max_age=0.1) as bench:
            assert await bench.send(bench.stored()) == SUCCESS
            begun = bench.lane._loop.time()
            await until(lambda: bench.lane._loop.time() > begun + 0.15, "it is old")
            assert await bench.send(bench.stored()) == SUCCESS
            assert len(bench.archive.requests) == 2
            assert [number for number, _ in bench.archive.images] == [0, 1]

    body()


def test_closed_by_the_channel_it_is_released_quietly(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with lane(tmp_path) as bench:
            await bench.send(bench.stored())
            bench.lane.close()
            bench.lane.close()
            await until(lambda: bench.archive.ends == ["released"], "the end")
            assert (bench.reports.closes, bench.lane.open) == (0, False)

    body()


def test_a_peer_that_leaves_while_idle(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        leave = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.accept()
            peer.respond(await peer.message())
            await leave.wait()

        async with lane(tmp_path) as bench, serving(script) as other:
            bench.make_lane(target(other.port))
            assert await bench.send(bench.stored()) == SUCCESS
            leave.set()
            await until(lambda: bench.reports.closes, "it is told")
            assert (bench.lane.open, bench.lane._idle) == (False, None)
            assert len(bench.reports.finishes) == 1

    body()


def test_a_new_association_waits_for_the_one_that_is_released(tmp_path: Path) -> None:
    """The destination may take no more at once than it has now."""
    open_at_once: list[int] = []
    opened = 0

    async def script(peer: Peer) -> None:
        nonlocal opened
        await peer.accept()
        opened += 1
        open_at_once.append(opened)
        with contextlib.suppress(EOFError):
            while True:
                peer.respond(await peer.message())
        await asyncio.sleep(0.05)
        opened -= 1
        peer.writer.write(ul.release_rp())

    @on_loop
    async def body() -> None:
        async with lane(tmp_path, script) as bench:  # type: ignore[arg-type]
            for sop_class in (CT, MR, CT):
                assert await bench.send(bench.stored(sop_class_uid=sop_class)) == SUCCESS
            bench.lane.close()

    body()
    assert open_at_once == [1, 1, 1]


# --- probes -----------------------------------------------------------------------------------------------------------


def test_a_probe_asks_before_it_sends(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with lane(tmp_path) as bench:
            assert await bench.send(bench.stored(), probe=True) == SUCCESS
            assert (bench.archive.echoes, len(bench.archive.images)) == (1, 1)
            assert await bench.send(bench.stored()) == SUCCESS
            assert (bench.archive.echoes, len(bench.archive.requests)) == (1, 1)

    body()


def test_a_peer_without_verification_is_probed_with_the_image(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with lane(tmp_path, Archive(refuses=(ul.VERIFICATION,))) as bench:
            assert await bench.send(bench.stored(), probe=True) == SUCCESS
            assert bench.archive.echoes == 0

    body()


def test_a_probe_that_fails_is_no_image_s_fault(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.message()
            peer.writer.write(ul.abort(0, 0))

        async with lane(tmp_path) as bench, serving(script) as other:
            bench.make_lane(target(other.port))
            outcome = await bench.send(bench.stored(), probe=True)
            assert outcome.kind is Kind.ASSOCIATION_FAILED

    body()


# --- status -----------------------------------------------------------------------------------------------------------


def test_what_status_shows(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with lane(tmp_path, Archive(silent=True)) as bench:
            assert bench.lane.info() is None
            bench.lane.begin(bench.stored(), "CT_A", False)
            info = bench.lane.info()
            assert info is not None
            assert (info["state"], info["calling_aet"]) == ("connecting", "CT_A")
            await until(lambda: bench.archive.images, "the image")
            info = bench.lane.info()
            assert info is not None
            assert (info["state"], info["images"]) == ("sending", 0)
            assert info["since_s"] >= 0

    body()


def test_a_refused_context_is_proposed_again_before_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or one association that others keep busy would refuse for an hour what the destination takes by now."""

    @on_loop
    async def body() -> None:
        archive = Archive(refuses=(MR,))
        async with lane(tmp_path, archive) as bench:
            for _ in range(2):
                assert (await bench.send(bench.stored(sop_class_uid=MR))).kind is Kind.IMAGE_FAILED
            assert len(archive.requests) == 1, "the second is refused without an association of its own"
            archive.refuses = ()
            monkeypatch.setattr(module, "REFUSED", 0.0)
            assert await bench.send(bench.stored(sop_class_uid=MR)) == SUCCESS
            assert len(archive.requests) == 2

    body()
