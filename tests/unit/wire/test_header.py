"""The header scan: what it finds, where it stops, when it waits, what it calls odd."""

from __future__ import annotations

import struct
import zlib

import pytest

from asyncroute.wire import elements
from asyncroute.wire.header import HeaderScanner, header_end
from asyncroute.wire.lenient import WINDOW
from asyncroute.wire.scan import Scan
from asyncroute.wire.syntax import syntax_of
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

CHARSET = 0x00080005
SOP_CLASS = 0x00080016
SOP_INSTANCE = 0x00080018
ACCESSION = 0x00080050
MODALITY = 0x00080060
NAME = 0x00100010
PATIENT_ID = 0x00100020
STUDY = 0x0020000D
ROWS = 0x00280010
PIXELS = 0x7FE00010
WANTED = (SOP_CLASS, SOP_INSTANCE, ACCESSION, MODALITY, PATIENT_ID, STUDY)
SYNTAXES = [IMPLICIT, EXPLICIT, BIG, DEFLATED]
JPEG = "1.2.840.10008.1.2.4.50"
PRIVATE_SYNTAX = "1.2.840.113619.5.2"


def data_set(syntax: str, *middle: bytes) -> bytes:
    """A small image; `middle` stands before the Patient ID, already encoded."""
    body = [
        element(SOP_CLASS, "UI", b"1.2.840.10008.5.1.4.1.1.2\0", syntax),
        element(SOP_INSTANCE, "UI", b"1.2.3.4\0", syntax),
        element(ACCESSION, "SH", b"", syntax),
        element(MODALITY, "CS", b"CT", syntax),
        *middle,
        element(PATIENT_ID, "LO", b"PAT-1 ", syntax),
        element(STUDY, "UI", b"1.2.3\0", syntax),
        element(ROWS, "US", struct.pack(">H" if syntax == BIG else "<H", 512), syntax),
        element(PIXELS, "OW", bytes(1000), syntax),
    ]
    return b"".join(body)


def encoded(syntax: str, *middle: bytes) -> bytes:
    return deflate(data_set(EXPLICIT, *middle)) if syntax == DEFLATED else data_set(syntax, *middle)


def scanned(data: bytes, syntax: str = EXPLICIT, wanted: tuple[int, ...] = WANTED, complete: bool = True) -> Scan:
    scan = HeaderScanner(wanted).scan(data, syntax, complete)
    assert scan is not None
    return scan


def check_usual(scan: Scan) -> None:
    assert scan.odd is None
    assert scan.values[SOP_CLASS] == b"1.2.840.10008.5.1.4.1.1.2\0"
    assert scan.texts(SOP_CLASS) == ("1.2.840.10008.5.1.4.1.1.2",)
    assert scan.texts(SOP_INSTANCE) == ("1.2.3.4",)
    assert scan.values[ACCESSION] == b""
    assert scan.texts(ACCESSION) == ()
    assert scan.texts(MODALITY) == ("CT",)
    assert scan.texts(PATIENT_ID) == ("PAT-1",)
    assert scan.texts(STUDY) == ("1.2.3",)


# --- what is plainly encoded ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_finds_the_wanted(syntax: str, kind: type) -> None:
    scan = HeaderScanner(WANTED).scan(kind(encoded(syntax)), syntax, complete=True)
    assert scan is not None
    check_usual(scan)
    assert scan.fallback is None
    assert not scan.unknown_encoding
    assert ROWS not in scan.values


def test_the_buffer_is_free_again() -> None:
    data = bytearray(data_set(EXPLICIT))
    HeaderScanner(WANTED).scan(data, EXPLICIT, complete=True)
    header_end(data, EXPLICIT)
    data.extend(b"more")  # would raise BufferError


@pytest.mark.parametrize("syntax", [JPEG, "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.112", "1.2.840.10008.1.2.4.201"])
def test_encapsulated_is_explicit_little_endian(syntax: str) -> None:
    data = data_set(EXPLICIT)[:-1012] + head(PIXELS, "OB", UNDEFINED) + delimiter(0xFFFEE000) + b"\0\1\2"
    check_usual(scanned(data, syntax))


