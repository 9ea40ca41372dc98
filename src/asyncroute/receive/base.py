"""What the receiving side needs of the stages behind it, as Protocols, and what it hands to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from asyncroute.core.model import Instance
from asyncroute.link.buffers import ImageBytes
from asyncroute.wire.command import Command


class Owner(Protocol):
    """Who waits for the answer to an image."""

    def answer(self, received: Received, status: int, comment: str) -> None:
        """The image's fate is known: send the C-STORE-RSP. On the loop's thread; exactly once per image."""
        ...


class Received:
    """A whole image, not yet safe: on its way through ``admit``.

    ``image`` holds its bytes (pinned for ``admit``, which unpins) or is ``None`` where they are in the spool already,
    finished but for the folder's sync. ``head``: the first bytes of the data set of a streamed image.
    """

    __slots__ = ("command", "context_id", "head", "image", "instance", "owner")

    def __init__(self, owner: Owner, command: Command, context_id: int, instance: Instance) -> None:
        self.owner = owner
        self.command = command
        self.context_id = context_id
        self.instance = instance
        self.image: ImageBytes | None = None
        self.head: bytes | memoryview = b""


class Stream(Protocol):
    """An image being written to the spool as it arrives. On the loop's thread; the work happens elsewhere."""

    pending: int
    """Bytes handed over and not yet written."""

    head: bytes
    """Of a finished one: the data set's first bytes, enough for routing."""

    def push(self, image: ImageBytes) -> None:
        """Append the bytes of ``image`` (its pin passes over)."""
        ...

    def finish(self) -> None:
        """All is there: sync, then tell the watcher."""
        ...

    def abandon(self) -> None:
        """Forget the image and remove its file."""
        ...


class StreamWatcher(Protocol):
    """Who fills a ``Stream``."""

    def stream_moved(self) -> None:
        """Some of what was pending has been written."""
        ...

    def stream_finished(self) -> None:
        """The file is whole and synced; the instance has its size and checksum."""
        ...

    def stream_failed(self, reason: str) -> None:
        """It cannot be written; the file is removed."""
        ...


class Admit(Protocol):
    """The stage behind: takes whole images, answers each one."""

    def refusal(self) -> str | None:
        """Why an image that begins now must be refused (one line for the Error Comment), or ``None``."""
        ...

    def allocate(self) -> tuple[int, str]:
        """An id and a spool path for a new image."""
        ...

    def offer(self, received: Received) -> None:
        """Route, store, journal and answer ``received``."""
        ...

    def stream(self, instance: Instance, watcher: StreamWatcher) -> Stream:
        """Begin to write an image that is too large for memory."""
        ...


Parts = Sequence[memoryview]
