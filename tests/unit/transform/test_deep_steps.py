"""Steps over the whole header: new UIDs, shifted dates, users' functions, and the record of what was there."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from asyncroute.transform.base import Refused
from asyncroute.transform.dates import days_of, shifted
from asyncroute.transform.editing import Editing, new_uid
from asyncroute.transform.level import Entry, Level
from asyncroute.transform.record import record
from asyncroute.transform.uids import keeps
from asyncroute.wire.syntax import EXPLICIT_LE
from tests.support.coercing import ENCODINGS, FACTS, SECRET, edited, elements, header, read, write
from tests.support.encoding import EXPLICIT, IMPLICIT, element, sequence

CT = "1.2.840.10008.5.1.4.1.1.2"
KEY = b"a secret of sixteen characters"
all_encodings = pytest.mark.parametrize("syntax", ENCODINGS, ids=["explicit", "implicit", "big"])


def image() -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, "1.2.3.4"
    dataset.StudyDate, dataset.StudyTime, dataset.AcquisitionDateTime = "20240229", "083000", "20240131083000.5+0100"
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Müller^X", "P1", "19700101"
    dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = "1.2.3", "1.2.840.10008.1.4.1.1"
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID, reference.StudyDate = CT, "1.2.3.4", "20240101"
    dataset.ReferencedImageSequence = Sequence([reference])
    dataset.private_block(0x29, "ACME 1.1", create=True).add_new(0x10, "LO", "x")
    return dataset


@all_encodings
def test_new_uids_are_the_same_wherever_the_old_ones_were(syntax: str) -> None:
    result = edited(write(image(), syntax), "{ new_uids = true }", SECRET, syntax)
    found = read(bytes(result.data), syntax)
    assert found.SOPInstanceUID == new_uid("1.2.3.4", KEY) == result.sop_instance_uid
    assert found.ReferencedImageSequence[0].ReferencedSOPInstanceUID == found.SOPInstanceUID
    assert found.StudyInstanceUID == new_uid("1.2.3", KEY) != found.SOPInstanceUID
    assert re.fullmatch(r"2\.25\.[1-9][0-9]{0,38}", found.StudyInstanceUID)
    kept = (found.SOPClassUID, found.ReferencedImageSequence[0].ReferencedSOPClassUID, found.FrameOfReferenceUID)
    assert kept == (CT, CT, "1.2.840.10008.1.4.1.1")
    other = edited(write(image(), syntax), "{ new_uids = true }", SECRET.replace("a secret", "my secret"), syntax)
    assert other.sop_instance_uid != result.sop_instance_uid


def test_what_names_a_kind_of_thing_is_kept() -> None:
    for tag in (0x00080016, 0x00081150, 0x0008010C, 0x00020010, 0x0018100B, 0x00080117):
        assert keeps(tag)
    for tag in (0x00080018, 0x0020000D, 0x0020000E, 0x00200052, 0x00081155, 0x00081195, 0x0040A124, 0x30060024):
        assert not keeps(tag)


@all_encodings
def test_dates_are_shifted_by_patient(syntax: str) -> None:
    days = days_of("P1", KEY, 3650)
    data = write(image(), syntax)
    found = read(
        bytes(edited(data, '{ set = "PatientID", to = "X" }, { shift_dates = true }', SECRET, syntax).data), syntax
    )
    for value, was in [
        (found.StudyDate, "20240229"),
        (found.PatientBirthDate, "19700101"),
        (found.ReferencedImageSequence[0].StudyDate, "20240101"),
    ]:
        assert (date.fromisoformat(was) - date.fromisoformat(value)).days == days
    assert found.AcquisitionDateTime == shifted("20240131", days) + "083000.5+0100"
    assert found.StudyTime == "083000"
    assert days_of("P1", KEY, 3650) != days_of("P2", KEY, 3650)


@given(st.dates(date(1900, 1, 1)), st.integers(1, 3650))
def test_a_date_keeps_its_form(day: date, by: int) -> None:
    plain = f"{day.year:04}{day.month:02}{day.day:02}"
    dotted = f"{day.year:04}.{day.month:02}.{day.day:02}"
    assert len(shifted(plain, by)) == 8
    assert shifted(dotted, by).replace(".", "") == shifted(plain, by)
    assert shifted(plain + "1530+0200", by) == shifted(plain, by) + "1530+0200"
    assert [len(shifted(plain[:size], by)) for size in (4, 6)] == [4, 6]


def test_a_date_that_is_none_is_held_or_passed() -> None:
    data = element(0x00080020, "DA", b"NODATE") + element(0x00100020, "LO", b"P1")
    with pytest.raises(Refused, match="StudyDate: 'NODATE' is no date that could be shifted"):
        edited(data, "{ shift_dates = true }", SECRET)
    assert bytes(edited(data, "{ shift_dates = true }", SECRET + 'misfit = "pass"').data) == data
    with pytest.raises(Refused, match="PatientID: is empty: dates are shifted by patient"):
        edited(element(0x00080020, "DA", b"20240101"), "{ shift_dates = true }", SECRET)


USERS = """
from asyncroute.transform.user import Drop, Hold

