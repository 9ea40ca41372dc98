"""Elements behind the header: what is unwanted goes, everything else stays, however the data are cut."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as Items

from asyncroute.transform.base import Refused
from asyncroute.transform.tail import MAX_CREATOR, Dropping, Drops
from asyncroute.wire.syntax import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, Encoding

ENCODINGS = [IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE]
UNDEFINED = 0xFFFFFFFF
LONG = ("OB", "OW", "SQ", "UN", "UT")
Element = tuple[int, bytes]


def private(tag: int, creator: str) -> bool:
    return bool(tag >> 16 & 1)


def of_acme(tag: int, creator: str) -> bool:
    return creator == "ACME" and tag >> 16 == 0x7FE1


def nothing(tag: int, creator: str) -> bool:
    return False


def signatures(tag: int, creator: str) -> bool:
    return tag >> 16 in (0xFFFA, 0xFFFC)


def element(encoding: Encoding, tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
    """One element, as written by hand."""
    size = len(value) if length is None else length
    order = ">" if encoding.big else "<"
    parts = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if encoding.implicit:
        return parts + struct.pack(order + "I", size) + value
    if vr in LONG:
        return parts + vr.encode() + b"\0\0" + struct.pack(order + "I", size) + value
    return parts + vr.encode() + struct.pack(order + "H", size) + value


def mark(encoding: Encoding, number: int, length: int = 0) -> bytes:
    """An item header or a delimiter."""
    return struct.pack((">" if encoding.big else "<") + "HHI", 0xFFFE, number, length)


def nested(encoding: Encoding, depth: int) -> bytes:
    """Items of undefined and of defined length, with sequences in them; with the delimiter."""
    inside = element(encoding, 0x00080005, "CS", b"ISO_IR 6") + element(encoding, 0x7FE10010, "LO", b"ACME")
    if depth:
        inside += element(encoding, 0x7FE11001, "SQ", nested(encoding, depth - 1), UNDEFINED)
    open_item = mark(encoding, 0xE000, UNDEFINED) + inside + mark(encoding, 0xE00D)
    return open_item + mark(encoding, 0xE000, len(inside)) + inside + open_item + mark(encoding, 0xE0DD)


def fragments(encoding: Encoding) -> bytes:
    """Encapsulated pixel data: values that look like delimiters and elements must not matter."""
    values = [b"", mark(encoding, 0xE0DD) + b"\xe1\x7f\x10\0", b"12" * 50]
    return b"".join(mark(encoding, 0xE000, len(value)) + value for value in values) + mark(encoding, 0xE0DD)


def everything(encoding: Encoding) -> list[Element]:
    """A data set's elements from the pixel data on."""
    made = [
        (0x7FE00000, "UL", b"\1\0\0\0", None),
        (0x7FE00010, "OB", fragments(encoding), UNDEFINED),
        (0x7FE10000, "UL", b"\2\0\0\0", None),
        (0x7FE10010, "LO", b"ACME", None),
        (0x7FE10011, "LO", b"OTHER ", None),
        (0x7FE11001, "OB", b"x" * 70, None),
        (0x7FE11002, "SQ", nested(encoding, 3), UNDEFINED),
        (0x7FE11101, "SQ", nested(encoding, 1), UNDEFINED),
        (0x7FE11102, "LO", b"", None),
        (0x7FE11201, "LO", b"nobody's", None),
        (0xFFFAFFFA, "SQ", nested(encoding, 2)[:-8], None),
        (0xFFFCFFFC, "OB", b"\0" * 30, None),
    ]
    return [(tag, element(encoding, tag, vr, value, length)) for tag, vr, value, length in made]


def dropping(encoding: Encoding, unwanted: Callable[[int, str], bool]) -> Dropping:
    return Dropping("site-a", encoding, [Drops(unwanted, lambda group: group == 0x7FE1)])


def fed(pieces: Sequence[memoryview], encoding: Encoding, unwanted: Callable[[int, str], bool]) -> bytes:
    removal = dropping(encoding, unwanted)
    out = [bytes(piece) for data in pieces for piece in removal.feed(data)]
    return b"".join([*out, *map(bytes, removal.finish())])


def cut(data: bytes, places: Sequence[int]) -> list[memoryview]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [memoryview(data)[start:end] for start, end in pairwise(edges)]


def rest(elements: Sequence[Element], gone: set[int]) -> bytes:
    """What has to stay: all but these and the group lengths behind the pixel data."""
    return b"".join(raw for tag, raw in elements if tag not in gone | {0x7FE10000})


