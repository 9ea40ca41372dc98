"""Layouts of headers: what is recognized, that nothing else is, and that the memory of them is bounded."""

from __future__ import annotations

import random
import re
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from asyncroute.wire import layout, layouts
from asyncroute.wire.header import HeaderScanner
from asyncroute.wire.layouts import MAX_ALL_HEADERS, MAX_HEADERS, MAX_KEYS, MAX_SHARED
from tests.support.alike import KEY, recognized, scan_both
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

SOON, NEVER = 1, 1 << 30  # fits before an expression is compiled
JPEG = "1.2.840.10008.1.2.4.50"
SYNTAXES = [IMPLICIT, EXPLICIT, BIG, JPEG]
PLAIN = [IMPLICIT, EXPLICIT, BIG]
SOP_INSTANCE, MODALITY, PATIENT_ID, STUDY, ROWS = 0x00080018, 0x00080060, 0x00100020, 0x0020000D, 0x00280010
WANTED = (0x00080050, MODALITY, PATIENT_ID, STUDY)
PIXELS = 0x7FE00010


def image(
    syntax: str,
    *,
    uid: bytes = b"1.2.3.4\0",
    patient: bytes = b"PAT-1 ",
    study: bytes = b"1.2.3\0",
    rows: int = 512,
    middle: bytes = b"",
    behind: bytes = b"",
    pixels: int = 40,
) -> bytes:
    """An image with a sequence before and one behind the last wanted attribute; `middle` and `behind` are encoded."""
    code = element(0x00080100, "SH", b"T-1 ", syntax) + element(STUDY, "UI", b"9.9\0", syntax)
    referenced = element(0x00081155, "UI", uid, syntax)
    last = head(PIXELS, "OW", UNDEFINED) + delimiter(0xFFFEE000) if syntax == JPEG else b""
    body = [
        element(0x00080005, "CS", b"ISO_IR 192", syntax),
        element(SOP_INSTANCE, "UI", uid, syntax),
        element(MODALITY, "CS", b"CT", syntax),
        sequence(0x00081032, code, code, syntax=syntax),
        sequence(0x00081140, referenced, syntax=syntax, undefined=False),
        element(0x00091001, "OB", bytes(6), syntax),
        middle,
        element(PATIENT_ID, "LO", patient, syntax),
        element(STUDY, "UI", study, syntax),
        element(ROWS, "US", struct.pack(">H" if syntax == BIG else "<H", rows), syntax),
        sequence(0x00400275, referenced + element(0x00400009, "SH", patient, syntax), syntax=syntax),
        behind,
        last or element(PIXELS, "OW", bytes(pixels), syntax),
    ]
    return b"".join(body)


def taught(*data: bytes, syntax: str) -> HeaderScanner:
    scanner = HeaderScanner(WANTED)
    for each in data:
        scan_both(scanner, each, syntax)
    return scanner


