"""Headers that are nearly like earlier ones: what was learned must never change what a scan finds."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator

import pytest
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataelem import RawDataElement

from asyncroute.wire import layout
from asyncroute.wire.header import HeaderScanner
from asyncroute.wire.part10 import build_meta
from tests.fuzz.test_header_scan import NASTY, VRS, WANTED, Item, encode, items, real
from tests.support.alike import KEY, recognized, scan_both
from tests.support.encoding import BIG, DEFLATED, EXPLICIT, IMPLICIT, UNDEFINED, deflate, delimiter, element, head
from tests.support.fuzzing import fuzzed

pytestmark = pytest.mark.no_cover

JPEG = "1.2.840.10008.1.2.4.50"
SYNTAXES = [IMPLICIT, EXPLICIT, BIG, DEFLATED, JPEG]
PIXELS = 0x7FE00010
LIKE_HEADERS = [
    element(0x00100020, "LO", b"WRONG ", EXPLICIT),
    element(0x00100020, "LO", b"WRONG ", IMPLICIT),
    element(0x0020000D, "UI", b"9.9\0", BIG),
    head(PIXELS, "OW", UNDEFINED),
    delimiter(0xFFFEE00D) + delimiter(0xFFFEE0DD),
]
VALUES = st.one_of(st.binary(max_size=40), st.sampled_from(LIKE_HEADERS), st.sampled_from(NASTY))


@pytest.fixture(params=[1, 1 << 30], ids=["expression", "structs"], autouse=True, scope="module")
def how(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both ways of matching: after how many fits an expression is compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "PROVED", request.param)
        yield


def as_sent(content: list[Item], syntax: str, end: int) -> bytes:
    """The data set in a transfer syntax; `end`: 0 for none, else bytes of pixel data."""
    plain = syntax if syntax in (IMPLICIT, BIG) else EXPLICIT
    data, _ = encode(content, plain)
    if end and syntax == JPEG:
        data += head(PIXELS, "OB", UNDEFINED) + delimiter(0xFFFEE000) + delimiter(0xFFFEE000, length=end) + bytes(end)
    elif end:
        data += element(PIXELS, "OW", bytes(end), plain)
    return deflate(data) if syntax == DEFLATED else data


@st.composite
def nearly(draw: st.DrawFn, content: list[Item]) -> list[Item]:
    """The same elements with other values, of the same length or not; now and then an element more, less, elsewhere."""
    new = []
    for tag, vr, value, depth in content:
        how = draw(st.integers(0, 5))
        if how == 0:
            value = draw(VALUES)
        elif how == 1 and value:
            value = draw(st.binary(min_size=len(value), max_size=len(value)))
        new.append((tag, vr, value, depth))
    kind = draw(st.integers(0, 12))
    if not new or kind > 5:
        return new
    at = draw(st.integers(0, len(new) - 1))
    tag, vr, value, depth = new[at]
    if kind == 0:
        new[at] = (tag, draw(st.sampled_from(VRS)), value, depth)
    elif kind == 1:
        new[at] = (tag, vr, value, draw(st.integers(0, 2)))
    elif kind == 2:
        del new[at]
    elif kind == 3:
        new.insert(at, new[at])
    elif kind == 4:
        new.insert(at, (draw(st.integers(0x00080008, 0x00400000)), "LO", value, depth))
    else:
        other = draw(st.integers(0, len(new) - 1))
        new[at], new[other] = new[other], new[at]
    return new


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Often as it is; else cut, or with bytes changed, put in or taken out."""
    kind = draw(st.integers(0, 7))
    if kind == 0:
        return data[: draw(st.integers(0, len(data)))]
    if kind > 2:
        return data
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(changed)))
        piece = draw(st.one_of(st.binary(max_size=4), st.sampled_from(NASTY)))
        changed[at : at + (len(piece) if kind == 1 else draw(st.integers(0, 4)))] = piece
    return bytes(changed)


@fuzzed(st.data(), examples=50)
def test_what_came_before_changes_nothing(data: st.DataObject) -> None:
    """Data sets in several transfer syntaxes in turn, under one key, each nearly like one before."""
    bases = data.draw(st.lists(items(), min_size=1, max_size=2))
    scanner = HeaderScanner(WANTED)
    for _ in range(data.draw(st.integers(3, 12))):
        content = data.draw(nearly(data.draw(st.sampled_from(bases))))
        syntax = data.draw(st.sampled_from(SYNTAXES))
        whole = as_sent(content, syntax, data.draw(st.sampled_from([0, 10, 600])))
        sent = data.draw(damaged(whole))
        scan_both(scanner, sent, syntax, data.draw(st.booleans()))
        scan_both(scanner, whole, syntax)


@fuzzed(st.data(), examples=35)
def test_real_headers_are_read_the_same_whatever_came_before(data: st.DataObject) -> None:
    whole, syntax = data.draw(st.sampled_from(real()))
    whole = whole[:20_000]
    scanner = HeaderScanner(WANTED)
    for _ in range(4):
        scan_both(scanner, whole, syntax)
        scan_both(scanner, data.draw(damaged(whole)), data.draw(st.sampled_from([syntax, *SYNTAXES])))


@fuzzed(items(), st.sampled_from([IMPLICIT, EXPLICIT, BIG]), st.data(), examples=35)
def test_pydicom_finds_the_same_in_what_is_recognized(content: list[Item], syntax: str, data: st.DataObject) -> None:
    """Any values and lengths for the elements of a header whose lengths were seen to vary."""
    flat = [(tag, vr, value, 0) for tag, vr, value, _ in content if vr != "XY"]
    scanner = HeaderScanner([tag for tag, *_ in flat])
    sizes = [[2] * len(flat), [4] * len(flat), [data.draw(st.integers(0, 60)) for _ in flat]]
    for round_of in sizes:
        made = [(tag, vr, data.draw(values_of(n)), 0) for (tag, vr, _, _), n in zip(flat, round_of, strict=True)]
        known = check_against_pydicom(scanner, made, syntax)
        assert known == (round_of is sizes[2]) or not flat


def check_against_pydicom(scanner: HeaderScanner, content: list[Item], syntax: str) -> bool:
    """Whether it was recognized; asserts that it is read as pydicom does, and as it was made."""
    data, values = encode(content, syntax)
    data += element(PIXELS, "OW", struct.pack("<I", len(data)), syntax)
    known = recognized(scanner, data, syntax)
    scan = scanner.scan(data, syntax, True, KEY)
    assert scan is not None
    assert scan.values == values
    assert read_by_pydicom(data, syntax).items() <= values.items()
    return known


def values_of(size: int) -> st.SearchStrategy[bytes]:
    like = [value[:size].ljust(size, b"x") for value in (*LIKE_HEADERS, *NASTY)]
    return st.one_of(st.binary(min_size=size, max_size=size), st.sampled_from(like))


def read_by_pydicom(data: bytes, syntax: str) -> dict[int, bytes]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = dcmread(io.BytesIO(build_meta("1.2", "1.2", syntax) + data))
        found: dict[int, object] = {int(tag): theirs.get_item(tag, keep_deferred=True) for tag in theirs.keys()}  # noqa: SIM118
    raw = {tag: item.value or b"" for tag, item in found.items() if isinstance(item, RawDataElement)}
    return {tag: value for tag, value in raw.items() if tag < PIXELS}
