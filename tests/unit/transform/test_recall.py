"""What a transform remembers of earlier headers changes nothing: it makes what one that remembers nothing makes."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from asyncroute.transform import recall
from asyncroute.transform.base import Edited, Facts, Header, Refused
from asyncroute.transform.compiled import Compiled
from tests.support.coercing import ENCODINGS, FACTS, header, transform, write
from tests.support.encoding import EXPLICIT

STEPS = {
    "five": """{ prefix = "PatientID", with = "AHI-" }, { suffix = "AccessionNumber", with = "-A" },
        { set = "InstitutionName", to = "Site A" }, { set = "ReferringPhysicianName", to = "Site^A" },
        { set = "StationName", to = "SITEA" }""",
    "fill": '{ fill = "AccessionNumber", from = "crc32(StudyInstanceUID)" }, { upper = "PatientName" }',
    "facts": '{ set = "PatientID", to = "{PatientID}^{calling_aet}" }, { set = "StationName", to = "{destination}" }',
    "uid": '{ set = "SOPInstanceUID", to = "{StudyInstanceUID}.9" }, { delete = "StudyID" }',
    "choices": '{ set = "SmallestImagePixelValue", to = "1" }, { copy = "PatientID", to = "OtherPatientIDs" }',
    "map": '{ map = "AccessionNumber", file = "numbers.csv" }, { move = "StudyID", to = "PatientID" }',
    "group": '{ delete = "(0010,xxxx)" }, { truncate = "InstitutionName", size = 4 }',
}


@dataclass
class Series:
    """Headers that differ in few values, and in what there is; the same seed makes the same ones."""

    seed: int
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def dataset(self, number: int) -> Dataset:
        pick, made = self.random.choice, Dataset()
        made.SOPInstanceUID = f"1.2.3.{self.random.randrange(5)}"
        made.SpecificCharacterSet = pick(["ISO_IR 100", "ISO_IR 100", "ISO_IR 192"])
        made.StudyDate, made.ContentTime = "20240101", f"10{number // 60 % 60:02d}{number % 60:02d}"
        made.AccessionNumber = pick(["A1", "A1", "", "A12"])
        made.InstitutionName = pick(["Here", "Hôpital"])
        made.PatientName, made.PatientID = "Doe^Jane", pick(["1", "22", "AHI-1"])
        made.StudyInstanceUID, made.InstanceNumber = pick(["1.2.3", "1.2.34"]), number
        made.PixelRepresentation = pick([0, 1])
        if self.random.random() < 0.2:
            made.StudyID = "S"
        if self.random.random() < 0.1:
            made.ReferencedStudySequence = Sequence([Dataset()])
        return made

    def facts(self) -> Facts:
        return FACTS._replace(calling_aet=self.random.choice(["CT_A", "CT_B"]), received_at=self.random.random())


def outcome(made: Compiled, data: Header, facts: Facts) -> Edited | str:
    try:
        edited = made.apply(data, facts)
    except Refused as refused:
        return refused.reason
    return edited._replace(data=bytes(edited.data))


def fresh(made: Compiled) -> Compiled:
    return Compiled(made.coercions)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("syntax", ENCODINGS)
def test_what_is_remembered_is_what_would_be_made(tmp_path: Path, steps: str, syntax: str) -> None:
    (tmp_path / "numbers.csv").write_text("A1,B2\n")
    made = fresh(transform(STEPS[steps], folder=tmp_path))
    series = Series(7)
    for number in range(150):
        dataset, facts = series.dataset(number), series.facts()
        data = header(write(dataset, syntax), syntax)._replace(sop_instance_uid=dataset.SOPInstanceUID)
        assert outcome(made, data, facts) == outcome(fresh(made), data, facts)
    assert made.recall is not None
    assert made.recall.hits > 10


def test_damaged_headers_are_no_better_known() -> None:
    made, series, chance = fresh(transform(STEPS["five"])), Series(11), random.Random(3)
    for number in range(400):
        data = bytearray(write(series.dataset(number), EXPLICIT))
        if number > 50 and chance.random() < 0.5:
            data[chance.randrange(len(data))] = chance.randrange(256)
        cut = chance.randrange(len(data)) if chance.random() < 0.1 else len(data)
        damaged = header(bytes(data[:cut]))
        assert outcome(made, damaged, FACTS) == outcome(fresh(made), damaged, FACTS)
    assert made.recall is not None
    assert made.recall.hits > 10


def test_group_lengths_follow() -> None:
    made = fresh(transform(STEPS["five"]))
    plain = write(Series(1).dataset(1), EXPLICIT)
    at = plain.index(b"\x10\0\x10\0PN")
    length = plain.index(b"\x20\0\x0d\0UI") - at
    data = plain[:at] + b"\x10\0\0\0UL\x04\0" + length.to_bytes(4, "little") + plain[at:]
    for _ in range(4):
        assert outcome(made, header(data), FACTS) == outcome(fresh(made), header(data), FACTS)
    assert made.recall is not None
    assert made.recall.hits > 0


def test_what_never_comes_again_is_hardly_asked_for() -> None:
    made = fresh(transform('{ set = "PatientID", to = "{SOPInstanceUID}" }'))
    series = Series(5)
    asked = 0
    for number in range(600):
        dataset = series.dataset(1)
        dataset.SOPInstanceUID = f"1.2.3.{10**6 + number}"
        assert made.recall is not None
        asked += made.recall.worth_it()
        made.apply(header(write(dataset, EXPLICIT)), FACTS)
    assert made.recall is not None
    assert asked < 200
    known = [each for known in made.recall._known.values() for each in known.answers]
    assert len(known) <= recall.MOST * len(made.recall._known)


@pytest.mark.parametrize(
    "steps",
    [
        '{ prefix = "PatientID", with = "A-", everywhere = true }',
        '{ set = "RequestAttributesSequence.0.AccessionNumber", to = "1" }',
        '{ delete = "private" }',
        '{ set = "(0009,xx01,ACME)", to = "1", vr = "LO" }',
    ],
)
def test_what_looks_further_is_not_remembered(steps: str) -> None:
    assert transform(steps).recall is None


def test_a_record_has_a_time_of_its_own() -> None:
    assert transform(STEPS["five"], "record = true").recall is None


ALIKE: dict[str, tuple[str, list[tuple[dict[str, str], dict[str, Any]]]]] = {
    "character set": (
        '{ prefix = "PatientName", with = "ø" }',
        [({"SpecificCharacterSet": name}, {}) for name in ("ISO_IR 100", "ISO_IR 101", "ISO_IR 100")],
    ),
    "the second fact": (
        '{ set = "StationName", to = "{calling_aet}" }, { set = "InstitutionName", to = "{route}" }',
        [({}, {"calling_aet": "CT_A", "route": name}) for name in ("r1", "r2", "r1")],
    ),
    "what is looked at only for some values": (
        '{ fill = "AccessionNumber", from = "PatientID" }',
        [
            ({"AccessionNumber": number, "PatientID": patient}, {})
            for number, patient in (("A1", "11"), ("  ", "11"), ("  ", "22"), ("A1", "22"), ("  ", "11"))
        ],
    ),
    "what is looked at only where it is longer": (
        '{ truncate = "PatientID", size = 4 }, { suffix = "PatientID", with = "{StationName}" }',
        [({"PatientID": patient, "StationName": name}, {}) for patient, name in (("", "A"), ("12", "A"), ("12", "B"))],
    ),
}


@pytest.mark.parametrize("kind", ALIKE)
def test_headers_that_differ_only_in_this(kind: str) -> None:
    """Each is seen so often that it would be remembered, before the next one and after it."""
    steps, images = ALIKE[kind]
    made = fresh(transform(steps))
    for _ in range(3):
        for values, facts in images:
            dataset = Series(1).dataset(1)
            for keyword, value in values.items():
                setattr(dataset, keyword, value)
            data = header(write(dataset, EXPLICIT))
            for _ in range(6):
                assert outcome(made, data, FACTS._replace(**facts)) == outcome(
                    fresh(made), data, FACTS._replace(**facts)
                )
    assert made.recall is not None
    assert made.recall.hits > 10