@pytest.fixture(params=[SOON, NEVER], ids=["expression", "structs"], autouse=True)
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything holds for both ways of matching."""
    monkeypatch.setattr(layout, "PROVED", request.param)


# --- what is recognized -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_an_image_like_the_last_is_recognized(syntax: str, complete: bool) -> None:
    scanner = HeaderScanner(WANTED)
    assert not recognized(scanner, image(syntax), syntax, complete)
    assert recognized(scanner, image(syntax), syntax, complete)
    other = image(syntax, uid=b"1.2.3.5\0", patient=b"PAT-2 ", study=b"1.2.4\0", rows=256)
    assert recognized(scanner, other, syntax, complete)
    assert recognized(scanner, image(syntax, pixels=80), syntax, complete)
    scan = scan_both(scanner, other, syntax, complete)
    assert scan is not None
    assert scan.texts(PATIENT_ID) == ("PAT-2",)
    assert scan.texts(STUDY) == ("1.2.4",)
    assert scan.end == other.rindex(b"\xe0\x7f\x10\0" if syntax != BIG else b"\x7f\xe0\0\x10")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_it_may_lie_in_any_memory_and_that_is_free_again(kind: type) -> None:
    scanner = taught(image(EXPLICIT), syntax=EXPLICIT)
    data = bytearray(image(EXPLICIT))
    scan = scanner.scan(kind(data), EXPLICIT, True, KEY)
    assert scanner.layouts.fits == 1
    assert scan is not None
    assert all(type(value) is bytes for value in scan.values.values())
    data.extend(b"more")  # would raise BufferError


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_lengths_that_vary_are_learned(syntax: str) -> None:
    """At the top level and in sequences of undefined length; from then on any length is recognized."""
    first = image(syntax, middle=element(0x00100010, "UT", b"", syntax))
    second = image(syntax, uid=b"1.2.3.45", patient=b"PAT-10", middle=element(0x00100010, "UT", b"x" * 70, syntax))
    third = image(syntax, uid=b"1.2.3.4.56\0\0", patient=b"P-2 ", study=b"1.2\0", middle=second[:0])
    scanner = taught(first, second, syntax=syntax)
    assert scanner.layouts.learned == 2
    for size in (0, 2, 4, 60, 64, 2000):
        again = image(
            syntax, uid=b"1" * size, patient=b"P" * 6, middle=element(0x00100010, "UT", b"y" * (size + 2), syntax)
        )
        if not recognized(scanner, again, syntax):
            assert size == 0  # the first with a UID of another length
            continue
    assert recognized(scanner, image(syntax, uid=b"2" * 10, middle=element(0x00100010, "UT", b"z", syntax)), syntax)
    assert not recognized(scanner, third, syntax)  # an element less


@pytest.mark.parametrize("syntax", PLAIN)
def test_a_data_set_without_pixels_is_recognized_when_it_is_whole(syntax: str) -> None:
    report = image(syntax)[: -(48 if syntax == IMPLICIT else 52)]
    scanner = taught(report, syntax=syntax)
    assert recognized(scanner, report, syntax)
    assert not recognized(scanner, report, syntax, complete=False)
    assert not recognized(scanner, report + element(0x00400280, "ST", b"", syntax), syntax)
    scan = scan_both(scanner, report, syntax)
    assert scan is not None
    assert scan.end == len(report)


def test_several_kinds_of_images_under_one_key() -> None:
    kinds = [image(EXPLICIT, behind=b"".join(element(0x00410000 + n, "LO") for n in range(many))) for many in range(4)]
    scanner = taught(*kinds, syntax=EXPLICIT)
    assert [recognized(scanner, kind, EXPLICIT) for kind in kinds * 3] == [True] * 12


def test_only_in_its_own_transfer_syntax() -> None:
    scanner = taught(image(EXPLICIT), syntax=EXPLICIT)
    for syntax, key in (("1.2.840.10008.1.2.4.70", KEY), (EXPLICIT, None)):
        scanner.scan(image(EXPLICIT), syntax, True, key)
    assert scanner.layouts.fits == 0


def test_what_one_sender_taught_serves_others_with_the_same_device() -> None:
    scanner = taught(image(EXPLICIT), syntax=EXPLICIT)
    learned = scanner.layouts.learned
    for other in ("B", "C", "B"):
        scan_both(scanner, image(EXPLICIT), EXPLICIT, key=other)
    assert (scanner.layouts.fits, scanner.layouts.learned) == (3, learned)


def test_few_layouts_are_shared() -> None:
    """Each sender's own stay under its own key, however many there are."""
    scanner = HeaderScanner({0x00100020})
    kinds = [image(EXPLICIT, behind=element(0x00400300 + n, "LO", b"x ")) for n in range(3 * MAX_SHARED)]
    for n, data in enumerate(kinds):
        scanner.scan(data, EXPLICIT, True, n)
    assert len(scanner.layouts._shared) == MAX_SHARED
    assert scanner.layouts.size[0] <= MAX_KEYS


def test_scans_of_the_same_values_have_the_same_token() -> None:
    scanner = taught(image(EXPLICIT), syntax=EXPLICIT)
    same = [scan_both(scanner, image(EXPLICIT, uid=uid), EXPLICIT) for uid in (b"1.2.3.5\0", b"1.2.3.6\0")]
    other = scan_both(scanner, image(EXPLICIT, patient=b"PAT-2 "), EXPLICIT)
    walked = scan_both(scanner, image(EXPLICIT, patient=b"P2"), EXPLICIT)
    tokens = [scan.token for scan in (*same, other, walked) if scan is not None]
    assert tokens[0] == tokens[1] != tokens[2]
    assert tokens[0]
    assert tokens[2]
    assert tokens[3] == 0


