"""Sends files to one DICOM peer, over several associations at once.

Guarantees: a data set leaves byte for byte as it is in its file; large files pass through in pieces of ``PIECE`` bytes,
two per association at most. One presentation context per (SOP class, transfer syntax), 128 per association: more need
associations of their own, one group after the other. An image whose association is lost is tried once more.
Failures: per image, in ``Tally.failed``; nothing is raised for what the peer does.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from asyncroute.cli.files import ImageFile
from asyncroute.cli.peer import Conversation, Failed, Requestor, Shared, Target, connect
from asyncroute.core import outcomes
from asyncroute.core.errors import StorageFault
from asyncroute.core.outcomes import Kind, Outcome
from asyncroute.link.negotiate import MAX_CONTEXTS, Proposal

PIECE: Final = 1 << 20
TRIES: Final = 2
"""Associations that an image may take down with it."""
LOSSES: Final = 3
"""Associations in a row that may be lost before a sender gives up."""

Pair = tuple[str, str]


@dataclass(slots=True)
class Tally:
    """What became of the images. ``warned``: sent, but answered with a warning; ``bytes`` of data sets sent so far."""

    sent: int = 0
    bytes: int = 0
    associations: int = 0
    warned: list[tuple[Path, str]] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Images whose fate is known."""
        return self.sent + len(self.failed)


def groups(images: Iterable[ImageFile]) -> list[list[ImageFile]]:
    """The images such that each group needs no more contexts than an association has."""
    by_pair: dict[Pair, list[ImageFile]] = {}
    for image in images:
        by_pair.setdefault((image.sop_class, image.transfer_syntax), []).append(image)
    pairs = list(by_pair)
    chunks = [pairs[at : at + MAX_CONTEXTS] for at in range(0, len(pairs), MAX_CONTEXTS)]
    return [[image for pair in chunk for image in by_pair[pair]] for chunk in chunks]


class Sending:
    """See module; ``tally`` may be looked at while it runs. ``moved`` is called whenever it changes."""

    def __init__(self, target: Target, calling: str, shared: Shared, moved: Callable[[], None] = lambda: None) -> None:
        self.tally = Tally()
        self._target = target
        self._calling = calling
        self._shared = shared
        self._moved = moved
        self._tries: Counter[ImageFile] = Counter()

    async def run(self, images: Sequence[ImageFile], associations: int) -> Tally:
        """Send all ``images`` over up to ``associations`` associations at a time."""
        for group in groups(images):
            await self._run_group(deque(group), min(associations, len(group)))
        return self.tally

    async def _run_group(self, waiting: deque[ImageFile], associations: int) -> None:
        contexts = tuple((c, (s,)) for c, s in dict.fromkeys((i.sop_class, i.transfer_syntax) for i in waiting))
        target = self._target
        proposal = Proposal(self._calling, target.called_aet, target.max_pdu, contexts)
        senders = [_Sender(self, proposal, waiting) for _ in range(associations)]
        await asyncio.gather(*(sender.run() for sender in senders))
        why = next((sender.why for sender in senders if sender.why), "")
        for image in waiting:
            self.failed(image, f"not sent: {why}")

    # ---- for the senders

    async def connect(self, proposal: Proposal) -> Requestor:
        """A new association. Raises Failed."""
        requestor = await connect(self._target, proposal, self._shared)
        self.tally.associations += 1
        return requestor

    def given(self, count: int) -> None:
        """So many bytes are under way (a negative number: they were in vain)."""
        self.tally.bytes += count
        self._moved()

    def may_try_again(self, image: ImageFile) -> bool:
        """Its association was lost: whether it is not to blame yet."""
        self._tries[image] += 1
        return self._tries[image] < TRIES

    def settled(self, image: ImageFile, outcome: Outcome) -> None:
        """The peer's answer."""
        if not outcome.delivered:
            self.failed(image, outcome.text)
            return
        self.tally.sent += 1
        if outcome.kind is Kind.DELIVERED_WITH_WARNING:
            self.tally.warned.append((image.path, outcome.text))
        self._moved()

    def failed(self, image: ImageFile, why: str) -> None:
        """It was not sent."""
        self.tally.failed.append((image.path, why))
        self._moved()


class _Sender:
    """One association at a time, as long as images wait. ``why``: why it gave up before that."""

    def __init__(self, sending: Sending, proposal: Proposal, waiting: deque[ImageFile]) -> None:
        self.why = ""
        self._sending = sending
        self._proposal = proposal
        self._waiting = waiting
        self._losses = 0
        self._given = 0
        self._conversation: Conversation | None = None

    async def run(self) -> None:
        """Send what waits. An image is taken only once there is an association for it: others may get one sooner."""
        while self._waiting:
            conversation = await self._connected()
            if conversation is None:
                return
            if self._waiting:
                await self._send(conversation, self._waiting.popleft())
        if self._conversation is not None and not self._conversation.requestor.ended:
            await self._conversation.release()

    async def _connected(self) -> Conversation | None:
        if self._conversation is not None and not self._conversation.requestor.ended:
            return self._conversation
        if self._losses >= LOSSES:
            self.why = f"{LOSSES} associations in a row were lost"
            return None
        try:
            self._conversation = Conversation(await self._sending.connect(self._proposal))
        except Failed as failure:
            self.why = failure.outcome.text
            return None
        return self._conversation

    async def _send(self, conversation: Conversation, image: ImageFile) -> None:
        self._given = 0
        try:
            outcome = await _store(conversation, image, self._gave)
        except Failed as failure:
            self._losses += 1
            self._sending.given(-self._given)
            if self._sending.may_try_again(image):
                self._waiting.appendleft(image)
            else:
                self._sending.failed(image, failure.outcome.text)
        except (StorageFault, OSError) as error:
            conversation.requestor.abort()
            self._sending.given(-self._given)
            self._sending.failed(image, getattr(error, "strerror", None) or str(error))
        else:
            self._losses = 0
            self._sending.settled(image, outcome)

    def _gave(self, count: int) -> None:
        self._given += count
        self._sending.given(count)


async def _store(conversation: Conversation, image: ImageFile, gave: Callable[[int], None]) -> Outcome:
    """Send one image and wait for the answer.

    Raises:
        Failed: the association is lost.
        OSError, StorageFault: the file cannot be read, or is not what it was; the message may be half-way.
    """
    requestor = conversation.requestor
    assert requestor.peer is not None
    context = requestor.peer.contexts.get((image.sop_class, image.transfer_syntax))
    if context is None:
        return outcomes.no_context(image.sop_class, image.transfer_syntax)
    piece = await _read(image, 0)
    answer = conversation.begin()
    requestor.store(context, image.sop_class, image.sop_instance, image.size, (memoryview(piece),))
    at = len(piece)
    gave(at)
    while at < image.size:
        piece = await _read(image, at)
        await conversation.flowing.wait()
        if answer.done():
            break
        conversation.flowing.clear()
        requestor.more((memoryview(piece),))
        at += len(piece)
        gave(len(piece))
    status, comment = await answer
    return outcomes.classify(status, None, comment)


async def _read(image: ImageFile, at: int) -> bytes:
    """The next piece of the data set, read in a thread."""
    length = min(PIECE, image.size - at)
    data = await asyncio.get_running_loop().run_in_executor(None, _pread, image.path, image.offset + at, length)
    if len(data) != length:
        raise StorageFault("the file became shorter while it was being sent")
    return data


def _pread(path: Path, offset: int, length: int) -> bytes:
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(number, length, offset)
    finally:
        os.close(number)
