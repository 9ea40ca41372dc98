"""``explain``: routes, destinations and reasons, for people and as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.running import Cli, part10_files

CONFIG = """
[node]
data_dir = "data"
[[listener]]
ae_title = "ROUTER"
accept_calling = ["CT_*", "ER_*"]
[[destination]]
name = "pacs"
kind = "dicom"
host = "10.0.0.5"
port = 104
ae_title = "PACS"
calling_ae_title = "RT_{calling_aet}"
[[destination]]
name = "pacs2"
kind = "dicom"
host = "10.0.0.6"
port = 104
ae_title = "PACS2"
[[destination]]
name = "quality"
kind = "folder"
path = "quality"
[[group]]
name = "archive"
mode = "failover"
members = ["pacs", "pacs2"]
[[route]]
name = "tests"
match = { PatientID = ["TEST*", "PHANTOM*"] }
to = ["quality"]
final = true
[[route]]
name = "night"
match = { time = "18:00-06:00 UTC" }
to = ["quality"]
[[route]]
name = "requested"
match = { RequestAttributesSequence.AccessionNumber = "*" }
to = ["quality"]
[[route]]
name = "either"
match.any = [{ Modality = "XX" }, { peer = "10.2.0.0/16" }]
to = ["quality"]
[[route]]
name = "all but emergency"
unless = { calling_aet = "ER_*" }
to = ["archive"]
priority = "high"
final = true
[[route]]
name = "late"
to = ["quality"]
"""
NOON = ("--at", "2026-06-12T12:00+00:00")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "asyncroute.toml").write_text(CONFIG, "utf-8")
    part10_files(tmp_path / "images", 1)
    (file,) = (tmp_path / "images").iterdir()
    return file


def test_facts(cli: Cli, image: Path) -> None:
    done = cli("explain", image, "--from", "CT_A", "--json", *NOON)
    assert (done.status, done.err) == (0, "")
    facts = done.facts
    reasons = {route["name"]: route["why"] for route in facts["routes"]}
    assert reasons == {
        "tests": 'PatientID is "PAT-1", wanted ["TEST*", "PHANTOM*"]',
        "night": reasons["night"],
        "requested": 'RequestAttributesSequence.AccessionNumber is absent, wanted "*"',
        "either": 'none of any holds: Modality is "CT", wanted "XX"; peer is "127.0.0.1", wanted "10.2.0.0/16"',
        "all but emergency": None,
        "late": "not looked at: 'all but emergency' is final and applies",
    }
    assert reasons["night"].startswith("time is Fri ")
    assert reasons["night"].endswith(' wanted "18:00-06:00 UTC"')
    (first, *_) = facts["routes"]
    assert (first["key"], first["wanted"], first["found"]) == ("PatientID", '["TEST*", "PHANTOM*"]', '"PAT-1"')
    (way,) = facts["destinations"]
    assert (way["to"], way["group"]["mode"], way["priority"], way["when"]) == ("archive", "failover", "high", "now")
    titles = {each["name"]: each["calling_ae_title"] for each in way["destinations"]}
    assert titles == {"pacs": "RT_CT_A", "pacs2": "CT_A"}
    assert facts["notes"] == []
    assert facts["source"]["listener"] == "ROUTER@0.0.0.0:11112"


def test_words(cli: Cli, image: Path) -> None:
    done = cli("explain", image, "--from", "CT_A", "--peer", "10.2.3.4", *NOON)
    lines = done.out.splitlines()
    assert lines[0] == f"{image}: CT, CT_A at 10.2.3.4 calls ROUTER at ROUTER@0.0.0.0:11112"
    assert "  yes  either: to quality" in lines
    assert "  quality: by route either, now, priority normal" in lines
    assert "  archive, group of pacs, pacs2 (failover): by route all but emergency, now, priority high" in lines
    assert any("PACS@10.0.0.5:104, calling AE title RT_CT_A, transfer syntax Explicit VR" in line for line in lines)


def test_unless_and_the_hour(cli: Cli, image: Path) -> None:
    facts = cli("explain", image, "--from", "ER_1", "--at", "2026-06-12T23:00+00:00", "--json").facts
    applying = [route["name"] for route in facts["routes"] if route["applies"]]
    assert applying == ["night", "late"]
    (emergency,) = [route for route in facts["routes"] if route["name"] == "all but emergency"]
    assert emergency["why"] == 'unless calling_aet = "ER_*", which holds'
    assert emergency["found"] == '"ER_1"'


def test_who_could_not_call(cli: Cli, image: Path) -> None:
    notes = cli("explain", image, "--from", "MR_A", "--called", "OTHER", "--json", *NOON).facts["notes"]
    assert len(notes) == 2
    assert "does not accept the called AE title OTHER" in notes[0]
    assert "does not accept the calling AE title MR_A" in notes[1]


def test_an_image_that_goes_nowhere(cli: Cli, image: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    head, *routes = CONFIG.split("[[route]]")
    file.write_text(f"{head}[[route]]{routes[0]}", "utf-8")
    done = cli("explain", image, "-c", file)
    assert done.status == 1
    assert "  none: held: no route matches" in done.out.splitlines()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.dcm"], "nothing.dcm: no such file or directory"),
        (["asyncroute.toml"], "asyncroute.toml: not a DICOM Part 10 file"),
        (["images", "--from", "A"], "images: is a directory"),
        (["{image}", "--at", "noon"], "--at 'noon': write a date and time"),
        (["{image}", "--listener", "X"], "no listener is called 'X'; there is ROUTER@0.0.0.0:11112"),
    ],
)
def test_wrong_use(cli: Cli, image: Path, arguments: list[str], words: str) -> None:
    done = cli("explain", *(each.format(image=image) for each in arguments))
    assert done.status == 1
    assert words in done.error


# --- with transforms --------------------------------------------------------------------------------------------------

TRANSFORMS = """
[[route]]
name = "site a"
match = { calling_aet = "CT_A" }
to = ["quality"]
transform = ["site-a"]
final = true
[transform.site-a]
steps = [
  { prefix = "PatientID", with = "AHI-" },
  { set = "InstitutionName", to = "Site A of {calling_aet}" },
  { set = "Modality", to = "{StudyDescription}" },
]
"""


def with_transforms(tmp_path: Path) -> None:
    head, *routes = CONFIG.split("[[route]]")
    (tmp_path / "asyncroute.toml").write_text(head + TRANSFORMS + "[[route]]" + routes[0], "utf-8")


def test_what_a_transform_would_change(cli: Cli, image: Path, tmp_path: Path) -> None:
    with_transforms(tmp_path)
    file = tmp_path / "asyncroute.toml"
    file.write_text(
        file.read_text("utf-8").replace('  { set = "Modality", to = "{StudyDescription}" },\n', ""), "utf-8"
    )
    (way,) = cli("explain", image, "--from", "CT_A", "--json").facts["destinations"]
    changed = {each["attribute"]: (each["before"], each["after"]) for each in way["changes"]}
    assert changed["PatientID"] == ("PAT-1", "AHI-PAT-1")
    assert changed["InstitutionName"][1] == "Site A of CT_A"
    assert (way["transform"], way["held"]) == ("site-a", None)
    lines = cli("explain", image, "--from", "CT_A").out.splitlines()
    assert '    PatientID: "PAT-1" -> "AHI-PAT-1" (site-a, step 1 (prefix))' in lines


def test_what_a_transform_refuses(cli: Cli, image: Path, tmp_path: Path) -> None:
    with_transforms(tmp_path)
    file = tmp_path / "asyncroute.toml"
    file.write_text(file.read_text("utf-8").replace("{StudyDescription}", "no modality of ours"), "utf-8")
    (way,) = cli("explain", image, "--from", "CT_A", "--json").facts["destinations"]
    assert "Modality" in way["held"]
    assert way["changes"] == []
