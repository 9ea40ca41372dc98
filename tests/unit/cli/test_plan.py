"""``plan``: old and new decisions about what a journal remembers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from asyncroute.config import compile_routes, load
from asyncroute.core.model import Source
from asyncroute.journal.base import Group
from asyncroute.journal.sqlite import SqliteJournal
from asyncroute.route import KEPT_HEADER, Router
from tests.support import synthetic
from tests.support.encoding import element
from tests.support.synthetic import CT, MR, Kind
from tests.unit.cli.running import Cli
from tests.unit.parts import EXPLICIT_LE, in_memory, instance

HEAD = """
[node]
data_dir = "data"
[[listener]]
[[destination]]
name = "pacs"
kind = "folder"
path = "pacs"
[[destination]]
name = "research"
kind = "folder"
path = "research"
"""
OLD = HEAD + '[[route]]\nname = "ct"\nmatch = { Modality = "CT" }\nto = ["pacs"]\n'
NEW = (
    HEAD
    + '[[route]]\nname = "ct"\nmatch = { calling_aet = "CT_*" }\nto = ["research"]\n'
    + '[[route]]\nname = "all"\nto = ["pacs"]\npriority = "high"\n'
)


def fill(folder: Path, now: float, *many: tuple[str, str, float]) -> None:
    """A journal with an image of (SOP class, sender, age in seconds) each, as admission would write it."""
    (folder / "data").mkdir()
    (folder / "asyncroute.toml").write_text(OLD, "utf-8")
    router = Router(compile_routes(load(folder / "asyncroute.toml")))
    images = []
    for n, (sop_class, sender, age) in enumerate(many, 1):
        source = synthetic.image(f"plan {sop_class} {sender}", n, Kind(sop_class, EXPLICIT_LE, 64))
        made = instance(n, size=64, sop_class_uid=sop_class, transfer_syntax=EXPLICIT_LE)
        made.source, made.received_at = Source(sender, "R", "ASYNCROUTE@0.0.0.0:11112", "10.0.0.1"), now - age
        if not router.route(made, None, b"".join(source.chunks(1 << 20)), True):
            made.hold_reason = "no route matches"
        images.append(made)
    journal = SqliteJournal.open(folder / "data", "process-crash")
    try:
        journal.commit(Group(admits=images))
    finally:
        journal.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    day = 86400.0
    fill(
        tmp_path,
        time.time(),
        (CT, "CT_A", 9 * day),
        (CT, "CT_A", day),
        (CT, "X", day),
        (MR, "MR_A", 60),
        (MR, "CT_B", 9),
    )
    (tmp_path / "new.toml").write_text(NEW, "utf-8")
    return tmp_path


def test_what_would_change(cli: Cli, folder: Path) -> None:
    done = cli("plan", "new.toml", "--since", "never", "--json")
    assert (done.status, done.err) == (0, "")
    facts = done.facts
    changes = {(*each["from"], "->", *each["to"]): each["images"] for each in facts["changes"]}
    assert changes == {
        ("pacs", "->", "pacs", "research"): 2,
        ("held", "->", "pacs"): 1,
        ("held", "->", "pacs", "research"): 1,
    }
    assert [facts[key] for key in ("images", "unchanged", "changed", "otherwise", "without_header")] == [5, 1, 4, 1, 0]
    assert (facts["held_before"], facts["held_after"]) == (2, 0)
    (example,) = facts["changes"][0]["examples"]
    assert example["images"] == 2
    assert example["study_uid"].startswith("2.25.")


def test_only_the_last_days_or_images(cli: Cli, folder: Path) -> None:
    assert cli("plan", "new.toml", "--json").facts["images"] == 4
    assert cli("plan", "new.toml", "--since", "1h", "--json").facts["images"] == 2
    assert cli("plan", "new.toml", "--since", "never", "--limit", "3", "--json").facts["images"] == 3


def test_words(cli: Cli, folder: Path) -> None:
    lines = cli("plan", "new.toml", "--since", "never").out.splitlines()
    assert lines[0] == "5 images: 4 would go elsewhere under new.toml"
    assert "held: 2 before, 0 after" in lines
    assert "  pacs -> pacs, research: 2 images" in lines


def test_the_same_configuration_changes_nothing(cli: Cli, folder: Path) -> None:
    facts = cli("plan", "asyncroute.toml", "--since", "never", "--json").facts
    assert (facts["images"], facts["unchanged"], facts["changes"]) == (5, 5, [])


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["no.toml"], 2, "no.toml: no such file"),
        (["new.toml", "--since", "soon"], 1, "--since: "),
        (["new.toml", "-c", "new2.toml"], 1, "there is no journal here"),
    ],
)
def test_wrong_use(cli: Cli, folder: Path, arguments: list[str], status: int, words: str) -> None:
    (folder / "new2.toml").write_text(NEW.replace('"data"', '"other"'), "utf-8")
    done = cli("plan", *arguments)
    assert done.status == status
    assert words in done.error


def test_of_a_long_header_only_what_is_known_is_told(cli: Cli, folder: Path) -> None:
    """Its Institution Name stands in what the journal keeps, its Series Number behind that."""
    head = element(0x00080080, "LO", b"Here") + element(0x00100010, "PN", b"A^B ")
    data = head + element(0x00190010, "OB", bytes(KEPT_HEADER)) + element(0x00200011, "IS", b"5 ")
    made = instance(100, size=len(data), sop_class_uid=CT, transfer_syntax=EXPLICIT_LE)
    made.received_at = time.time()
    cuts = in_memory(data, [9_000, 20_000])
    Router(compile_routes(load(folder / "asyncroute.toml"))).route(made, cuts, b"")
    journal = SqliteJournal.open(folder / "data", "process-crash")
    try:
        journal.commit(Group(admits=[made]))
    finally:
        journal.close()
    match = '[[route]]\nname = "it"\nmatch = { KEY }\nto = ["pacs"]\n'
    old, new = match.replace("KEY", 'InstitutionName = "Here"'), match.replace("KEY", "SeriesNumber = 5")
    step = 'transform = ["site"]\n[transform.site]\nsteps = [{ delete = "private" }]\n'
    (folder / "asyncroute.toml").write_text(HEAD + old, "utf-8")
    (folder / "new.toml").write_text(HEAD + new, "utf-8")
    facts = cli("plan", "new.toml", "--limit", "1", "--json").facts
    counts = ("images", "unchanged", "changed", "held_after", "without_header")
    assert [facts[key] for key in counts] == [1, 0, 0, 0, 1]
    words = "1 cannot be told: the journal does not have all of their headers"
    assert words in cli("plan", "new.toml", "--limit", "1").out.splitlines()
    (folder / "new.toml").write_text(HEAD + old + step, "utf-8")
    facts = cli("plan", "new.toml", "--limit", "1", "--json").facts
    assert [facts[key] for key in ("unchanged", "transformed_otherwise", "transforms_unknown")] == [1, 0, 1]
    words = "1 might: the journal keeps only the beginning of their long headers"
    assert words in cli("plan", "new.toml", "--limit", "1").out.splitlines()


# --- what transforms make ---------------------------------------------------------------------------------------------

SENT = (
    HEAD
    + '[[route]]\nname = "all"\nto = ["pacs"]\ntransform = ["site"]\n'
    + '[[route]]\nname = "copy"\nto = ["research"]\ntransform = ["always"]\n'
    + '[transform.always]\nsteps = [{ set = "InstitutionName", to = "Here" }]\n'
    + "[transform.site]\nsteps = ["
)
TODAY = SENT + '{ prefix = "PatientID", with = "A-" }, { suffix = "PatientID", with = "-A" }]\n'


def planned(cli: Cli, folder: Path, steps: str) -> Any:
    (folder / "asyncroute.toml").write_text(TODAY, "utf-8")
    (folder / "new.toml").write_text(f"{SENT}{steps}]\n", "utf-8")
    done = cli("plan", "new.toml", "--since", "never", "--json")
    assert (done.status, done.err) == (0, "")
    return done.facts


def test_what_would_be_sent_as_something_else(cli: Cli, folder: Path) -> None:
    facts = planned(cli, folder, '{ prefix = "PatientID", with = "B-" }, { set = "StationName", to = "{calling_aet}" }')
    assert (facts["changed"], facts["transformed_otherwise"], facts["transforms_unknown"]) == (0, 5, 0)
    found = {each["attribute"]: each for each in facts["transforms"]}
    assert set(found) == {"PatientID", "StationName"}
    patient, station = found["PatientID"], found["StationName"]
    assert (patient["destination"], patient["images"]) == ("pacs", 5)
    assert (patient["today"], patient["then"]) == ("site, step 2 (suffix)", "site, step 1 (prefix)")
    example = patient["example"]
    assert (example["received"], example["today"], example["then"]) == ("PAT-1", "A-PAT-1-A", "B-PAT-1")
    assert example["sop_instance_uid"] == "1.2.3.5"  # the newest
    assert (station["today"], station["then"]) == (None, "site, step 2 (set)")
    assert station["example"]["then"] in ("CT_A", "CT_B", "MR_A", "X")
    lines = cli("plan", "new.toml", "--since", "never").out.splitlines()
    assert "5 would go to the same destinations as something else" in lines
    words = '"A-PAT-1-A" (site, step 2 (suffix)) -> "B-PAT-1" (site, step 1 (prefix))'
    assert f"  pacs: PatientID of 5 images, such as {words}" in lines


def test_what_comes_to_the_same_is_not_told(cli: Cli, folder: Path) -> None:
    facts = planned(cli, folder, '{ suffix = "PatientID", with = "-A" }, { prefix = "PatientID", with = "A-" }')
    assert (facts["transformed_otherwise"], facts["transforms"]) == (0, [])


def test_what_would_be_held_by_a_transform(cli: Cli, folder: Path) -> None:
    (folder / "site.py").write_text(
        "import os\nfrom asyncroute.transform.user import Drop\n"
        "def odd(header, facts):\n    if facts.calling_aet == 'CT_A': os.abort()\n"
        "    if facts.calling_aet == 'X': raise Drop('of X')\n    return header\n"
    )
    facts = planned(cli, folder, '{ prefix = "PatientID", with = "A-" }, { python = "site.py:odd" }')
    found = {(each["attribute"], each["then"]): each["images"] for each in facts["transforms"]}
    step = "site, step 2 (python)"
    assert found == {("(held)", "site"): 2, ("(held)", step): 1, ("PatientID", "site, step 1 (prefix)"): 2}
    assert facts["transformed_otherwise"] == 5
    lines = cli("plan", "new.toml", "--since", "never").out.splitlines()
    assert "  pacs: 2 images sent -> held (site: its process was ended by SIGABRT)" in lines
    assert f"  pacs: 1 images sent -> discarded ({step}: of X)" in lines
