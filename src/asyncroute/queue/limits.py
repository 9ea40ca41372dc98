"""Bounds that channels share or keep: associations in all, and how much may wait for one destination. Pure."""

from __future__ import annotations

from typing import Protocol


class Waiter(Protocol):
    """A channel that would open a lane."""

    def pump(self) -> None:
        """There may be room now."""
        ...


class Outbound:
    """``[node] max_outbound``: associations to all destinations together, lent in the order of asking.

    Those who have none come before those who would like more.
    """

    def __init__(self, most: int) -> None:
        self._left = most
        self._starving: dict[Waiter, None] = {}
        self._waiting: dict[Waiter, None] = {}

    @property
    def room(self) -> bool:
        """Whether one more may be opened."""
        return self._left > 0

    def taken(self) -> None:
        """One is being opened."""
        self._left -= 1

    def returned(self) -> None:
        """One has been closed; those in line may open, as far as there is room (some may not want it any more)."""
        self._left += 1
        while self._left > 0 and (line := self._starving or self._waiting):
            waiter = next(iter(line))
            del line[waiter]
            waiter.pump()

    def wait(self, waiter: Waiter, *, starving: bool = False) -> None:
        """Call ``pump`` when there is room; ``starving``: it has none."""
        (self._starving if starving else self._waiting).setdefault(waiter)

    @property
    def wanted(self) -> bool:
        """Whether somebody waits: idle lanes should close rather than linger."""
        return bool(self._starving or self._waiting)

    def wanted_beside(self, waiter: Waiter) -> bool:
        """Whether somebody else waits."""
        mine = (waiter in self._starving) + (waiter in self._waiting)
        return len(self._starving) + len(self._waiting) > mine

    def starved_beside(self, waiter: Waiter) -> bool:
        """Whether somebody else waits who has none."""
        return len(self._starving) > (waiter in self._starving)


class Backlog:
    """``max_backlog``: images and bytes that wait for one destination."""

    __slots__ = ("bytes", "images", "max_bytes", "max_images")

    def __init__(self, max_images: int, max_bytes: int) -> None:
        self.max_images = max_images
        self.max_bytes = max_bytes
        self.images = 0
        self.bytes = 0

    def add(self, size: int) -> None:
        """One more waits."""
        self.images += 1
        self.bytes += size

    def remove(self, size: int) -> None:
        """One less."""
        self.images -= 1
        self.bytes -= size

    def full(self) -> str | None:
        """Which bound is reached, or None."""
        if self.max_images and self.images >= self.max_images:
            return f"{self.images} images wait (max_backlog)"
        if self.max_bytes and self.bytes >= self.max_bytes:
            return f"{self.bytes} bytes wait (max_backlog)"
        return None

    @property
    def share(self) -> float:
        """How full it is, 0 to 1 and beyond."""
        shares = [n / most for n, most in ((self.images, self.max_images), (self.bytes, self.max_bytes)) if most]
        return max(shares, default=0.0)
