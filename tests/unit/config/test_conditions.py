"""How values of `match` and `unless` are read, by what they then match."""

from __future__ import annotations

from datetime import datetime

import pytest

from asyncroute.config import compile_routes, loads
from asyncroute.core.conditions import Condition
from asyncroute.core.model import Source
from asyncroute.core.paths import Step

BASE = """
[[listener]]
ae_title = "MAIN"
port = 11112
[[listener]]
ae_title = "MAIN"
host = "127.0.0.1"
port = 11113
[[listener]]
ae_title = "SIDE"
host = "::1"
port = 11114
[[destination]]
name = "d"
kind = "folder"
path = "out"
[[route]]
name = "r"
to = ["d"]
"""
SOURCE = Source("CT_A", "MAIN", "MAIN", "10.1.2.3")


def matches(condition: str, attributes: dict[int, tuple[str, ...]], source: Source = SOURCE) -> bool:
    return bool(compile_routes(loads(f"{BASE}match.{condition}\n")).decide(source, attributes))


ATTRIBUTES = [
    # text
    ('Modality = "CT"', 0x00080060, ["CT"], ["MR", "", "ct", "CTX"]),
    ('Modality = ["CT", "P?"]', 0x00080060, ["CT", "PT", "PX"], ["MR", "P", "PETX"]),
    ('"(0008,0060)" = "CT"', 0x00080060, ["CT"], ["MR"]),
    ('00080060 = "CT"', 0x00080060, ["CT"], ["MR"]),
    ('PatientID = "1..5"', 0x00100020, ["1..5"], ["3"]),
    ("PatientID = 123", 0x00100020, ["123"], ["0123", "123.0"]),
    ('PatientName = "M\u00fcller^*"', 0x00100010, ["M\u00fcller^Eva"], ["Muller^Eva"]),
    ('StudyDescription = "re:(?i)chest"', 0x00081030, ["CT Chest pa"], ["Head"]),
    ('StudyDescription = "re:[[a]x"', 0x00081030, ["[x", "ax"], ["x"]),
    ('StudyDescription = "re:^$"', 0x00081030, [], ["", "x"]),
    ('InstitutionName = " Site A "', 0x00080080, ["Site A"], ["Site"]),
    ('PatientName = " A "', 0x00100010, [" A"], ["A"]),
    ('AccessionNumber = ""', 0x00080050, [""], ["1"]),
    ('AccessionNumber = "*"', 0x00080050, ["1"], [""]),
    ('AccessionNumber = ["", "X*"]', 0x00080050, ["", "X1"], ["1"]),
    # numbers
    ('SeriesNumber = "1..5"', 0x00200011, ["1", "3", "5", "+4", "05", " 2 "], ["0", "6", "x", "", "nan"]),
    ('SeriesNumber = "..5"', 0x00200011, ["-9", "5"], ["6"]),
    ('SeriesNumber = "5.."', 0x00200011, ["5", "99999"], ["4"]),
    ("SeriesNumber = 5", 0x00200011, ["5", "5.0", "05"], ["50"]),
    ('SeriesNumber = "5"', 0x00200011, ["5", "5.0"], ["50"]),
    ('SeriesNumber = "5*"', 0x00200011, ["5", "50"], ["15"]),
    ("SliceThickness = [0.5, '2..']", 0x00180050, ["0.5", "0.50", "2", "5"], ["1"]),
    ('SliceThickness = "-1.5...5"', 0x00180050, ["-1.5", "0.5"], ["0.6"]),
    ("Rows = 512", 0x00280010, ["512"], ["256"]),
    ('PixelSpacing = "..0.2"', 0x00280030, ["0.1"], ["0.3"]),
    # dates and times
    ('StudyDate = "20240131"', 0x00080020, ["20240131", "2024.01.31"], ["20240130", "", "x"]),
    ('StudyDate = "2024-01-31"', 0x00080020, ["20240131"], ["20240130"]),
    ("StudyDate = 2024-01-31", 0x00080020, ["20240131"], ["20240130"]),
    ('StudyDate = "2024"', 0x00080020, ["20240101", "20241231"], ["20231231", "20250101"]),
    ('StudyDate = "2024*"', 0x00080020, ["20240101"], ["20231231"]),
    ('StudyDate = "20240101.."', 0x00080020, ["20240101", "20991231"], ["20231231"]),
    ('StudyDate = "..2023-06"', 0x00080020, ["20230630", "19000101"], ["20230701"]),
    ('StudyDate = "2023..2024"', 0x00080020, ["20230101", "20241231"], ["20221231", "20250101"]),
    ('StudyTime = "08:00..17:30"', 0x00080030, ["080000", "1730", "173059.999999", "12"], ["0759", "1731", "25x"]),
    ("StudyTime = 08:30:00", 0x00080030, ["083000", "083000.5", "08:30:00"], ["083001"]),
    ('StudyTime = ["22..", "..05"]', 0x00080030, ["230000", "055959"], ["060000", "215959"]),
    (
        'AcquisitionDateTime = "2024-01-31 08:30.."',
        0x0008002A,
        ["20240131083000", "20240131083000.123+0100", "2025"],
        ["20240131082959.9"],
    ),
    # ages
    ('PatientAge = "..017Y"', 0x00101010, ["017Y", "003M", "002W", "005D"], ["018Y", "17", ""]),
    ('PatientAge = "018Y..065Y"', 0x00101010, ["018Y", "065Y"], ["017Y", "066Y"]),
    ('PatientAge = "045Y"', 0x00101010, ["045Y", "45Y"], ["046Y", "045M"]),
    ('PatientAge = "6M"', 0x00101010, ["006M"], ["060M", "007M"]),
    ('PatientAge = "0*Y"', 0x00101010, ["045Y"], ["100Y"]),
    # UIDs
    ('SOPClassUID = "CTImageStorage"', 0x00080016, ["1.2.840.10008.5.1.4.1.1.2"], ["1.2.840.10008.5.1.4.1.1.4"]),
    ('SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"', 0x00080016, ["1.2.840.10008.5.1.4.1.1.2"], ["1.2"]),
    ('StudyInstanceUID = "1.2.3.*"', 0x0020000D, ["1.2.3.4"], ["1.2.4.3"]),
    # private: numbers where only numbers can be meant
    ('"(0019,1010)" = "10..20"', 0x00191010, ["15", "10.0"], ["9", "x"]),
    ('"(0019,1010)" = 15', 0x00191010, ["15", "15.0"], ["16"]),
    ('"(0019,1010)" = "a..b"', 0x00191010, ["a..b"], ["b"]),
    ('"(0019,1010)" = "AX*"', 0x00191010, ["AXIAL"], ["COR"]),
]