@pytest.mark.parametrize("syntax", [PRIVATE_SYNTAX, "1.2.840.10008.1.2.6.2", "1.2.840.10008.1.1", "", "x" * 300])
def test_an_unknown_encoding_is_not_guessed(syntax: str) -> None:
    for complete in (False, True):
        scan = scanned(data_set(EXPLICIT), syntax, complete=complete)
        assert scan.unknown_encoding
        assert not scan.values
        assert scan.texts(PATIENT_ID) == ()
        assert scan.odd is None
    assert header_end(data_set(EXPLICIT), syntax) is None


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"])
def test_jpip_deflate_is_deflated(uid: str) -> None:
    check_usual(scanned(encoded(DEFLATED), uid))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_absent_attributes_are_absent(syntax: str) -> None:
    scan = scanned(encoded(syntax), syntax, (*WANTED, 0x00080070, 0x00200011))
    check_usual(scan)
    assert 0x00080070 not in scan.values
    assert scan.texts(0x00080070) == ()


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_stops_behind_the_last_wanted(syntax: str) -> None:
    data = data_set(syntax)
    place = data.index(b"PAT-1 ") + 6
    scan = scanned(data[:place], syntax, (MODALITY, PATIENT_ID), complete=False)
    assert scan.offset == place
    assert scan.texts(PATIENT_ID) == ("PAT-1",)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_stops_at_the_pixel_data_without_waiting_for_it(syntax: str) -> None:
    data = data_set(syntax)[:-1000]
    scan = scanned(data, syntax, (*WANTED, 0x00400275), complete=False)
    check_usual(scan)
    assert scan.offset == len(data) - (8 if syntax == IMPLICIT else 12)


def test_nothing_from_the_pixel_data_on_is_ever_wanted() -> None:
    scanner = HeaderScanner([PATIENT_ID, PIXELS, 0xFFFCFFFC])
    assert scanner.wanted == {CHARSET, PATIENT_ID}


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_an_empty_data_set(syntax: str) -> None:
    data = deflate(b"") if syntax == DEFLATED else b""
    scan = scanned(data, syntax)
    assert (scan.values, scan.odd) == ({}, None)
    assert HeaderScanner(WANTED).scan(b"", syntax, complete=False) is None


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_waits_for_more_at_every_cut(syntax: str) -> None:
    nested = sequence(0x00081140, element(0x00081155, "UI", b"1.2", syntax), syntax=syntax)
    data = data_set(syntax, element(0x00081030, "LO", b"x", syntax), nested)
    scanner = HeaderScanner(WANTED)
    enough = data.index(b"1.2.3\0", data.index(b"PAT-1")) + 6
    for size in range(enough):
        assert scanner.scan(data[:size], syntax, complete=False) is None, size
    for size in range(enough, len(data)):
        scan = scanner.scan(data[:size], syntax, complete=False)
        assert scan is not None
        check_usual(scan)


def test_a_deflated_data_set_is_scanned_as_soon_as_enough_can_be_inflated() -> None:
    noise = element(0x00091001, "OB", zlib.compress(bytes(range(256)) * 200, 0))
    data = encoded(DEFLATED, noise)
    scanner = HeaderScanner((MODALITY,))
    first = next(n for n in range(len(data)) if scanner.scan(data[:n], DEFLATED, complete=False))
    assert first < 200
    scan = scanner.scan(data[:first], DEFLATED, complete=False)
    assert scan is not None
    assert scan.texts(MODALITY) == ("CT",)


def test_a_deflated_header_larger_than_the_first_step_of_output() -> None:
    data = encoded(DEFLATED, element(0x00091001, "UN", bytes(200_000)))
    check_usual(scanned(data, DEFLATED))
    check_usual(scanned(data, DEFLATED, complete=False))


# --- elements of all kinds on the way ---------------------------------------------------------------------------------


def inner(syntax: str) -> bytes:
    return element(PATIENT_ID, "LO", b"WRONG ", syntax) + element(STUDY, "UI", b"9.9.9\0", syntax)


def deep(syntax: str, levels: int) -> bytes:
    content = inner(syntax)
    for _ in range(levels):
        content = sequence(0x00081140, content, syntax=syntax)
    return content


def un_sequence(syntax: str) -> bytes:
    """PS3.5 6.2.2: its content, delimiters too, is implicit VR little endian in any transfer syntax."""
    content = sequence(0x00091002, inner(IMPLICIT), syntax=IMPLICIT)[8:]
    return head(0x00091002, "UN", UNDEFINED, syntax) + content


