"""Lanes of DICOM destinations when something goes wrong: whose fault it was, and what is left of it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from asyncroute.core.errors import StorageFault
from asyncroute.core.outcomes import SUCCESS, Action, Kind
from asyncroute.forward.reading import WHOLE
from tests.support import ul
from tests.unit.answering import Message, Peer, serving, target
from tests.unit.delivering import Archive, lane
from tests.unit.parts import EXPLICIT_LE, MR, on_loop, settle_loop, until

# --- answers ----------------------------------------------------------------------------------------------------------


def test_statuses_and_overrides(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        archive = Archive(status={"1.2.3.1": 0xA700, "1.2.3.2": 0xA900, "1.2.3.3": 0xB000, "1.2.3.4": 0x0122})
        async with lane(tmp_path, archive, overrides={0xA900: Action.DELIVER}) as bench:
            found = [await bench.send(bench.stored()) for _ in range(5)]
            assert [outcome.kind for outcome in found] == [
                Kind.DESTINATION_PAUSE,
                Kind.DELIVERED_WITH_WARNING,
                Kind.DELIVERED_WITH_WARNING,
                Kind.IMAGE_FAILED,
                Kind.DELIVERED,
            ]
            assert all('"why"' in outcome.text for outcome in found[:4])
            assert len(archive.requests) == 1

    body()


def test_what_the_peer_does_not_take_is_that_image_s_end_alone(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with lane(tmp_path, Archive(refuses=(MR,))) as bench:
            bench.reports.pairs = [(MR, EXPLICIT_LE)]
            assert await bench.send(bench.stored()) == SUCCESS
            assert bench.lane.carries(("CT_A", MR, EXPLICIT_LE))
            outcome = await bench.send(bench.stored(sop_class_uid=MR))
            assert outcome.kind is Kind.IMAGE_FAILED
            assert MR in outcome.text
            assert await bench.send(bench.stored()) == SUCCESS
            assert len(bench.archive.requests) == 1

    body()


@pytest.mark.parametrize("sop_class", ["abc", "1.2.840.x", "", "1" * 65])
def test_what_nobody_could_be_offered_is_that_image_s_end(tmp_path: Path, sop_class: str) -> None:
    """It must not look like a destination that is down."""

    @on_loop
    async def body() -> None:
        async with lane(tmp_path) as bench:
            outcome = await bench.send(bench.stored(sop_class_uid=sop_class))
            assert (outcome.kind, outcome.limit) == (Kind.IMAGE_FAILED, 1)
            assert not bench.lane.open
            assert bench.archive.requests == []
            assert await bench.send(bench.stored()) == SUCCESS

    body()


@pytest.mark.parametrize(("status", "kind"), [(0xA700, Kind.DESTINATION_PAUSE), (0, Kind.POISON_COUNT)])
def test_an_answer_before_the_end(tmp_path: Path, status: int, kind: Kind) -> None:
    """A refusal counts; a success cannot be: the peer does not have what was not sent yet."""

    @on_loop
    async def body() -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            _, content = await peer.pdu()
            ((context, _, fragment),) = ul.pdvs(memoryview(content))
            peer.respond(Message(ul.read_command(bytes(fragment)), b"", context), status, "early")
            await peer.end()

        async with lane(tmp_path) as bench, serving(script, buffers=64 << 10) as other:
            bench.make_lane(target(other.port))
            outcome = await bench.send(bench.stored(30_000_000))
            assert outcome.kind is kind
            assert "early" in outcome.text or status == 0
            assert not bench.lane.open

    body()


# --- failures ---------------------------------------------------------------------------------------------------------


def test_an_association_that_cannot_be_made(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async def script(peer: Peer) -> None:
            await peer.take_request()
            peer.writer.write(ul.associate_rj(2, 3, 2))

        async with lane(tmp_path) as bench, serving(script) as other:
            bench.make_lane(target(other.port))
            for _ in range(2):
                outcome = await bench.send(bench.stored(1000, True))
                assert (outcome.kind, outcome.narrow) == (Kind.ASSOCIATION_FAILED, True)
                assert not bench.lane.open
                assert bench.lane.info() is None
            assert bench.memory._sending == 0

    body()


def test_lost_in_the_middle_of_an_image(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.pdu()
            await peer.pdu()
            peer.writer.write(ul.abort(0, 0))

        async with lane(tmp_path) as bench, serving(script) as other:
            for in_memory in (True, False):
                bench.make_lane(target(other.port))
                stored = bench.stored(5_000_000, in_memory)
                outcome = await bench.send(stored)
                assert outcome.kind is Kind.POISON_COUNT
                assert bench.memory._sending == 0
                assert not bench.lane.open
                await settle_loop(20)
            assert len(bench.reports.finishes) == 2

    body()


@pytest.mark.parametrize("size", [1000, 3_000_001])
def test_a_damaged_file_is_the_image_s_end_and_the_peer_keeps_nothing_of_it(tmp_path: Path, size: int) -> None:
    @on_loop
    async def body() -> None:
        async with lane(tmp_path) as bench:
            assert await bench.send(bench.stored()) == SUCCESS
            stored = bench.stored(size)
            path = bench.path(stored)
            content = bytearray(path.read_bytes())
            content[-1] ^= 1
            path.write_bytes(content)
            outcome = await bench.send(stored)
            assert (outcome.kind, outcome.ours) == (Kind.IMAGE_FAILED, True)
            assert bench.lane.open == (size < WHOLE)
            assert len(bench.archive.images) == 1
            assert await bench.send(bench.stored()) == SUCCESS
            assert [len(data) for data in bench.archive.data] == [1000, 1000]
            if size > WHOLE:
                await until(lambda: bench.archive.ends, "the end")
                assert bench.archive.ends[0] in ("aborted", "reset", "closed")

    body()


def test_trouble_with_our_own_disk_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @on_loop
    async def body() -> None:
        async with lane(tmp_path) as bench:

            def busy(*_: object) -> bytes:
                raise StorageFault("reading: too many open files", errno.EMFILE)

            with monkeypatch.context() as patch:
                patch.setattr(bench.spool, "at_once", lambda _: None)
                patch.setattr(bench.spool, "load", busy)
                outcome = await bench.send(bench.stored())
            assert (outcome.kind, outcome.ours, outcome.charge) == (Kind.IMAGE_RETRY, True, False)
            assert await bench.send(bench.stored()) == SUCCESS

    body()


# --- cut off ----------------------------------------------------------------------------------------------------------


def test_cut_off_while_another_is_released_it_opens_nothing(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            peer.respond(await peer.message())
            await peer.pdu()
            await peer.end()

        async with lane(tmp_path) as bench, serving(script) as slow:
            bench.make_lane(target(slow.port))
            assert await bench.send(bench.stored()) == SUCCESS
            bench.lane.begin(bench.stored(), "MR_B", False)
            opening = bench.lane._opening
            bench.lane.abort()
            assert opening is not None
            assert opening.over
            await until(lambda: not bench.lane._forwarder._leaving._waiting, "it is not waited for any longer")
            await settle_loop(20)
            assert slow.connections == 1
            assert len(bench.reports.finishes) == 1
            for task in slow.running:
                task.cancel()

    body()


@pytest.mark.parametrize("when", ["connecting", "reading", "sending", "waiting"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_cut_off_it_reports_nothing_and_holds_nothing(tmp_path: Path, when: str, in_memory: bool) -> None:
    @on_loop
    async def body() -> None:
        async with lane(tmp_path, Archive(silent=True)) as bench:
            stored = bench.stored(20_000_000 if when == "sending" else 1000, in_memory)
            bench.memory.keep = 64 << 20
            bench.lane.begin(stored, "CT_A", False)
            if when == "reading":
                await until(lambda: bench.archive.requests, "the association")
            elif when == "sending":
                await until(
                    lambda: bench.lane._association is not None and bench.lane._association.written, "some bytes"
                )
            elif when == "waiting":
                await until(lambda: bench.archive.images, "the image has arrived")
            bench.lane.abort()
            bench.lane.abort()
            assert not bench.lane.open
            await settle_loop(50)
            assert bench.reports.finishes == []
            assert bench.reports.closes == 0
            assert bench.memory._sending == 0

    body()