CASES: list[tuple[Callable[[int, str], bool], set[int]]] = [
    (private, {tag for tag, _ in everything(IMPLICIT_LE) if tag >> 16 == 0x7FE1}),
    (of_acme, {0x7FE11001, 0x7FE11002}),
    (signatures, {0xFFFAFFFA, 0xFFFCFFFC}),
    (nothing, set()),
    (lambda tag, creator: True, {tag for tag, _ in everything(IMPLICIT_LE) if tag >> 16 != 0x7FE0}),
]


@pytest.mark.parametrize(("unwanted", "gone"), CASES)
@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=40)
@given(st.lists(st.integers(0, 1 << 20), max_size=12))
def test_any_pieces(
    encoding: Encoding, unwanted: Callable[[int, str], bool], gone: set[int], places: list[int]
) -> None:
    elements = everything(encoding)
    data = b"".join(raw for _, raw in elements)
    assert fed(cut(data, places), encoding, unwanted) == rest(elements, gone)


@pytest.mark.parametrize(("unwanted", "gone"), CASES)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("size", [1, 2, 7, 13])
def test_small_pieces(encoding: Encoding, unwanted: Callable[[int, str], bool], gone: set[int], size: int) -> None:
    elements = everything(encoding)
    data = b"".join(raw for _, raw in elements)
    pieces = cut(data, range(0, len(data), size))
    assert fed(pieces, encoding, unwanted) == rest(elements, gone)


def test_unwanted_is_asked_with_the_tags_and_creators_of_the_top_level_only() -> None:
    asked = []

    def unwanted(tag: int, creator: str) -> bool:
        asked.append((tag, creator))
        return False

    data = b"".join(raw for _, raw in everything(EXPLICIT_LE))
    fed([memoryview(data)], EXPLICIT_LE, unwanted)
    assert asked == [
        (0x7FE10010, ""),
        (0x7FE10011, ""),
        (0x7FE11001, "ACME"),
        (0x7FE11002, "ACME"),
        (0x7FE11101, "OTHER"),
        (0x7FE11102, "OTHER"),
        (0x7FE11201, ""),
        (0xFFFAFFFA, ""),
        (0xFFFCFFFC, ""),
    ]


def test_what_pydicom_writes() -> None:
    for encoding in ENCODINGS:
        item = Dataset()
        item.PatientID = "1"
        item.is_undefined_length_sequence_item = True
        ds = Dataset()
        ds.add_new(0x7FE00010, "OW", b"\1\2" * 100)
        ds.private_block(0x7FE1, "ACME", create=True).add_new(1, "SQ", Items([item, Dataset()]))
        ds[0x7FE11001].is_undefined_length = True
        ds.private_block(0x7FE3, "OTHER", create=True).add_new(1, "UT", "stays")
        ds.add_new(0xFFFCFFFC, "OB", b"\0\0")
        stream = DicomBytesIO()
        stream.is_implicit_VR, stream.is_little_endian = encoding.implicit, not encoding.big
        write_dataset(stream, ds)
        data = fed([memoryview(stream.getvalue())], encoding, of_acme)
        head = {
            IMPLICIT_LE: "1.2.840.10008.1.2",
            EXPLICIT_LE: "1.2.840.10008.1.2.1",
            EXPLICIT_BE: "1.2.840.10008.1.2.2",
        }
        meta = element(
            EXPLICIT_LE, 0x00020010, "UI", head[encoding].encode().ljust(len(head[encoding]) + 1 & ~1, b"\0")
        )
        found = dcmread(BytesIO(bytes(128) + b"DICM" + meta + data))
        assert [int(each.tag) for each in found] == [0x7FE00010, 0x7FE10010, 0x7FE30010, 0x7FE31001, 0xFFFCFFFC]
        assert found[0x7FE00010].value == ds[0x7FE00010].value


def test_pixel_data_of_almost_4_gib_pass_as_the_same_memory() -> None:
    removal = dropping(EXPLICIT_LE, private)
    head = memoryview(element(EXPLICIT_LE, 0x7FE00010, "OW", b"", 0xFFFFFFFE))
    assert b"".join(removal.feed(head)) == head
    chunk = memoryview(bytes(1 << 24))
    for _ in range(255):
        (piece,) = removal.feed(chunk)
        assert isinstance(piece, memoryview)
        assert piece.obj is chunk.obj
        assert len(piece) == len(chunk)
    gone = element(EXPLICIT_LE, 0x7FE10010, "LO", b"ACME")
    (piece,) = removal.feed(memoryview(bytes((1 << 24) - 2) + gone))
    assert len(piece) == (1 << 24) - 2
    assert removal.finish() == []


