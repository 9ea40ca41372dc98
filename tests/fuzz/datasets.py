"""Data sets that no writer should write, in every transfer syntax: real ones damaged, and monsters made from nothing.

``data_set(seed, number)`` always makes the same one, under a SOP Instance UID of its own (in the command set; what the
data set says is another matter).
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache

from tests.support import corpus, synthetic
from tests.support.encoding import BIG, DEFLATED, EXPLICIT, IMPLICIT, UNDEFINED, deflate, element, head, sequence
from tests.support.images import BytesSource, Image

Made = tuple[str, bytes]
"""A transfer syntax and a data set."""

PLAIN = (EXPLICIT, IMPLICIT, BIG, DEFLATED)
COMPRESSED = tuple(f"1.2.840.10008.1.2.{end}" for end in ("4.50", "4.57", "4.70", "4.80", "4.90", "4.91", "4.201", "5"))
SYNTAXES = (*PLAIN, *COMPRESSED, synthetic.PRIVATE_SYNTAX)
SMALL = 60_000
BOMB, BLOCK = 1 << 30, 1 << 24
DEEP = 1000
ODD_VRS = ("??", "xx", "\0\0", "ut", "  ", "Z1", "\xff\xff", "sq", "ON", "O!", "12")
CHARACTER_SETS = (
    *("ISO_IR 999", "ISO 2022 IR 87\\ISO 2022 IR 13", "\\ISO 2022 IR 149", "GB18030", "ISO_IR 192", "ISO 2022 IR 6"),
    *("\x1b$B", "utf-8", "ISO_IR 100\\ISO_IR 192\\GBK", "\\" * 40, "A" * 16, "../../etc"),
)
TEXTS = (
    *(b"\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J", b"\x1b$)C\xfb\xf3", b"\xff\xfe\xfd", b"\xe2\x80\xae\xe2\x81\xa6"),
    *(b"../../../x", b"..", b".", b"/etc/passwd", b"a\0b", b"\r\nX: y", b"\\" * 20, b"\x1b$B" * 30, b"  ", b"=" * 300),
    b"\x1b[2J",
)
TAGS = (0x00080020, 0x00080050, 0x00080060, 0x00081030, 0x00100010, 0x00100020, 0x0020000D, 0x0020000E)
VRS = dict(zip(TAGS, ("DA", "SH", "CS", "LO", "PN", "LO", "UI", "UI"), strict=True))
VALUES = dict(zip(TAGS, (b"20240229", b"A1", b"CT", b"Chest", b"X^Y", b"P1", b"1.2.3\0", b"1.2.3.4\0"), strict=True))


def data_set(seed: str, number: int) -> Image:
    """The ``number``-th image of ``seed``; its name says how it was made."""
    rng = random.Random(f"{seed}/{number}")
    make = rng.choice(MAKERS)
    syntax, data = make(rng)
    if rng.random() < 0.05:
        syntax = rng.choice(SYNTAXES)
    data = data or b"\0"  # nothing at all has a test of its own
    name = f"#{number} {make.__name__.strip('_')}"
    return Image(name, synthetic.CT, synthetic.uid(seed, number), syntax, len(data), BytesSource(data))


def some_syntax(rng: random.Random) -> str:
    """One that is no compression."""
    return rng.choice((EXPLICIT, EXPLICIT, IMPLICIT, BIG))


def plain(syntax: str, **changed: bytes) -> dict[int, bytes]:
    """Elements of an ordinary header by tag; ``changed``: other values, named like ``t00100020``."""
    values = VALUES | {int(name[1:], 16): value for name, value in changed.items()}
    return {tag: element(tag, VRS.get(tag, "LO"), even(value), syntax) for tag, value in sorted(values.items())}


def even(value: bytes) -> bytes:
    """Padded with a blank."""
    return value + b" " * (len(value) & 1)


def joined(elements: dict[int, bytes], syntax: str) -> bytes:
    """The elements in order, and some pixels."""
    pixels = element(0x7FE00010, "OW", bytes(range(256)), syntax)
    return b"".join(value for _, value in sorted(elements.items())) + pixels


# --- damaged ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def real() -> tuple[tuple[str, bytes], ...]:
    """Real data sets and made ones, of up to ``SMALL`` bytes."""
    images = [*(image for image in corpus.storable() if image.size <= SMALL), *synthetic.mixed("base", 6, 2048)]
    return tuple((image.transfer_syntax, b"".join(image.chunks(1 << 20))) for image in images)


def _damaged(rng: random.Random) -> Made:
    """A real one, one to six times changed, mostly in its first 2,000 bytes."""
    syntax, original = rng.choice(real())
    data = bytearray(original)
    for _ in range(rng.randint(1, 6)):
        end = len(data) if rng.random() < 0.3 else min(len(data), 2000)
        _change(rng, data, rng.randrange(max(end, 1)))
    return syntax, bytes(data)


def _change(rng: random.Random, data: bytearray, at: int) -> None:
    kind = rng.randrange(8)
    if kind == 0:
        data[at : at + 1] = bytes((rng.randrange(256),))
    elif kind == 1:
        data[at & ~1 : (at & ~1) + 2] = rng.choice((b"\0\0", b"\1\0", b"\xff\xff", b"\xff\x7f", rng.randbytes(2)))
    elif kind == 2:
        data[at & ~1 : (at & ~1) + 4] = struct.pack(
            "<I", rng.choice((0, 1, 7, UNDEFINED, 1 << 31, rng.getrandbits(32)))
        )
    elif kind == 3:
        data[at : at + rng.randint(1, 400)] = b""
    elif kind == 4:
        data[at:at] = rng.choice((rng.randbytes(rng.randint(1, 64)), bytes(8), rng.choice(TEXTS)))
    elif kind == 5:
        data[at:at] = data[at : at + rng.randint(8, 400)]
    elif kind == 6 and rng.random() < 0.5:
        del data[at:]
    else:
        other = rng.choice(real())[1]
        data[at:] = other[rng.randrange(len(other)) :]


def _mislabelled(rng: random.Random) -> Made:
    """The bytes of one transfer syntax under the name of another."""
    return rng.choice(SYNTAXES), rng.choice(real())[1]


def _deflated(rng: random.Random) -> Made:
    """A real one deflated, whole or damaged or with something behind."""
    packed = deflate(rng.choice(real())[1])
    damage = rng.randrange(4)
    if damage == 0:
        return DEFLATED, packed[: rng.randrange(len(packed))]
    if damage == 1:
        at = rng.randrange(len(packed))
        return DEFLATED, packed[:at] + rng.randbytes(4) + packed[at + 4 :]
    return DEFLATED, packed + (rng.randbytes(100) if damage == 2 else b"")


# --- monsters ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _zeroes() -> bytes:
    """Zeroes, deflated so that repeating the bytes repeats the zeroes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(bytes(BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)


def bomb(front: bytes) -> bytes:
    """``front`` and a gigabyte of zeroes, deflated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = packer.compress(front) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + _zeroes() * (BOMB // BLOCK) + b"\3\0"  # an empty last block


def _bomb(rng: random.Random) -> Made:
    """A deflate bomb, whole or cut, at the front or behind some attributes."""
    fronts = (b"", element(0x00080060, "CS", b"CT"), element(0x00080060, "CS", b"CT") + head(0x00101030, "UT", 1 << 29))
    data = bomb(rng.choice(fronts))
    return DEFLATED, data if rng.random() < 0.5 else data[: rng.randrange(len(data))]


def _nested(rng: random.Random) -> Made:
    """Sequences in sequences, up to ``DEEP`` levels, before the attributes that routing needs."""
    syntax = some_syntax(rng)
    undefined = rng.random() < 0.7
    depth = rng.choice((10, 300, DEEP)) if undefined or syntax != EXPLICIT else rng.choice((10, 300))
    inner = b""
    for _ in range(depth):
        inner = sequence(0x00081140, inner, syntax=syntax, undefined=undefined)
    data = joined(plain(syntax) | {0x00081140: inner}, syntax)
    return syntax, data if rng.random() < 0.7 else data[: rng.randrange(len(data))]


def _opened(rng: random.Random) -> Made:
    """Sequences and items that are opened and never closed."""
    syntax = some_syntax(rng)
    opening = head(0x00081140, "SQ", UNDEFINED, syntax) + struct.pack(
        (">" if syntax == BIG else "<") + "HHI", 0xFFFE, 0xE000, UNDEFINED
    )
    return syntax, element(0x00080060, "CS", b"CT", syntax) + opening * rng.choice((1, DEEP, 20_000))


def _vr(rng: random.Random) -> Made:
    """Unknown, lower case, binary VRs; right ones on the wrong attributes."""
    syntax = rng.choice((EXPLICIT, BIG))
    elements = plain(syntax)
    for tag in rng.sample(TAGS, rng.randint(1, 4)):
        vr = rng.choice((*ODD_VRS, "SQ", "US", "FD", "AT", "UN", "OB"))
        elements[tag] = element(tag, vr, VALUES[tag], syntax)
    return syntax, joined(elements, syntax)


def _length(rng: random.Random) -> Made:
    """Elements whose length is a lie, odd, undefined or enormous."""
    syntax = some_syntax(rng)
    elements = plain(syntax)
    for tag in rng.sample(TAGS, rng.randint(1, 3)):
        lie = rng.choice((0, 1, 3, 9, 255, 65534, 65535, 1 << 20, 1 << 31, UNDEFINED))
        most = 0xFFFF if syntax != IMPLICIT else UNDEFINED
        elements[tag] = element(tag, VRS[tag], VALUES[tag], syntax, length=min(lie, most))
    return syntax, joined(elements, syntax)


def _missing(rng: random.Random) -> Made:
    """Attributes absent or empty, all but a few, or all; nothing but pixels."""
    syntax = some_syntax(rng)
    elements = plain(syntax)
    for tag in rng.sample(TAGS, rng.randint(1, len(TAGS))):
        elements[tag] = element(tag, VRS[tag], b"", syntax) if rng.random() < 0.5 else b""
    return syntax, joined(elements, syntax)


def _order(rng: random.Random) -> Made:
    """Tags twice, out of order, behind the pixels, or group lengths that lie."""
    syntax = some_syntax(rng)
    pieces = list(plain(syntax).values())
    pieces += [rng.choice(pieces) for _ in range(rng.randint(0, 3))]
    if rng.random() < 0.3:
        pieces.insert(0, element(0x00080000, "UL", struct.pack("<I", rng.getrandbits(32)), syntax))
    else:
        rng.shuffle(pieces)
    pieces.insert(rng.randrange(len(pieces) + 1), element(0x7FE00010, "OW", bytes(64), syntax))
    return syntax, b"".join(pieces)


def _large(rng: random.Random) -> Made:
    """Values of 64 KB to 2 MB where short ones belong, and huge private ones before them."""
    syntax = IMPLICIT
    size = rng.choice((300, 1 << 16, 1 << 17, 1 << 21))
    if rng.random() < 0.5:
        private = element(0x00090010, "LO", b"TEST", syntax) + element(0x00091001, "OB", bytes(size), syntax)
        return syntax, joined(plain(syntax) | {0x00090010: private}, syntax)
    tag = rng.choice(TAGS)
    return syntax, joined(plain(syntax) | {tag: element(tag, VRS[tag], b"A" * size, syntax)}, syntax)


def _many(rng: random.Random) -> Made:
    """Tens of thousands of elements."""
    syntax = some_syntax(rng)
    count = rng.choice((1000, 25_000, 60_000))
    many = b"".join(element(0x00090000 + n % 0xFFFF, "LO", b"", syntax) for n in range(0x1000, 0x1000 + count))
    return syntax, joined(plain(syntax) | {0x00090010: many}, syntax)


def _text(rng: random.Random) -> Made:
    """Character sets that are none, text that is not in them, escape sequences of both kinds."""
    syntax = some_syntax(rng)
    elements = plain(syntax)
    elements[0x00080005] = element(0x00080005, "CS", even(rng.choice(CHARACTER_SETS).encode("latin-1")), syntax)
    for tag in rng.sample(TAGS, rng.randint(1, 5)):
        elements[tag] = element(tag, VRS[tag], even(rng.choice(TEXTS)), syntax)
    return syntax, joined(elements, syntax)


def _uid(rng: random.Random) -> Made:
    """The data set's own SOP UIDs: other ones than the command set's, empty, too long, or hostile."""
    syntax = some_syntax(rng)
    values = (b"", b"1.2.3\0", b"1." * 150, *TEXTS)
    elements = plain(syntax)
    for tag in (0x00080016, 0x00080018):
        elements[tag] = element(tag, "UI", even(rng.choice(values)), syntax)
    return syntax, joined(elements, syntax)


def _odd(rng: random.Random) -> Made:
    """An odd number of bytes, one byte, noise."""
    choice = rng.randrange(3)
    if choice == 0:
        syntax = some_syntax(rng)
        return syntax, joined(plain(syntax), syntax)[:-1]
    return rng.choice(SYNTAXES), rng.randbytes(1 if choice == 1 else rng.randint(2, 5000))


MAKERS: tuple[Callable[[random.Random], Made], ...] = (
    *((_damaged,) * 40),
    *((_mislabelled, _deflated, _vr, _length, _missing, _order, _text, _uid, _odd) * 4),
    *((_nested, _opened, _large, _bomb) * 2),
    _many,
)
