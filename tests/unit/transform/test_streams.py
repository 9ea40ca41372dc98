"""What comes behind the header, and deflated data sets: in pieces of any size, with bounded memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncroute.transform.base import Header, Refused, Tail
from tests.support.coercing import FACTS, header, transform
from tests.support.encoding import (
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    UNDEFINED,
    deflate,
    delimiter,
    element,
    head,
    sequence,
)  # fmt: skip

ENCODINGS = (EXPLICIT, IMPLICIT, BIG)
FIRST = 0x00080060


def fed(tail: Tail, data: bytes, sizes: Iterable[int]) -> bytes:
    """All that comes out of it, fed with pieces of these sizes."""
    out: list[bytes] = []
    pos = 0
    for size in sizes:
        out += map(bytes, tail.feed(memoryview(data)[pos : pos + size]))
        pos += size
    out += map(bytes, tail.feed(memoryview(data)[pos:]))
    out += map(bytes, tail.finish())
    return b"".join(out)


def pixels(syntax: str, encapsulated: bool) -> bytes:
    if not encapsulated or syntax == IMPLICIT:
        return element(0x7FE00010, "OW", b"\xfe\xff\x0d\xe0" * 50, syntax)
    frames = delimiter(0xFFFEE000, syntax, 0) + delimiter(0xFFFEE000, syntax, 100) + b"\xfe\xff\xdd\xe0" * 25
    return head(0x7FE00010, "OB", UNDEFINED, syntax) + frames + delimiter(0xFFFEE0DD, syntax)


def private(syntax: str) -> list[bytes]:
    """A group length, a creator, and two elements of its block."""
    nested = sequence(0x00081140, element(0x00080050, "SH", b"A1", syntax), syntax=syntax)
    return [
        element(0x7FE10000, "UL", bytes(4), syntax),
        element(0x7FE10010, "LO", b"ACME 1.1", syntax),
        sequence(0x7FE11001, nested, syntax=syntax),
        element(0x7FE11002, "OB", bytes(300), syntax),
    ]


def signature(syntax: str) -> bytes:
    return sequence(0xFFFAFFFA, element(0x04000005, "US", b"\0\1", syntax), syntax=syntax, undefined=False)


def padding(syntax: str) -> bytes:
    return element(0xFFFCFFFC, "OB", bytes(500), syntax)


SIZES = st.lists(st.integers(0, 200), max_size=30)


@given(st.sampled_from(ENCODINGS), st.booleans(), SIZES)
def test_what_delete_names_goes_and_the_rest_stays(syntax: str, encapsulated: bool, sizes: list[int]) -> None:
    first = element(FIRST, "CS", b"CT", syntax)
    image = pixels(syntax, encapsulated)
    length, creator, one, two = private(syntax)
    rest = [signature(syntax), padding(syntax)]
    data = b"".join((image, length, creator, one, two, *rest))
    cases = {
        '{ delete = "private" }': [image, *rest],
        '{ delete = "(FFFC,xxxx)" }': [image, length, creator, one, two, rest[0]],
        '{ delete = "(FFFA,FFFA)" }, { delete = "DataSetTrailingPadding" }': [image, length, creator, one, two],
        '{ delete = "(7FE1,xx02,ACME 1.1)" }': [image, creator, one, *rest],
        '{ delete = "(7FE1,xx02,OTHER)" }': [image, creator, one, two, *rest],
        '{ delete = "(7FE1,1001)" }': [image, creator, two, *rest],
    }
    for steps, expected in cases.items():
        made = transform(steps)
        assert made.edits_tail
        assert fed(made.tail(header(first, syntax)), data, sizes) == b"".join(expected)


def test_nothing_behind_is_asked_for_where_no_step_reaches() -> None:
    for steps in ('{ delete = "PatientID" }', '{ delete = "(0029,xxxx)" }', '{ upper = "Modality" }'):
        assert not transform(steps).edits_tail


def test_values_of_any_length_pass_in_pieces() -> None:
    tail = transform('{ delete = "private" }').tail(header(element(FIRST, "CS", b"CT")))
    assert [bytes(x) for x in tail.feed(memoryview(head(0x7FE00010, "OW", 0xFFFFFFF0)))] == [
        head(0x7FE00010, "OW", 0xFFFFFFF0)
    ]
    piece = memoryview(bytes(1 << 16))
    (same,) = tail.feed(piece)
    assert isinstance(same, memoryview)
    assert same.obj is piece.obj


@pytest.mark.parametrize(
    "odd",
    [
        element(0x00100020, "LO", b"P1"),
        element(0x7FE11001, "??", b""),
        delimiter(0xFFFEE000),
        element(0x7FE11001, "OB", b"")[:7],
        head(0x7FE11001, "SQ", UNDEFINED) + element(0x00080060, "CS", b"CT"),
        head(0x7FE11001, "SQ", UNDEFINED) + delimiter(0xFFFEE000, length=UNDEFINED) + delimiter(0xFFFEE0DD),
        (head(0x7FE11001, "SQ", UNDEFINED) + delimiter(0xFFFEE000, length=UNDEFINED)) * 70,
    ],
)
def test_what_cannot_be_read_for_sure_is_refused(odd: bytes) -> None:
    tail = transform('{ delete = "private" }').tail(header(element(FIRST, "CS", b"CT")))
    with pytest.raises(Refused, match="site-a: what follows the pixel data cannot be read for sure: "):
        fed(tail, pixels(EXPLICIT, False) + odd, [])


# --- deflated ---------------------------------------------------------------------------------------------------------


def deflated_header(data: bytes) -> Header:
    return header(data, DEFLATED)


def rewritten(steps: str, plain: bytes, end: int, sizes: Iterable[int] = (), packed: bytes | None = None) -> bytes:
    made = transform(steps)
    original = deflated_header(plain[:end])
    stream = made.deflated(original, made.apply(original, FACTS))
    return fed(stream, packed if packed is not None else deflate(plain), sizes)


def inflated(data: bytes) -> bytes:
    assert len(data) % 2 == 0
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = inflater.decompress(data) + inflater.flush()
    assert inflater.eof
    assert inflater.unused_data in (b"", b"\0")
    return plain


@given(SIZES, st.booleans())
def test_a_deflated_data_set_is_edited_as_a_stream(sizes: list[int], tail: bool) -> None:
    start = element(FIRST, "CS", b"CT") + element(0x00100020, "LO", b"P1")
    image = element(0x7FE00010, "OW", bytes(range(256)) * 700)
    steps = '{ prefix = "PatientID", with = "AB" }' + (', { delete = "private" }' if tail else "")
    result = rewritten(steps, start + image + b"".join(private(EXPLICIT)) + padding(EXPLICIT), len(start), sizes)
    edited = element(FIRST, "CS", b"CT") + element(0x00100020, "LO", b"ABP1")
    rest = padding(EXPLICIT) if tail else b"".join(private(EXPLICIT)) + padding(EXPLICIT)
    assert inflated(result) == edited + image + rest


def test_a_deflated_data_set_without_pixels() -> None:
    plain = element(FIRST, "CS", b"CT")
    assert inflated(rewritten('{ set = "Modality", to = "MR" }', plain, len(plain))) == element(FIRST, "CS", b"MR")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda packed: packed[: len(packed) // 2], "is cut short"),
        (lambda packed: b"\xff" * 50, "is damaged: "),
        (lambda packed: deflate(element(FIRST, "CS", b"MR")), "does not begin with the header that was edited"),
        (lambda packed: deflate(element(FIRST, "CS", b"CT")[:-1]), "is shorter than its header"),
    ],
)
def test_a_stream_that_is_not_what_was_edited_is_refused(change: object, why: str) -> None:
    plain = element(FIRST, "CS", b"CT") + bytes(range(256)) * 40
    assert callable(change)
    with pytest.raises(Refused, match=f"site-a: the deflated data set {why}"):
        rewritten('{ set = "Modality", to = "MR" }', plain, 10, packed=change(deflate(plain)))
