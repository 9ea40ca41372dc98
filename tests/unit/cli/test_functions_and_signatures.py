"""What commands say of users' functions, which may hang or crash, and of signatures that changes break."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from asyncroute.cli.signatures import is_signed
from asyncroute.core.errors import OurFault
from tests.support.encoding import DEFLATED, EXPLICIT, IMPLICIT
from tests.unit.cli.running import Cli, part10_files

CONFIG = """
[node]
data_dir = "data"
worker_deadline = "DEADLINE"
[[listener]]
[[destination]]
name = "out"
kind = "folder"
path = "out"
[[route]]
name = "all"
to = ["out"]
transform = ["site-a"]
[transform.site-a]
steps = [{ STEP }]
"""
FUNCTIONS = """
import os, time
def good(header, facts):
    header.PatientID = facts.calling_aet + facts.destination
    return header
def sleeps(header, facts): time.sleep(1000)
def crashes(header, facts): os.abort()
def leaves(header, facts): os._exit(0)
def raises(header, facts): return header.NoSuchKeyword
def drops(header, facts):
    from asyncroute.transform.user import Drop
    raise Drop("a test image")
"""
PREFIX = 'prefix = "PatientID", with = "A-"'


def configured(folder: Path, step: str, more: str = "") -> None:
    (folder / "site.py").write_text(FUNCTIONS)
    deadline = "1s" if "sleeps" in step else "60s"
    text = CONFIG.replace("STEP", step).replace("DEADLINE", deadline)
    (folder / "asyncroute.toml").write_text(text + more, "utf-8")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    part10_files(tmp_path / "images", 1)
    (file,) = (tmp_path / "images").iterdir()
    return file.rename(file.with_name("one.dcm"))


@pytest.mark.parametrize(
    ("function", "held"),
    [
        ("sleeps", "site-a: not done after 1 s"),
        ("crashes", "site-a: its process was ended by SIGABRT"),
        ("leaves", "site-a: its process ended with status 0"),
        ("raises", "site-a, step 1 (python): site.py:raises: line 9: AttributeError: "),
    ],
)
def test_a_function_that_fails_is_told_in_a_line(cli: Cli, image: Path, function: str, held: str) -> None:
    configured(image.parents[1], f'python = "site.py:{function}"')
    done = cli("explain", image, "--from", "CT_A")
    assert (done.status, done.err) == (0, "")
    (line,) = [line for line in done.out.splitlines() if "held: " in line]
    assert line.startswith(f"    held: {held}")


def test_what_a_function_discards_is_not_called_held(cli: Cli, image: Path) -> None:
    case = '[[test]]\nname = "NAME"\ngiven.PatientID = "1"\nexpect = { EXPECTED }\n'
    right = case.replace("NAME", "right").replace("EXPECTED", "to = [], held = false")
    wrong = case.replace("NAME", "wrong").replace("EXPECTED", 'to = ["out"], held = true, PatientID = "2"')
    configured(image.parents[1], 'python = "site.py:drops"', right + wrong)
    done = cli("explain", image, "--from", "CT_A")
    assert "    discarded: site-a, step 1 (python): a test image" in done.out.splitlines()
    assert "held" not in done.out
    assert cli("check").err.splitlines() == [
        "test wrong: to: expected out, but it goes to nothing (site-a, step 1 (python): a test image)",
        "test wrong: held: expected true, but it is not held",
        'test wrong: PatientID: expected "2", but it is "1" (it is discarded: site-a, step 1 (python): a test image)',
    ]


def test_a_function_that_works(cli: Cli, image: Path) -> None:
    configured(image.parents[1], 'python = "site.py:good"')
    (way,) = cli("explain", image, "--from", "CT_A", "--json").facts["destinations"]
    assert [each["after"] for each in way["changes"]] == ["CT_Aout"]


def test_a_function_that_hangs_is_not_waited_for_in_every_case(cli: Cli, image: Path) -> None:
    case = '[[test]]\nname = "NAME"\ngiven.PatientID = "1"\nexpect.held = false\n'
    cases = "".join(case.replace("NAME", str(n)) for n in range(40))
    configured(image.parents[1], 'python = "site.py:sleeps"', cases)
    done = cli("check")
    lines = done.err.splitlines()
    assert (done.status, len(lines)) == (1, 40)
    assert lines[0].endswith("site-a: not done after 1 s")
    assert lines[-1].endswith("its function failed 3 times and is not called again")


def test_a_case_about_values_tells_why_its_image_is_held(cli: Cli, image: Path) -> None:
    case = '[[test]]\nname = "no such function"\ngiven.PatientID = "1"\nexpect.PatientID = "CT_Aout"\n'
    configured(image.parents[1], 'python = "site.py:missing"', case)
    done = cli("check")
    assert done.status == 1
    _, line = done.err.splitlines()
    assert 'PatientID: expected "CT_Aout", but it is "1" (it is held: site-a, step 1 (python): ' in line
    assert line.endswith("site.py:missing: the file has no function missing)")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def gooood(header, facts): return header\n", 'defines no function "good", did you mean "gooood"?'),
        ("import os\ndef other(h, f): return h\n", 'defines no function "good"; name one that it has (other)'),
        ("def outer():\n    def good(h, f): return h\n", 'defines no function "good"; name one that it has (outer)'),
        ("class C:\n    def good(h, f): return h\n", 'defines no function "good"; write it there'),
        ("", 'defines no function "good"; write it there'),
        ("x = 1\ndef good(:\n", "is not Python: line 2: invalid syntax: correct it"),
        ("def good(h, f): return h\nreturn 1\n", "is not Python: line 2: 'return' outside function: correct it"),
        ("def good(h, f): return h\0", "is not Python: source code string cannot contain null bytes: correct it"),
    ],
)
def test_check_tells_that_a_function_is_not_there(cli: Cli, image: Path, source: str, told: str) -> None:
    configured(image.parents[1], f'{PREFIX} }},\n  {{ python = "site.py:good"')
    (image.parents[1] / "site.py").write_text(source)
    done = cli("check")
    file = image.parents[1] / "asyncroute.toml"
    line = file.read_text().splitlines().index('  { python = "site.py:good" }]') + 1
    place = f"{file}:{line}: transform.site-a.steps[1].python: "
    assert (done.status, done.error) == (1, f'{place}"site.py" {told} (until then its images are held)')
    (problem,) = cli("check", "--json").facts["problems"]
    assert (problem["line"], problem["key"]) == (line, "transform.site-a.steps[1].python")


@pytest.mark.parametrize(
    "source",
    [
        "def good(h, f): return h",
        "if True:\n    try:\n        from os import path as good\n    except ImportError: pass",
        "good = better = lambda h, f: h",
        "import good",
        "class good: pass",
        "def f():\n    global good\n    good = f\nf()",
        "from somewhere import *",
        "def __getattr__(name): return print",
        "globals()['good'] = print",
        "# -*- coding: latin-1 -*-\ndef good(h, f): return 'a'",
        "while (good := print) is None: pass",
        "from __future__ import annotations\nfor good in (print,): pass",
    ],
)
def test_check_runs_no_file_and_tells_nothing_that_is_not_certain(cli: Cli, image: Path, source: str) -> None:
    configured(image.parents[1], 'python = "site.py:good"')
    (image.parents[1] / "site.py").write_text(f"{source}\nopen({str(image.with_name('ran'))!r}, 'x')\n")
    done = cli("check")
    assert (done.status, done.err) == (0, "")
    assert not image.with_name("ran").exists()


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ('set = "Modality", to = "ct"', '(set) will hold its images: "ct" is not capital letters'),
        (
            'fill = "StudyDate", to = "2024-01-01"',
            '(fill) will hold its images: "2024-01-01" has 10 characters, DA takes',
        ),
        ('set = "Rows", to = 70000', '(set) will hold its images: "70000" is no number that US takes'),
        ('set = "ImageType", to = "ORIGINAL\\\\primary"', '(set) will hold its images: "primary" is not capital'),
        ('set = "StudyID", to = "12345678901234567"', '(set) will hold its images: "12345678901234567" has 17'),
        ('set = "Modality", to = "{StudyID}"', None),
        ('set = "Modality", to = ""', None),
        ('set = "Rows", to = ""', None),
        ('set = "PatientComments", to = "a\\\\b"', None),
        ('set = "SmallestImagePixelValue", to = "-5"', None),
        ('set = "(0029,xx10,ACME)", to = "x", vr = "LO"', None),
    ],
)
def test_check_tells_of_values_that_never_fit(cli: Cli, image: Path, step: str, told: str | None) -> None:
    configured(image.parents[1], step)
    notes = cli("check", "--json").facts["notes"]
    assert [note.partition(": step 1 ")[2][: len(told or "")] for note in notes] == ([told] if told else [])
    configured(image.parents[1], step, 'misfit = "pass"')
    assert len(cli("check", "--json").facts["notes"]) == ("Rows" in step and told is not None)
    configured(image.parents[1], step, 'misfit = "truncate"')
    assert len(cli("check", "--json").facts["notes"]) == (told is not None and "StudyID" not in step)


# --- signatures -------------------------------------------------------------------------------------------------------


def signature() -> Sequence:
    item = Dataset()
    item.MACIDNumber, item.DigitalSignatureUID = 1, "1.2.3"
    return Sequence([item])


def nested(inner: Dataset, depth: int) -> Dataset:
    for _ in range(depth):
        outer = Dataset()
        outer.RequestAttributesSequence = Sequence([Dataset(), inner])
        inner = outer
    return inner


def signed(file: Path, where: str, syntax: str = EXPLICIT) -> Path:
    """The image again, signed at the top, in an item, in an item's items or by its MAC parameters alone."""
    dataset = dcmread(file)
    mark = Dataset()
    if where == "parameters":
        mark.MACParametersSequence = signature()
    elif where != "nowhere":
        mark.DigitalSignaturesSequence = signature()
    dataset.update(nested(mark, {"item": 1, "items": 3, "parameters": 1}.get(where, 0)))
    if syntax == IMPLICIT:
        dataset.private_block(0x0029, "ACME", create=True).add_new(0x10, "UN", b"\xff" * 12)
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcmwrite(file, dataset, implicit_vr=syntax == IMPLICIT, little_endian=True)
    return file


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED])
@pytest.mark.parametrize("where", ["nowhere", "top", "item", "items", "parameters"])
def test_signatures_are_found_at_every_level(image: Path, where: str, syntax: str) -> None:
    assert is_signed(signed(image, where, syntax)) is (where != "nowhere")


def test_what_cannot_be_read_is_not_called_unsigned(image: Path) -> None:
    data = signed(image, "top", DEFLATED).read_bytes()
    image.write_bytes(data[: len(data) // 2])
    with pytest.raises(OurFault, match=r"one\.dcm: whether it has digital signatures cannot be told: "):
        is_signed(image)


@pytest.mark.parametrize("where", ["nowhere", "items"])
def test_explain_and_check_tell_of_broken_signatures(cli: Cli, image: Path, where: str) -> None:
    signed(image, where)
    case = '[[test]]\nname = "signed"\ngiven.file = "images/one.dcm"\nexpect.to = ["out"]\n'
    configured(image.parents[1], PREFIX, case)
    words = "has digital signatures, which the changes break"
    explained, checked = cli("explain", image), cli("check")
    assert (explained.status, checked.status, checked.err) == (0, 0, "")
    assert (f"  note: the image {words}" in explained.out) is (where != "nowhere")
    assert (f"  note: test signed: one.dcm {words}" in checked.out) is (where != "nowhere")
    configured(image.parents[1], 'prefix = "AccessionNumber", with = ""', case)
    assert words not in cli("explain", image).out + cli("check").out
