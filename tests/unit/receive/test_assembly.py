"""Fragments over receive buffers: whatever their sizes, the image is what was sent, and its neighbours stay whole."""

from __future__ import annotations

from collections import OrderedDict
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from asyncroute.link.buffers import Buffer, ImageBytes, Memory
from asyncroute.receive import assembly
from asyncroute.receive.assembly import Assembly
from asyncroute.wire.pdata import LAST, PduReader
from tests.support import ul
from tests.unit.parts import noise


class Receiver:
    """What an association does with its buffers, without the association."""

    def __init__(self, memory: Memory, capacities: list[int]) -> None:
        self.memory = memory
        self.capacities = capacities
        self.images: list[ImageBytes] = []
        self.taken: list[list[ImageBytes]] = [[]]
        self.assembly: Assembly | None = None
        self.buffer: Buffer | None = None
        self.filled = self.turn = 0
        self.reader = PduReader(self, 0)

    def fragment(self, context_id: int, control: int, lo: int, hi: int) -> None:
        if self.assembly is None:
            self.assembly = Assembly()
        if hi > lo:
            assert self.buffer is not None
            self.assembly.add(self.buffer, lo, hi)
        if control & LAST:
            self.taken[-1].append(self.assembly.take())
            self.taken.append([])
            self.assembly = None

    def pdu(self, kind: int, body: bytes) -> None:
        raise AssertionError(kind)

    def receive(self, data: bytes, chunk: int, take_early: bool) -> None:
        """Take in ``data``, ``chunk`` bytes a read at most."""
        at = 0
        while at < len(data):
            if self.buffer is None:
                capacity = self.capacities[self.turn % len(self.capacities)]
                self.memory.used += capacity
                self.buffer = Buffer(self.memory, capacity)
                self.filled = 0
                self.turn += 1
            lo, hi = self.filled, min(self.filled + chunk, self.buffer.capacity, self.filled + len(data) - at)
            self.buffer.view[lo:hi] = data[at : at + hi - lo]
            at += hi - lo
            self.filled = hi
            self.reader.feed(self.buffer.view, lo, hi)
            if take_early and self.assembly is not None and self.turn % 3 == 0:
                self.taken[-1].append(self.assembly.take())  # as when memory is short
            if hi == self.buffer.capacity:
                self.let_go()
        self.let_go()

    def let_go(self) -> None:
        if self.assembly is not None:
            self.assembly.seal()
        if self.buffer is not None:
            self.buffer.drop()
            self.buffer = None


def joined(images: list[ImageBytes]) -> bytes:
    return b"".join(part for image in images for part in image.parts)


class AnySize(OrderedDict[int, list[Buffer]]):
    """Spare buffers of any size."""

    def __missing__(self, size: int) -> list[Buffer]:
        return self.setdefault(size, [])


def memory() -> Memory:
    """A pool that takes buffers of any size."""
    made = Memory(1 << 30)
    made._spare = AnySize()
    return made


sizes = st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=12), min_size=1, max_size=4)


@given(
    sizes,
    st.lists(st.integers(20, 900), min_size=1, max_size=4),
    st.integers(1, 400),
    st.integers(0, 300),
    st.booleans(),
)
def test_what_was_sent_is_what_is_there(
    fragments: list[list[int]], capacities: list[int], chunk: int, coalesce: int, take_early: bool
) -> None:
    """Several images one behind the other, each of fragments of any size, in buffers and reads of any size."""
    total = sum(map(sum, fragments))
    content = noise(total)
    expected, stream, at = [], b"", 0
    for image in fragments:
        expected.append(content[at : at + sum(image)])
        for n, size in enumerate(image, 1):
            stream += ul.pdv(1, LAST if n == len(image) else 0, content[at : at + size])
            at += size
    pool = memory()
    receiver = Receiver(pool, capacities)
    with mock.patch.object(assembly, "COALESCE", coalesce):
        receiver.receive(stream, chunk, take_early)
    assert [joined(images) for images in receiver.taken[:-1]] == expected
    for images in receiver.taken:
        for taken in images:
            assert taken.size == sum(map(len, taken.parts))
            taken.unpin()
    assert pool.used == 0


def test_small_fragments_become_one_slice() -> None:
    """A sender's small PDUs must not cost a slice each, nor the room that their headers took."""
    pool = Memory(1 << 30)
    receiver = Receiver(pool, [64 << 10])
    data = noise(40_000)
    receiver.receive(b"".join(ul.pdv(1, 0, data[at : at + 4000]) for at in range(0, 40_000, 4000)), 1 << 16, False)
    assert receiver.assembly is not None
    assert receiver.assembly.size == receiver.assembly.in_memory == 40_000
    image = receiver.assembly.take()
    assert [len(part) for part in image.parts] == [40_000]
    assert bytes(image.parts[0]) == data
    image.unpin()
    receiver.assembly.drop()
    assert pool.used == 0


def test_large_fragments_are_not_moved() -> None:
    pool = Memory(1 << 30)
    receiver = Receiver(pool, [256 << 10])
    size = assembly.COALESCE + 1
    receiver.receive(ul.pdv(1, 0, noise(size)) + ul.pdv(1, LAST, noise(size, 2)), 1 << 18, False)
    ((image,),) = receiver.taken[:-1]
    assert [len(part) for part in image.parts] == [size, size]
    assert len(image.buffers) == 1
    image.unpin()
    assert pool.used == 0


def test_two_images_share_a_buffer_and_nothing_else() -> None:
    pool = Memory(1 << 30)
    receiver = Receiver(pool, [64 << 10])
    receiver.receive(ul.pdv(1, 0, b"a" * 10) + ul.pdv(1, LAST, b"b" * 10) + ul.pdv(1, LAST, b"c" * 20), 64, False)
    (first,), (second,) = receiver.taken[:-1]
    assert first.buffers == second.buffers
    assert (joined([first]), joined([second])) == (b"a" * 10 + b"b" * 10, b"c" * 20)
    first.unpin()
    assert joined([second]) == b"c" * 20
    assert pool.used == 64 << 10
    second.unpin()
    assert pool.used == 0


def test_what_is_dropped_is_gone() -> None:
    pool = Memory(1 << 30)
    buffer = pool.take(8 << 10)
    collected = Assembly()
    collected.add(buffer, 0, 100)
    collected.seal()
    collected.add(buffer, 200, 300)
    collected.drop()
    assert collected.in_memory == 0
    buffer.drop()
    assert pool.used == 0


def test_sealed_twice_is_sealed_once() -> None:
    pool = Memory(1 << 30)
    buffer = pool.take(8 << 10)
    collected = Assembly()
    collected.seal()
    collected.add(buffer, 0, 100)
    collected.seal()
    collected.seal()
    image = collected.take()
    assert (image.size, len(image.parts), len(image.buffers), collected.in_memory) == (100, 1, 1, 0)
    assert collected.take().size == 0
    image.unpin()
    buffer.drop()
    assert pool.used == 0
