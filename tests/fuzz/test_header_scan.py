"""The header scan against whatever a peer may send: cut, changed, made up, bombs."""

from __future__ import annotations

import io
import random
import tracemalloc
import warnings
import zlib
from collections.abc import Iterator
from functools import lru_cache

import pytest
from hypothesis import example
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataelem import RawDataElement

from asyncroute.wire.elements import MAX_DEPTH
from asyncroute.wire.header import HeaderScanner, header_end
from asyncroute.wire.part10 import NotPart10, build_meta, parse_meta
from asyncroute.wire.scan import Scan
from tests.support import corpus
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
)
from tests.support.fuzzing import fuzzed
from tests.support.work import within

pytestmark = pytest.mark.no_cover

SYNTAXES = [IMPLICIT, EXPLICIT, BIG, DEFLATED, "1.2.840.10008.1.2.4.90", "1.2.3"]
WANTED = (0x00080016, 0x00080018, 0x00080050, 0x00080060, 0x00100010, 0x00100020, 0x00101030, 0x0020000D, 0x00280106)
SCANNER = HeaderScanner(WANTED)
PIXELS = 0x7FE00010
CAP = 1_000_000  # calls of functions for one data set, four times what the worst known one takes


@lru_cache
def real() -> tuple[tuple[bytes, str], ...]:
    """The beginnings of real data sets, one or two of each transfer syntax, with their syntax."""
    found: dict[str, list[bytes]] = {}
    for image in corpus.storable():
        path = corpus.path_of(image)
        data = path.read_bytes()
        same = found.setdefault(image.transfer_syntax, [])
        if len(same) < 3 and image.size < 300_000:
            same.append(data[parse_meta(data).data_offset :])
    return tuple((data, syntax) for syntax, many in sorted(found.items()) for data in many)


def texts(scan: Scan) -> dict[int, tuple[str, ...]]:
    return {tag: scan.texts(tag) for tag in scan.values}


# --- made-up data sets: what went in comes out ------------------------------------------------------------------------

VRS = ["AE", "CS", "DA", "IS", "LO", "LT", "OB", "OW", "PN", "SH", "ST", "UC", "UI", "UL", "UN", "UR", "US", "UT", "XY"]
Item = tuple[int, str, bytes, int]


@st.composite
def items(draw: st.DrawFn) -> list[Item]:
    """Elements (tag, VR, value, depth of nesting) in ascending order, from group 0008 on; depth 0 is a plain value."""
    tags = draw(st.sets(st.integers(0x00080008, 0x00400000), max_size=25))
    tags |= draw(st.sets(st.sampled_from(WANTED)))
    depth = st.one_of(st.just(0), st.just(0), st.integers(1, 4))
    return [(tag, draw(st.sampled_from(VRS)), draw(st.binary(max_size=40)), draw(depth)) for tag in sorted(tags)]


def encode(content: list[Item], syntax: str) -> tuple[bytes, dict[int, bytes]]:
    """The data set and the raw values of its top level."""
    pieces, values = [element(0x00080005, "CS", b"ISO_IR 100", syntax)], {0x00080005: b"ISO_IR 100"}
    for tag, vr, value, depth in content:
        piece = element(tag, vr, value, syntax)
        header = len(piece) - len(value)
        for _ in range(depth):
            piece = sequence(tag, piece, b"", syntax=syntax)
            header = 8 if syntax == IMPLICIT else 12
        pieces.append(piece)
        values[tag] = piece[header:]
    return b"".join(pieces), values


@fuzzed(items(), st.sampled_from([IMPLICIT, EXPLICIT, BIG, DEFLATED]), st.booleans(), examples=50)
def test_what_is_encoded_is_found(content: list[Item], syntax: str, pixels: bool) -> None:
    plain = EXPLICIT if syntax == DEFLATED else syntax
    start, values = encode(content, plain)
    data = start + (element(PIXELS, "OW", bytes(100), plain) if pixels else b"")
    scan = HeaderScanner(values).scan(deflate(data) if syntax == DEFLATED else data, syntax, complete=True)
    assert scan is not None
    assert scan.odd is None
    assert scan.fallback is None
    assert scan.values == values
    if syntax != DEFLATED:
        assert header_end(data, syntax, complete=True) == len(start)


