"""Callers without an association: how many there may be, how much of their requests is held, and who has to go first.

Whoever can open a connection can open many and say nothing, or send half of a large request on each. They are counted
apart from associations, over all listeners. At a bound it is not the newcomer who goes, so that a flood does not lock
senders out: of too many connections the oldest of the address that has the most of them, of too many bytes the one
that holds the most. Guarantees: the bounds are not exceeded by more than one connection or one read.
"""

from __future__ import annotations

from typing import Protocol

MOST = 2048
"""Connections without an association."""

MOST_BYTES = 16 << 20
"""Bytes of association requests not yet answered. One request may have 1 MiB; most have a few KiB."""


class Caller(Protocol):
    """A connection, as far as it matters here."""

    @property
    def awaiting(self) -> bool:
        """Whether it has not asked for an association yet."""
        ...

    @property
    def address(self) -> str:
        """Where it comes from."""
        ...

    def crowded_out(self, why: str) -> None:
        """Close it, because room is needed for others."""
        ...


class Waiting:
    """The connections without an association, the oldest of each address first."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.count = 0
        self._by_address: dict[str, dict[Caller, None]] = {}

    def add(self, caller: Caller) -> None:
        """A connection has come, or its association has ended. Beyond the bound another one goes for it."""
        own = self._by_address.setdefault(caller.address, {})
        if caller not in own:
            own[caller] = None
            self.count += 1
            if self.count > self.most:
                self.make_room(f"{self.most} connections without an association are open")

    def discard(self, caller: Caller) -> None:
        """It is gone, or has an association now. Idempotent."""
        own = self._by_address.get(caller.address)
        if own is not None and caller in own:
            del own[caller]
            self.count -= 1
            if not own:
                del self._by_address[caller.address]

    def make_room(self, why: str) -> bool:
        """Close the oldest connection of the address that has the most; False: there is none."""
        if not self._by_address:
            return False
        crowd = max(self._by_address.values(), key=dict.__len__)
        next(iter(crowd)).crowded_out(why)
        return True


class Requests:
    """The bytes of association requests that are still coming in or being negotiated."""

    def __init__(self, most: int = MOST_BYTES) -> None:
        self.most = most
        self.size = 0
        self._of: dict[Caller, int] = {}

    def holds(self, caller: Caller, size: int) -> None:
        """``caller`` holds ``size`` bytes now. Beyond the bound those who hold the most go, it itself perhaps."""
        before = self._of.pop(caller, 0)
        if size:
            self._of[caller] = size
        self.size += size - before
        while self.size > self.most:
            coming = [one for one in self._of if one.awaiting]
            if not coming:
                return
            # Closing it takes it off our list.
            max(coming, key=self._of.__getitem__).crowded_out(f"association requests hold {self.size >> 20} MiB")
