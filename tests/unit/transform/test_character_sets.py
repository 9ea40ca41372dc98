"""Text in every character set that pydicom knows: written so that it reads back, or held; and what VRs take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.charset import convert_encodings, decode_bytes, python_encoding

from asyncroute.transform import fits
from asyncroute.transform.base import Refused
from asyncroute.transform.text import Unrepresentable, encoded
from asyncroute.wire import charset
from tests.support.coercing import ENCODINGS, edited, read
from tests.support.encoding import EXPLICIT, element

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
    raw = encoded(text, charset.codecs_of(terms.encode()), False)
    value = raw + b" " * (len(raw) & 1)
    result = bytes(edited(data(terms, value), '{ prefix = "PatientID", with = "AB" }').data)
    assert result == data(terms, b"AB" + value)


@given(st.sampled_from(SETS), st.booleans(), st.text(max_size=12))
def test_what_is_written_is_what_pydicom_reads(term: str, second: bool, text: str) -> None:
    terms = f"ISO 2022 IR 6\\{term}" if second and term.startswith("ISO 2022") else term
    codecs = charset.codecs_of(terms.encode())
    try:
        value = encoded(text, codecs, False)
    except Unrepresentable:
        assert not text.isascii()
        return
    assert charset.decode(value, codecs) == text
    if text.isprintable():
        assert decode_bytes(value, convert_encodings(terms.split("\\")), set()).replace("\x1b$)A", "") == text


@pytest.mark.parametrize("terms", ["", "ISO_IR 100", "\\ISO 2022 IR 87", "GBK"])
def test_what_cannot_be_represented_is_held(terms: str) -> None:
    step = '{ suffix = "PatientID", with = "\U0001f600" }'
    with pytest.raises(Refused, match=r"suffix\): PatientID: '\U0001f600' cannot be written in the image's character"):
        edited(data(terms, b"P1"), step)
    with pytest.raises(Refused):
        edited(data(terms, b"P1"), step, 'misfit = "truncate"')
    assert b"P1?" in bytes(edited(data(terms, b"P1"), step, 'misfit = "pass"').data)


def test_latin_letters_need_a_character_set() -> None:
    with pytest.raises(Refused, match="'é' cannot be written"):
        edited(element(0x00100020, "LO", b"P1"), '{ suffix = "PatientID", with = "é" }')


def test_bytes_that_are_no_characters_are_not_rewritten() -> None:
    with pytest.raises(Refused, match="has bytes that are no characters of the image's character set"):
        edited(data("ISO_IR 192", b"\xff\xfe"), '{ upper = "PatientID" }')


MISFITS = [
    ("AE", "A" * 17, "A" * 16), ("AE", "A\x07", None), ("AS", "45", None), ("CS", "abc", None),
    ("CS", "A" * 17, "A" * 16), ("DA", "20241301", None), ("DA", "202401011", "20240101"), ("DS", "1.5x", None),
    ("DS", "1." + "5" * 20, "1." + "5" * 14), ("DT", "2024010125", None), ("IS", "1.5", None),
    ("IS", "9999999999", None),
    ("LO", "a" * 65, "a" * 64), ("LO", "a\nb", None), ("PN", "a^b^c^d^e^f", None), ("PN", "a=b=c=d", None),
    ("PN", "a" * 65 + "=b", "a" * 64 + "=b"), ("SH", "a" * 17, "a" * 16), ("ST", "a" * 1025, "a" * 1024),
    ("TM", "2500", None), ("UI", "1.2.x", None), ("UI", "1.02", None), ("UI", "1." * 32 + "2", "1." * 31 + "1"),
    ("UR", "http://a b", None),
]  # fmt: skip
FIT = [
    ("AE", "PACS 1"), ("AS", "045Y"), ("CS", "ORIGINAL_1 A"), ("DA", "20240229"), ("DS", "-1.5e10"), ("DS", " 1 "),
    ("DT", "20240131083000.123456+0100"), ("DT", "2024"), ("IS", "-2147483648"), ("LO", "漢" * 64), ("LT", "a\r\nb\\c"),
    ("PN", "Yamada^Tarou=山田^太郎=やまだ^たろう"), ("SH", "é" * 16), ("TM", "083000.5"), ("UI", "1.2.840"),
    ("UT", "a" * 100_000), ("UR", "https://x/y?z=1"), ("UC", "a" * 100),
]  # fmt: skip


@pytest.mark.parametrize(("vr", "text", "shorter"), MISFITS)
def test_a_value_that_does_not_fit(vr: str, text: str, shorter: str | None) -> None:
    assert fits.problem(vr, text)
    assert (fits.problem(vr, fits.cut(vr, text)) is None) == (shorter is not None)


@pytest.mark.parametrize(("vr", "text"), FIT)
def test_a_value_that_fits(vr: str, text: str) -> None:
    assert fits.problem(vr, text) is None


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
