"""Every step, in every encoding: what it makes of values, and what it leaves alone."""

from __future__ import annotations

import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from asyncroute.transform.base import Refused
from tests.support.coercing import ENCODINGS, FACTS, edited, elements, header, read, transform, write
from tests.support.encoding import BIG, EXPLICIT, IMPLICIT, element, sequence

all_encodings = pytest.mark.parametrize("syntax", ENCODINGS, ids=["explicit", "implicit", "big"])


def image(**attributes: object) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    dataset.StudyDate, dataset.AccessionNumber, dataset.Modality = "20240229", "", "CT"
    dataset.InstitutionName, dataset.ReferringPhysicianName = "St. Elsewhere", "Doe^Jane"
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Test^Image", "P1", "19700101"
    dataset.OtherPatientIDs = ["A", "", "B"]
    dataset.StudyInstanceUID, dataset.SeriesNumber = "1.2.3.4", "3"
    dataset.Rows = 512
    request = Dataset()
    request.AccessionNumber, request.RequestedProcedureID = "R1", "RP"
    dataset.RequestAttributesSequence = Sequence([request])
    block = dataset.private_block(0x29, "ACME 1.1", create=True)
    block.add_new(0x10, "LO", "inside")
    for key, value in attributes.items():
        setattr(dataset, key, value)
    return dataset


STEPS = [
    ('{ set = "InstitutionName", to = "Site A" }', {"InstitutionName": "Site A"}),
    ('{ set = "StationName", to = "{PatientID}^{calling_aet}" }', {"StationName": "P1^CT_A"}),
    ('{ set = "StationName", to = "{{{OtherPatientIDs}}}" }', {"StationName": r"{A\\B}"}),
    ('{ set = "StationName", to = "{RequestAttributesSequence.0.AccessionNumber}" }', {"StationName": "R1"}),
    ('{ set = "StationName", to = "{RequestAttributesSequence.AccessionNumber}" }', {"StationName": "R1"}),
    ('{ set = "StationName", from = "(0029,xx10,ACME 1.1)" }', {"StationName": "inside"}),
    ('{ set = "StationName", from = "(0029,xx10,OTHER)" }', {"StationName": ""}),
    ('{ set = "Rows", to = 300 }', {"Rows": 300}),
    (
        '{ fill = "AccessionNumber", from = "crc32(StudyInstanceUID)" }',
        {"AccessionNumber": str(zlib.crc32(b"1.2.3.4"))},
    ),
    ('{ fill = "AccessionNumber", from = "hash(StationName, 16)" }', {}),
    ('{ fill = "PatientID", to = "X" }', {}),
    ('{ prefix = "PatientID", with = "AHI-" }', {"PatientID": "AHI-P1"}),
    ('{ prefix = "PatientID", with = "P" }', {}),
    ('{ prefix = "PatientID", with = "P", once = false }', {"PatientID": "PP1"}),
    ('{ prefix = "AccessionNumber", with = "A" }', {}),
    ('{ prefix = "StationName", with = "A" }', {}),
    ('{ prefix = "OtherPatientIDs", with = "X" }', {"OtherPatientIDs": r"XA\\XB"}),
    ('{ suffix = "PatientID", with = "-{Modality}" }', {"PatientID": "P1-CT"}),
    ('{ suffix = "RequestAttributesSequence.0.AccessionNumber", with = "-A" }', {"request": "R1-A"}),
    ('{ suffix = "AccessionNumber", with = "-A", everywhere = true }', {"request": "R1-A"}),
    ('{ suffix = "(0029,xx10,ACME 1.1)", with = "!" }', {"private": "inside!"}),
    ('{ replace = "InstitutionName", old = "St. ", with = "Saint " }', {"InstitutionName": "Saint Elsewhere"}),
    ('{ replace = "InstitutionName", old = ".", with = "" }', {"InstitutionName": "St Elsewhere"}),
    (
        "{ replace = 'PatientName', old = 're:(.*)\\^(.*)', with = '\\2^\\1 {PatientID}' }",
        {"PatientName": "Image^Test P1"},
    ),
    ('{ upper = "InstitutionName" }', {"InstitutionName": "ST. ELSEWHERE"}),
    ('{ lower = "InstitutionName" }', {"InstitutionName": "st. elsewhere"}),
    ('{ pad = "PatientID", size = 8 }', {"PatientID": "000000P1"}),
    ('{ pad = "PatientID", size = 4, with = "x", side = "right" }', {"PatientID": "P1xx"}),
    ('{ truncate = "InstitutionName", size = 3 }', {"InstitutionName": "St."}),
    ('{ copy = "PatientID", to = "StationName" }', {"StationName": "P1"}),
    ('{ copy = "StationName", to = "PatientID" }', {}),
    ('{ copy = "Rows", to = "StationName" }', {"StationName": "512"}),
    ('{ copy = "RequestAttributesSequence.0.AccessionNumber", to = "AccessionNumber" }', {"AccessionNumber": "R1"}),
    ('{ move = "PatientID", to = "StationName" }', {"StationName": "P1", "PatientID": None}),
    ('{ delete = "PatientID" }', {"PatientID": None}),
    ('{ delete = "(0010,xxxx)" }', dict.fromkeys(["PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs"])),
    ('{ delete = "AccessionNumber", everywhere = true }', {"AccessionNumber": None, "request": None}),
    ('{ delete = "(0029,xx10,ACME 1.1)" }', {"private": None}),
    ('{ delete = "private" }', {"private": None, "creator": None}),
    ('{ set = "RequestAttributesSequence.1.AccessionNumber", to = "x" }', {}),
    (
        '{ set = "PatientID", to = "X" }, { prefix = "PatientID", with = "{PatientName}-" }',
        {"PatientID": "Test^Image-X"},
    ),
]