def on_the_way(syntax: str) -> dict[str, bytes]:
    """Elements between (0008,0060) and (0010,0020) that have to be passed."""
    icon = head(PIXELS, "OB", UNDEFINED, syntax) + delimiter(0xFFFEE000, syntax, 4) + b"\xfe\xff\xdd\xe0"
    icon += delimiter(0xFFFEE0DD, syntax)
    return {
        "group length": element(0x00090000, "UL", bytes(4), syntax),
        "private": element(0x00090010, "LO", b"ACME", syntax) + element(0x00091001, "LO", b"v", syntax),
        "odd length": element(0x00081030, "LO", b"odd", syntax),
        "long": element(0x00091001, "OB", bytes(100_000), syntax),
        "empty sequence": element(0x00081140, "SQ", b"", syntax),
        "empty sequence of undefined length": sequence(0x00081140, syntax=syntax),
        "sequence": sequence(0x00081140, inner(syntax), inner(syntax), syntax=syntax, undefined=False),
        "sequence of undefined length": sequence(0x00081140, inner(syntax), b"", inner(syntax), syntax=syntax),
        "nested": deep(syntax, 40),
        "encapsulated icon": sequence(0x00081140, icon + inner(syntax), syntax=syntax),
        "items of fragments": head(0x00091001, "OB", UNDEFINED, syntax) + icon[12 if syntax != IMPLICIT else 8 :],
        "UN sequence": un_sequence(syntax),
    }


@pytest.mark.parametrize("name", on_the_way(EXPLICIT))
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_passes(syntax: str, name: str) -> None:
    plain = EXPLICIT if syntax == DEFLATED else syntax
    scan = scanned(encoded(syntax, on_the_way(plain)[name]), syntax)
    check_usual(scan)
    assert scan.fallback is None


@pytest.mark.parametrize("vr", ["OV", "SV", "UV", "UC", "UR", "UT", "OD", "OL", "ZZ", "QX"])
def test_passes_vrs_with_a_32_bit_length_known_or_not(vr: str) -> None:
    """PS3.5 7.1.2: every VR but those of table 7.1-2."""
    scan = scanned(data_set(EXPLICIT, element(0x00091001, vr, b"12345678")), wanted=(*WANTED, 0x00091001))
    check_usual(scan)
    assert scan.fallback is None
    assert scan.values[0x00091001] == b"12345678"
    assert scan.vr(0x00091001) == vr


def test_passes_an_implicit_item_inside_of_explicit_data() -> None:
    content = sequence(0x00081140, inner(IMPLICIT), inner(EXPLICIT))
    scan = scanned(data_set(EXPLICIT, content))
    check_usual(scan)
    assert scan.fallback is None


def test_passes_an_explicit_item_inside_of_un() -> None:
    scan = scanned(data_set(EXPLICIT, sequence(0x00091002, inner(EXPLICIT), inner(IMPLICIT), vr="UN")))
    check_usual(scan)
    assert scan.fallback is None


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_nesting_of_a_thousand_levels_is_passed(syntax: str) -> None:
    check_usual(scanned(data_set(syntax, deep(syntax, 1000)), syntax))


def test_a_wanted_sequence_is_raw() -> None:
    plain = sequence(0x00081140, inner(EXPLICIT), undefined=False)
    scan = scanned(data_set(EXPLICIT, plain), wanted=(*WANTED, 0x00081140))
    assert scan.values[0x00081140] == plain[12:]
    assert scan.texts(0x00081140) == ()
    assert scan.vr(0x00081140) == "SQ"
    undefined = sequence(0x00081140, inner(EXPLICIT))
    scan = scanned(data_set(EXPLICIT, undefined), wanted=(*WANTED, 0x00081140))
    assert scan.values[0x00081140] == undefined[12:]


# --- what is odd, but can be read -------------------------------------------------------------------------------------


def swapped_order() -> bytes:
    modality = element(MODALITY, "CS", b"CT")
    rest = data_set(EXPLICIT).replace(modality, b"")
    place = rest.index(element(STUDY, "UI", b"1.2.3\0"))
    return rest[:place] + modality + rest[place:]


def nonzero_reserved() -> bytes:
    return data_set(EXPLICIT, struct.pack("<HH2sHI", 9, 0x1001, b"OB", 7, 4) + b"abcd")


READABLE = {
    "implicit data in an explicit context": (data_set(IMPLICIT), EXPLICIT, "no VR at offset 4"),
    "implicit data in an encapsulated context": (data_set(IMPLICIT), JPEG, "no VR at offset 4"),
    "explicit data in an implicit context": (data_set(EXPLICIT), IMPLICIT, "explicit VR where implicit VR"),
    "implicit data, deflated": (deflate(data_set(IMPLICIT)), DEFLATED, "no VR at offset 4"),
    "out of order": (swapped_order(), EXPLICIT, "(0008,0060) follows (0010,0020)"),
    "an element twice, the same": (
        data_set(EXPLICIT, element(MODALITY, "CS", b"CT")),
        EXPLICIT,
        "(0008,0060) follows (0008,0060)",
    ),
    "reserved bytes": (nonzero_reserved(), EXPLICIT, "reserved bytes are not zero"),
    "unknown VR with 16-bit length": (
        data_set(EXPLICIT, struct.pack("<HH2sH", 9, 0x1001, b"ZZ", 4) + b"abcd"),
        EXPLICIT,
        "reserved bytes are not zero",
    ),
    "one implicit element": (
        data_set(EXPLICIT, element(0x00091001, "LO", b"ab", IMPLICIT)),
        EXPLICIT,
        "no VR at offset",
    ),
}


