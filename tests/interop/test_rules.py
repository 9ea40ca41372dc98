"""Rules of every kind with a real router: what arrives where is what ``explain`` says, and what ``plan`` replays."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from tests.support import settings
from tests.support.fixtures import MakeRouter
from tests.support.router import run_cli

ROUTES: dict[str, Any] = {
    "nested": {"match": {"RequestAttributesSequence.0.AccessionNumber": "A*"}},
    "private": {"match": {"(0029,xx10,ACME)": "1..5"}},
    "charset": {"match": {"PatientName": "M\u00fcller*"}},
    "either": {"match": {"any": [{"calling_aet": "SITE_*"}, {"Modality": "MR", "not": {"PatientID": "1"}}]}},
    "absent": {"match": {"AccessionNumber": "absent"}},
    "never": {"match": {"time": "00:00-24:00 UTC", "peer": "192.0.2.0/24"}},
    "always": {"match": {"time": "00:00-24:00 UTC", "peer": "127.0.0.0/8"}, "unless": {"Modality": "CT", "Rows": 7}},
}


def made(folder: Path, number: int, **attributes: Any) -> Path:
    """An image in a file."""
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, f"1.2.826.0.1.{number}"
    image.StudyInstanceUID, image.SeriesInstanceUID = f"1.2.826.0.2.{number}", f"1.2.826.0.3.{number}"
    image.SpecificCharacterSet = "ISO_IR 100"
    request = attributes.pop("request", None)
    private = attributes.pop("private", None)
    for name, value in attributes.items():
        setattr(image, name, value)
    if request is not None:
        item = Dataset()
        item.AccessionNumber = request
        image.RequestAttributesSequence = Sequence([item])
    if private is not None:
        image.private_block(0x0029, "OTHER", create=True).add_new(0x10, "LO", "3")
        image.private_block(0x0029, "ACME", create=True).add_new(0x10, "LO", private)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    path = folder / f"{number}.dcm"
    image.save_as(path, enforce_file_format=True)
    return path


def test_what_arrives_is_what_explain_and_plan_say(make_router: MakeRouter, tmp_path: Path) -> None:
    router = make_router(
        destination=[settings.folder(name, tmp_path / name, layout="{SOPInstanceUID}") for name in ROUTES],
        route=[settings.route(name, [name], **keys) for name, keys in ROUTES.items()],
    ).start()
    cases: list[tuple[dict[str, Any], str, set[str]]] = [
        ({"request": "A1", "AccessionNumber": "1"}, "X", {"nested", "always"}),
        ({"request": "B1", "private": "3", "AccessionNumber": "1"}, "X", {"private", "always"}),
        ({"private": "9", "PatientName": "M\u00fcller^Eva", "AccessionNumber": "1"}, "X", {"charset", "always"}),
        ({"Modality": "MR", "PatientID": "2", "AccessionNumber": "1"}, "X", {"either", "always"}),
        ({"Modality": "MR", "PatientID": "1", "AccessionNumber": ""}, "X", {"always"}),
        ({"Modality": "CT", "Rows": 7}, "SITE_A", {"either", "absent"}),
    ]
    images = tmp_path / "images"
    images.mkdir()
    expected: Counter[str] = Counter()
    for number, (attributes, calling, names) in enumerate(cases, 1):
        path = made(images, number, **attributes)
        sent = run_cli("send", path, "--to", f"ASYNCROUTE@127.0.0.1:{router.port}", "--calling", calling)
        assert sent.returncode == 0, sent.stderr
        said = run_cli("explain", path, "--from", calling, "-c", router.config_file, "--json")
        ways = json.loads(said.stdout)["destinations"]
        assert {way["to"] for way in ways} == names, said.stdout
        expected.update(names)
    router.wait_delivered(sum(expected.values()))
    for name in ROUTES:
        folder = tmp_path / name
        arrived = {str(dcmread(path).SOPInstanceUID) for path in folder.rglob("*") if path.is_file()}
        assert arrived == {f"1.2.826.0.1.{n}" for n, (_, _, names) in enumerate(cases, 1) if name in names}, name
    other = router.folder / "new.toml"
    other.write_text(router.config_file.read_text("utf-8").replace('"A*"', '"B*"'), "utf-8")
    for running in (True, False):
        if not running:
            router.stop()
        done = run_cli("plan", other, "-c", router.config_file, "--json")
        assert done.returncode == 0, done.stderr
        facts = json.loads(done.stdout)
        changes = {(*each["from"], "->", *each["to"]): each["images"] for each in facts["changes"]}
        assert changes == {
            ("always", "nested", "->", "always"): 1,
            ("always", "private", "->", "always", "nested", "private"): 1,
        }
        assert facts["images"] == len(cases)