@fuzzed(items(), st.sampled_from([IMPLICIT, EXPLICIT, BIG]), examples=50)
def test_pydicom_finds_the_same(content: list[Item], syntax: str) -> None:
    flat = [(tag, vr, value, 0) for tag, vr, value, _ in content if vr != "XY"]
    data, values = encode(flat, syntax)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = dcmread(io.BytesIO(build_meta("1.2", "1.2", syntax) + data))
        items: dict[int, object] = {int(tag): theirs.get_item(tag, keep_deferred=True) for tag in theirs.keys()}  # noqa: SIM118
    raw = {tag: item.value or b"" for tag, item in items.items() if isinstance(item, RawDataElement)}
    assert raw.keys() >= values.keys() - {0x00080005}
    assert raw.items() <= values.items()


@fuzzed(items(), st.sampled_from([IMPLICIT, EXPLICIT, BIG]), st.randoms(use_true_random=False), examples=50)
def test_elements_in_any_order_are_found(content: list[Item], syntax: str, shuffle: random.Random) -> None:
    """Unless all wanted ones stand before the disorder, pydicom's reading gives the same values or it is called odd."""
    plain = [(tag, vr, value, 0) for tag, vr, value, _ in content if vr != "XY"]
    shuffle.shuffle(plain)
    data, values = encode(plain, syntax)
    data += element(PIXELS, "OW", bytes(20), syntax)
    scan = HeaderScanner([*values, 0x7FDFFFFF]).scan(data, syntax, complete=True)
    assert scan is not None
    assert scan.odd is None
    assert scan.values == values


# --- cut --------------------------------------------------------------------------------------------------------------


@fuzzed(st.data(), examples=50)
def test_a_cut_data_set_gives_the_right_values_or_none(data: st.DataObject) -> None:
    whole, syntax = data.draw(st.sampled_from(real()))
    size = data.draw(st.integers(0, min(len(whole), 8192)))
    full = SCANNER.scan(whole, syntax, complete=True)
    part = SCANNER.scan(whole[:size], syntax, complete=False)
    assert full is not None
    if part is not None:
        assert part.values == full.values
        assert texts(part) == texts(full)
        assert part.odd == full.odd
    end = header_end(whole[:size], syntax)
    assert end is None or end == header_end(whole, syntax)


@fuzzed(st.data(), examples=50)
def test_a_cut_data_set_taken_for_whole_gives_no_wrong_values(data: st.DataObject) -> None:
    whole, syntax = data.draw(st.sampled_from(real()))
    size = data.draw(st.integers(0, min(len(whole), 8192)))
    full = SCANNER.scan(whole, syntax, complete=True)
    part = SCANNER.scan(whole[:size], syntax, complete=True)
    assert full is not None
    assert part is not None
    assert part.values.items() <= full.values.items()


@fuzzed(items(), st.sampled_from([IMPLICIT, EXPLICIT, BIG]), st.data(), examples=50)
def test_a_cut_between_elements_is_the_only_one_not_seen(content: list[Item], syntax: str, data: st.DataObject) -> None:
    """But for an unknown VR: of its header of 12 bytes, 8 may be a whole one with a length of 16 bits."""
    content = [item for item in content if item[1] != "XY"]
    plain, values = encode(content, syntax)
    size = data.draw(st.integers(0, len(plain)))
    scan = HeaderScanner([*values, 0x7FDFFFFF]).scan(plain[:size], syntax, complete=True)
    assert scan is not None
    ends = [len(encode(content[:count], syntax)[0]) for count in range(len(content) + 1)]
    assert (scan.odd is None) == (size in (0, *ends))
    assert scan.values.items() <= values.items()


# --- changed ----------------------------------------------------------------------------------------------------------


