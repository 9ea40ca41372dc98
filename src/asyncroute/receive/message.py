"""One C-STORE-RQ's data set on its way in: kept in memory, written to the spool as it comes, or read and discarded.

It starts in memory. It moves to the spool when it grows over ``SPILL`` bytes of buffers or when ``Intake`` has to make
room. It is discarded (read to its end, then answered with a refusal) when it must be refused: storage trouble, a stop,
too large, or a message that carries data nobody wants.
"""

from __future__ import annotations

import re
from time import time
from typing import TYPE_CHECKING

from asyncroute.core.model import Instance
from asyncroute.link.associate import Context
from asyncroute.link.buffers import Buffer, ImageBytes
from asyncroute.receive.assembly import Assembly
from asyncroute.receive.base import Received, Stream
from asyncroute.wire import command as dimse

if TYPE_CHECKING:
    from asyncroute.receive.association import Acceptor

SPILL = 3 << 20
"""Bytes of buffers that one incomplete image may hold before it is written to the spool as it comes."""

CONGESTED = 2 << 20
"""Bytes of one image that may wait for the disk before we stop reading from its sender."""

_UID = re.compile(r"[0-9.]{1,64}")
_USABLE_UID = re.compile(r"[!-)+-.0->@-\[\]-~]{1,64}")
"""Printable ASCII but for space, asterisk, slash, question mark, backslash."""

LARGEST_BUFFER = 256 << 10
ROUND_IT = 4 << 10
"""Bytes for what comes with an image: its command set, the PDUs' headers, and that the next one is a little longer."""


def next_buffer(left: int) -> int:
    """Bytes of the next of equal receive buffers, as few as possible, for what is ``left``."""
    return -(-left // -(-left // LARGEST_BUFFER))


class Message:
    """See module."""

    __slots__ = ("_assembly", "_received", "_refusal", "_stream", "context_id", "owner")

    def __init__(self, owner: Acceptor, context: Context, command: dimse.Command) -> None:
        self.owner = owner
        self.context_id = context.id
        self._assembly: Assembly | None = Assembly()
        self._stream: Stream | None = None
        self._refusal: tuple[int, str] | None = None
        instance = Instance(
            0,
            owner.source,
            command.text(dimse.AFFECTED_CLASS) or context.abstract_syntax,
            command.text(dimse.AFFECTED_INSTANCE),
            context.transfer_syntax,
            time(),
            "",
        )
        self._received = Received(owner, command, context.id, instance)
        reason = owner.listener.admit.refusal()
        if reason:
            self._refuse(dimse.OUT_OF_RESOURCES, reason)
        elif not _usable_uid(instance.sop_instance_uid):
            self._refuse(dimse.INVALID_INSTANCE, "SOP Instance UID missing or malformed")
        elif not _UID.fullmatch(instance.sop_class_uid):
            self._refuse(dimse.NO_SUCH_CLASS, "SOP Class UID malformed")

    @classmethod
    def unwanted(cls, owner: Acceptor, context: Context, command: dimse.Command, status: int) -> Message:
        """A message other than C-STORE that carries a data set: read it, then answer with ``status``."""
        message = cls(owner, context, command)
        message._refuse(status, "")
        return message

    # ---- bytes

    def want(self, expected: int) -> int:
        """The size in bytes of the next receive buffer. ``expected``: bytes of the whole image, as far as known."""
        size = self._assembly.size if self._assembly is not None else LARGEST_BUFFER
        if size < expected:
            return max(next_buffer(expected - size), 8 << 10)
        return min(max(size * 2, 64 << 10), LARGEST_BUFFER)

    def add(self, buffer: Buffer, lo: int, hi: int) -> None:
        """Bytes ``lo:hi`` of ``buffer`` come next."""
        assembly = self._assembly
        if assembly is None:
            return
        assembly.add(buffer, lo, hi)
        if assembly.size > self.owner.listener.settings.max_image:
            limit = self.owner.listener.settings.max_image
            self._refuse(dimse.OUT_OF_RESOURCES, f"image larger than max_image ({limit} bytes)")

    def buffer_ends(self) -> None:
        """The receive buffer is full: what of it is ours must be sealed; large images go on to disk."""
        assembly = self._assembly
        if assembly is None:
            return
        assembly.seal()
        if self._stream is not None or assembly.image.capacity >= SPILL:
            self.spill()

    def in_memory(self, filling: Buffer | None) -> int:
        """Bytes of buffers, without the one being filled, that ``spill`` would free before long."""
        assembly = self._assembly
        if assembly is None or not assembly.image.buffers:
            return 0
        return sum(b.capacity for b in assembly.image.buffers if b is not filling)

    def relieve(self) -> ImageBytes | None:
        """Memory is short: what has come goes to disk, and the rest as it comes. What goes now, if anything."""
        if self._assembly is None or not self._assembly.in_memory:
            return None
        return self.spill()

    @property
    def congested(self) -> bool:
        """Whether the disk is so far behind that reading should stop."""
        return self._stream is not None and self._stream.pending > CONGESTED

    def spill(self) -> ImageBytes | None:
        """Hand what is in memory to the spool, and from now on everything. What was handed over."""
        assembly = self._assembly
        if assembly is None:
            return None
        image = assembly.take()
        received = self._received
        if self._stream is None:
            admit = self.owner.listener.admit
            received.instance.id, received.instance.path = admit.allocate()
            self._stream = admit.stream(received.instance, self)
        if image.size:
            self._stream.push(image)
        else:
            image.unpin()
        if self.congested:
            self.owner.pause()
        return image

    def complete(self) -> None:
        """The last fragment has come."""
        assembly = self._assembly
        if assembly is None:
            assert self._refusal is not None
            self.owner.tell(self._received, *self._refusal)
            return
        if self._stream is not None:
            self.spill()
            self._stream.finish()
            self.owner.waits()
            return
        received = self._received
        received.image = image = assembly.take()
        received.instance.size = image.size
        received.instance.id, received.instance.path = self.owner.listener.admit.allocate()
        self.owner.expect = image.size + ROUND_IT
        self.owner.waits()
        self.owner.offer(received)

    # ---- the spool's word

    def stream_moved(self) -> None:
        """See ``receive.base.StreamWatcher``."""
        if not self.congested:
            self.owner.resume_if_able()

    def stream_finished(self) -> None:
        """See ``receive.base.StreamWatcher``."""
        stream, self._stream = self._stream, None
        assert stream is not None
        self._received.head = stream.head
        self.owner.offer(self._received)

    def stream_failed(self, reason: str) -> None:
        """See ``receive.base.StreamWatcher``."""
        self._stream = None
        if self.owner.message is self:
            self._refuse(dimse.OUT_OF_RESOURCES, reason)
            self.owner.resume_if_able()
        else:
            self.owner.answer(self._received, dimse.OUT_OF_RESOURCES, reason)

    # ---- the end

    def _refuse(self, status: int, comment: str) -> None:
        self._refusal = (status, comment)
        self.drop()

    def drop(self) -> None:
        """Forget the data set; what is on disk is removed."""
        assembly, self._assembly = self._assembly, None
        if assembly is not None:
            assembly.drop()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abandon()


def _usable_uid(uid: str) -> bool:
    """PS3.5 9.1 is stricter; real devices are not. We never make names of UIDs, but what we pass on must be clean
    text.
    """
    return _USABLE_UID.fullmatch(uid) is not None
