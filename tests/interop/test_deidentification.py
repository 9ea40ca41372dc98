"""De-identification end to end: a study full of personal data goes in; nothing of it is in any byte that comes out."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import UID

from asyncroute.config import secrets
from asyncroute.transform.confidentiality import rows
from tests.support import corpus, peers, settings
from tests.support.fixtures import MakeRouter
from tests.support.peers import KEEP_BYTES, StoreSCP
from tests.support.router import Router, run_cli

ROOT = "1.2.826.0.1.3680043.8.498.77"
DATE = "19731105"
SENDER = "WARD7_CT"
TEXT = ("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UT", "UR")


def personal(ds: Dataset, marks: set[str], number: int) -> None:
    """Put a value of its own into every attribute of Table E.1-1 that can have one."""
    for row in rows():
        if not re.fullmatch("[0-9a-f]{8}", row.tag) or row.tag < "00080000" or row.tag in ("00420011", "00100020"):
            continue
        if row.vr in TEXT:
            value = f"Zq{number}x{row.tag}"[:16].upper()
            marks.add(value)
        elif row.vr in ("DA", "DT", "TM"):
            value = {"DA": DATE, "DT": f"{DATE}101112", "TM": "101112.654321"}[row.vr]
        elif row.vr == "UI":
            value = f"{ROOT}.{number}.{int(row.tag, 16)}"
        else:
            continue
        ds.add_new(Tag(int(row.tag, 16)), row.vr, value)


def study(folder: Path) -> tuple[list[Path], set[str]]:
    """Files, and what must not be found anywhere."""
    marks = {ROOT, DATE, ".654321", SENDER, "ZQPRIVATE", "ZQTRAIL"}
    (image,) = corpus.named("CT_small.dcm")
    paths = []
    for number in range(3):
        ds = dcmread(corpus.path_of(image))
        item = Dataset()
        personal(ds, marks, number)
        personal(item, marks, number + 5)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(f"{ROOT}.9.{number}")
        ds.StudyInstanceUID, ds.PatientID, ds.BurnedInAnnotation = f"{ROOT}.1", "ZQPATIENT", "NO"
        ds.AnatomicRegionSequence = Sequence([item])
        ds.private_block(0x0009, "ZQPRIVATE", create=True).add_new(1, "LO", "ZQPRIVATE")
        ds.add_new(0xFFFCFFFC, "OB", b"ZQTRAIL ")
        ds.file_meta.SourceApplicationEntityTitle = SENDER
        ds.preamble = b"ZQTRAIL " * 16
        paths.append(folder / f"{number}.dcm")
        ds.save_as(paths[-1])
    return paths, marks | {"ZQPATIENT"}


@pytest.fixture
def site(make_router: MakeRouter, tmp_path: Path) -> Iterator[tuple[Router, StoreSCP, Path]]:
    secret, key = tmp_path / "research.secret", tmp_path / "crosswalk.key"
    secrets.create(secret)
    secrets.create(key)
    with StoreSCP(tmp_path / "storescp", *KEEP_BYTES) as storescp:
        router = make_router(
            node={"crosswalk_key_file": str(key)},
            destination=[
                settings.dicom("storescp", storescp.port, calling_ae_title="RESEARCH"),
                settings.folder("written", tmp_path / "written"),
            ],
            route=[settings.route("all", ["storescp", "written"], transform=["research"])],
            transform={"research": {"secret_file": str(secret), "steps": [{"deidentify": "basic"}]}},
        ).start()
        yield router, storescp, tmp_path / "written"
        router.stop()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_nothing_of_whom_it_is_comes_out(site: tuple[Router, StoreSCP, Path], tmp_path: Path) -> None:
    router, storescp, folder = site
    (tmp_path / "in").mkdir()
    paths, marks = study(tmp_path / "in")
    assert len(marks) > 1000
    sent = b"".join(path.read_bytes() for path in paths)
    assert not [mark for mark in marks if mark.encode() not in sent]
    peers.storescu(replace(router.caller(), calling=SENDER), paths, "-xe")
    router.wait_delivered(6)
    made = [*storescp.files(), *(path for path in folder.rglob("*") if path.is_file())]
    assert len(made) == 6
    for path in made:
        content = path.read_bytes()
        assert not [mark for mark in marks if mark.encode() in content], path
        assert not [mark for mark in marks if mark in str(path)], path
        dump = peers.run(peers.program("dcmdump"), "+L", path)
        assert not [mark for mark in marks if mark in dump.stdout]
    found = [dcmread(path) for path in made]
    assert {ds.PatientIdentityRemoved for ds in found} == {"YES"}
    assert len({ds.StudyInstanceUID for ds in found}) == len({ds.PatientID for ds in found}) == 1
    assert len({ds.SOPInstanceUID for ds in found}) == 3
    original = dcmread(paths[0])
    assert all(
        ds.PixelData == original.PixelData and ds.SOPInstanceUID == ds.file_meta[0x00020003].value for ds in found
    )
    check_the_way_back(router, found[0], made[0], marks)


def check_the_way_back(router: Router, image: Dataset, path: Path, marks: set[str]) -> None:
    """The crosswalk knows, also while the router runs, and tells nothing without its key."""
    for name in (image.PatientID, path):
        done = run_cli("reidentify", name, "--json", "-c", router.config_file)
        assert done.returncode == 0, done
        found = json.loads(done.stdout)["originals"]
        assert ("patient", "ZQPATIENT") in [(row["kind"], row["original"]) for row in found]
    for uid, words in (
        (image.StudyInstanceUID, f"study: {ROOT}.1 "),
        (image.SeriesInstanceUID, f"series: {ROOT}."),
        (image.SOPInstanceUID, f"image: {ROOT}.9."),
    ):
        done = run_cli("reidentify", uid, "-c", router.config_file)
        assert (done.returncode, words in done.stdout) == (0, True), done
    assert run_cli("reidentify", image.FrameOfReferenceUID, "-c", router.config_file).returncode == 1
    assert run_cli("reidentify", "NOBODY", "-c", router.config_file).returncode == 1
    with sqlite3.connect(router.data_dir / "crosswalk.db") as connection:
        text = repr(connection.execute("SELECT * FROM link").fetchall())
    assert not [mark for mark in marks if mark in text]


def test_what_may_show_who_it_is_of_is_held_and_told(site: tuple[Router, StoreSCP, Path], tmp_path: Path) -> None:
    router, storescp, _ = site
    (image,) = corpus.named("CT_small.dcm")
    ds = dcmread(corpus.path_of(image))
    ds.Modality = "US"
    ds.save_as(tmp_path / "us.dcm")
    peers.storescu(router.caller(), [tmp_path / "us.dcm"], "-xe")
    router.wait_failed(2)
    assert storescp.files() == []
    told = run_cli("why", ds.SOPInstanceUID, "-c", router.config_file).stdout
    assert "an image of modality US often has text in its pixels" in told


def test_check_tells_of_a_calling_title_that_names_the_sender(site: tuple[Router, StoreSCP, Path]) -> None:
    router, _, _ = site
    assert "which tells the sender" not in run_cli("check", "-c", router.config_file).stdout
    router.config_file.write_text(router.config_file.read_text().replace('"RESEARCH"', '"{calling_aet}"'))
    assert (
        'under the calling AE title "{calling_aet}", which tells the sender'
        in run_cli("check", "-c", router.config_file).stdout
    )