@st.composite
def changed(draw: st.DrawFn) -> tuple[bytes, str]:
    """A real data set's beginning with bytes changed, put in or taken out, in its own or some other transfer syntax."""
    whole, syntax = draw(st.sampled_from(real()))
    data = bytearray(whole[: draw(st.integers(1, 6000))])
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, len(data)))
        gone = draw(st.sampled_from([0, 1, 2, 4, 8]))
        data[at : at + gone] = draw(st.one_of(st.binary(max_size=8), st.sampled_from(NASTY)))
    return bytes(data), draw(st.sampled_from([syntax, *SYNTAXES]))


NASTY = [
    b"\xff\xff\xff\xff",
    b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
    b"\xfe\xff\x0d\xe0\x00\x00\x00\x00",
    b"\xfe\xff\xdd\xe0\x00\x00\x00\x00",
    b"SQ\x00\x00\xff\xff\xff\xff",
    b"UN\x00\x00\xff\xff\xff\xff",
    b"\x08\x00\x05\x00CS\x0a\x00",
    b"\xe0\x7f\x10\x00OW\x00\x00\xff\xff\xff\xff",
    b"\x1b$)C\x1b$B",
]


def check_harmless(data: bytes, syntax: str) -> None:
    """Whatever it is, both readings end, raise nothing, warn of nothing (warnings are errors here), keep their word."""
    within(CAP, lambda: check_readings(data, syntax))


def check_readings(data: bytes, syntax: str) -> None:
    first = SCANNER.scan(data, syntax, complete=False)
    final = SCANNER.scan(data, syntax, complete=True)
    assert final is not None
    for scan in (first, final):
        if scan is not None:
            assert set(scan.values) <= SCANNER.wanted
            assert all(isinstance(text, str) for tag in SCANNER.wanted for text in scan.texts(tag))
    if first is not None and first.odd is None:
        assert first.values == final.values
    for complete in (False, True):
        end = header_end(data, syntax, complete)
        assert end is None or 0 <= end <= len(data)


@fuzzed(changed(), examples=150)
@example((b"\x08\0\x05\0CS\x0a", EXPLICIT))
def test_changed_data_does_no_harm(case: tuple[bytes, str]) -> None:
    check_harmless(*case)


@fuzzed(
    st.lists(st.one_of(st.binary(max_size=20), st.sampled_from(NASTY)), max_size=30),
    st.sampled_from(SYNTAXES),
    examples=75,
)
def test_noise_does_no_harm(pieces: list[bytes], syntax: str) -> None:
    data = b"".join(pieces)
    check_harmless(data, syntax)
    if syntax == DEFLATED:
        check_harmless(deflate(data), syntax)


@fuzzed(st.data(), examples=50)
def test_changed_file_meta_does_no_harm(data: st.DataObject) -> None:
    head_bytes = bytearray(build_meta("1.2.840.1", "1.2.3", EXPLICIT, source_aet="A", private=b"x"))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(100, len(head_bytes)))
        gone = data.draw(st.integers(0, 8))
        head_bytes[at : at + gone] = data.draw(st.one_of(st.binary(max_size=8), st.sampled_from(NASTY)))
    try:
        meta = parse_meta(bytes(head_bytes))
    except NotPart10:
        return
    assert meta.transfer_syntax
    assert 132 < meta.data_offset <= len(head_bytes)


# --- nested -----------------------------------------------------------------------------------------------------------


def nested(levels: int, syntax: str, vr: str) -> bytes:
    """Sequences of undefined length inside of each other."""
    inner = IMPLICIT if vr == "UN" else syntax
    start = head(0x00081140, "SQ", UNDEFINED, inner) + delimiter(0xFFFEE000, inner, UNDEFINED)
    end = delimiter(0xFFFEE00D, inner) + delimiter(0xFFFEE0DD, inner)
    first = head(0x00081140, vr, UNDEFINED, syntax) + delimiter(0xFFFEE000, inner, UNDEFINED)
    return first + start * (levels - 1) + end * levels


