"""Every row of Table E.1-1, at the top and in an item, under every option, in both kinds of VR."""

from __future__ import annotations

import re
from collections import Counter
from io import BytesIO
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from asyncroute.core.deidentification import Deidentify
from asyncroute.transform import confidentiality
from asyncroute.transform.base import Header
from asyncroute.transform.confidentiality import Row, rows, safe_private
from asyncroute.transform.deidentify import Deidentified, deidentify
from asyncroute.transform.elements import top
from asyncroute.transform.pseudonyms import Pseudonyms

pytestmark = pytest.mark.filterwarnings("ignore:VR lookup failed", "ignore:Invalid value")
SECRET = b"a secret of thirty-two bytes, or more"
NAMES = Pseudonyms(SECRET)
EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
HOLDER = 0x00082218
"""An unlisted sequence, which stays."""
UID, INNER_UID = "1.2.3.4.5", "1.2.3.4.6"
NAME = "Kowalczyk"
NOT_HERE = ("0000", "0002", "0004")
"""Groups that a data set has no elements of; removed where it does."""

VALUES: dict[str, Any] = {
    "AE": "KOWALCZYK", "AS": "041Y", "CS": "KOWALCZYK", "DA": "20240229", "DS": "71.5", "DT": "20240229101112.5+0100",
    "IS": "77", "TM": "101112", "UI": UID, "UR": "http://kowalczyk.example", "US": 4711, "SS": 4711, "UL": 4711,
    "SL": 4711, "FL": 4711.0, "FD": 4711.0, "OB": b"Kowalczy", "OW": b"Kowalczy", "UN": b"Kowalczy", "OF": b"Kowalczy",
}  # fmt: skip
VALUES_IN_BYTES = ("OB", "OW", "OF", "UN")
TEXTS = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")


def listed() -> list[Row]:
    return [row for row in rows() if re.fullmatch("[0-9a-f]{8}", row.tag) and not row.tag.startswith(NOT_HERE)]


def value_of(row: Row) -> Any:
    if row.vr == "SQ":
        item = Dataset()
        item.PatientName = NAME
        item.ReferencedSOPInstanceUID = INNER_UID
        item.CodeValue = "T-1"
        return Sequence([item])
    vr = row.vr.split(" or ")[-1]
    return described(row) if vr in TEXTS else VALUES[vr]


def described(row: Row) -> str:
    """Only what may be cleaned has another word in it."""
    return f"{NAME} chest" if {"descriptors", "patient"} & set(row.options) else NAME


def full(first: Dataset | None = None) -> Dataset:
    """A data set with every attribute of the table."""
    ds = first if first is not None else Dataset()
    for row in listed():
        if row.tag not in ("00420011", "00280301"):  # the first is refused, the second not in the table
            ds.add_new(Tag(int(row.tag, 16)), row.vr.split(" or ")[-1], value_of(row))
    return ds


def encoded(ds: Dataset, syntax: str) -> bytes:
    out = DicomBytesIO()
    out.is_little_endian = syntax != BIG
    out.is_implicit_VR = syntax == IMPLICIT
    write_dataset(out, ds)
    return out.getvalue()


def decoded(data: bytes, syntax: str) -> Dataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax  # type: ignore[assignment]
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    write_dataset(out, meta)
    raw = out.getvalue()
    length = len(raw).to_bytes(4, "little")
    return dcmread(BytesIO(bytes(128) + b"DICM\2\0\0\0UL\4\0" + length + raw + data))


def run(ds: Dataset, rule: Deidentify, syntax: str = EXPLICIT) -> tuple[Dataset, Deidentified, bytes]:
    header = Header(encoded(ds, syntax), syntax, "1.2.840.10008.5.1.4.1.1.2", UID)
    level = top(header.data, syntax)
    told = deidentify(level, header, rule, SECRET)
    data = level.level.encoded()
    return decoded(data, syntax), told, data


def expected(row: Row, columns: set[str]) -> str:
    """The outcome by the standard, written down once more."""
    codes = {row.options[name] for name in row.options if name in columns}
    if "C" in codes:
        if row.vr in ("DA", "DT", "TM"):
            return "shifted"
        if row.tag != "00080201" and (row.vr in TEXTS or row.vr == "SQ"):
            return "cleaned"
    elif "K" in codes:
        return "kept"
    outcomes = {"X": "gone", "Z": "empty", "X/Z": "empty", "U": "uid", "X/Z/U*": "references"}
    return outcomes.get(row.basic, "dummy")