def test_equal_values_of_other_attributes_are_not_mixed_up() -> None:
    """Two kinds of images under one key, with the same values in other attributes or with other VRs."""
    start = element(0x00080005, "CS", b"ISO_IR 192")
    kinds = [
        start + element(tag, vr, b"12") + element(PIXELS, "OW", bytes(8))
        for tag, vr in ((0x00080050, "SH"), (PATIENT_ID, "LO"), (PATIENT_ID, "US"))
    ]
    scanner = taught(*kinds, syntax=EXPLICIT)
    assert [recognized(scanner, kind, EXPLICIT) for kind in kinds * 2] == [True] * 6


# --- what is not ------------------------------------------------------------------------------------------------------


def un_sequence(syntax: str) -> bytes:
    """PS3.5 6.2.2: implicit VR little endian inside."""
    content = sequence(0x00091002, element(0x00091003, "LO", b"ab", IMPLICIT), syntax=IMPLICIT)[8:]
    return head(0x00091002, "UN", UNDEFINED, syntax) + content


LEFT_TO_THE_WALK: dict[str, Callable[[], tuple[bytes, str]]] = {
    "deflated": lambda: (deflate(image(EXPLICIT)), DEFLATED),
    "out of order": lambda: (image(EXPLICIT, middle=element(SOP_INSTANCE, "UI", b"1.2.3.4\0")), EXPLICIT),
    "implicit data in an explicit context": lambda: (image(IMPLICIT), EXPLICIT),
    "explicit data in an implicit context": lambda: (image(EXPLICIT), IMPLICIT),
    "a sequence in another encoding": lambda: (image(EXPLICIT, middle=un_sequence(EXPLICIT)), EXPLICIT),
    "an implicit item": lambda: (
        image(EXPLICIT, middle=sequence(0x00091002, element(0x00091003, "LO", b"ab", IMPLICIT))),
        EXPLICIT,
    ),
    "a wanted value that is too long": lambda: (
        image(EXPLICIT, middle=element(0x00100010, "UT", bytes(70_000))),
        EXPLICIT,
    ),
    "a wanted sequence of undefined length": lambda: (
        image(EXPLICIT, middle=sequence(0x00100010, element(0x00080100, "SH", b"T"))),
        EXPLICIT,
    ),
    "too many elements": lambda: (
        image(EXPLICIT, middle=b"".join(element(0x00091100 + n, "LO") for n in range(MAX_HEADERS))),
        EXPLICIT,
    ),
    "cut": lambda: (image(EXPLICIT)[:-60], EXPLICIT),
    "the other byte order": lambda: (image(BIG), EXPLICIT),
}


@pytest.mark.parametrize("name", LEFT_TO_THE_WALK)
def test_what_is_not_plain_is_left_to_the_walk(name: str) -> None:
    data, syntax = LEFT_TO_THE_WALK[name]()
    scanner = HeaderScanner((*WANTED, 0x00100010))
    for _ in range(3):
        assert not recognized(scanner, data, syntax)
    assert scanner.layouts.learned == 0


def variants(syntax: str) -> Iterator[bytes]:
    """One image cut at every byte, and with every byte changed in several ways; lengths vary in what was learned."""
    base = image(syntax, middle=element(0x00100010, "UT", b"Doe^J ", syntax))
    for at in range(len(base)):
        yield base[:at]
        for flip in (0x01, 0x20, 0xFF):
            yield base[:at] + bytes((base[at] ^ flip,)) + base[at + 1 :]
    for at in range(0, len(base), 2):
        yield base[:at] + b"\xff\xff\xff\xff" + base[at + 4 :]
        yield base[:at] + b"\0\0" + base[at:]
        yield base[:at] + base[at + 2 :]


def check_variants(syntax: str, every: int = 1, first: int = 0) -> int:
    """How many were recognized; asserts that each is read as if nothing had been learned."""
    base = image(syntax, middle=element(0x00100010, "UT", b"Doe^J ", syntax))
    longer = image(syntax, uid=b"1.2.3.45.6\0\0", patient=b"PAT-10", middle=element(0x00100010, "UT", b"R^X ", syntax))
    scanner = HeaderScanner((*WANTED, 0x00100010))
    count = 0
    for number, data in enumerate(variants(syntax)):
        if number % every == first:
            scan_both(scanner, base, syntax)
            scan_both(scanner, longer, syntax)
            count += recognized(scanner, data, syntax, complete=bool(number & 1))
    return count


@pytest.mark.no_cover
@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("syntax", PLAIN)
def test_every_cut_and_every_changed_byte_is_read_as_by_a_walk(syntax: str, every: int) -> None:
    """In the short form a fifth of them, another fifth each time."""
    first = random.SystemRandom().randrange(every)
    print(f"from {first} on")
    assert check_variants(syntax, every, first) > 300 // every  # changed values are no other layout


