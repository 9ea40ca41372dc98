"""What associations of one destination have been needed for, so that the next one proposes it at once. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from asyncroute.forward.base import Bond, Key, Pair, title_of

REMEMBERED = 512


class Pairs:
    """The latest (calling title, pair)s, ``REMEMBERED`` at most."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Pair], None] = {}
        self._titles: dict[str, dict[Pair, int]] = {}
        """The same by title; kept beside it, because associations may be opened all the time."""
        self._all: Counter[Pair] = Counter()
        """And of how many titles."""

    def clear(self) -> None:
        """Forget all."""
        for each in (self._known, self._titles, self._all):
            each.clear()

    def remember(self, key: Key) -> None:
        """A delivery of ``key`` has begun."""
        title, pair = title_of(key[0]), (key[1], key[2])
        if (title, pair) not in self._known:
            if len(self._known) >= REMEMBERED:
                self._forget(*next(iter(self._known)))
            self._known[title, pair] = None
            self._titles.setdefault(title, {})[pair] = 1
            self._all[pair] += 1

    def _forget(self, title: str, pair: Pair) -> None:
        del self._known[title, pair]
        pairs = self._titles[title]
        del pairs[pair]
        if not pairs:
            del self._titles[title]
        self._all[pair] -= 1
        if not self._all[pair]:
            del self._all[pair]

    def wanted(self, bond: Bond, ready: Iterable[Key]) -> Iterable[Pair]:
        """What ``ready`` needs of this bond, then what its title needed before, then what others did."""
        found = dict.fromkeys(((k[1], k[2]) for k in ready if k[0] == bond), 1)
        found |= self._titles.get(title_of(bond), {})
        found |= self._all  # what others send, this one may send next
        return found
