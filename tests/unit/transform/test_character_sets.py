"""Text in every character set that pydicom knows: written so that it reads back, or held; and what does not fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.charset import convert_encodings, decode_bytes, python_encoding

from asyncroute.transform.base import Refused
from asyncroute.transform.text import Unrepresentable, encoded
from asyncroute.wire import charset
from tests.support.coercing import ENCODINGS, edited, read
from tests.support.encoding import EXPLICIT, element, sequence

SETS = sorted(term for term in python_encoding if term and term != "ISO 2022 58")
SAMPLES = {
    "ISO_IR 100": "Müller", "ISO_IR 101": "Łódź", "ISO_IR 109": "Ĉapelo", "ISO_IR 110": "Āda", "ISO_IR 126": "Διον",
    "ISO_IR 127": "قباني", "ISO_IR 138": "שרון", "ISO_IR 144": "Люксембург", "ISO_IR 148": "Çavuş",
    "ISO_IR 166": "นามสกุล",
    "ISO_IR 13": "ﾔﾏﾀﾞ", "\\ISO 2022 IR 87": "山田", "\\ISO 2022 IR 159": "丂", "\\ISO 2022 IR 149": "홍길동",
    "\\ISO 2022 IR 58": "张从", "ISO_IR 192": "王 Müller 山", "GB18030": "王小东", "GBK": "王小东",
    "ISO 2022 IR 100\\ISO 2022 IR 144": "Müller",
}  # fmt: skip


def data(terms: str, value: bytes, vr: str = "LO") -> bytes:
    raw = terms.encode()
    return element(0x00080005, "CS", raw + b" " * (len(raw) & 1)) + element(0x00100020, vr, value)


@pytest.mark.parametrize(("terms", "text"), SAMPLES.items())
def test_text_reads_back(terms: str, text: str) -> None:
    result = bytes(edited(data(terms, b"P1"), f'{{ suffix = "PatientID", with = "{text}" }}').data)
    assert by_pydicom(result) == "P1" + text
    again = bytes(edited(result, '{ set = "PatientID", to = "<{PatientID}>" }').data)
    assert by_pydicom(again) == f"<P1{text}>"


def by_pydicom(header: bytes) -> str:
    """The Patient ID as pydicom reads it, which leaves the escape sequences of one character set in the text."""
    return str(read(header, EXPLICIT).PatientID).replace("\x1b$)A", "")


@pytest.mark.parametrize(("terms", "text"), SAMPLES.items())
def test_bytes_of_the_value_are_kept_beside_an_ascii_prefix(terms: str, text: str) -> None:
    raw = encoded(text, terms.encode(), False)
    value = raw + b" " * (len(raw) & 1)
    result = bytes(edited(data(terms, value), '{ prefix = "PatientID", with = "AB" }').data)
    assert result == data(terms, b"AB" + value)


@given(st.sampled_from(SETS), st.booleans(), st.text(max_size=12))
def test_what_is_written_is_what_pydicom_reads(term: str, second: bool, text: str) -> None:
    terms = f"ISO 2022 IR 6\\{term}" if second and term.startswith("ISO 2022") else term
    codecs = charset.codecs_of(terms.encode())
    try:
        value = encoded(text, terms.encode(), False)
    except Unrepresentable:
        assert not text.isascii() or "\x1b" in text
        return
    assert charset.decode(value, codecs) == text
    if text.isprintable():
        assert decode_bytes(value, convert_encodings(terms.split("\\")), set()).replace("\x1b$)A", "") == text


@pytest.mark.parametrize("terms", ["", "ISO_IR 100", "\\ISO 2022 IR 87", "GBK"])
def test_what_cannot_be_represented_is_held(terms: str) -> None:
    step = '{ suffix = "PatientID", with = "\U0001f600" }'
    with pytest.raises(Refused, match=r"suffix\): PatientID: '\U0001f600' cannot be written in the image's character"):
        edited(data(terms, b"P1"), step)
    for misfit in ("truncate", "pass"):
        with pytest.raises(Refused, match="cannot be written"):
            edited(data(terms, b"P1"), step, f'misfit = "{misfit}"')


@pytest.mark.parametrize("character", ["\x1b", "\x85", "é"])
def test_a_misfit_that_passes_is_text_still(character: str) -> None:
    step = f'{{ suffix = "PatientID", with = "{character.encode("unicode_escape").decode().replace("x", "u00")}" }}'
    with pytest.raises(Refused, match="cannot be written in the image's character set"):
        edited(data("ISO_IR 101" if character != "é" else "ISO_IR 6", b"P1"), step, 'misfit = "pass"')


def test_letters_that_are_not_ascii_are_never_written_where_only_ascii_is() -> None:
    for misfit, why in [("hold", "is not an AE title"), ("pass", "'É' has characters that AE does not allow")]:
        with pytest.raises(Refused, match=why):
            edited(data("ISO_IR 100", b"P1"), '{ set = "StationAETitle", to = "É" }', f'misfit = "{misfit}"')


def test_a_uid_is_never_cut() -> None:
    step = f'{{ set = "StudyInstanceUID", to = "1.{"2" * 63}" }}'
    with pytest.raises(Refused, match="has 65 characters, UI takes 64"):
        edited(data("", b"P1"), step, 'misfit = "truncate"')


def test_latin_letters_need_a_character_set() -> None:
    with pytest.raises(Refused, match="'é' cannot be written"):
        edited(element(0x00100020, "LO", b"P1"), '{ suffix = "PatientID", with = "é" }')


def test_bytes_that_are_no_characters_are_not_rewritten() -> None:
    with pytest.raises(Refused, match="has bytes that are no characters of the image's character set"):
        edited(data("ISO_IR 192", b"\xff\xfe"), '{ upper = "PatientID" }')


@pytest.mark.parametrize("syntax", ENCODINGS)
def test_misfits_are_held_cut_or_passed(syntax: str) -> None:
    header = element(0x00100020, "LO", b"P1", syntax)
    step = f'{{ prefix = "PatientID", with = "{"x" * 63}" }}'
    with pytest.raises(Refused, match=r"site-a, step 1 \(prefix\): PatientID: 'x+P1' has 65 characters, LO takes 64"):
        edited(header, step, syntax=syntax)
    assert read(bytes(edited(header, step, 'misfit = "truncate"', syntax).data), syntax).PatientID == "x" * 63 + "P"
    passed = bytes(edited(header, step, 'misfit = "pass"', syntax).data)
    assert passed == element(0x00100020, "LO", b"x" * 63 + b"P1 ", syntax)
    with pytest.raises(Refused, match="is not a date"):
        edited(header, '{ set = "StudyDate", to = "today" }', 'misfit = "truncate"', syntax)
    with pytest.raises(Refused, match="'a' is no number that US takes"):
        edited(header, '{ set = "Rows", to = "a" }', 'misfit = "pass"', syntax)


ITEM = sequence(0x00081140, element(0x00100020, "LO", b"P1"))
INSIDE = '{ suffix = "ReferencedImageSequence.0.PatientID", with = "1" }'


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ('{ delete = "SpecificCharacterSet" }', None),
        ('{ set = "SpecificCharacterSet", to = "ISO_IR 192" }', "é".encode()),
        ('{ set = "SpecificCharacterSet", to = "ISO_IR 100" }', b"\xe9"),
    ],
)
@pytest.mark.parametrize("place", ["PatientID", "ReferencedImageSequence.0.PatientID"])
def test_text_is_written_in_the_character_set_that_the_steps_before_declare(
    steps: str, text: bytes | None, place: str
) -> None:
    terms = element(0x00080005, "CS", b"ISO_IR 101")
    header = terms + ITEM + element(0x00100020, "LO", b"P1")
    all_steps = f'{INSIDE}, {steps}, {{ suffix = "{place}", with = "é" }}'
    if text is None:
        with pytest.raises(Refused, match=r"'é' cannot be written in the image's character set \(ISO_IR 6\)"):
            edited(header, all_steps)
    else:
        assert text in bytes(edited(header, all_steps).data)


def test_an_item_keeps_the_character_set_of_its_own() -> None:
    own = sequence(0x00081140, element(0x00080005, "CS", b"ISO_IR 192") + element(0x00100020, "LO", b"P1"))
    steps = f'{INSIDE}, {{ delete = "SpecificCharacterSet" }}, {INSIDE.replace(chr(34) + "1", chr(34) + "é")}'
    result = bytes(edited(element(0x00080005, "CS", b"ISO_IR 101") + own, steps).data)
    assert "P1é".encode() in result