def facts_of(data: bytes, syntax: str) -> dict[str, object]:
    """All top-level values by keyword as raw text, and some that stand elsewhere."""
    dataset = read(data, syntax)
    request = dataset.RequestAttributesSequence[0]
    found = {e.keyword: text_of(dataset, int(e.tag)) for e in read(data, syntax) if e.keyword and e.VR != "SQ"}
    found |= {"request": text_of(request, 0x00080050)}
    found |= {"creator": text_of(dataset, 0x00290010), "private": text_of(dataset, 0x00291010)}
    return {key: value for key, value in found.items() if value is not None} | {"Rows": dataset.Rows}


def text_of(dataset: Dataset, tag: int) -> str | None:
    raw: Any = dataset.get_item(tag) if tag in dataset else None
    return None if raw is None else (raw.value or b"").decode("latin-1").strip(" \0")


@all_encodings
@pytest.mark.parametrize(("steps", "changed"), STEPS, ids=[steps for steps, _ in STEPS])
def test_a_step(steps: str, changed: dict[str, object], syntax: str) -> None:
    data = write(image(), syntax)
    result = edited(data, steps, syntax=syntax)
    expected = facts_of(data, syntax) | changed
    assert facts_of(bytes(result.data), syntax) == {k: v for k, v in expected.items() if v is not None}
    assert bool(result.changes) == bool(changed)
    if not changed:
        assert bytes(result.data) == data


@all_encodings
def test_a_private_block_is_reserved_where_there_is_none(syntax: str) -> None:
    steps = '{ set = "(0029,xx10,OTHER)", to = "new", vr = "LO" }'
    found = read(bytes(edited(write(image(), syntax), steps, syntax=syntax).data), syntax)
    assert found[0x290011].value == "OTHER"
    assert str(found.private_block(0x29, "OTHER")[0x10].value) in ("new", "b'new '")
    assert found.private_block(0x29, "ACME 1.1")[0x10].value in ("inside", b"inside")


@pytest.mark.parametrize("undefined", [True, False])
@all_encodings
def test_lengths_follow(syntax: str, undefined: bool) -> None:
    inner = element(0x00080050, "SH", b"R1", syntax) + element(0x00401001, "SH", b"RP", syntax)
    nested = sequence(0x00400275, inner, syntax=syntax, undefined=undefined)
    outer = sequence(0x00081140, nested, syntax=syntax, undefined=undefined)
    order = ">" if syntax == BIG else "<"
    length = (len(outer)).to_bytes(4, "big" if order == ">" else "little")
    data = element(0x00080000, "UL", length, syntax) + outer + element(0x00100020, "LO", b"P1", syntax)
    result = bytes(edited(data, '{ suffix = "AccessionNumber", with = "-Ab", everywhere = true }', syntax=syntax).data)
    longer = element(0x00080050, "SH", b"R1-Ab ", syntax) + element(0x00401001, "SH", b"RP", syntax)
    outer = sequence(
        0x00081140,
        sequence(0x00400275, longer, syntax=syntax, undefined=undefined),
        syntax=syntax,
        undefined=undefined,
    )
    length = (len(outer)).to_bytes(4, "big" if order == ">" else "little")
    assert result == (element(0x00080000, "UL", length, syntax) + outer + element(0x00100020, "LO", b"P1", syntax))


def test_sop_uids_follow() -> None:
    data = write(image(), EXPLICIT)
    result = edited(data, '{ set = "SOPInstanceUID", to = "1.2.9" }, { set = "SOPClassUID", to = "1.2.8" }')
    assert (result.sop_class_uid, result.sop_instance_uid) == ("1.2.8", "1.2.9")
    assert edited(data, '{ upper = "Modality" }').sop_instance_uid == "1.2.3"


