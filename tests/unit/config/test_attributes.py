"""Attributes by the names that a configuration uses."""

from __future__ import annotations

import re

import pytest

from asyncroute.config.attributes import find_path
from asyncroute.core.paths import Step

REQUEST, ACCESSION = 0x00400275, 0x00080050


@pytest.mark.parametrize(
    ("name", "path", "vr"),
    [
        ("Modality", (Step(0x00080060),), "CS"),
        ("(0008,0060)", (Step(0x00080060),), "CS"),
        ("00080060", (Step(0x00080060),), "CS"),
        ("(0019,1008)", (Step(0x00191008),), ""),
        ("RequestAttributesSequence", (Step(REQUEST),), "SQ"),
        ("RequestAttributesSequence.AccessionNumber", (Step(REQUEST), Step(ACCESSION)), "SH"),
        ("RequestAttributesSequence.0.AccessionNumber", (Step(REQUEST, "", 0), Step(ACCESSION)), "SH"),
        ("(0040,0275).12.(0008,0050)", (Step(REQUEST, "", 12), Step(ACCESSION)), "SH"),
        ("(0029,xx10,SIEMENS CSA HEADER)", (Step(0x00290010, "SIEMENS CSA HEADER"),), "OB"),
        ("(0029,XX08, SIEMENS CSA HEADER)", (Step(0x00290008, "SIEMENS CSA HEADER"),), "CS"),
        ("(0029,xxAB,ACUSON: 1.2.3 (new))", (Step(0x002900AB, "ACUSON: 1.2.3 (new)"),), ""),
        (
            "(2005,xx0e,Philips MR Imaging DD 005).1.EchoTime",
            (Step(0x2005000E, "Philips MR Imaging DD 005", 1), Step(0x00180081)),
            "DS",
        ),
    ],
)
def test_names(name: str, path: tuple[Step, ...], vr: str) -> None:
    found = find_path(name)
    assert (found.path, found.tag, found.name) == (path, path[-1].tag, name)
    assert found.vr == vr or "Philips" in name
    assert found.key == (path[0].tag if len(path) == 1 and not path[0].creator else path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Modalty", 'unknown attribute, did you mean "Modality"?'),
        ("RequestAttributesSequence.AccesionNumber", 'unknown attribute, did you mean "AccessionNumber"?'),
        ("RequestAttributesSequence.", "unknown attribute"),
        (".Modality", "unknown attribute"),
        ("RequestAttributesSequence..Modality", "unknown attribute"),
        ("0.Modality", "has an item number (0) that follows no sequence"),
        ("RequestAttributesSequence.0.1.Modality", "has an item number (1) that follows no sequence"),
        ("RequestAttributesSequence.9999999.Modality", "unknown attribute"),
        ("RequestAttributesSequence.0", "ends with an item number; which attribute of that item?"),
        ("RequestAttributesSequence.-1.Modality", "unknown attribute"),
        ("Modality.PatientID", "PatientID cannot be inside of Modality, which is no sequence"),
        ("(0010,xx10,ACME)", "is no private attribute"),
        ("(0029,xx10,)", "unknown attribute"),
        ("(0029,xx10, )", "is no private attribute"),
        ("(0029,xx10,A\\B)", "unknown attribute"),
        ("(0002,0010)", "is not part of an image's data set"),
        (".".join(["RequestAttributesSequence"] * 9), "leads through more than 7 sequences"),
    ],
)
def test_what_is_wrong_is_said(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        find_path(name)
