"""Steps over what images have that is legal, but rare: empty values, unknown VRs, wrong bytes, old dates."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncroute.transform.base import Refused
from asyncroute.transform.dates import days_of, shifted
from tests.support.coercing import ENCODINGS, SECRET, edited, elements, read
from tests.support.encoding import BIG, EXPLICIT, IMPLICIT, element, item, sequence

PATIENT_ID, STUDY_ID, PRIVATE = 0x00100020, 0x00200010, 0x00291010
all_encodings = pytest.mark.parametrize("syntax", ENCODINGS, ids=["explicit", "implicit", "big"])


def private(vr: str, value: bytes, syntax: str) -> bytes:
    """An element of a creator that no dictionary knows."""
    return element(0x00290010, "LO", b"ACME", syntax) + element(PRIVATE, vr, value, syntax)


def values(data: bytes, tag: int, syntax: str = EXPLICIT) -> object:
    """As pydicom reads it."""
    return read(data, syntax)[tag].value


@pytest.mark.parametrize("value", [b"", b"  ", b"\\\\", b"\\ \\ "])
def test_several_values_that_are_all_empty_are_filled(value: bytes) -> None:
    data = element(PATIENT_ID, "LO", value)
    assert bytes(edited(data, '{ fill = "PatientID", to = "X" }').data) == element(PATIENT_ID, "LO", b"X ")


def test_a_backslash_is_a_value_where_it_is_no_delimiter() -> None:
    data = element(0x00104000, "LT", b"\\ ")
    assert bytes(edited(data, '{ fill = "PatientComments", to = "X" }').data) == data


UNREADABLE = [
    element(0x00080005, "CS", b"ISO_IR 192") + element(PATIENT_ID, "LO", b"\xfc1"),
    element(PATIENT_ID, "OB", b"12"),
    element(PATIENT_ID, "SQ", item(b"")),
    element(PATIENT_ID, "UN", b"\xfc1") + element(0x00200011, "IS", b"1 "),
]


@pytest.mark.parametrize("data", UNREADABLE)
def test_a_value_is_set_whatever_is_there(data: bytes) -> None:
    found = read(bytes(edited(data, '{ set = "PatientID", to = "X" }').data), EXPLICIT)
    assert (found.PatientID, found[PATIENT_ID].VR) == ("X", "LO")


@pytest.mark.parametrize("data", UNREADABLE[:3])
def test_what_cannot_be_read_is_not_empty(data: bytes) -> None:
    assert bytes(edited(data, '{ fill = "PatientID", to = "X" }').data) == data
    with pytest.raises(Refused):
        edited(data, '{ prefix = "PatientID", with = "X" }')


@all_encodings
@pytest.mark.parametrize("coded", ["US", "UN"])
def test_what_nobody_knows_is_written_with_the_vr_that_the_step_says(coded: str, syntax: str) -> None:
    old, new = b"\7\0", b"\x2c\x01"
    if syntax == BIG and coded != "UN":
        old, new = old[::-1], new[::-1]
    for step in ('{ set = "(0029,xx10,ACME)", to = "300", vr = "US" }', '{ set = "(0029,1010)", to = 300, vr = "US" }'):
        made = edited(private(coded, old, syntax), step, syntax=syntax)
        assert bytes(made.data) == private(coded, new, syntax)
        assert [tuple(change)[1:3] for change in made.changes] == [("7", "300")]


@all_encodings
def test_what_nobody_knows_has_to_fit_where_it_is_copied(syntax: str) -> None:
    def made(value: bytes) -> bytes:
        step = '{ copy = "(0029,xx10,ACME)", to = "StudyID" }'
        return bytes(edited(private("UN", value, syntax), step, syntax=syntax).data)

    found = read(made(b"ABC "), syntax)
    assert (found.StudyID, found[STUDY_ID].VR) == ("ABC", "SH")
    for value, why in [(b"\7\0", "has characters that SH does not allow"), (b"x" * 18, "SH takes 16")]:
        with pytest.raises(Refused, match=f"StudyID: .* {why}"):
            made(value)


@pytest.mark.parametrize(("syntax", "coded"), [(IMPLICIT, "SQ"), (EXPLICIT, "UN"), (BIG, "UN")])
def test_a_path_leads_into_what_only_the_step_says_is_a_sequence(syntax: str, coded: str) -> None:
    def of(patient: bytes) -> bytes:
        return private(coded, item(element(PATIENT_ID, "LO", patient, IMPLICIT), IMPLICIT, False), syntax)

    made = edited(of(b"P1"), '{ suffix = "(0029,xx10,ACME).PatientID", with = "-AB" }', syntax=syntax)
    assert bytes(made.data) == of(b"P1-AB ")
    made = edited(of(b"P1"), '{ delete = "(0029,xx10,ACME).0.PatientID" }', syntax=syntax)
    assert bytes(made.data) == private(coded, item(b"", IMPLICIT, False), syntax)
    plain = private("UN", b"no sequence ", syntax)
    step = '{ delete = "(0029,xx10,ACME).0.PatientID" }'
    assert bytes(edited(plain, step, syntax=syntax).data) == plain


@all_encodings
@pytest.mark.parametrize(
    ("step", "made"),
    [
        ('{ delete = "(0029,xx10,ACME)" }', {}),
        ('{ set = "(0029,xx10,ACME)", to = "C", vr = "LO" }', {PRIVATE: b"C ", PRIVATE + 0x100: b"C "}),
        ('{ suffix = "(0029,xx10,ACME)", with = "C" }', {PRIVATE: b"AC", PRIVATE + 0x100: b"BC"}),
        (
            '{ set = "(0029,xx11,ACME)", to = "D", vr = "LO" }',
            {0x00291011: b"D ", PRIVATE: b"A ", PRIVATE + 256: b"B "},
        ),
        ('{ suffix = "(0029,xx20,ACME)", with = "E" }', {PRIVATE: b"A ", PRIVATE + 0x100: b"B "}),
    ],
)
def test_a_creator_may_have_several_blocks(step: str, made: dict[int, bytes], syntax: str) -> None:
    def of(values: dict[int, bytes]) -> bytes:
        creators = dict.fromkeys((0x00290010, 0x00290011), b"ACME")
        return b"".join(element(tag, "LO", value, syntax) for tag, value in sorted((creators | values).items()))

    assert bytes(edited(of({PRIVATE: b"A ", PRIVATE + 0x100: b"B "}), step, syntax=syntax).data) == of(made)


def test_a_date_as_before_dicom_is_shifted_to_one_of_today() -> None:
    data = element(0x00080020, "DA", b"2024.03.01") + element(PATIENT_ID, "LO", b"P1")
    days = days_of("P1", b"a secret of sixteen characters", 3650)
    assert values(bytes(edited(data, "{ shift_dates = true }", SECRET).data), 0x00080020) == shifted("20240301", days)


@pytest.mark.parametrize("misfit", ["hold", "pass"])
def test_a_date_with_something_behind_it_is_not_shifted_in_half(misfit: str) -> None:
    data = element(0x00080020, "DA", b"20240101-20240102 ") + element(PATIENT_ID, "LO", b"P1")
    if misfit == "pass":
        assert bytes(edited(data, "{ shift_dates = true }", SECRET + 'misfit = "pass"').data) == data
        return
    with pytest.raises(Refused, match="StudyDate: '20240101-20240102' is no date that could be shifted"):
        edited(data, "{ shift_dates = true }", SECRET)


@pytest.mark.parametrize(
    ("old", "made"),
    [
        ("re:.*", "x"),
        ("re:[A-Z]*", "x1x2x"),
        ("re:^", "xAB1C2"),
        ("re:$", "AB1C2x"),
        ("re:(?=[0-9])", "ABx1Cx2"),
        ("re:[0-9]", "ABxCx"),
    ],
)
def test_a_regular_expression_replaces_what_it_matches_once(old: str, made: str) -> None:
    data = element(PATIENT_ID, "LO", b"AB1C2 ")
    found = edited(data, f"{{ replace = 'PatientID', old = '{old}', with = 'x' }}")
    assert values(bytes(found.data), PATIENT_ID) == made


@pytest.mark.parametrize(
    ("vr", "value", "made"),
    [
        ("LO", b"  12 ", b"12"),
        ("LO", b"12    ", b"12"),
        ("LO", b" A \\ B  ", b"A\\B "),
        ("LO", b"  \xfc", b"\xfc "),
        ("LO", b"A B ", b"A B "),
        ("LO", b"    ", b""),
        ("ST", b" A \\ B   ", b"A \\ B "),
    ],
)
def test_strip_leaves_no_spaces_around_a_value(vr: str, value: bytes, made: bytes) -> None:
    character_set = element(0x00080005, "CS", b"ISO_IR 100")
    result = edited(character_set + element(PATIENT_ID, vr, value), '{ strip = "PatientID" }')
    assert bytes(result.data) == character_set + element(PATIENT_ID, vr, made)
    assert [change.after is not None for change in result.changes] == [True] * (value != made)


def test_strip_takes_no_second_byte_of_a_character_for_a_delimiter() -> None:
    value = "\u4e57 X".encode("gb18030")
    assert b"\\ " in value
    data = element(0x00080005, "CS", b"GB18030 ") + element(PATIENT_ID, "LO", value)
    assert bytes(edited(data, '{ strip = "PatientID" }').data) == data


WRITES = """
def changes(header, facts):
    VALUE
    return header
