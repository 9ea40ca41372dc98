"""Memory for images in flight: pooled receive buffers, and images made of slices of them.

Everything is counted by capacity: a slice of 100 bytes that keeps a buffer of 256 KiB alive counts 256 KiB. A buffer
returns to its pool when its last user lets go; a user is the association that fills it, or an image that has slices of
it. An image's users (committing, being kept for sending, each lane that sends it) ``pin`` and ``unpin`` it.

All of this belongs to the event loop's thread. Other threads may read the slices of an image pinned for them.

``Memory`` keeps stored images for sending while there is room, and lets the oldest kept ones go first, so that a slow
destination's backlog does not take the room that quick ones would use: what was let go is read from its file.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable

CLASSES = (*(quarters << shift for shift in range(11, 18) for quarters in (4, 5, 6, 7)), 1 << 20)
"""Capacities, in bytes, of receive buffers: 8 KiB to 1 MiB, four to a doubling, so that at most a fifth lies idle."""

SPARE = 4 << 20
"""Bytes of unused buffers that are kept for the next image, even while those in use fill ``keep``."""


class Buffer:
    """One receive buffer. ``refs`` counts its users; never touch it but through ``take``/``hold``/``drop``."""

    __slots__ = ("capacity", "pool", "refs", "view")

    def __init__(self, pool: Memory, capacity: int) -> None:
        self.pool = pool
        self.capacity = capacity
        self.view = memoryview(bytearray(capacity))
        self.refs = 1

    def hold(self) -> None:
        """One more user."""
        self.refs += 1

    def drop(self) -> None:
        """One user less; the last one gives the buffer back."""
        self.refs -= 1
        if not self.refs:
            self.pool._give(self)


class ImageBytes:
    """A data set in memory: ``parts`` in order, slices of ``buffers``. Empty once the last pin is gone."""

    __slots__ = ("buffers", "owed", "parts", "pins", "size")

    def __init__(self) -> None:
        self.parts: list[memoryview] = []
        self.buffers: list[Buffer] = []
        self.size = 0
        self.pins = 1
        self.owed = 0  # deliveries that may still want it

    @property
    def alive(self) -> bool:
        """Whether its bytes are still there."""
        return self.pins > 0

    @property
    def capacity(self) -> int:
        """Bytes of buffers that it keeps from their pool, shared ones counted whole."""
        return sum(b.capacity for b in self.buffers)

    def pin(self) -> None:
        """One more user; only while alive."""
        self.pins += 1

    def unpin(self) -> None:
        """One user less; the last one frees the bytes."""
        self.pins -= 1
        if not self.pins:
            self.parts = []
            buffers, self.buffers = self.buffers, []
            for b in buffers:
                b.drop()


class Memory:
    """The pool, with its bounds in bytes of capacity.

    ``limit``: beyond it an association gets no buffer but a smallest one between two images (reading slows down, images
    go to disk). ``keep``: stored images stay in memory while all buffers in use are below it.
    """

    def __init__(self, limit: int, keep: int | None = None) -> None:
        self.limit = limit
        self.keep = keep if keep is not None else min(limit // 4, 32 << 20)
        self.used = 0
        self._spare: OrderedDict[int, list[Buffer]] = OrderedDict((c, []) for c in CLASSES)  # the last used last
        self._spare_bytes = 0
        self._sending = 0
        self._waiters: list[Callable[[], None]] = []
        self._kept: OrderedDict[int, ImageBytes] = OrderedDict()

    @property
    def full(self) -> bool:
        """Whether incomplete images should move to disk."""
        return self.used >= self.limit

    def take(self, size: int) -> Buffer:
        """A buffer of the smallest class that holds ``size`` bytes (the largest class if none does), used by the
        caller.
        """
        capacity = CLASSES[min(bisect_left(CLASSES, size), len(CLASSES) - 1)]
        self.used += capacity
        if self.used > self.keep and self._kept:
            self._let_go()
        if self._spare_bytes > SPARE and self.used + self._spare_bytes > self.keep:
            self._make_room(capacity)
        spare = self._spare[capacity]
        if not spare:
            self._make_room(capacity)
            return Buffer(self, capacity)
        buffer = spare.pop()
        buffer.refs = 1
        self._spare_bytes -= capacity
        return buffer

    def _make_room(self, capacity: int) -> None:
        """``capacity`` is asked for; spare buffers of sizes that are not asked for any more go first."""
        self._spare.move_to_end(capacity)
        most = max(SPARE - capacity, self.keep - self.used)
        for size, spare in self._spare.items():
            while spare and self._spare_bytes > most:
                self._spare_bytes -= size
                spare.pop()
            if self._spare_bytes <= most:
                break

    def when_room(self, call: Callable[[], None]) -> None:
        """Call once as soon as a tenth of the limit is free again."""
        self._waiters.append(call)

    @property
    def short(self) -> bool:
        """Whether who needs more than a smallest buffer has to wait: ``full``, or others wait already."""
        return self.used >= self.limit or bool(self._waiters)

    def may_send(self, image: ImageBytes) -> bool:
        """Pin ``image`` for a lane, unless lanes that send from memory (to slow peers) hold ``keep`` bytes already."""
        if not image.pins or self._sending + image.size > self.keep:
            return False
        image.pins += 1
        self._sending += image.size
        return True

    def sent(self, image: ImageBytes) -> None:
        """Undo ``may_send``."""
        self._sending -= image.size
        image.unpin()

    def _give(self, buffer: Buffer) -> None:
        self.used -= buffer.capacity
        if self._waiters and self.used < self.limit * 0.9:
            waiters, self._waiters = self._waiters, []
            for call in waiters:
                call()
        if self._spare_bytes + buffer.capacity <= max(SPARE, self.keep - self.used):
            self._spare_bytes += buffer.capacity
            self._spare[buffer.capacity].append(buffer)

    def keep_for_sending(self, key: int, image: ImageBytes) -> None:
        """Keep a stored image (its pin passes to us) until ``done_with`` or until room is needed."""
        self._kept[key] = image
        if self.used > self.keep:
            self._let_go()

    def done_with(self, key: int) -> None:
        """Nobody waits for this image any more. Unknown keys are fine."""
        image = self._kept.pop(key, None)
        if image is not None:
            image.unpin()

    def _let_go(self) -> None:
        while self._kept and self.used > self.keep:
            _, image = self._kept.popitem(last=False)
            image.unpin()
