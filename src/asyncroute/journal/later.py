"""What is written of admitted images with a later group: their headers, and whether earlier copies differ from them.

Neither has anything to do with whether an image is safe, so it need not hold up its sender; and headers of many images
take little more room and time than those of a few. An image's row names the pack in which its header will be.
Guarantees: a group that is rolled back leaves nothing here, and what it would have written stays due; at most
``MOST_WAITING`` images wait, in memory. A crash costs the headers of those, and the remark that copies differ.
Failures: none.
"""

from __future__ import annotations

from collections.abc import Iterator

from asyncroute.core.model import Instance
from asyncroute.journal.headers import MOST_BYTES, MOST_IMAGES, Pack, packed

MOST_WAITING = MOST_IMAGES


class Later:
    """See module. ``number``: that of the first pack. A group places its images, then is ``committed`` or undone."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._images = self._bytes = 0  # of the pack that is being filled
        self._placed: list[tuple[int | None, Instance]] = []
        self._waiting: list[tuple[int | None, Instance]] = []
        self._writing = False

    @property
    def full(self) -> bool:
        """Whether no more should wait."""
        return len(self._waiting) + len(self._placed) >= MOST_WAITING

    @property
    def waiting(self) -> bool:
        """Whether anything of earlier groups waits."""
        return bool(self._waiting)

    def place(self, image: Instance) -> int | None:
        """``image`` is being admitted; the number of its header's pack, if it has a header.

        Raises:
            TypeError: its header is none.
        """
        number = None
        if image.header is not None:
            if not isinstance(image.header, bytes):
                raise TypeError(f"a header of type {type(image.header).__name__}")
            size = len(image.header)
            if self._images == MOST_IMAGES or (self._images and self._bytes + size > MOST_BYTES):
                self._next_pack()
            self._images += 1
            self._bytes += size
            number = self._number
        self._placed.append((number, image))
        return number

    def take_back(self, image: Instance) -> None:
        """``image``, if it was placed last, is not admitted after all."""
        if self._placed and self._placed[-1][1] is image:
            self._placed.pop()

    def write(self) -> tuple[list[tuple[int, Pack]], list[int]]:
        """All of it is written now: packs by number, and the ids of images that have not been compared."""
        self._writing = True
        everything = self._waiting + self._placed
        packs: dict[int, list[Instance]] = {}
        for number, image in everything:
            if number is not None:
                packs.setdefault(number, []).append(image)
        if self._images:
            self._next_pack()
        return list(_packs(packs)), [image.id for _, image in everything]

    def committed(self) -> None:
        """The group is durable."""
        if self._writing:
            self._waiting = []
        else:
            self._waiting += self._placed
        self._placed = []
        self._writing = False

    def undone(self) -> None:
        """The group was rolled back."""
        self._placed = []
        self._writing = False

    def _next_pack(self) -> None:
        self._number += 1
        self._images = self._bytes = 0


def _packs(images: dict[int, list[Instance]]) -> Iterator[tuple[int, Pack]]:
    for number, together in images.items():
        yield number, packed(together)
