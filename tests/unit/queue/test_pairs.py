"""What associations are to propose: what is ready, then what the title needed, then what others did."""

from __future__ import annotations

from random import Random

from asyncroute.forward.base import Key, Pair
from asyncroute.queue import pairs as module
from asyncroute.queue.pairs import Pairs


def plain(known: list[tuple[str, Pair]], title: str, ready: list[Pair]) -> list[Pair]:
    """The same, found anew."""
    mine = [pair for of, pair in known if of == title]
    return list(dict.fromkeys([*ready, *mine, *(pair for _, pair in known)]))


def test_whatever_is_remembered_and_forgotten() -> None:
    rng, pairs = Random(1), Pairs()
    known: list[tuple[str, Pair]] = []
    for _ in range(4000):
        key: Key = f"CT_{rng.randrange(8)}\\1.{rng.randrange(9)}", f"1.{rng.randrange(40)}", f"2.{rng.randrange(4)}"
        pairs.remember(key)
        entry = key[0].partition("\\")[0], key[1:]
        if entry not in known:
            known = [*known, entry][-module.REMEMBERED :]
    assert len(known) == module.REMEMBERED
    ready: list[Key] = [("CT_1\\1.1", "1.99", "2.1"), ("CT_1\\1.2", "1.98", "2.1"), ("CT_1\\1.1", "1.1", "2.1")]
    for title in (f"CT_{n}" for n in range(9)):
        bond = f"{title}\\1.1"
        own = [key[1:] for key in ready if key[0] == bond]
        found, expected = list(pairs.wanted(bond, ready)), plain(known, title, own)
        mine = {pair for of, pair in known if of == title}
        count = len({*own, *mine})
        assert found[:count] == expected[:count], "their order tells which are left out where there are too many"
        assert sorted(found) == sorted(expected)
    pairs.clear()
    assert list(pairs.wanted("CT_1", [])) == []
