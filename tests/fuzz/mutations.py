"""Seeded damage to recorded streams: the same seed and recordings always give the same bytes.

A stream is a list of PDUs. Each mutation takes one and returns another; ``damaged`` applies one to four of them and
says which, so that a failure can be told and repeated.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Sequence

from tests.support import ul

Pdus = list[bytes]
Place = tuple[int, str]
"""Where a length field is in a PDU, and its struct format."""

ITEMS = 74
"""Offset of the first item of an A-ASSOCIATE PDU."""
CONTAINERS = {0x20: 4, 0x21: 4, 0x50: 0}
"""Item types that hold sub-items, and the bytes before the first."""
LENGTHS = (0, 1, 7, 0x7FFF, 0xFFFF, 0x10000, 1 << 20, 1 << 31, (1 << 31) - 1, 0xFFFFFFFE, 0xFFFFFFFF)
HOSTILE = (
    b"../../../../tmp/x",
    b"\0",
    b"\r\nForged: 1\r\n",
    b"\x1b[2J\x1b]0;x\x07",
    b"\xe2\x80\xae",
    b"%s%n",
    b"\xff" * 16,
)


def lengths_of(pdu: bytes) -> list[Place]:
    """The length fields of a PDU: its own, and those of its items, fragments and command elements."""
    if len(pdu) < 6:
        return []
    found = [(2, ">I")]
    if pdu[0] in (ul.RQ, ul.AC):
        found += _item_lengths(pdu, ITEMS, len(pdu))
    elif pdu[0] == ul.PDATA:
        found += _data_lengths(pdu)
    return found


def _item_lengths(pdu: bytes, at: int, end: int) -> Iterator[Place]:
    while at + 4 <= end:
        size = int.from_bytes(pdu[at + 2 : at + 4], "big")
        yield at + 2, ">H"
        if pdu[at] in CONTAINERS:
            yield from _item_lengths(pdu, at + 4 + CONTAINERS[pdu[at]], min(at + 4 + size, end))
        at += 4 + size


def _data_lengths(pdu: bytes) -> Iterator[Place]:
    at = 6
    while at + 6 <= len(pdu):
        size = int.from_bytes(pdu[at : at + 4], "big")
        yield at, ">I"
        if pdu[at + 5] & ul.COMMAND:
            yield from _element_lengths(pdu, at + 6, min(at + 4 + size, len(pdu)))
        at += 4 + max(size, 2)


def _element_lengths(pdu: bytes, at: int, end: int) -> Iterator[Place]:
    while at + 8 <= end:
        yield at + 4, "<I"
        at += 8 + int(struct.unpack_from("<I", pdu, at + 4)[0])


def structure_of(pdu: bytes) -> list[int]:
    """Offsets of single bytes that mean something: types, versions, titles, ids, control headers, tags, statuses."""
    found = [0, 1, *range(6, min(12, len(pdu)))]
    if pdu[:1] in (b"\1", b"\2"):
        found += range(10, min(42, len(pdu)))
    for at, form in lengths_of(pdu)[1:]:
        found += range(at - 4, at) if form == "<I" else range(at - 2, at)
        found += range(at + struct.calcsize(form), at + struct.calcsize(form) + 6)
    return [at for at in found if 0 <= at < len(pdu)] or [0]


def _replaced(pdus: Pdus, n: int, pdu: bytes) -> Pdus:
    return [*pdus[:n], pdu, *pdus[n + 1 :]]


def _some(rng: random.Random, pdus: Pdus) -> int:
    """One PDU's number, the short ones (everything but bulk data) as likely as the others together."""
    short = [n for n, pdu in enumerate(pdus) if len(pdu) < 1000]
    return rng.choice(short) if short and rng.random() < 0.5 else rng.randrange(len(pdus))


def flip(rng: random.Random, pdus: Pdus, _: Sequence[Pdus]) -> Pdus:
    """One to eight bits anywhere in a PDU."""
    n = _some(rng, pdus)
    data = bytearray(pdus[n])
    for _bit in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return _replaced(pdus, n, bytes(data))