"""


@pytest.mark.parametrize(
    ("value", "why", "cut"),
    [
        ('header.AccessionNumber = "x" * 17', "AccessionNumber: .* SH takes 16", "x" * 16),
        ('header.StudyInstanceUID = "1.2.abc"', "StudyInstanceUID: .* is not a UID", None),
        ('header.StudyDate = "2024-01-01"', "StudyDate: .* DA takes 8", None),
        ("header.SliceThickness = 1 / 3", "SliceThickness: .* DS takes 16", None),
        ('header.Modality = "ct"', "Modality: .* is not capital letters", None),
        ('header.OtherPatientIDs = ["a", "b" * 65]', "OtherPatientIDs: .* LO takes 64", "b" * 64),
        ('header.RequestAttributesSequence[0].StudyID = "é" * 17', "RequestAttributesSequence.0.StudyID: ", None),
        ('header.PatientName = "Müller^Ä" + "=x" * 3', "PatientName: .* more than three component groups", None),
    ],
)
def test_what_a_function_writes_has_to_fit(value: str, why: str, cut: str | None, tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(WRITES.replace("VALUE", value), "utf-8")
    data = element(0x00080005, "CS", b"ISO_IR 100") + element(PATIENT_ID, "LO", b"\xfc" * 70)
    data += sequence(0x00400275, element(STUDY_ID, "SH", b"R "))
    step = '{ python = "f.py:changes" }'
    with pytest.raises(Refused, match=why):
        edited(data, step, folder=tmp_path)
    passed = bytes(edited(data, step, 'misfit = "pass"', folder=tmp_path).data)
    assert elements(passed, EXPLICIT)[PATIENT_ID] == element(PATIENT_ID, "LO", b"\xfc" * 70)
    if cut is not None:
        shorter = bytes(edited(data, step, 'misfit = "truncate"', folder=tmp_path).data)
        assert len(shorter) < len(passed)
        assert cut.encode() in shorter