@pytest.mark.parametrize("name", READABLE)
def test_pydicom_reads_what_is_odd(name: str) -> None:
    data, syntax, why = READABLE[name]
    scan = scanned(data, syntax)
    check_usual(scan)
    assert why in str(scan.fallback)


@pytest.mark.parametrize("name", READABLE)
def test_what_is_odd_waits_for_all_of_the_data(name: str) -> None:
    data, syntax, why = READABLE[name]
    scan = HeaderScanner(WANTED).scan(data, syntax, complete=False)
    if syntax == DEFLATED:  # its own end is known
        assert scan is not None
        assert why in str(scan.fallback)
    else:
        assert scan is None


@pytest.mark.parametrize("name", READABLE)
def test_what_is_odd_waits_for_no_more_than_the_window(name: str) -> None:
    data, syntax, why = READABLE[name]
    if syntax == DEFLATED:
        return
    scan = scanned(data + bytes(WINDOW), syntax, complete=False)
    check_usual(scan)
    assert why in str(scan.fallback)


# --- what is odd, and stays so ----------------------------------------------------------------------------------------


def mutated(old: bytes, new: bytes) -> bytes:
    data = data_set(EXPLICIT)
    assert data.count(old) == 1
    return data.replace(old, new)


ODD = {
    "other byte order": (data_set(BIG), EXPLICIT, "the other byte order", ()),
    "other byte order, reversed": (data_set(EXPLICIT), BIG, "the other byte order", ()),
    "implicit little endian as big endian": (data_set(IMPLICIT), BIG, "no VR at offset 4", ()),
    "big endian as implicit": (data_set(BIG), IMPLICIT, "the other byte order", ()),
    "length beyond the data": (
        data_set(EXPLICIT)[:-1012].replace(b"LO\6\0", b"LO\6\6"),
        EXPLICIT,
        "the data ends inside the element after (0008,0060)",
        (SOP_CLASS, MODALITY),
    ),
    "length beyond the data, not wanted": (
        data_set(EXPLICIT, element(0x00091001, "OB", b"", length=1 << 20)),
        EXPLICIT,
        "the data ends inside (0009,1001)",
        (SOP_CLASS, MODALITY),
    ),
    "a wrong length": (
        mutated(b"LO\6\0PAT-1 ", b"LO\5\0PAT-1 "),
        EXPLICIT,
        "no VR at offset",
        (SOP_CLASS, PATIENT_ID),
    ),
    "twice, and different": (
        data_set(EXPLICIT, element(MODALITY, "CS", b"MR")),
        EXPLICIT,
        "(0008,0060) follows (0008,0060); (0008,0060) occurs twice",
        (SOP_CLASS, MODALITY),
    ),
    "cut in a header": (data_set(EXPLICIT)[:-1030], EXPLICIT, "the data ends inside", (SOP_CLASS, PATIENT_ID)),
    "cut in the first header": (data_set(EXPLICIT)[:5], EXPLICIT, "the data ends inside the first element", ()),
    "delimiter": (data_set(EXPLICIT, delimiter(0xFFFEE0DD)), EXPLICIT, "outside of a sequence", (MODALITY,)),
    "no sequence delimiter": (
        data_set(EXPLICIT, sequence(0x00081140, inner(EXPLICIT))[:-8]),
        EXPLICIT,
        "instead of an item",
        (MODALITY,),
    ),
    "no item delimiter": (
        data_set(EXPLICIT, sequence(0x00081140, inner(EXPLICIT))[:-16] + delimiter(0xFFFEE0DD)),
        EXPLICIT,
        "inside of an item",
        (MODALITY,),
    ),
    "not deflated": (data_set(EXPLICIT), DEFLATED, "not deflated data", ()),
    "zlib header": (zlib.compress(data_set(EXPLICIT)), DEFLATED, "not deflated data", ()),
    "deflated, cut": (encoded(DEFLATED)[:60], DEFLATED, "the data ends inside", (SOP_CLASS,)),
    "no end of nesting": (head(0x00081140, "SQ", UNDEFINED) * 5000, EXPLICIT, "instead of an item", ()),
    "nested too deep": (
        data_set(EXPLICIT, deep(EXPLICIT, elements.MAX_DEPTH + 1)),
        EXPLICIT,
        "nested more than 4096 deep",
        (MODALITY,),
    ),
    "too many items": (
        data_set(EXPLICIT, sequence(0x00081140, *[b""] * elements.MAX_NESTED)),
        EXPLICIT,
        "headers inside of sequences",
        (MODALITY,),
    ),
    "too many elements": (
        b"".join(element(0x00090000 + n, "LO") for n in range(elements.MAX_TOP + 1)),
        EXPLICIT,
        "more than 20000 elements",
        (),
    ),
    "noise": (b"\x93\x1f\x8b" * 1000, EXPLICIT, "no VR at offset 4", ()),
    "text": (b"<html><body>Not Found</body></html>" * 10, EXPLICIT, "no VR at offset 4", ()),
    "zeros": (bytes(1003), EXPLICIT, "no VR at offset 4", ()),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_data_is_not_guessed(name: str) -> None:
    data, syntax, why, safe = ODD[name]
    scan = scanned(data, syntax)
    assert why in str(scan.odd)
    assert scan.fallback is None
    assert STUDY not in scan.values
    assert set(safe) <= set(scan.values)
    for tag in WANTED:
        assert isinstance(scan.texts(tag), tuple)


@pytest.mark.parametrize("name", ODD)
def test_odd_data_has_no_header_end_before_the_odd_place(name: str) -> None:
    data, syntax, _, _ = ODD[name]
    if name != "twice, and different":
        assert header_end(data, syntax, complete=True) is None


def test_a_wanted_value_that_is_too_long_is_left_out_and_the_rest_is_found() -> None:
    big = elements.MAX_VALUE + 1
    scan = scanned(data_set(EXPLICIT, element(0x00091001, "UT", bytes(big))), wanted=(*WANTED, 0x00091001))
    assert scan.odd == "the value of (0009,1001) is longer than 65536 bytes"
    assert 0x00091001 not in scan.values
    assert scan.texts(STUDY) == ("1.2.3",)
    scan = scanned(data_set(EXPLICIT, element(0x00091001, "UT", bytes(big - 1))), wanted=(*WANTED, 0x00091001))
    assert scan.odd is None
    assert len(scan.values[0x00091001]) == elements.MAX_VALUE


# --- the end of the header --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", [0x7FE00001, 0x7FE00008, 0x7FE00009, PIXELS, 0x7FE10010, 0xFFFAFFFA, 0xFFFCFFFC])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_header_end_is_where_the_pixels_begin(syntax: str, tag: int) -> None:
    start = b"".join([element(PATIENT_ID, "LO", b"P1", syntax), sequence(0x00400275, inner(syntax), syntax=syntax)])
    data = start + element(tag, "OB", bytes(50), syntax)
    assert header_end(data, syntax) == len(start)
    assert header_end(data[: len(start) + 8], syntax) == len(start)
    assert header_end(data[: len(start) + 7], syntax) is None
    assert header_end(start, syntax) is None
    assert header_end(start, syntax, complete=True) == len(start)
    assert header_end(start[:-1], syntax, complete=True) is None
    offset = scanned(data, syntax, (PATIENT_ID,)).offset
    assert 0 < offset < len(start)
    assert header_end(data, syntax, start=offset) == len(start)


def test_header_end_of_deflated_data_cannot_be_told() -> None:
    assert header_end(encoded(DEFLATED), DEFLATED, complete=True) is None


def test_header_end_follows_the_encoding_that_is_there() -> None:
    assert header_end(data_set(IMPLICIT), JPEG) == len(data_set(IMPLICIT)) - 1008
    assert header_end(data_set(EXPLICIT), IMPLICIT) == len(data_set(EXPLICIT)) - 1012
    # A length that is a VR in truth leads far into the pixels: they must not be read as elements.
    long = data_set(EXPLICIT) + b"\xe0\x7f\x10\x00" * 1_000_000
    offset = scanned(long[: 1 << 18], IMPLICIT, complete=False).offset
    assert header_end(long, IMPLICIT, start=offset) == len(data_set(EXPLICIT)) - 1012


def test_syntax_of_is_bounded_in_memory() -> None:
    for n in range(2000):
        syntax_of(f"1.2.3.{n}")
    assert syntax_of.cache_info().currsize <= 256