def test_fragments_pass_as_the_same_memory() -> None:
    data = memoryview(element(EXPLICIT_LE, 0x7FE00010, "OB", fragments(EXPLICIT_LE), UNDEFINED))
    (piece,) = dropping(EXPLICIT_LE, private).feed(data)
    assert isinstance(piece, memoryview)
    assert piece.obj is data.obj
    assert piece == data


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_data_that_end_in_the_pixel_data_pass_as_they_came(encoding: Encoding) -> None:
    native = element(encoding, 0x7FE00010, "OW", b"ab" * 30, 1000)
    encapsulated = element(encoding, 0x7FE00010, "OB", fragments(encoding), UNDEFINED)
    for data in (native, encapsulated[:-1], encapsulated[:-8], encapsulated[:-40]):
        assert fed([memoryview(data)], encoding, private) == data


def big(tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
    return element(EXPLICIT_LE, tag, vr, value, length)


PIXELS = big(0x7FE00010, "OW", b"ab")
ODD = [
    (PIXELS + PIXELS, "(7FE0,0010) follows (7FE0,0010)"),
    (big(0x7FDFFFFE, "OB", b""), "(7FDF,FFFE) follows the header"),
    (PIXELS + bytes(8), "(0000,0000) has no VR"),
    (PIXELS + b"\1", "the data end inside of the element after (7FE0,0010)"),
    (PIXELS + big(0x7FE10010, "LO", b"ACME")[:-2], "the data end inside of the element after (7FE0,0010)"),
    (PIXELS + mark(EXPLICIT_LE, 0xE0DD), "(FFFE,E0DD) has no VR"),
    (PIXELS + b"\xe1\x7f\1\x10OB\1\0\0\0\0\0", "reserved bytes of (7FE1,1001) are not zero"),
    (PIXELS + big(0x7FE10010, "LO", b"A" * (MAX_CREATOR + 1)), "private creator (7FE1,0010) of 1025 bytes"),
    (big(0x7FE00010, "OB", PIXELS, UNDEFINED), "(7FE0,0010) instead of an item in (7FE0,0010)"),
    (
        big(0x7FE11001, "SQ", mark(EXPLICIT_LE, 0xE000, UNDEFINED) + mark(EXPLICIT_LE, 0xE0DD) * 2, UNDEFINED),
        "(FFFE,E0DD) inside",
    ),
]


@pytest.mark.parametrize(("data", "reason"), ODD)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_what_cannot_be_read_for_sure(data: bytes, reason: str, size: int) -> None:
    with pytest.raises(Refused) as caught:
        fed(cut(data, range(0, len(data), size)), EXPLICIT_LE, nothing)
    assert reason in caught.value.reason


def test_a_delimiter_is_no_element_in_implicit_vr_either() -> None:
    data = element(IMPLICIT_LE, 0x7FE00010, "OW", b"ab") + mark(IMPLICIT_LE, 0xE0DD)
    with pytest.raises(Refused, match="outside of a sequence"):
        fed([memoryview(data)], IMPLICIT_LE, nothing)


def test_nesting_has_a_limit() -> None:
    level = mark(IMPLICIT_LE, 0xE000, UNDEFINED) + element(IMPLICIT_LE, 0x00081140, "SQ", b"", UNDEFINED)
    data = element(IMPLICIT_LE, 0x7FE11001, "SQ", level * 5000, UNDEFINED)
    with pytest.raises(Refused, match="nested more than"):
        fed([memoryview(data)], IMPLICIT_LE, nothing)


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_an_item_in_implicit_vr_inside_of_explicit_vr_is_passed_over(size: int) -> None:
    inside = element(IMPLICIT_LE, 0x00080060, "CS", b"CT")
    items = mark(EXPLICIT_LE, 0xE000, UNDEFINED) + inside + mark(EXPLICIT_LE, 0xE00D) + mark(EXPLICIT_LE, 0xE0DD)
    stays, last = big(0xFFFAFFFA, "SQ", items, UNDEFINED), big(0xFFFCFFFC, "OB", b"\0\0")
    data = PIXELS + big(0x7FE11001, "SQ", items, UNDEFINED) + stays + last
    assert fed(cut(data, range(0, len(data), size)), EXPLICIT_LE, private) == PIXELS + stays + last
