"""``[[test]]`` cases, run by ``check``; and what ``check`` notes about routes."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncroute.config.check import _is_own_address
from tests.unit.cli.running import Cli, part10_files

CONFIG = """
[node]
data_dir = "data"
[[listener]]
ae_title = "ROUTER"
[[listener]]
ae_title = "PARTNERS"
port = 11113
[[destination]]
name = "pacs"
kind = "folder"
path = "pacs"
[[destination]]
name = "pacs2"
kind = "folder"
path = "pacs2"
[[destination]]
name = "quality"
kind = "folder"
path = "quality"
[[group]]
name = "both"
mode = "all"
members = ["pacs", "pacs2"]
[[route]]
name = "tests"
match = { PatientID = "TEST*" }
to = ["quality"]
final = true
[[route]]
name = "partners by night"
match = { listener = "PARTNERS", time = "18:00-06:00 UTC" }
to = ["quality"]
[[route]]
name = "requested"
match = { "RequestAttributesSequence.AccessionNumber" = "A*", PatientName = "M\u00fcller*" }
to = ["both"]
[[route]]
name = "private"
match = { "(0029,xx10,ACME)" = "1..5", Rows = 512 }
to = ["pacs"]
[[route]]
name = "this one"
match = { SOPInstanceUID = "1.2.3" }
to = ["pacs2"]
"""


def write(folder: Path, *cases: str) -> Path:
    file = folder / "asyncroute.toml"
    file.write_text(CONFIG + "".join(f'[[test]]\nname = "case {n}"\n{case}\n' for n, case in enumerate(cases)), "utf-8")
    return file


GOOD = [
    'given = { PatientID = "TEST1" }\nexpect = { to = ["quality"], held = false, PatientID = "TEST*", Modality = "" }',
    'given = { listener = "PARTNERS", time = "2026-06-12T20:00:00+00:00" }\nexpect.to = ["quality"]',
    "given = { listener = 11113, time = 2026-06-12T12:00:00Z }\nexpect = { to = [], held = true }",
    'given = { "RequestAttributesSequence.0.AccessionNumber" = "A1", PatientName = "M\u00fcller^Eva" }\n'
    'expect = { to = ["both"] }',
    'given = { RequestAttributesSequence.AccessionNumber = "A1", PatientName = "M\u00fcller^Eva" }\n'
    'expect = { to = ["pacs", "pacs2"] }',
    'given = { "(0029,xx10,ACME)" = "3", Rows = 512 }\nexpect = { to = ["pacs"], "(0029,xx10,ACME)" = "present" }',
    'given = { file = "images/one.dcm" }\nexpect = { held = true, Modality = "CT", PatientID = "PAT-1" }',
    'given = { file = "images/one.dcm", PatientID = "TEST9" }\nexpect = { to = ["quality"] }',
]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    part10_files(tmp_path / "images", 1)
    (file,) = (tmp_path / "images").iterdir()
    return file.rename(file.with_name("one.dcm"))


def test_cases_that_hold(cli: Cli, tmp_path: Path, image: Path) -> None:
    write(tmp_path, *GOOD)
    done = cli("check")
    assert (done.status, done.err) == (0, "")
    assert f"  tests: {len(GOOD)} of {len(GOOD)} as expected" in done.out.splitlines()
    assert cli("check", "--json").facts["tests"][0] == {"name": "case 0", "ok": True, "failures": [], "notes": []}


BAD = [
    (
        'given.PatientID = "X"\nexpect.to = ["pacs"]',
        "to: expected pacs, but it goes to nothing (no route matches)",
    ),
    ('given = { PatientID = "TEST" }\nexpect.to = ["both"]', "to: expected pacs, pacs2, but it goes to quality"),
    ('given = { PatientID = "TEST" }\nexpect.held = true', "held: expected true, but it is not held"),
    ('given = { PatientID = "X" }\nexpect.held = false', "held: expected false, but: no route matches"),
    ('given = { PatientID = "X" }\nexpect.PatientID = "Y"', 'PatientID: expected "Y", but it is "X"'),
    ('given = { PatientID = "X" }\nexpect.AccessionNumber = "*"', 'AccessionNumber: expected "*", but it is absent'),
    ('given = { file = "broken.dcm" }\nexpect.to = []', "the image cannot be made: File is missing DICOM File Meta"),
]


def test_each_failure_is_one_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "broken.dcm").write_bytes(b"not an image")
    write(tmp_path, *(case for case, _ in BAD))
    done = cli("check")
    assert done.status == 1
    assert done.out.splitlines()[-1] == f"  tests: 0 of {len(BAD)} as expected"
    lines = done.err.splitlines()
    assert len(lines) == len(BAD)
    for n, (line, (_, words)) in enumerate(zip(lines, BAD, strict=True)):
        assert line.startswith(f"test case {n}: {words}")
    assert [test["ok"] for test in cli("check", "--json").facts["tests"]] == [False] * len(BAD)


WRONG = [
    (
        'given.PatientId = "X"\nexpect.held = true',
        'given.PatientId: unknown attribute, did you mean "PatientID"?',
    ),
    ('given = { calling = "X" }\nexpect.held = true', 'given.calling: unknown attribute, did you mean "calling_aet"?'),
    ('given = { listener = "X" }\nexpect.held = true', "given.listener: no such listener; there is ROUTER@"),
    ('given = { time = "noon" }\nexpect.held = true', "given.time: must be a date and time such as "),
    ('given = { file = "no.dcm" }\nexpect.held = true', "given.file: no such file: "),
    ('given = { Rows = "many" }\nexpect.held = true', 'given.Rows: must be a whole number, not "many"'),
    ('given = { SliceThickness = "x" }\nexpect.held = true', 'given.SliceThickness: must be a number, not "x"'),
    ('given = { PixelData = "x" }\nexpect.held = true', "given.PixelData: PixelData has no value that can be written"),
    ("given = { any = [] }\nexpect.held = true", "given.any: is given as it is: only facts and attributes"),
    (
        "given.PatientID = true\nexpect.held = true",
        "given.PatientID: must be text in quotes, a number, or a list",
    ),
    ("given = 7\nexpect.held = true", "given: must be a table, such as"),
    ("given = {}\nexpect = {}", 'expect: must say what shall be, such as { to = ["pacs"] }'),
    ("given = {}\nexpect.held = 1", "expect.held: must be true or false, not 1"),
    ('given = {}\nexpect.to = "pacs"', "expect.to: must be a list of destinations in brackets"),
    (
        'given = {}\nexpect.to = ["pasc"]',
        'expect.to[0]: no destination or group is called "pasc", did you mean "pacs"?',
    ),
    ('given = {}\nexpect.Modalty = "CT"', 'expect.Modalty: unknown attribute, did you mean "Modality"?'),
    ('given = {}\nexpect.calling_aet = "X"', 'expect.calling_aet: is no attribute: "to", "held" and attributes can'),
    ("given = {}\nexpects.held = true\nexpect.held = true", 'expects: unknown key "expects", did you mean "expect"?'),
]


@pytest.mark.parametrize(("case", "words"), WRONG)
def test_a_wrong_case_is_a_mistake_with_its_place(cli: Cli, tmp_path: Path, case: str, words: str) -> None:
    file = write(tmp_path, case)
    done = cli("check", "-c", file)
    assert done.status == 1
    assert f": test[0].{words}" in done.error


# --- what check notes -------------------------------------------------------------------------------------------------

ROUTES = """
[node]
data_dir = "data"
[[listener]]
[[destination]]
name = "d"
kind = "folder"
path = "out"
"""


def route(name: str, keys: str) -> str:
    return f'[[route]]\nname = "{name}"\nto = ["d"]\n{keys}\n'


@pytest.mark.parametrize(
    ("final", "later", "unreachable"),
    [
        ("", "", True),
        ("", 'match = { Modality = "CT" }', True),
        ('match = { Modality = "CT" }', "", False),
        ('match = { Modality = ["CT", "MR"] }', 'match = { Modality = "CT", PatientID = "1" }', True),
        ('match = { Modality = "CT" }', 'match = { Modality = ["CT", "MR"] }', False),
        ('match = { calling_aet = "CT_*" }', 'match = { calling_aet = "CT_A*" }', True),
        ('match = { calling_aet = "CT_A*" }', 'match = { calling_aet = "CT_*" }', False),
        ('match = { calling_aet = "CT_?" }', 'match = { calling_aet = "CT_A" }', True),
        ('match = { PatientID = "*" }', 'match = { PatientID = "" }', False),
        ('match = { PatientID = "*" }', 'match = { PatientID = "re:x" }', False),
        ('match = { PatientID = "re:^A" }', 'match = { PatientID = "A1" }', True),
        ('match = { SeriesNumber = "1..9" }', 'match = { SeriesNumber = "2..3" }', True),
        ('match = { SeriesNumber = "2..3" }', 'match = { SeriesNumber = "1..9" }', False),
        ('match = { peer = "10.0.0.0/8" }', 'match = { peer = ["10.2.0.0/16", "10.3.0.1"] }', True),
        ('match = { peer = "10.0.0.0/8" }', 'match = { peer = "*" }', False),
        ('unless = { Modality = "CT" }', 'match = { Modality = "MR" }', False),
        ('unless = { Modality = "CT" }', 'unless = { Modality = "CT" }', True),
        ('match.not = { Modality = "CT" }', 'match.not = { Modality = "CT" }', True),
        ('match.time = "18:00-06:00"', 'match.time = "20:00-22:00"', False),
    ],
)
def test_routes_that_no_image_reaches(cli: Cli, tmp_path: Path, final: str, later: str, unreachable: bool) -> None:
    file = tmp_path / "asyncroute.toml"
    file.write_text(ROUTES + route("first", f"{final}\nfinal = true") + route("second", later))
    notes = cli("check", "--json").facts["notes"]
    told = ["route second: never reached: 'first', which is final, wants all that it wants"]
    assert notes == (told if unreachable else [])
    file.write_text(ROUTES + route("first", final) + route("second", later))
    assert cli("check", "--json").facts["notes"] == [], "it is not final"


def test_notes_count_where_asked(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "asyncroute.toml").write_text(ROUTES + route("first", "final = true") + route("second", ""))
    assert cli("check").status == 0
    done = cli("check", "--strict")
    assert done.status == 1
    assert "asyncroute.toml: not as it should be" in done.out
    (tmp_path / "asyncroute.toml").write_text(ROUTES + route("first", ""))
    assert cli("check", "--strict").status == 0


def test_a_loop_by_another_address_of_this_machine(cli: Cli, tmp_path: Path) -> None:
    loop = '[[destination]]\nname = "us"\nkind = "dicom"\nhost = "{}"\nport = 11112\nae_title = "ASYNCROUTE"\n'
    file = tmp_path / "asyncroute.toml"
    file.write_text(ROUTES + loop.format("127.8.9.10") + route("first", ""))
    assert "is this router's own listener[0]" in cli("check").error
    file.write_text(ROUTES + loop.format("192.0.2.1") + route("first", ""))
    assert cli("check").status == 0
    own = {host: _is_own_address(host) for host in ("127.8.9.10", "192.0.2.1", "localhost", "")}
    assert own == {"127.8.9.10": True, "192.0.2.1": False, "localhost": False, "": False}


COERCION = """
[[route]]
name = "site a"
match = { calling_aet = "CT_A" }
to = ["pacs", "pacs2"]
transform = ["site-a"]
[transform.site-a]
steps = [{ prefix = "PatientID", with = "AHI-" }, { suffix = "AccessionNumber", with = "-A" }]
[transform.idle]
steps = [{ delete = "PatientComments" }]
"""


def test_cases_see_what_is_sent(cli: Cli, tmp_path: Path) -> None:
    file = write(
        tmp_path,
        'given = { calling_aet = "CT_A", PatientID = "1" }\nexpect = { to = ["both"], PatientID = "AHI-1" }',
        'given = { calling_aet = "CT_A", PatientID = "1" }\nexpect = { PatientID = "1" }',
        f'given = {{ calling_aet = "CT_A", AccessionNumber = "{"9" * 16}" }}\nexpect = {{ held = false }}',
        f'given = {{ calling_aet = "CT_A", AccessionNumber = "{"9" * 16}" }}\nexpect = {{ held = true }}',
    )
    file.write_text(file.read_text("utf-8") + COERCION, "utf-8")
    done = cli("check", "--json")
    assert done.status == 1
    failures = [test["failures"] for test in done.facts["tests"]]
    assert (failures[0], failures[1], failures[3]) == ([], ['PatientID: expected "1", but it is "AHI-1"'], [])
    assert failures[2][0].startswith("held: expected false, but: ")
    assert done.facts["notes"] == [
        "transform site-a: its suffix of AccessionNumber leaves those in the Request Attributes Sequence as they are, "
        "so that they differ: add everywhere = true",
        "transform idle: no route names it",
    ]
    text = file.read_text("utf-8")
    file.write_text(text.replace('with = "-A" }', 'with = "-A", everywhere = true }'), "utf-8")
    assert cli("check", "--json").facts["notes"] == ["transform idle: no route names it"]