@pytest.mark.parametrize(("condition", "tag", "right", "wrong"), ATTRIBUTES)
def test_attributes(condition: str, tag: int, right: list[str], wrong: list[str]) -> None:
    assert [value for value in right if not matches(condition, {tag: (value,)})] == []
    assert [value for value in wrong if matches(condition, {tag: (value,)})] == []


@pytest.mark.parametrize(("condition", "tag"), [row[:2] for row in ATTRIBUTES])
def test_any_of_several_values_is_enough_and_an_absent_attribute_is_empty(condition: str, tag: int) -> None:
    right, wrong = next((row[2], row[3]) for row in ATTRIBUTES if row[0] == condition)
    values = next((value for value in right if value), None)
    if values is not None:
        assert matches(condition, {tag: (*wrong, values)})
    assert matches(condition, {}) is ("" in right)
    assert matches(condition, {tag: ()}) is ("" in right)
    assert matches(condition, {tag: ("", "")}) is ("" in right)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (r"'ORIGINAL\PRIMARY\AXIAL'", True),
        (r"'ORIGINAL\PRIMARY*'", True),
        (r"'*\AXIAL'", True),
        (r"'ORIGINAL\AXIAL'", False),
        (r"'PRIMARY\*'", False),
        (r"['CT', 'ORIGINAL\*']", True),
        (r"['AXIAL', 'X\*']", True),
        (r"['X', 're:PRIMARY.AXIAL', 'X\*']", False),
        ("'re:PRIMARY.AXIAL'", False),
    ],
)
def test_a_text_with_backslashes_is_about_several_values(value: str, expected: bool) -> None:
    assert matches(f"ImageType = {value}", {0x00080008: ("ORIGINAL", "PRIMARY", "AXIAL")}) is expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('calling_aet = "CT_*"', True),
        ('calling_aet = "CT_[BC]"', False),
        ('calling_aet = ["MR", "re:_A$"]', True),
        ('called_aet = "MAIN"', True),
        ('called_aet = "SIDE"', False),
        ('peer = "10.0.0.0/8"', True),
        ('peer = "10.1.2.3"', True),
        ('peer = ["10.2.0.0/16", "2001:db8::/32"]', False),
        ('peer = "*"', True),
    ],
)
def test_facts_of_the_source(condition: str, expected: bool) -> None:
    assert matches(condition, {}) is expected


