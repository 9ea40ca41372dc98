"""What associations of one destination have been needed for, so that the next one proposes it at once. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from asyncroute.forward.base import Bond, Key, Pair, title_of

REMEMBERED = 512


class Pairs:
    """The latest (calling title, pair)s, ``REMEMBERED`` at most."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Pair], None] = {}

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()

    def remember(self, key: Key) -> None:
        """A delivery of ``key`` has begun."""
        pair = (title_of(key[0]), (key[1], key[2]))
        if pair not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.pop(next(iter(self._known)))
            self._known[pair] = None

    def wanted(self, bond: Bond, ready: Iterable[Key]) -> Iterable[Pair]:
        """What ``ready`` needs of this bond, then what its title needed before, then what others did."""
        found, title = dict.fromkeys((k[1], k[2]) for k in ready if k[0] == bond), title_of(bond)
        found.update(dict.fromkeys(pair for known, pair in self._known if known == title))
        found.update(dict.fromkeys(pair for _, pair in self._known))  # what others send, this one may send next
        return found