@fuzzed(
    st.integers(1000, 1500),
    st.sampled_from([IMPLICIT, EXPLICIT, BIG]),
    st.sampled_from(["SQ", "UN"]),
    st.data(),
    examples=15,
)
def test_a_thousand_levels(levels: int, syntax: str, vr: str, data: st.DataObject) -> None:
    middle = nested(levels, syntax, vr)
    plain = element(0x00080060, "CS", b"CT", syntax) + middle + element(0x00100020, "LO", b"P1", syntax)
    scanner = HeaderScanner([0x00100020])
    scan = scanner.scan(plain, syntax, complete=True)
    assert scan is not None
    assert scan.odd is None
    assert scan.texts(0x00100020) == ("P1",)
    size = data.draw(st.integers(0, len(plain) - 1))
    assert scanner.scan(plain[:size], syntax, complete=False) is None
    cut = scanner.scan(plain[:size], syntax, complete=True)
    assert cut is not None
    assert not cut.values


def bombs() -> Iterator[tuple[str, bytes, str]]:
    """Much work for few bytes, or for many: name, data, syntax."""
    opened = head(0x00081140, "SQ", UNDEFINED)
    start = element(0x00080060, "CS", b"CT")
    million = 1 << 20
    yield "levels without end", start + (opened + delimiter(0xFFFEE000, EXPLICIT, UNDEFINED)) * 200_000, EXPLICIT
    yield "delimiters", start + opened + delimiter(0xFFFEE00D) * million, EXPLICIT
    yield "levels beyond the bound", start + nested(MAX_DEPTH + 10, EXPLICIT, "SQ"), EXPLICIT
    yield "items without end", start + opened + delimiter(0xFFFEE000) * million, EXPLICIT
    item = opened + delimiter(0xFFFEE000, EXPLICIT, UNDEFINED)
    yield "elements in an item", start + item + element(0x00080060, "CS") * million, EXPLICIT
    yield "one element again and again", start * million, EXPLICIT
    yield "zeros, implicit", bytes(10 * million), IMPLICIT
    yield "zeros, explicit", bytes(10 * million), EXPLICIT
    yield "zeros behind an element", start + bytes(10 * million), EXPLICIT
    ascending = b"".join(element(0x00090000 + n, "LO", b"", IMPLICIT) for n in range(1 << 16))
    yield "empty elements", ascending, IMPLICIT
    yield "empty elements, twice", ascending * 20, IMPLICIT


BOMBS = list(bombs())


@pytest.mark.parametrize("index", range(len(BOMBS)), ids=[name for name, _, _ in BOMBS])
def test_structural_bombs_are_bounded_in_work_and_memory(index: int) -> None:
    _, data, syntax = BOMBS[index]
    tracemalloc.start()
    try:
        check_harmless(data, syntax)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def deflated_zeros(size: int, start: bytes) -> bytes:
    """A raw deflate stream of `start` and `size` zeros: about a thousandth of that."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    pieces = [packer.compress(start)]
    pieces += [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*pieces, packer.flush()])


FRONTS = {
    "nothing": b"",
    "a long element": element(0x00080060, "CS", b"CT") + head(0x00091001, "OB", 1 << 29),
    "an endless sequence": element(0x00080060, "CS", b"CT") + head(0x00091001, "SQ", UNDEFINED),
    "a wanted value": element(0x00080060, "CS", b"CT") + head(0x00101030, "UT", 1 << 29),
    "a wanted value of an odd data set": element(0x00080060, "CS", b"CT") * 2 + head(0x00101030, "UT", 1 << 29),
}


@pytest.mark.parametrize("name", FRONTS)
def test_deflate_bombs_are_bounded_in_work_and_memory(name: str) -> None:
    data = deflated_zeros(1 << 27, FRONTS[name])
    assert len(data) < 1 << 20
    tracemalloc.start()
    try:
        check_harmless(data, DEFLATED)
        final = SCANNER.scan(data, DEFLATED, complete=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert final is not None
    assert final.odd is not None
    assert len(b"".join(final.values.values())) < 100
    assert peak < 8 << 20


def test_large_deflated_input_is_not_copied() -> None:
    noise = random.Random(1).randbytes(1 << 20) * 32
    data = deflate(element(0x00080060, "CS", b"CT") + element(0x00100020, "LO", b"P1")) + noise
    tracemalloc.start()
    try:
        scan = HeaderScanner([0x00100020]).scan(memoryview(data), DEFLATED, complete=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert scan is not None
    assert scan.texts(0x00100020) == ("P1",)
    assert peak < 1 << 20