def check(row: Row, ds: Dataset, outcome: str) -> None:
    tag = Tag(int(row.tag, 16))
    if outcome == "gone":
        assert tag not in ds
        return
    assert tag in ds
    value = ds[tag].value
    if isinstance(value, bytes) and row.vr not in VALUES_IN_BYTES:
        value = value.decode().rstrip(" \0")  # pydicom's dictionary does not know it
    if row.vr == "SQ":
        check_items(row, outcome, value)
    elif row.tag in ("00100010", "00100020", "00080050"):
        kind = "accession" if row.tag == "00080050" else "patient"
        assert value == NAMES.code(kind, NAME)
    elif outcome == "empty":
        assert value in ("", None)
    elif outcome == "dummy":
        assert value not in ("", None, b"")
        assert value != value_of(row)
        assert NAME.casefold() not in str(value).casefold()
    elif outcome == "uid":
        assert value == NAMES.uid(UID)
    elif outcome == "cleaned":
        assert value == "XXX chest"
    elif outcome == "shifted":
        check_shifted(row.vr, str(value))
    else:
        assert value == value_of(row)


def check_items(row: Row, outcome: str, items: Any) -> None:
    text = str(items)
    assert NAME not in text
    if outcome == "empty":
        assert len(items) == 0
        return
    assert len(items) == 1
    if outcome == "references":
        assert items[0].ReferencedSOPInstanceUID == NAMES.uid(INNER_UID)
    if outcome == "dummy" and row.tag != "00340001":  # whose items are treated element by element
        assert INNER_UID not in text
    if outcome in ("kept", "cleaned"):
        assert items[0].CodeValue == "T-1"


def check_shifted(vr: str, value: str) -> None:
    if vr == "TM":
        assert value == "101112"
        return
    assert re.fullmatch(r"20[12]\d{5}", value[:8])
    assert value[:8] < "20240229"
    assert value[8:] == ("" if vr == "DA" else "101112.5+0100")


RULES = {
    "basic": Deidentify(),
    "full dates": Deidentify(dates="keep"),
    "modified dates": Deidentify(dates="shift"),
    "descriptors": Deidentify(descriptors="clean"),
    "patient": Deidentify(retain=frozenset({"patient"})),
    "device": Deidentify(retain=frozenset({"device"})),
    "institution": Deidentify(retain=frozenset({"institution"})),
    "uids": Deidentify(retain=frozenset({"uids"})),
    "all": Deidentify(
        retain=frozenset({"patient", "device", "institution", "uids", "safe-private"}),
        dates="shift",
        descriptors="clean",
    ),
}
"""Image and class: 00080018 and the patient's own are in the table, so `full` has them."""


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize("name", RULES)
def test_every_attribute_of_the_table_gets_its_action_at_any_depth(name: str, syntax: str) -> None:
    rule = RULES[name]
    ds = full()
    ds.add_new(Tag(HOLDER), "SQ", Sequence([full()]))
    after, _, data = run(ds, rule, syntax)
    checked = Counter[str]()
    for row in listed():
        if row.tag == "00420011":
            continue
        outcome = expected(row, set(rule.columns))
        unknown = syntax == IMPLICIT and confidentiality._dictionary(int(row.tag, 16))[0] == ""
        if unknown and row.vr == "SQ" and outcome != "empty":
            outcome = "gone"  # nobody can look into it
        for level in (after, after[HOLDER].value[0]):
            try:
                check(row, level, outcome)
            except AssertionError as error:
                raise AssertionError(f"{row.tag} {row.vr} {row.name}, {row.basic} {row.options}: {outcome}") from error
        checked[outcome] += 1
    assert sum(checked.values()) > 640
    if name in ("basic", "descriptors", "modified dates"):
        assert NAME.encode() not in data
        assert INNER_UID.encode() not in data


def test_the_table_has_the_rows_of_the_standard() -> None:
    assert len(rows()) == 657
    assert len(safe_private()) == 87
    assert Counter(row.basic for row in rows()) == {
        "X": 417, "D": 93, "U": 55, "Z": 42, "X/D": 23, "X/Z": 11, "X/Z/D": 8, "Z/D": 6, "X/Z/U*": 2,
    }  # fmt: skip