LABELS = ["MAIN@0.0.0.0:11112", "MAIN@127.0.0.1:11113", "SIDE@[::1]:11114"]


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ('"MAIN"', ["MAIN", *LABELS[:2]]),
        ('"M*"', ["MAIN", *LABELS[:2]]),
        ('"re:^(MAIN|SIDE)$"', ["MAIN", "SIDE", *LABELS]),
        ("11112", LABELS[:1]),
        ('"11113"', LABELS[1:2]),
        ('"127.0.0.1:*"', LABELS[1:2]),
        (f'"{LABELS[1]}"', LABELS[1:2]),
        ("11114", ["SIDE", LABELS[2]]),
        ('[11112, "SIDE"]', [LABELS[0], "SIDE", LABELS[2]]),
    ],
)
def test_a_listener_is_known_by_its_title_port_or_both(value: str, names: list[str]) -> None:
    """An image's source may call its listener by label or, where that is enough to tell it apart, by AE title."""
    known = [
        name for name in ("MAIN", "SIDE", *LABELS) if matches(f"listener = {value}", {}, Source("X", "Y", name, "::1"))
    ]
    assert sorted(known) == sorted(names)


def test_the_table_names_the_attributes_it_needs() -> None:
    text = BASE + 'match = { Modality = "CT", calling_aet = "X" }\nunless = { "(0019,1010)" = "Y" }\n'
    assert compile_routes(loads(text)).tags == {0x00080060, 0x00191010}


# --- Tables in tables, presence, sequences, time ----------------------------------------------------------------------

CT_A, MR_B = Source("CT_A", "R", "L", "10.1.2.3"), Source("MR_B", "R", "L", "10.9.9.9")
CHEST, HEAD = {0x00181030: ("chest",), 0x00080060: ("CT",)}, {0x00181030: ("head",), 0x00080060: ("MR",)}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        # for CT_A with CHEST, CT_A with HEAD, MR_B with CHEST, MR_B with HEAD
        ('any = [{ ProtocolName = "chest" }, { calling_aet = "CT_*" }]', "yyyn"),
        ('all = [{ ProtocolName = "chest" }, { calling_aet = "CT_*" }]', "ynnn"),
        ('not = { ProtocolName = "chest" }', "nyny"),
        ('not = { ProtocolName = "chest", calling_aet = "CT_*" }', "nyyy"),
        ('not = { any = [{ ProtocolName = "chest" }, { calling_aet = "CT_*" }] }', "nnny"),
        ('any = [{ Modality = "CT", not = { calling_aet = "CT_*" } }, { Modality = "MR" }]', "nyyy"),
        ('any = [{ peer = "10.9.0.0/16" }, { all = [{ Modality = "CT" }, { not = { PatientID = "*" } }] }]', "ynyy"),
    ],
)
def test_tables_in_tables(condition: str, expected: str) -> None:
    table = compile_routes(loads(f"{BASE}match.{condition}\n"))
    cases = [(source, image) for source in (CT_A, MR_B) for image in (CHEST, HEAD)]
    assert "".join("ny"[bool(table.decide(*case))] for case in cases) == expected
    assert {0x00181030, 0x00080060, 0x00100020} >= table.tags


