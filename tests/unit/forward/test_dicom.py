"""Lanes of DICOM destinations over real associations: what is reused, what ends, and whose fault it was."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from asyncroute.core.errors import StorageFault
from asyncroute.core.model import Delivery
from asyncroute.core.outcomes import SUCCESS, Action, Kind, Outcome
from asyncroute.forward.association import Shared, Target
from asyncroute.forward.base import Pair
from asyncroute.forward.dicom import DicomForwarder, DicomLane, Means, Policy
from asyncroute.forward.reading import WHOLE, Readers
from asyncroute.link.buffers import ImageBytes, Memory
from asyncroute.spool.local import LocalSpool
from tests.support import ul
from tests.unit.answering import Message, Peer, Server, serving, sharing, target
from tests.unit.parts import (
    CT,
    EXPLICIT_LE,
    IMPLICIT_LE,
    JPEG,
    MR,
    delivery,
    instance,
    noise,
    on_loop,
    settle_loop,
    until,
)


@dataclass
class Archive:
    """A destination that takes everything, and says so; ``status``: by image, else success."""

    max_pdu: int = 65536
    refuses: tuple[str, ...] = ()
    status: dict[str, int] = field(default_factory=dict)
    silent: bool = False
    images: list[tuple[int, Message]] = field(default_factory=list)
    echoes: int = 0
    requests: list[ul.AssociateRQ] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    async def __call__(self, peer: Peer) -> None:
        await peer.accept(self.max_pdu, self.refuses)
        number = len(self.requests)
        self.requests.append(peer.request)
        try:
            while True:
                message = await peer.message()
                if message.command[ul.COMMAND_FIELD] == ul.C_ECHO_RQ:
                    self.echoes += 1
                else:
                    self.images.append((number, message))
                if not self.silent:
                    uid = str(message.command.get(ul.AFFECTED_INSTANCE, ""))
                    peer.respond(message, self.status.get(uid, 0), "why" if uid in self.status else "")
        except EOFError as end:
            kind = end.args[0] if isinstance(end.args[0], int) else 0
            self.ends.append({ul.RELEASE_RQ: "released", ul.ABORT: "aborted"}.get(kind, "closed"))
            if kind == ul.RELEASE_RQ:
                peer.writer.write(ul.release_rp())
                await peer.end()
        except ConnectionError:
            self.ends.append("reset")

    @property
    def data(self) -> list[bytes]:
        return [message.data for _, message in self.images]


class Reports:
    """The channel, as a lane sees it."""

    def __init__(self) -> None:
        self.finishes: list[tuple[int, Outcome]] = []
        self.closes = 0
        self.pairs: list[Pair] = []

    def finished(self, lane: object, delivery: Delivery, outcome: Outcome) -> None:
        self.finishes.append((delivery.instance_id, outcome))

    def closed(self, lane: object) -> None:
        self.closes += 1

    def wanted(self, title: str) -> Iterable[Pair]:
        return self.pairs


class Bench:
    def __init__(self, folder: Path, shared: Shared) -> None:
        self.spool = LocalSpool(folder / "spool", "process-crash")
        self.memory = Memory(64 << 20)
        self.means = Means(shared, self.memory, Readers(self.spool, 2))
        self.reports = Reports()
        self.archive = Archive()
        self.policy = Policy(lambda title: title, {}, 60.0, 60.0, 128)
        self.server = Server()
        self.lane: DicomLane
        self.number = 0

    def make_lane(self, to: Target | None = None) -> DicomLane:
        forwarder = DicomForwarder("pacs", to or target(self.server.port), self.policy, self.means)
        self.lane = forwarder.lane(self.reports)
        return self.lane

    def stored(self, size: int = 1000, in_memory: bool = False, **more: object) -> Delivery:
        """An image of noise in the spool, and in memory if told so."""
        self.number += 1
        uids = {name: more[name] for name in ("sop_class_uid", "sop_instance_uid", "transfer_syntax") if name in more}
        made, data = instance(self.number, data_offset=0, **uids), noise(size, 100 + self.number)
        assert self.spool.write([(made, [data])]) == {}
        found = delivery(self.number, data_offset=made.data_offset, size=size, checksum=made.checksum)
        for name, value in more.items():
            setattr(found, name, value)
        if in_memory:
            found.image = image = ImageBytes()
            while image.size < size:
                buffer = self.memory.take(size)
                part = data[image.size : image.size + buffer.capacity]
                buffer.view[: len(part)] = part
                image.buffers.append(buffer)
                image.parts.append(buffer.view[: len(part)])
                image.size += len(part)
        return found

    def path(self, stored: Delivery) -> Path:
        return self.spool.root / stored.path

    async def send(self, stored: Delivery, title: str = "CT_A", probe: bool = False) -> Outcome:
        """Let the lane deliver; the outcome."""
        count = len(self.reports.finishes)
        self.lane.begin(stored, title, probe)
        await until(lambda: len(self.reports.finishes) > count, "the outcome")
        number, outcome = self.reports.finishes[-1]
        assert number == stored.instance_id
        return outcome


@asynccontextmanager
async def lane(folder: Path, archive: Archive | None = None, **policy: object) -> AsyncIterator[Bench]:
    """A lane to an archive."""
    async with sharing() as shared:
        bench = Bench(folder, shared)
        bench.archive = archive or Archive()
        bench.policy = replace(bench.policy, **policy)  # type: ignore[arg-type]
        try:
            async with serving(bench.archive) as bench.server:
                bench.make_lane()
                yield bench
                bench.lane.abort()
                await until(lambda: not shared.deadlines.busy, "no association is left")
        finally:
            bench.means.readers.close()
            bench.spool.close()


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
                patch.setattr(bench.spool, "read", busy)
                outcome = await bench.send(bench.stored())
            assert (outcome.kind, outcome.ours, outcome.charge) == (Kind.IMAGE_RETRY, True, False)
            assert await bench.send(bench.stored()) == SUCCESS

    body()


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


# --- cut off ----------------------------------------------------------------------------------------------------------


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
                await until(lambda: bench.lane._association is not None and bench.lane._association.bytes, "some bytes")
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