def test_what_changed_is_told() -> None:
    result = edited(write(image(), EXPLICIT), '{ prefix = "PatientID", with = "X" }, { delete = "Modality" }')
    assert [tuple(change) for change in result.changes] == [
        ("PatientID", "P1", "XP1", "site-a, step 1 (prefix)"),
        ("Modality", "CT", None, "site-a, step 2 (delete)"),
    ]


def test_a_lookup_table(tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("# ours\nP1,Q1\nP2,Q2\n")
    (tmp_path / "sites.toml").write_text('CT_A = "Site A"\n')
    data = write(image(), EXPLICIT)

    def made(step: str, patient: str = "P1") -> Dataset:
        return read(bytes(edited(write(image(PatientID=patient), EXPLICIT), step, folder=tmp_path).data), EXPLICIT)

    assert made('{ map = "PatientID", file = "ids.csv" }').PatientID == "Q1"
    assert made('{ map = "PatientID", file = "ids.csv", default = "?{PatientID}" }', "P3").PatientID == "?P3"
    assert made('{ map = "PatientID", file = "ids.csv", missing = "keep" }', "P3").PatientID == "P3"
    sites = '{ map = "StationName", from = "calling_aet", file = "sites.toml" }'
    assert made(sites).StationName == "Site A"
    with pytest.raises(Refused, match=r"site-a, step 1 \(map\): PatientID: there is no entry for 'P3'"):
        made('{ map = "PatientID", file = "ids.csv" }', "P3")
    assert pickle.loads(pickle.dumps(transform(sites, folder=tmp_path))).apply(header(data), FACTS) == edited(
        data, sites, folder=tmp_path
    )


ODD = [
    (element(0x00100020, "LO", b"P1") + element(0x00080060, "CS", b"CT"), r"\(0008,0060\) follows \(0010,0020\)"),
    (element(0x00080060, "CS", b"CT") * 2, "follows"),
    (element(0x00080060, "CS", b"CT") + b"\0", "end elsewhere"),
    (element(0x00080060, "CS", b"CT", length=10), "end elsewhere"),
    (element(0x00080060, "??", b"CT"), ""),
]


@pytest.mark.parametrize(("data", "why"), ODD)
def test_what_cannot_be_read_for_sure_is_not_edited(data: bytes, why: str) -> None:
    with pytest.raises(Refused, match=f"site-a: the header cannot be edited for sure: .*{why}"):
        edited(data, '{ prefix = "PatientID", with = "X" }, { delete = "(6000,xxxx)" }')


def test_an_unknown_transfer_syntax_is_not_edited() -> None:
    with pytest.raises(Refused, match=r"nobody knows how transfer syntax 1\.2\.3\.4 encodes elements"):
        edited(b"", '{ upper = "Modality" }', syntax="1.2.3.4")


def test_implicit_vr_under_an_explicit_name_is_edited_as_it_is() -> None:
    data = write(image(), IMPLICIT)
    result = bytes(edited(data, '{ prefix = "PatientID", with = "X" }', syntax=EXPLICIT).data)
    assert read(result, IMPLICIT).PatientID == "XP1"


VALUES = st.text(st.characters(codec="ascii", exclude_categories=["C"], exclude_characters="\\"), max_size=15)


@given(st.lists(VALUES, min_size=3, max_size=3), st.sampled_from(ENCODINGS), st.booleans())
def test_any_values_in_any_encoding(values: list[str], syntax: str, front: bool) -> None:
    """Splicing gives what pydicom writes for the same values."""
    name, station, patient = (value.strip() for value in values)
    before = write(image(InstitutionName=name, StationName=station, PatientID=patient), syntax)
    step = "prefix" if front else "suffix"
    steps = f'{{ {step} = "InstitutionName", with = "x" }}, {{ move = "StationName", to = "AdmissionID" }}'
    result = edited(before, steps, syntax=syntax)
    there = name.startswith("x") if front else name.endswith("x")
    new = name if not name or there else "x" + name if front else name + "x"
    after = image(AdmissionID=station)
    was, made = dict(elements(before, syntax)), dict(elements(bytes(result.data), syntax))
    assert made.pop(0x00380010) == elements(write(after, syntax), syntax)[0x00380010]
    assert read(bytes(result.data), syntax).InstitutionName == new
    assert {tag: e for tag, e in made.items() if tag != 0x00080080} == {
        tag: e for tag, e in was.items() if tag not in (0x00080080, 0x00081010)
    }
