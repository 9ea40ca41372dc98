"""One data set being received: slices of receive buffers, made into an image.

Fragments arrive as offsets into the buffer that is being filled. Neighbours are joined; small fragments are moved up
against the one before (a memmove within the buffer), so that a sender's small PDUs cost neither slices nor their
memory.
"""

from __future__ import annotations

from asyncroute.link.buffers import Buffer, ImageBytes

COALESCE = 32 << 10
"""Fragments up to so many bytes are moved rather than sliced."""


class Assembly:
    """Collects the fragments of one data set. ``size``: bytes so far, those already taken away included."""

    __slots__ = ("_buffer", "_end", "_start", "image", "size")

    def __init__(self) -> None:
        self.image = ImageBytes()
        self.size = 0
        self._buffer: Buffer | None = None
        self._start = self._end = 0

    def add(self, buffer: Buffer, lo: int, hi: int) -> None:
        """Bytes ``lo:hi`` of ``buffer`` come next. ``buffer`` must be the one of the last call until ``seal``."""
        n = hi - lo
        self.size += n
        if self._buffer is None:
            self._buffer, self._start, self._end = buffer, lo, hi
        elif self._end == lo:
            self._end = hi
        elif n <= COALESCE:
            end = self._end + n
            buffer.view[self._end : end] = buffer.view[lo:hi]
            self._end = end
        else:
            self._slice()
            self._start, self._end = lo, hi

    def seal(self) -> None:
        """The buffer is full or about to go: keep what is ours of it."""
        if self._buffer is not None:
            self._slice()
            self._buffer = None

    def take(self) -> ImageBytes:
        """What was collected since the last ``take``, for somebody else to hold."""
        self.seal()
        image, self.image = self.image, ImageBytes()
        return image

    @property
    def in_memory(self) -> int:
        """Bytes held here."""
        return self.image.size + self._end - self._start if self._buffer is not None else self.image.size

    def drop(self) -> None:
        """Let everything go."""
        self._buffer = None
        self.image.unpin()
        self.image = ImageBytes()

    def _slice(self) -> None:
        buffer, image = self._buffer, self.image
        if buffer is None or self._end == self._start:
            return
        if not image.buffers or image.buffers[-1] is not buffer:
            buffer.hold()
            image.buffers.append(buffer)
        image.parts.append(buffer.view[self._start : self._end])
        image.size += self._end - self._start
