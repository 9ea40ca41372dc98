"""Admission over a real spool, journal and channels: one answer each, and a refusal leaves nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asyncroute.admit import NOT_AUTHORIZED, Admission, free_space
from asyncroute.core.conditions import Condition
from asyncroute.core.model import Instance, RouteHit
from asyncroute.core.outcomes import SUCCESS
from asyncroute.core.patterns import Glob
from asyncroute.core.rules import RouteTable, Rule
from asyncroute.link.buffers import ImageBytes
from asyncroute.receive.base import Received
from asyncroute.route import Router
from asyncroute.spool.local import LocalSpool
from tests.support import synthetic
from tests.unit.parts import command, files_in, instance, on_loop, until
from tests.unit.queueing import Queue, queueing

MODALITY = 0x00080060
ALL = Rule("all", ("pacs",))
CT_ONLY = Rule("ct", ("pacs",), (Condition(MODALITY, (Glob("CT"),)),))


class Gate:
    """An admission and the sender it answers to."""

    def __init__(self, queue: Queue, folder: Path, rules: Sequence[Rule], unrouted: str) -> None:
        self.queue = queue
        self.folder = folder
        self.writers = ThreadPoolExecutor(1)
        self.answers: dict[str, tuple[int, str]] = {}
        self.number = 0
        spool = queue.committer._spool
        self.admission = Admission(
            spool,
            queue.committer,
            queue.memory,
            queue.scheduler,
            Router(RouteTable(rules)),
            unrouted,
            1000,
            self.writers,
        )

    def answer(self, received: Received, status: int, comment: str) -> None:
        assert received.instance.sop_instance_uid not in self.answers, "answered twice"
        self.answers[received.instance.sop_instance_uid] = (status, comment)

    def received(self, kind: synthetic.Kind | None = None, streamed: bool = False) -> Received:
        """A CT image of 16 KB, or of another kind."""
        self.number += 1
        source = synthetic.image("admit", self.number, kind or synthetic.Kind())
        data = b"".join(source.chunks(1 << 20))
        made = instance(0, sop_class_uid=source.sop_class, sop_instance_uid=source.sop_instance)
        made.id, made.path = self.admission.allocate()
        made.transfer_syntax, made.size, made.data_offset = source.transfer_syntax, len(data), 0
        received = Received(self, command(), 3, made)
        if streamed:
            self._stream(received, made, data)
        else:
            received.image = image = ImageBytes()
            buffer = self.queue.memory.take(len(data))
            buffer.view[: len(data)] = data
            image.buffers, image.parts, image.size = [buffer], [buffer.view[: len(data)]], len(data)
        return received

    def _stream(self, received: Received, made: Instance, data: bytes) -> None:
        incoming = self.queue.committer._spool.incoming(made)
        incoming.append([data])
        incoming.finish()
        received.head = data

    async def offer(self, received: Received) -> tuple[int, str]:
        """Offer an image; its answer."""
        self.admission.offer(received)
        uid = received.instance.sop_instance_uid
        await until(lambda: uid in self.answers, "an answer")
        return self.answers[uid]

    def left(self) -> tuple[int, int, int]:
        """Files in the spool, rows in the journal, bytes in memory."""
        rows = self.queue.journal._connection.execute("SELECT count(*) FROM instance").fetchone()[0]
        return len(files_in(self.folder / "spool")), rows, self.queue.memory.used


@asynccontextmanager
async def admitting(
    folder: Path, rules: Sequence[Rule] = (ALL,), unrouted: str = "hold", lanes: int = 1
) -> AsyncIterator[Gate]:
    async with queueing(folder) as queue:
        queue.channel("pacs", lanes=lanes)
        await queue.begin()
        gate = Gate(queue, folder, rules, unrouted)
        try:
            yield gate
        finally:
            gate.writers.shutdown()


@pytest.mark.parametrize("streamed", [False, True])
def test_an_image_with_a_route(tmp_path: Path, streamed: bool) -> None:
    @on_loop
    async def body() -> None:
        async with admitting(tmp_path) as gate:
            received = gate.received(streamed=streamed)
            image = received.image
            assert await gate.offer(received) == (0, "")
            pacs = gate.queue.sites["pacs"]
            assert pacs.log == [received.instance.id]
            assert pacs.images == [image]
            assert gate.queue.states() == {received.instance.id: "ready"}
            assert gate.admission.received == 1
            pacs.finish(received.instance.id)
            await gate.queue.settled(1)
            await gate.queue.releaser.drained()
            assert gate.left() == (0, 1, 0)

    body()


def test_the_same_instance_twice_is_two_images(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with admitting(tmp_path) as gate:
            first, second = gate.received(), gate.received()
            second.instance.sop_instance_uid = first.instance.sop_instance_uid
            assert await gate.offer(first) == (0, "")
            gate.answers.clear()
            assert await gate.offer(second) == (0, "")
            assert set(gate.queue.states()) == {first.instance.id, second.instance.id}

    body()


@pytest.mark.parametrize("streamed", [False, True])
def test_without_a_route_it_is_held(tmp_path: Path, streamed: bool) -> None:
    @on_loop
    async def body() -> None:
        async with admitting(tmp_path, [CT_ONLY]) as gate:
            received = gate.received(synthetic.Kind(synthetic.MR), streamed)
            assert await gate.offer(received) == (0, "")
            assert gate.queue.scheduler.held == 1
            assert gate.queue.sites["pacs"].log == []
            assert gate.left() == (1, 1, 0)
            found = await gate.queue.reader.instance(received.instance.id)
            assert found.hold_reason == "no route matches"
            assert await gate.offer(gate.received()) == (0, "")
            assert gate.queue.scheduler.held == 1

    body()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("unrouted", "answer"), [("reject", (NOT_AUTHORIZED, "no route for this image")), ("discard", (0, ""))]
)
def test_without_a_route_it_is_not_kept(tmp_path: Path, unrouted: str, answer: tuple[int, str], streamed: bool) -> None:
    @on_loop
    async def body() -> None:
        async with admitting(tmp_path, [CT_ONLY], unrouted) as gate:
            assert await gate.offer(gate.received(synthetic.Kind(synthetic.MR), streamed)) == answer
            await until(lambda: gate.left() == (0, 0, 0), "nothing is left")
            assert gate.queue.scheduler.held == 0

    body()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_full_destination(tmp_path: Path, streamed: bool) -> None:
    @on_loop
    async def body() -> None:
        both = Rule("both", ("pacs", "copy"))
        async with admitting(tmp_path, [CT_ONLY, both]) as gate:
            gate.queue.channel("copy")
            gate.queue.scheduler.channels["copy"].look_again()
            await until(gate.queue.idle, "the channel has read")
            gate.queue.scheduler.tallies["copy"].backlog.max_images = 1
            assert await gate.offer(gate.received()) == (0, "")
            status, comment = await gate.offer(gate.received(streamed=streamed))
            assert (status, comment) == (0xA700, "destination copy: 1 images wait (max_backlog)")
            await until(lambda: gate.left()[:2] == (1, 1), "nothing is left of the second")

    body()


def test_a_failed_group_is_answered_and_leaves_nothing(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with admitting(tmp_path) as gate:
            received = gate.received()
            blocked = tmp_path / "spool" / received.instance.path
            blocked.parent.mkdir(parents=True, exist_ok=True)
            blocked.touch()
            status, comment = await gate.offer(received)
            assert status == 0xA700
            assert "File exists" in comment
            assert gate.left()[1:] == (0, 0)
            assert gate.admission.received == 0

    body()


def test_reasons_to_take_nothing(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with admitting(tmp_path) as gate:
            admission = gate.admission
            assert admission.refusal() is None
            admission.free_bytes = 999
            assert "min_free" in (admission.refusal() or "")
            admission.free_bytes = 1000
            assert admission.refusal() is None
            tree = gate.queue.committer._spool._tree  # type: ignore[attr-defined]
            tree.broken = "spool: syncing 1: Input/output error"
            assert admission.refusal() == tree.broken
            tree.broken = None
            journal = gate.queue.committer._writer
            journal.broken = "journal.db: the disk reports an I/O error"  # type: ignore[misc]
            assert admission.refusal() == journal.broken
            admission.stopping = True
            assert admission.refusal() == "router is shutting down"

    body()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_full_disk_of_the_journal_takes_no_image(tmp_path: Path, streamed: bool) -> None:
    """Not even one that was under way: what is left is for results. Measuring the free space anew ends it."""

    @on_loop
    async def body() -> None:
        async with admitting(tmp_path) as gate:
            under_way = gate.received(streamed=streamed)
            gate.queue.committer.on_full()
            assert "min_free" in (gate.admission.refusal() or "")
            assert await gate.offer(under_way) == (0xA700, "storage full")
            await until(lambda: gate.left() == (0, 0, 0), "nothing is left of it")
            gate.admission.free_bytes = 1 << 30
            assert (await gate.offer(gate.received(streamed=streamed)))[0] == 0

    body()


def test_memory_is_kept_for_sending_as_far_as_it_goes(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with admitting(tmp_path) as gate:
            images = [gate.received() for _ in range(6)]
            held = [received.image for received in images]
            assert held[0] is not None
            gate.queue.memory.keep = 3 * held[0].capacity
            for received in images:
                assert await gate.offer(received) == (0, "")
            assert gate.queue.memory.used <= gate.queue.memory.keep
            assert [image is not None and image.alive for image in held] == [False] * 3 + [True] * 3
            pacs = gate.queue.sites["pacs"]
            pacs.auto = SUCCESS
            pacs.busy[0].finish()
            await gate.queue.settled(6)
            assert gate.queue.memory.used == 0

    body()


def test_free_space(tmp_path: Path) -> None:
    assert 0 < free_space(str(tmp_path), LocalSpool(tmp_path / "spool")) < 1 << 60


def test_what_a_route_names_is_in_the_journal(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with admitting(tmp_path, [ALL, Rule("again", ("pacs", "copy"))]) as gate:
            gate.queue.channel("copy")
            received = gate.received()
            assert await gate.offer(received) == (0, "")
            assert received.instance.hits == (RouteHit("all", "pacs"), RouteHit("again", "copy"))
            assert gate.queue.states("pacs") == gate.queue.states("copy") == {received.instance.id: "ready"}

    body()
