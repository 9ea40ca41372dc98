"""Memory counted by capacity: nothing is counted twice or forgotten, whoever lets go first."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from asyncroute.link import buffers
from asyncroute.link.buffers import CLASSES, Buffer, ImageBytes, Memory

KIB = 1 << 10
SMALL, MIDDLE, LARGE, LARGEST = CLASSES[0], 64 * KIB, 256 * KIB, CLASSES[-1]


def image(buffer: Buffer, lo: int, hi: int) -> ImageBytes:
    """An image of one slice."""
    made = ImageBytes()
    buffer.hold()
    made.buffers.append(buffer)
    made.parts.append(buffer.view[lo:hi])
    made.size = hi - lo
    return made


def stored(memory: Memory, capacity: int = MIDDLE) -> ImageBytes:
    """An image that alone holds a buffer."""
    buffer = memory.take(capacity)
    made = image(buffer, 0, capacity)
    buffer.drop()
    return made


@pytest.mark.parametrize(
    ("size", "capacity"),
    [
        (0, SMALL),
        (SMALL, SMALL),
        (SMALL + 1, 10 * KIB),
        (34_000, 40 * KIB),
        (MIDDLE, MIDDLE),
        (MIDDLE + 1, 80 * KIB),
        (LARGE, LARGE),
        (LARGEST - 1, LARGEST),
        (100 * LARGEST, LARGEST),
    ],
)
def test_classes(size: int, capacity: int) -> None:
    memory = Memory(1 << 30)
    buffer = memory.take(size)
    assert (buffer.capacity, len(buffer.view), memory.used) == (capacity, capacity, capacity)
    buffer.drop()
    assert memory.used == 0


def test_no_more_than_a_fifth_of_a_buffer_lies_idle() -> None:
    assert (SMALL, LARGEST) == (8 * KIB, 1024 * KIB)
    for smaller, larger in itertools.pairwise(CLASSES):
        assert (smaller + 1) / larger > 0.8


def test_a_buffer_that_comes_back_is_used_again() -> None:
    memory = Memory(1 << 30)
    buffer = memory.take(SMALL)
    buffer.drop()
    again = memory.take(SMALL)
    assert again is buffer
    assert again.refs == 1


def test_spare_buffers_are_bounded() -> None:
    """They and those in use stay below ``keep``, or they have ``SPARE`` bytes."""
    memory = Memory(1 << 30, keep=2 * buffers.SPARE)
    taken = [memory.take(LARGEST) for _ in range(40)]
    for buffer in taken:
        buffer.drop()
    assert memory.used == 0
    assert memory._spare_bytes == memory.keep == sum(map(len, memory._spare.values())) * LARGEST
    taken = [memory.take(LARGE) for _ in range(40)]
    assert memory.used == 40 * LARGE
    assert 0 < memory._spare_bytes <= buffers.SPARE
    taken += [memory.take(LARGEST) for _ in range(8)]
    assert memory._spare_bytes <= buffers.SPARE - LARGEST
    assert sum(len(spare) * size for size, spare in memory._spare.items()) == memory._spare_bytes


def test_spare_buffers_of_a_size_that_nobody_asks_for_make_room() -> None:
    """Images of another length come from now on: what they leave behind is kept, what was there before goes."""
    memory = Memory(1 << 30, keep=buffers.SPARE)
    for buffer in [memory.take(LARGE) for _ in range(buffers.SPARE // LARGE)]:
        buffer.drop()
    assert memory._spare_bytes == buffers.SPARE
    taken = [memory.take(LARGEST) for _ in range(4)]
    for buffer in taken:
        buffer.drop()
    assert memory._spare_bytes == buffers.SPARE
    again = [memory.take(LARGEST), memory.take(LARGE)]
    assert again[0] in taken
    assert again[1].capacity == LARGE


def test_two_images_in_one_buffer() -> None:
    """It counts once, whole, until both are gone; what is left of one never changes with the other."""
    memory = Memory(1 << 30)
    buffer = memory.take(SMALL)
    buffer.view[:10] = b"abcdefghij"
    first, second = image(buffer, 0, 5), image(buffer, 5, 10)
    buffer.drop()
    first.unpin()
    assert memory.used == SMALL
    assert bytes(second.parts[0]) == b"fghij"
    assert memory.take(SMALL) is not buffer
    second.unpin()
    assert memory.used == SMALL
    assert not second.alive
    assert second.parts == []


def test_capacity_not_size_counts() -> None:
    memory = Memory(1 << 30)
    tiny = image(memory.take(LARGE), 0, 1)
    assert tiny.size == 1
    assert tiny.capacity == memory.used == LARGE


def test_pins() -> None:
    memory = Memory(1 << 30)
    held = stored(memory)
    held.pin()
    held.unpin()
    assert held.alive
    assert memory.used == MIDDLE
    held.unpin()
    assert not held.alive
    assert memory.used == 0


def test_full() -> None:
    memory = Memory(2 * LARGE)
    first = memory.take(LARGE)
    assert not memory.full
    second = memory.take(LARGE)
    assert memory.full
    second.drop()
    assert not memory.full
    first.drop()


# --- kept images ------------------------------------------------------------------------------------------------------


def test_the_oldest_kept_image_goes_first() -> None:
    memory = Memory(1 << 30, keep=3 * MIDDLE)
    images = [stored(memory) for _ in range(3)]
    for key, kept in enumerate(images):
        memory.keep_for_sending(key, kept)
    assert [kept.alive for kept in images] == [True, True, True]
    newest = stored(memory)
    assert [kept.alive for kept in images] == [False, True, True]
    memory.keep_for_sending(3, newest)
    more = memory.take(3 * MIDDLE)
    assert [kept.alive for kept in (*images, newest)] == [False, False, False, False]
    more.drop()
    assert memory.used == 0


def test_an_image_that_does_not_fit_is_not_kept() -> None:
    memory = Memory(1 << 30, keep=SMALL)
    too_large = stored(memory)
    memory.keep_for_sending(1, too_large)
    assert not too_large.alive
    assert memory.used == 0


def test_an_evicted_image_stays_for_the_lane_that_sends_it() -> None:
    memory = Memory(1 << 30, keep=MIDDLE)
    sending = stored(memory)
    memory.keep_for_sending(1, sending)
    assert memory.may_send(sending)
    other = memory.take(MIDDLE)
    assert sending.alive
    assert len(sending.parts) == 1
    memory.sent(sending)
    assert not sending.alive
    assert memory.used == MIDDLE
    other.drop()
    memory.done_with(1)
    assert memory.used == 0


def test_done_with() -> None:
    memory = Memory(1 << 30, keep=1 << 20)
    kept = stored(memory)
    memory.keep_for_sending(1, kept)
    memory.done_with(2)
    assert kept.alive
    memory.done_with(1)
    memory.done_with(1)
    assert not kept.alive
    assert memory.used == 0


def test_what_lanes_hold_is_bounded() -> None:
    memory = Memory(1 << 30, keep=2 * MIDDLE)
    first, second, third = (stored(memory) for _ in range(3))
    assert memory.may_send(first)
    assert memory.may_send(second)
    assert not memory.may_send(third)
    assert third.pins == 1
    memory.sent(first)
    assert memory.may_send(third)


def test_an_image_that_is_gone_cannot_be_sent() -> None:
    memory = Memory(1 << 30)
    gone = stored(memory)
    gone.unpin()
    assert not memory.may_send(gone)
    assert memory._sending == 0


def test_default_share_for_sending() -> None:
    assert Memory(64 << 20).keep == 16 << 20
    assert Memory(8 << 30).keep == 32 << 20


# --- waiting for room -------------------------------------------------------------------------------------------------


def test_waiters_are_called_once_when_a_tenth_is_free() -> None:
    memory = Memory(10 * LARGE)
    taken = [memory.take(LARGE) for _ in range(10)]
    calls: list[float] = []
    memory.when_room(lambda: calls.append(memory.used))
    taken.pop().drop()
    assert calls == []
    taken.pop().drop()
    assert calls == [8 * LARGE]
    taken.pop().drop()
    assert len(calls) == 1


def test_a_waiter_may_take_and_wait_again() -> None:
    memory = Memory(10 * LARGE)
    taken = [memory.take(LARGE) for _ in range(10)]
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        taken.append(memory.take(LARGE))
        memory.when_room(call)

    memory.when_room(call)
    taken.pop(0).drop()
    taken.pop(0).drop()
    assert calls == 1
    assert memory.used == 9 * LARGE
    taken.pop(0).drop()
    assert calls == 2
    assert memory.used == sum(buffer.capacity for buffer in taken)


# --- any order of events ----------------------------------------------------------------------------------------------


class Accounting(RuleBasedStateMachine):
    """Buffers, images that share them, lanes and the kept ones, in any order; a plain recount must agree."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory(2 << 20, keep=512 * KIB)
        self.filling: list[Buffer] = []
        self.received: list[ImageBytes] = []
        self.kept: dict[int, ImageBytes] = {}
        self.sending: list[ImageBytes] = []
        self.known: dict[int, Buffer] = {}
        self.next_key = 0

    @rule(size=st.sampled_from([1, SMALL, MIDDLE, LARGE, LARGEST]))
    def take(self, size: int) -> None:
        buffer = self.memory.take(size)
        assert buffer.refs == 1
        self.filling.append(buffer)
        self.known[id(buffer)] = buffer

    @rule(n=st.integers(0, 99))
    def let_go(self, n: int) -> None:
        if self.filling:
            self.filling.pop(n % len(self.filling)).drop()

    @rule(n=st.integers(0, 99), both=st.booleans())
    def receive(self, n: int, both: bool) -> None:
        if self.filling:
            made = image(self.filling[n % len(self.filling)], 0, 100)
            if both:
                other = self.filling[(n + 1) % len(self.filling)]
                other.hold()
                made.buffers.append(other)
                made.parts.append(other.view[:50])
            self.received.append(made)

    @rule(n=st.integers(0, 99), keep=st.booleans())
    def answer(self, n: int, keep: bool) -> None:
        if self.received:
            made = self.received.pop(n % len(self.received))
            if keep:
                self.kept[self.next_key] = made
                self.memory.keep_for_sending(self.next_key, made)
                self.next_key += 1
            else:
                made.unpin()

    @rule(n=st.integers(0, 99))
    def send(self, n: int) -> None:
        if self.kept:
            made = self.kept[n % len(self.kept)]
            alive = made.alive
            if self.memory.may_send(made):
                assert alive
                self.sending.append(made)

    @rule(n=st.integers(0, 99))
    def sent(self, n: int) -> None:
        if self.sending:
            self.memory.sent(self.sending.pop(n % len(self.sending)))

    @rule(n=st.integers(0, 99))
    def done(self, n: int) -> None:
        if self.kept:
            self.memory.done_with(n % len(self.kept))

    @invariant()
    def adds_up(self) -> None:
        in_use = [buffer for buffer in self.known.values() if buffer.refs > 0]
        assert self.memory.used == sum(buffer.capacity for buffer in in_use)
        assert self.memory._sending == sum(made.size for made in self.sending)
        assert all(made.alive and made.parts for made in (*self.received, *self.sending))
        users = {id(buffer): 0 for buffer in in_use}
        for holder in (*self.filling, *(b for x in self._alive() for b in x.buffers)):
            users[id(holder)] += 1
        assert users == {id(buffer): buffer.refs for buffer in in_use}

    def _alive(self) -> list[ImageBytes]:
        found = {id(made): made for made in (*self.received, *self.sending, *self.kept.values())}
        return [made for made in found.values() if made.alive]

    def teardown(self) -> None:
        for buffer in self.filling:
            buffer.drop()
        for made in self.received:
            made.unpin()
        for made in self.sending:
            self.memory.sent(made)
        for key in self.kept:
            self.memory.done_with(key)
        assert self.memory.used == 0
        assert self.memory._sending == 0


TestAccounting = Accounting.TestCase
TestAccounting.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
