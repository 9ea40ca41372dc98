"""Texts of a header scan: what else of the data set decides how a wanted value reads."""

from __future__ import annotations

import pytest

from asyncroute.wire.header import HeaderScanner
from asyncroute.wire.scan import Scan
from tests.support.encoding import BIG, EXPLICIT, IMPLICIT, element

CHARSET = 0x00080005
NAME = 0x00100010
PATIENT_ID = 0x00100020
ROWS = 0x00280010


def scanned(data: bytes, syntax: str = EXPLICIT, wanted: tuple[int, ...] = ()) -> Scan:
    """Data sets here lack group 0008 at times: what is passed first has to be wanted."""
    scan = HeaderScanner(wanted).scan(data, syntax, complete=True)
    assert scan is not None
    assert scan.odd is None
    return scan


def test_text_is_decoded_by_the_data_sets_own_character_set() -> None:
    data = element(CHARSET, "CS", b"ISO_IR 192") + element(NAME, "PN", "Grün^Änne".encode())
    assert scanned(data, wanted=(NAME,)).texts(NAME) == ("Grün^Änne",)
    data = element(CHARSET, "CS", b"ISO_IR 144", IMPLICIT) + element(
        NAME, "PN", "Дмитрий".encode("iso8859_5"), IMPLICIT
    )
    assert scanned(data, IMPLICIT, wanted=(NAME,)).texts(NAME) == ("Дмитрий",)


def test_implicit_private_elements_go_by_their_creator() -> None:
    creator = element(0x00290010, "LO", b"SIEMENS CSA HEADER", IMPLICIT)
    data = creator + element(0x00291008, "CS", b" IMAGE NUM 4", IMPLICIT) + element(0x00291099, "UN", b"\1\2", IMPLICIT)
    scan = scanned(data, IMPLICIT, wanted=(0x00291008, 0x00291099))
    assert scan.vr(0x00291008) == "CS"
    assert scan.texts(0x00291008) == ("IMAGE NUM 4",)
    assert scan.vr(0x00291099) == "UN"
    assert scan.texts(0x00291099) == ()


def test_private_text_of_unknown_vr_is_text_if_it_is_plain() -> None:
    data = element(0x00091001, "UN", b"SITE-A\\B ") + element(0x00091002, "UN", b"\xc4b")
    scan = scanned(data, wanted=(0x00091001, 0x00091002))
    assert scan.texts(0x00091001) == ("SITE-A", "B")
    assert scan.texts(0x00091002) == ()


@pytest.mark.parametrize(("representation", "expected"), [(b"\1\0", "-2"), (b"\0\0", "65534"), (None, "65534")])
def test_signed_or_not_goes_by_the_pixel_representation(representation: bytes | None, expected: str) -> None:
    data = element(0x00280103, "US", representation, IMPLICIT) if representation else b""
    data += element(0x00280106, "US", b"\xfe\xff", IMPLICIT)
    scan = scanned(data, IMPLICIT, wanted=(0x00280106,))
    assert scan.texts(0x00280106) == (expected,)


def test_known_elements_sent_as_un_have_their_own_vr_in_little_endian() -> None:
    data = element(PATIENT_ID, "UN", b" P1 ", BIG) + element(ROWS, "UN", b"\0\2", BIG)
    scan = scanned(data, BIG, wanted=(PATIENT_ID, ROWS))
    assert scan.texts(PATIENT_ID) == ("P1",)
    assert scan.texts(ROWS) == ("512",)