FORMATS: dict[str, tuple[Any, object, str]] = {
    "fixed, no VR": (layout.FIXED, 8, "I2xH"),
    "fixed, no length": (layout.FIXED, 8, "IH2x"),
    "fixed, no group": (layout.FIXED, 8, "2xHI"),
    "fixed, no element": (layout.FIXED, 8, "H2xI"),
    "fixed, no reserved bytes": (layout.FIXED, 12, "IH2xI"),
    "fixed, no long length": (layout.FIXED, 12, "Q4x"),
    "varying, no VR": (layout.VARYING, 8, "I2xH"),
    "varying, no tag": (layout.VARYING, 8, "4xHH"),
    "varying, long, no reserved bytes": (layout.VARYING, 12, "IH2xI"),
    "the last, no VR": (layout.LAST, False, "I4x"),
    "the last, no tag": (layout.LAST, False, "4xH2x"),
}


@pytest.mark.no_cover
@pytest.mark.parametrize("how", [NEVER], indirect=True)
@pytest.mark.parametrize("name", FORMATS)
def test_a_comparison_with_a_hole_would_be_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above is able to fail: it does for layouts that do not compare some bytes."""
    formats, form, leaky = FORMATS[name]
    monkeypatch.setitem(formats, form, leaky)
    with pytest.raises(AssertionError):
        check_variants(EXPLICIT)


LEAKS: dict[str, Callable[[bytes], bytes]] = {
    "no VR": lambda part: re.escape(part[:4]) + b"." * len(part[4:6]) + re.escape(part[6:]),
    "no group": lambda part: b".." + re.escape(part[2:]) if len(part) > 4 else re.escape(part),
    "no element": lambda part: re.escape(part[:2]) + b"." * len(part[2:4]) + re.escape(part[4:]),
    "no length": lambda part: re.escape(part) if len(part) > 4 else b"." * len(part),
    "no reserved bytes": lambda part: re.escape(part[:6]) + b"." * len(part[6:]),
}


@pytest.mark.no_cover
@pytest.mark.parametrize("how", [SOON], indirect=True)
@pytest.mark.parametrize("name", LEAKS)
def test_an_expression_with_a_hole_would_be_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "literal", LEAKS[name])
    with pytest.raises(AssertionError):
        check_variants(EXPLICIT)


@pytest.mark.parametrize("how", [NEVER], indirect=True)
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_a_length_without_bound_would_be_found(syntax: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "most_varying", lambda encoding: UNDEFINED)
    with pytest.raises(AssertionError):
        check_long_lengths(syntax)


def check_long_lengths(syntax: str) -> None:
    """Lengths that a walk treats in another way: VRs in implicit data, undefined ones, values that are not kept."""
    first = head(0x00080005, "CS", 0, syntax)
    scanner = HeaderScanner((*WANTED, 0x00100010))
    for size in (2, 4, 6):
        text = element(0x00100010, "UT", b"x" * size, syntax)
        start = element(0x00080005, "CS", b"x" * size, syntax)
        scan_both(scanner, start + image(syntax, middle=text)[len(first) + 10 :], syntax)
    for size in (0x4140, 0x4141, 0x5343, 0x10000, 0x10001, 0x20000):
        text = element(0x00100010, "UT", b"x" * size, syntax)
        start = element(0x00080005, "CS", b"x" * min(size, 0xFFFF), syntax)
        for data in (start + image(syntax)[len(first) + 10 :], image(syntax, middle=text)):
            scan_both(scanner, data, syntax)
            scan_both(scanner, data, syntax)
    items = sequence(0x00100010, element(0x00080100, "SH", b"", syntax), syntax=syntax, vr="UT")
    start = element(0x00080005, "CS", b"xx", syntax)
    scan_both(scanner, start + image(syntax, middle=items)[len(first) + 10 :], syntax)


@pytest.mark.parametrize("syntax", PLAIN)
def test_lengths_that_mean_something_else_are_left_to_the_walk(syntax: str) -> None:
    check_long_lengths(syntax)


# --- expressions ------------------------------------------------------------------------------------------------------


def compiled(scanner: HeaderScanner) -> int:
    places = scanner.layouts._places.values()
    return sum(each.expression is not None for place in places for each in place.layouts)


@pytest.mark.parametrize("how", [20], indirect=True)
def test_an_expression_is_compiled_when_it_is_worth_it(how: None) -> None:
    """After as many fits; then only lengths that it does not know lead to another one, after twice as many."""
    scanner = taught(image(EXPLICIT, patient=b"P"), image(EXPLICIT, patient=b"PA"), syntax=EXPLICIT)
    for number in range(19):  # the image that it was learned from counts
        assert compiled(scanner) == 0
        assert recognized(scanner, image(EXPLICIT, patient=b"P" * number), EXPLICIT)
    assert compiled(scanner) == 1
    (found,) = next(iter(scanner.layouts._places.values())).layouts
    first = found.expression
    for _ in range(39):
        assert recognized(scanner, image(EXPLICIT, patient=b"x" * 30), EXPLICIT)
        assert recognized(scanner, image(EXPLICIT, patient=b"x" * 10), EXPLICIT)
        assert found.expression is first
    assert recognized(scanner, image(EXPLICIT, patient=b"x" * 30), EXPLICIT)
    assert found.expression is not first


# --- bounds -----------------------------------------------------------------------------------------------------------


def shapes(seed: int, count: int, most: int) -> Iterator[bytes]:
    """Images that are never alike."""
    rng = random.Random(seed)
    for _ in range(count):
        tags = sorted(rng.sample(range(0x00091000, 0x0009FFFF), rng.randint(1, most)))
        middle = b"".join(element(tag, "LO", bytes(rng.randrange(9))) for tag in tags)
        yield image(EXPLICIT, middle=middle, patient=rng.randbytes(6))


def test_images_that_are_never_alike_are_seldom_learned_from() -> None:
    scanner = HeaderScanner(WANTED)
    for data in shapes(1, 1000, 5):
        scanner.scan(data, EXPLICIT, True, KEY)
    assert scanner.layouts.fits == 0
    assert scanner.layouts.learned < 1000 / 16 + 20


@pytest.mark.no_cover
@pytest.mark.parametrize("most", [5, 60])
def test_made_up_keys_do_not_help(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Neither where there are too many keys, nor where those that there are have too many headers."""
    monkeypatch.setattr(layouts, "MAX_KEYS", 64)
    monkeypatch.setattr(layouts, "MAX_ALL_HEADERS", 2048)
    scanner = HeaderScanner(WANTED)
    for number, data in enumerate(shapes(2, 2000, most)):
        scanner.scan(data, EXPLICIT, True, number)
    assert scanner.layouts.size[0] <= 64
    assert scanner.layouts.size[1] <= 2048
    assert scanner.layouts.learned < 2000 / 16 + 10 * 64


