"""What was sent and what arrived, in little memory: one number an image, so that hundreds of thousands can be watched.

Identities are those of ``Image``; only their 64-bit hashes are kept (they are good within one process).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tests.support import corpus
from tests.support.exact_receiver import ExactReceiver
from tests.support.images import Image


def key_of(image: Image) -> int:
    """The number that stands for ``image``: which instance, in which transfer syntax, with which bytes."""
    return hash((image.sop_instance, image.transfer_syntax, image.sha256))


@dataclass
class Arrivals:
    """How often each image came to one destination."""

    times: Counter[int] = field(default_factory=Counter)

    def missing(self, wanted: Iterable[int]) -> int:
        """How many of ``wanted`` never came."""
        return sum(key not in self.times for key in wanted)

    @property
    def repeats(self) -> int:
        """How many came once more than once, each repeat counted."""
        return sum(self.times.values()) - len(self.times)

    def foreign(self, sent: set[int]) -> int:
        """How many came that were never sent like this."""
        return len(self.times.keys() - sent)

    def take_from(self, receiver: ExactReceiver) -> None:
        """Count what a receiver got since the last time; refused ones do not count."""
        for stored in receiver.take():
            if stored.status == 0:
                self.times[hash((stored.sop_instance, stored.transfer_syntax, stored.sha256))] += 1

    def take_files(self, folder: Path) -> None:
        """Count finished files below ``folder`` and remove them, as a program behind a folder destination does."""
        for path in folder.rglob("*.dcm"):
            content = path.read_bytes()
            meta = corpus.read_meta(content)
            digest = sha256(memoryview(content)[meta.offset :]).hexdigest()
            self.times[hash((meta.sop_instance, meta.transfer_syntax, digest))] += 1
            path.unlink()


@dataclass
class Sent:
    """What the senders did. Filled by many threads: additions to sets and lists are atomic."""

    sent: set[int] = field(default_factory=set)
    acknowledged: set[int] = field(default_factory=set)
    held: set[int] = field(default_factory=set)
    """Acknowledged, but wanted by no route."""

    refused: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