def change(header, facts):
    header.InstitutionName = f"Ä {facts.calling_aet}"
    header.ReferencedImageSequence[0].StudyDate = "20200101"
    del header.PatientBirthDate
    return header

def look(header, facts):
    assert header.PatientName and header.ReferencedImageSequence[0].StudyDate
    assert all(element.value is not None for element in header)
    return header

def utf(header, facts):
    header.SpecificCharacterSet = "ISO_IR 192"
    return header

def another(header, facts):
    header.ReferencedImageSequence.append(header.ReferencedImageSequence[0])
    return header

def hold(header, facts): raise Hold("look at\\nthis")
def drop(header, facts): raise Drop("a test image")
def wrong(header, facts): return header.Nope
def nothing(header, facts): pass
def pixels(header, facts): header.PixelData = b"ab"; return header
def beyond(header, facts): header.InstitutionName = "山"; return header
"""


@pytest.fixture
def users(tmp_path: Path) -> Path:
    (tmp_path / "site_a.py").write_text(USERS)
    return tmp_path


def step(name: str) -> str:
    return f'{{ python = "site_a.py:{name}" }}'


@all_encodings
def test_what_a_function_changes_is_spliced_in(syntax: str, users: Path) -> None:
    data = write(image(), syntax)
    result = edited(data, step("change"), syntax=syntax, folder=users)
    found, before, after = (
        read(bytes(result.data), syntax),
        elements(data, syntax),
        elements(bytes(result.data), syntax),
    )
    assert (found.InstitutionName, found.ReferencedImageSequence[0].StudyDate) == ("Ä CT_A", "20200101")
    assert before.keys() - after.keys() == {0x00100030}
    named = {0x00080080, 0x00081140}
    assert all(after[tag] == before[tag] for tag in after.keys() - named)
    assert {change.attribute for change in result.changes} == {
        "InstitutionName",
        "ReferencedImageSequence.0.StudyDate",
        "PatientBirthDate",
    }


@all_encodings
def test_a_function_that_only_looks_changes_no_byte(syntax: str, users: Path) -> None:
    items = sequence(0x00081140, element(0x00080020, "DA", b"20240101", syntax), syntax=syntax)
    odd = element(0x00080060, "CS", b"ct\0\0", syntax) + items + element(0x00100010, "PN", b"a  \0", syntax)
    result = edited(odd, step("look"), syntax=syntax, folder=users)
    assert bytes(result.data) == odd
    assert result.changes == ()


def test_a_new_character_set_writes_text_anew(users: Path) -> None:
    found = read(bytes(edited(write(image(), EXPLICIT), step("utf"), folder=users).data), EXPLICIT)
    assert found.get_item("PatientName").value == "Müller^X".encode() + b" "


def test_what_a_function_writes_is_never_replaced(users: Path) -> None:
    with pytest.raises(Refused, match=r"header: cannot be written: UserWarning: Failed to encode value with encodings"):
        edited(write(image(), EXPLICIT), step("beyond"), folder=users)


def test_a_function_may_add_items(users: Path) -> None:
    found = read(bytes(edited(write(image(), IMPLICIT), step("another"), syntax=IMPLICIT, folder=users).data), IMPLICIT)
    assert len(found.ReferencedImageSequence) == 2


@pytest.mark.parametrize(
    ("name", "reason", "drop"),
    [
        ("hold", "site-a, step 1 (python): look at this", False),
        ("drop", "site-a, step 1 (python): a test image", True),
        (
            "wrong",
            "site-a, step 1 (python): site_a.py:wrong: line 25: AttributeError: 'Dataset' object has no att",
            False,
        ),
        ("nothing", "site-a, step 1 (python): header: the function returned NoneType, not the header", False),
        ("pixels", "site-a, step 1 (python): (7FE0,0010): cannot stand in a header", False),
        ("absent", "site-a, step 1 (python): site_a.py:absent: the file has no function absent", False),
    ],
)
def test_a_function_may_keep_an_image(name: str, reason: str, drop: bool, users: Path) -> None:
    with pytest.raises(Refused) as caught:
        edited(write(image(), EXPLICIT), step(name), folder=users)
    assert caught.value.reason.startswith(reason)
    assert caught.value.drop is drop


def test_a_file_that_is_no_python_is_told(users: Path) -> None:
    (users / "site_a.py").write_text("def change(:\n")
    with pytest.raises(Refused, match=r"site_a\.py:change: cannot be loaded: SyntaxError"):
        edited(write(image(), EXPLICIT), step("change"), folder=users)


@pytest.mark.parametrize(
    "there",
    [
        element(0x04000561, "UN", b"\xfe\xff\x00\xe0\x00\x00\x00\x00"),
        element(0x04000561, "SQ", b"\xfe\xff\x00\xe0\x08\x00\x00\x00"),
        element(0x04000561, "SQ", b"what is this"),
    ],
)
def test_a_record_is_not_added_to_what_is_no_sequence(there: bytes) -> None:
    with pytest.raises(Refused):
        edited(there + element(0x00100020, "LO", b"P1"), '{ prefix = "PatientID", with = "A" }', "record = true")


@pytest.mark.parametrize("terms", [b"ISO_IR 192", b"\\ISO 2022 IR 87 "])
def test_names_in_a_record_are_cut_between_characters(terms: bytes) -> None:
    data = element(0x00080005, "CS", terms) + element(0x00100020, "LO", b"P1")
    system = "x" * 62 + "山田太郎"
    with memoryview(data) as view:
        top = Level(view, EXPLICIT_LE, b"")
        top.put(0x00100020, Entry("LO", b"A1"))
        record(Editing(top, FACTS, header(data)), system)
        (item,) = read(bytes(top.encoded()), EXPLICIT).OriginalAttributesSequence
    assert item.ModifyingSystem == system[:64]


@all_encodings
def test_what_was_there_is_recorded(syntax: str) -> None:
    data = write(image(), syntax)
    steps = '{ prefix = "PatientID", with = "A" }, { fill = "AccessionNumber", to = "N" }, { delete = "(0029,1010)" }'
    once = bytes(edited(data, steps, "record = true", syntax).data)
    twice = bytes(edited(once, '{ delete = "PatientID" }', "record = true", syntax).data)
    first, second = read(twice, syntax).OriginalAttributesSequence
    (was,) = first.ModifiedAttributesSequence
    assert [int(e.tag) for e in was] == [0x00080050, 0x00100020, 0x00290010, 0x00291010]
    assert (was.PatientID, was.AccessionNumber or "") == ("P1", "")
    assert (first.ModifyingSystem, first.SourceOfPreviousValues) == ("asyncroute", FACTS.calling_aet)
    assert first.ReasonForTheAttributeModification == "COERCE"
    assert first.AttributeModificationDateTime == "20231114221320.000000+0000"
    assert second.ModifiedAttributesSequence[0].PatientID == "AP1"
    assert edited(data, '{ delete = "StationName" }', "record = true", syntax).data == data
