"""Spare files: those of released images, which new images of about their length overwrite.

To overwrite a file costs less than half of what it costs to create one and to remove it later: no blocks, no inode and
no name to find, nothing for the file system's own journal.
Guarantees: spare files are bounded in number, bytes and age, for they hold images that are gone. One is given to
nobody before it is ``ready``. Only files that are read in one piece become spare: whoever still reads one that is being
overwritten has all of it before the checksum is compared and anything is sent. No I/O; not thread-safe. Failures: none.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

MOST_FILES = 1000
MOST_BYTES = 128 << 20
LONGEST = 1 << 20
"""Bytes of the longest file that becomes a spare one."""

STAY = 2.0
"""Seconds that a spare file waits for an image; where many come, it is taken long before."""

_BLOCK = 4096
_DIGITS = 4
"""Binary digits of a length, in blocks, that count when files are compared: they differ by an eighth at most."""


class Spare(NamedTuple):
    """A spare file: its number, its length in bytes, when it was given (monotonic)."""

    number: int
    length: int
    since: float


class Spares:
    """See module. ``files`` and ``bytes``: what is spare now."""

    def __init__(self) -> None:
        self.bytes = 0
        self._there: set[int] = set()
        self._coming: dict[int, Spare] = {}
        self._alike: dict[int, deque[Spare]] = {}

    @property
    def files(self) -> int:
        """How many are spare."""
        return len(self._there)

    def give(self, spare: Spare) -> bool:
        """Keep a file; False: it is too long, or there are enough."""
        length = spare.length
        if length > LONGEST or self.files >= MOST_FILES or self.bytes + length > MOST_BYTES:
            return False
        self._coming[spare.number] = spare
        self._there.add(spare.number)
        self.bytes += length
        return True

    def ready(self, number: int) -> None:
        """From now on an image may take that file, if it is still there."""
        spare = self._coming.pop(number, None)
        if spare is not None:
            self._alike.setdefault(kind(spare.length), deque()).append(spare)

    def take(self, length: int) -> Spare | None:
        """The file that was ready last (it is likely to be in memory) of those that fit ``length`` bytes."""
        alike = self._alike.get(kind(length))
        if not alike:
            return None
        spare = alike.pop()
        self._less(spare)
        return spare

    def take_old(self, before: float) -> list[Spare]:
        """All files that were given before then."""
        old = [spare for spare in self._coming.values() if spare.since < before]
        for spare in old:
            del self._coming[spare.number]
        for alike in self._alike.values():
            while alike and alike[0].since < before:
                old.append(alike.popleft())
        for spare in old:
            self._less(spare)
        return old

    def has(self, number: int) -> bool:
        """Whether that file is spare."""
        return number in self._there

    def _less(self, spare: Spare) -> None:
        self._there.discard(spare.number)
        self.bytes -= spare.length


def kind(length: int) -> int:
    """Equal for lengths of which one file can take the other's place."""
    blocks = -(-length // _BLOCK)
    shift = max(blocks.bit_length() - _DIGITS, 0)
    return shift << _DIGITS | blocks >> shift