def field(rng: random.Random, pdus: Pdus, _: Sequence[Pdus]) -> Pdus:
    """A byte with a meaning gets another value."""
    n = _some(rng, pdus)
    data = bytearray(pdus[n])
    data[rng.choice(structure_of(pdus[n]))] = rng.choice((0, 1, 2, 3, 4, 7, 0x20, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return _replaced(pdus, n, bytes(data))


def length(rng: random.Random, pdus: Pdus, _: Sequence[Pdus]) -> Pdus:
    """A length field lies."""
    n = _some(rng, pdus)
    places = lengths_of(pdus[n])
    if not places:
        return pdus
    at, form = rng.choice(places)
    most = (1 << 8 * struct.calcsize(form)) - 1
    data = bytearray(pdus[n])
    true = struct.unpack_from(form, data, at)[0] if at + struct.calcsize(form) <= len(data) else 0
    value = rng.choice((*LENGTHS, true + 1, true - 1, true * 2, true ^ 1))
    data[at : at + struct.calcsize(form)] = struct.pack(form, value & most)
    return _replaced(pdus, n, bytes(data))


def truncate(rng: random.Random, pdus: Pdus, _: Sequence[Pdus]) -> Pdus:
    """A PDU lacks its end; its length field is then right or not."""
    n = _some(rng, pdus)
    return _replaced(pdus, n, _repaired(rng, pdus[n][: rng.randrange(len(pdus[n]) + 1)]))


def end(rng: random.Random, pdus: Pdus, _: Sequence[Pdus]) -> Pdus:
    """The stream ends early, within a PDU or between two."""
    n = rng.randrange(len(pdus))
    return [*pdus[:n], pdus[n][: rng.randrange(len(pdus[n]) + 1)]]


def repeat(rng: random.Random, pdus: Pdus, _: Sequence[Pdus]) -> Pdus:
    """A PDU comes twice, or a hundred times."""
    n = rng.randrange(len(pdus))
    times = rng.choice((1, 1, 1, 100 if len(pdus[n]) < 300 else 2))
    return [*pdus[:n], *[pdus[n]] * times, *pdus[n:]]


def remove(rng: random.Random, pdus: Pdus, _: Sequence[Pdus]) -> Pdus:
    """A PDU is missing."""
    n = rng.randrange(len(pdus))
    return [*pdus[:n], *pdus[n + 1 :]]


def swap(rng: random.Random, pdus: Pdus, _: Sequence[Pdus]) -> Pdus:
    """Two PDUs change places."""
    out = list(pdus)
    one, other = rng.randrange(len(out)), rng.randrange(len(out))
    out[one], out[other] = out[other], out[one]
    return out


def splice(rng: random.Random, pdus: Pdus, others: Sequence[Pdus]) -> Pdus:
    """The end of another association, or some of its PDUs."""
    other = rng.choice(others)
    n, m = rng.randrange(len(pdus) + 1), rng.randrange(len(other))
    if rng.random() < 0.5:
        return [*pdus[:n], *other[m:]]
    return [*pdus[:n], *other[m : m + rng.randint(1, 3)], *pdus[n:]]


def garbage(rng: random.Random, pdus: Pdus, _: Sequence[Pdus]) -> Pdus:
    """Bytes that belong nowhere, within a PDU (its length then right or not) or between two."""
    n = rng.randrange(len(pdus))
    size = rng.choice((1, 2, 6, 64, 4096))
    junk = rng.choice(
        (rng.randbytes(size), bytes(size), b"\xff" * size, rng.choice(HOSTILE), b"GET / HTTP/1.1\r\n\r\n")
    )
    if rng.random() < 0.3:
        return [*pdus[:n], junk, *pdus[n:]]
    at = rng.randrange(len(pdus[n]) + 1)
    return _replaced(pdus, n, _repaired(rng, pdus[n][:at] + junk + pdus[n][at:]))


def hostile(rng: random.Random, pdus: Pdus, _: Sequence[Pdus]) -> Pdus:
    """Hostile text over titles, UIDs or values, in place."""
    n = _some(rng, pdus)
    text = rng.choice(HOSTILE)
    at = rng.choice(structure_of(pdus[n]))
    return _replaced(pdus, n, (pdus[n][:at] + text + pdus[n][at + len(text) :])[: max(len(pdus[n]), at + 1)])


def _repaired(rng: random.Random, pdu: bytes) -> bytes:
    if len(pdu) < 6 or rng.random() < 0.5:
        return pdu
    return pdu[:2] + struct.pack(">I", len(pdu) - 6) + pdu[6:]


MUTATIONS: tuple[Callable[[random.Random, Pdus, Sequence[Pdus]], Pdus], ...] = (
    *(flip, flip, field, field, field, length, length, length),
    *(truncate, end, repeat, remove, swap, splice, garbage, garbage, hostile),
)


def damaged(rng: random.Random, pdus: Sequence[bytes], others: Sequence[Sequence[bytes]]) -> tuple[Pdus, str]:
    """The stream with one to four mutations, and their names; ``others``: streams to take parts from."""
    out, names = list(pdus), []
    choices = [list(other) for other in others]
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        if not any(out):
            break
        mutation = rng.choice(MUTATIONS)
        out = [pdu for pdu in mutation(rng, out, choices) if pdu]
        names.append(mutation.__name__)
    return out, "+".join(names)