@pytest.mark.no_cover
def test_what_many_senders_share_is_there_once() -> None:
    scanner = HeaderScanner(WANTED)
    for number in range(200):
        scanner.scan(image(EXPLICIT), EXPLICIT, True, number)
    keys, headers = scanner.layouts.size
    one = HeaderScanner(WANTED)
    one.scan(image(EXPLICIT), EXPLICIT, True, KEY)
    assert (keys, headers) == (200, one.layouts.size[1])
    assert scanner.layouts.learned == 1
    for number in range(5000):  # until all of them are forgotten
        scanner.scan(b"", EXPLICIT, True, number + 1000)
    assert scanner.layouts.size[1] == 0


@pytest.mark.no_cover
def test_who_is_alike_is_learned_beside_who_is_not() -> None:
    """Whoever fits stays known."""
    scanner = HeaderScanner(WANTED)
    for number, data in enumerate(shapes(3, 500, 5)):
        scanner.scan(data, EXPLICIT, True, number)
        scanner.scan(image(EXPLICIT), EXPLICIT, True, KEY)
    assert scanner.layouts.fits > 450


@pytest.mark.no_cover
def test_memory_is_bounded() -> None:
    scanner = HeaderScanner((*WANTED, 0x00091000, 0x00100010))
    tracemalloc.start()
    try:
        for number, data in enumerate(shapes(4, 50, 900)):
            scanner.scan(data, EXPLICIT, True, number)
            assert scanner.layouts.size[1] <= MAX_ALL_HEADERS
        for number in range(600):
            middle = element(0x00100010, "UT", struct.pack("<I", number) * (1 << (number & 13)))
            for _ in range(2):
                scanner.scan(image(EXPLICIT, middle=middle), EXPLICIT, True, KEY)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert scanner.layouts.fits > 500
    assert kept < 12 << 20
