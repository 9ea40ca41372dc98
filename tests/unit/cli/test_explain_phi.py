"""``explain --phi``: the text that would leave an image on each way, why it is there, and what is not looked at."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.sequence import Sequence

from tests.support.converted import file_of, read
from tests.unit.cli.running import Cli
from tests.unit.pages import FENCED, section

CONFIG = """
[node]
data_dir = "data"
[[listener]]
ae_title = "ROUTER"
[[destination]]
name = "archive"
kind = "folder"
path = "archive"
[[destination]]
name = "research"
kind = "folder"
path = "research"
[[route]]
name = "care"
to = ["archive"]
[[route]]
name = "study"
to = ["research"]
transform = ["research"]
[transform.research]
secret_file = "research.secret"
steps = [
  { deidentify = "basic", descriptors = "clean", retain = ["device", "institution"] },
]
"""
TELLING = "SeriesDescription"


def image(folder: Path, name: str = "CT_small.dcm", **values: Any) -> Path:
    """A real image that has names where they should not be."""
    data = read(file_of(name))
    for each in [e for e in data if e.tag.group & 1]:
        del data[each.tag]
    data.PatientName, data.PatientID = "Kowalczyk^Anna", "P-4711"
    data.SeriesDescription = "Thorax, ask Smith about KOWALCZYK"
    data.StudyDescription = "Thorax"
    data.InstitutionName = "St. Mary"
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "T-D3000", "SRT", "Chest"
    data.ProcedureCodeSequence = Sequence([code])
    for keyword, value in values.items():
        setattr(data, keyword, value)
    path = folder / "image.dcm"
    data.save_as(path)
    return path


@pytest.fixture
def site(tmp_path: Path, cli: Cli) -> Path:
    (tmp_path / "asyncroute.toml").write_text(CONFIG, "utf-8")
    assert cli("secret", "research.secret").status == 0
    return tmp_path


def ways(cli: Cli, path: Path) -> dict[str, dict[str, Any]]:
    done = cli("explain", path, "--phi", "--json")
    assert done.status == 0, done
    return {way["to"]: way["phi"] for way in done.facts["destinations"]}


def reasons(phi: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {text["attribute"]: ("\\".join(text["values"]), text["why"]) for text in phi["text"]}


def test_each_text_and_why_it_is_there(cli: Cli, site: Path) -> None:
    found = ways(cli, image(site))
    plain, left = reasons(found["archive"]), reasons(found["research"])
    assert plain["PatientName"] == ("Kowalczyk^Anna", "the basic profile would not leave it")
    assert plain["ProcedureCodeSequence.0.CodeMeaning"] == ("Chest", "the basic profile leaves it")
    assert left["PatientName"][0] != "Kowalczyk^Anna"
    step = "research, step 1 (deidentify)"
    assert left["PatientName"][1] == f"changed by {step}"
    assert left[TELLING] == ("Thorax, ask Smith about XXX", f"cleaned by {step}")
    assert left["StudyDescription"] == ("Thorax", "descriptive text: nothing in it is known to identify")
    assert left["InstitutionName"] == ("St. Mary", 'retain = "institution"')
    assert left["ProcedureCodeSequence.0.CodeMeaning"] == ("Chest", "the profile leaves it")
    assert left["DeidentificationMethod"][1] == f"added by {step}"
    assert left["DeidentificationMethodCodeSequence.0.CodeMeaning"][1] == f"added by {step}"
    (text,) = (text for text in found["research"]["text"] if text["attribute"] == TELLING)
    assert (text["tag"], text["vr"]) == ("(0008,103E)", "LO")


def test_nothing_is_listed_that_was_not_asked_for(cli: Cli, site: Path) -> None:
    done = cli("explain", image(site), "--json")
    assert all("phi" not in way for way in done.facts["destinations"])


def test_what_is_not_looked_at_is_told(cli: Cli, site: Path) -> None:
    found = ways(cli, image(site))
    pixels = "what is in the pixels is not looked at"
    assert found["research"]["notes"] == [pixels]
    assert found["archive"]["notes"] == [
        pixels,
        "what follows the pixel data is not looked at, and leaves as it is",
    ]


def test_an_image_without_pixels_is_looked_at_whole(cli: Cli, site: Path) -> None:
    found = ways(cli, image(site, "reportsi.dcm"))
    assert found["archive"]["notes"] == []
    assert any("TextValue" in text["attribute"] for text in found["archive"]["text"])


def test_of_a_held_image_nothing_leaves(cli: Cli, site: Path) -> None:
    path = image(site, BurnedInAnnotation="YES")
    found = ways(cli, path)
    assert found["research"] == {"text": [], "notes": ["it is held: nothing leaves"]}
    assert "    text that would leave: none" in cli("explain", path, "--phi").out.splitlines()


def test_a_header_that_cannot_be_read_is_told(cli: Cli, site: Path) -> None:
    path = image(site)
    data = path.read_bytes()
    at = data.index(b"\x08\x00\x3e\x10LO")
    path.write_bytes(data[: at + 4] + b"??" + data[at + 6 :])
    found = ways(cli, path)
    assert found["archive"]["text"] == []
    assert found["archive"]["notes"][0].startswith("its elements cannot be told apart: ")
    assert found["research"]["notes"] == ["it is held: nothing leaves"]


def test_a_header_that_is_too_long_is_told(cli: Cli, site: Path) -> None:
    found = ways(cli, image(site, TextValue="x" * (6 << 20)))
    assert any(note.startswith("its header is too long") for note in found["archive"]["notes"])


def test_a_deflated_image_is_inflated(cli: Cli, site: Path) -> None:
    path = image(site)
    data = read(path)
    data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    data.save_as(path)
    assert b"Kowalczyk" not in path.read_bytes()
    found = ways(cli, path)
    assert reasons(found["archive"])["PatientName"][0] == "Kowalczyk^Anna"
    assert reasons(found["research"])[TELLING][0] == "Thorax, ask Smith about XXX"


def test_long_values_are_shortened_for_people_only(cli: Cli, site: Path) -> None:
    path = image(site, PatientComments="word " * 100)
    lines = cli("explain", path, "--phi").out.splitlines()
    (_, line) = (line for line in lines if "PatientComments" in line)
    assert '..."' in line
    assert len(line) < 250
    assert reasons(ways(cli, path)["research"])["PatientComments"][0] == ("word " * 100).strip()


def test_the_example_of_the_documentation(cli: Cli, site: Path) -> None:
    """Its lines are what ``explain`` says of this image; the pseudonym differs with the secret."""
    text = section("deidentification.md", "Text that is left")
    (shown,) = [body for info, body in FENCED.findall(text) if info == "text"]
    lines = cli("explain", image(site), "--phi").out.splitlines()
    said = [any_pseudonym(line) for line in lines[lines.index("  research: by route study, now, priority normal") :]]
    wanted = [any_pseudonym(line) for line in shown.splitlines() if line.strip() != "..."]
    assert len(wanted) == 8
    assert [line for line in said if line in wanted] == wanted


def any_pseudonym(line: str) -> str:
    return re.sub(r'"[0-9A-Z]{16}"', "PSEUDONYM", line)