@pytest.mark.parametrize(
    ("condition", "not_there", "empty", "filled"),
    [
        ('PatientID = "present"', False, True, True),
        ('PatientID = "absent"', True, False, False),
        ('PatientID = ["absent", "7*"]', True, False, True),
        ('PatientID = ""', True, True, False),
        ('PatientID = "*"', False, False, True),
        ('ReferencedStudySequence = "present"', False, True, True),
        ('ReferencedStudySequence = ""', True, True, False),
        ('ReferencedStudySequence = "*"', False, False, True),
        ('IconImageSequence.PixelData = "absent"', True, False, False),
    ],
)
def test_presence(condition: str, not_there: bool, empty: bool, filled: bool) -> None:
    table = compile_routes(loads(f"{BASE}match.{condition}\n"))
    (key,) = table.tags or table.paths
    found = [bool(table.decide(SOURCE, {key: values} if values else {})) for values in ((), ("",), ("77",))]
    assert found == [not_there, empty, filled]


@pytest.mark.parametrize(
    "written",
    [
        'match = { "RequestAttributesSequence.0.AccessionNumber" = "A*" }',
        'match.RequestAttributesSequence.0.AccessionNumber = "A*"',
        'match = { RequestAttributesSequence.0 = { AccessionNumber = "A*" } }',
    ],
)
def test_a_sequence_is_written_in_one_key_or_as_toml_reads_dots(written: str) -> None:
    table = compile_routes(loads(f"{BASE}{written}\n"))
    (path,) = table.paths
    assert path == (Step(0x00400275, "", 0), Step(0x00080050))
    assert [bool(table.decide(SOURCE, {path: (value,)})) for value in ("A1", "B1")] == [True, False]
    (condition,) = table.rules[0].match
    assert isinstance(condition, Condition)
    assert (condition.name, condition.wanted) == ("RequestAttributesSequence.0.AccessionNumber", '"A*"')


@pytest.mark.parametrize(
    ("value", "opened"),
    [
        ('"18:00-06:00 UTC"', ["2026-06-12 18:00", "2026-06-13 05:59"]),
        ('"Mon-Fri 08:00-17:00 UTC"', ["2026-06-12 09:00"]),
        ('["Sat,Sun UTC", "18:00-06:00 UTC"]', ["2026-06-12 18:00", "2026-06-13 05:59", "2026-06-13 09:00"]),
    ],
)
def test_time_of_day(value: str, opened: list[str]) -> None:
    table = compile_routes(loads(f"{BASE}match.time = {value}\n"))
    moments = ["2026-06-12 09:00", "2026-06-12 17:59", "2026-06-12 18:00", "2026-06-13 05:59", "2026-06-13 09:00"]
    found = [text for text in moments if table.decide(SOURCE, {}, datetime.fromisoformat(f"{text}+00:00").timestamp())]
    assert found == opened


def test_watch() -> None:
    table = compile_routes(loads(f'{BASE}match.watch = "incoming*"\n'))
    read, received = Source("", "", "watch:incoming-2", ""), Source("CT", "R", "incoming-2@0.0.0.0:1", "::1")
    assert [bool(table.decide(source, {})) for source in (read, received)] == [True, False]
