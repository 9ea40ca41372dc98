"""Whatever came before, a transform makes of a header what one that has seen no other makes of it.

Headers of several senders come in any order; they differ in few values each, so that equal ones and nearly equal ones
are frequent: in values, lengths, VRs, in what there is, in encodings, facts and UIDs, and now and then in a damaged
byte.
"""

from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncroute.forward.sent import _told, _told_of_few
from asyncroute.transform.base import Edited, Facts, Header, Refused
from asyncroute.transform.compiled import Compiled
from tests.support.coercing import SECRET, transform
from tests.support.encoding import element
from tests.support.varied import ENCODED, OTHER, SENDERS, TAGS, encoded

PLAIN = (
    '{ prefix = "PatientID", with = "X-" }',
    '{ suffix = "AccessionNumber", with = "-A", once = false }',
    '{ set = "PatientID", to = "{PatientID}^{calling_aet}" }',
    '{ set = "StationName", to = "{destination}" }, { fill = "InstitutionName", to = "{route}" }',
    '{ set = "OperatorsName", to = "{listener}{watch}{peer}{called_aet}" }',
    '{ fill = "AccessionNumber", from = "crc32(StudyInstanceUID)" }',
    '{ set = "PatientID", from = "hash(PatientID, 8)" }',
    '{ set = "SOPInstanceUID", from = "uid(SOPInstanceUID)" }',
    '{ set = "SOPClassUID", to = "1.2.840.10008.5.1.4.1.1.7" }',
    '{ delete = "SOPInstanceUID" }, { set = "StudyID", from = "calling_aet" }',
    '{ map = "AccessionNumber", file = "numbers.csv" }',
    '{ map = "InstitutionName", file = "numbers.csv", from = "calling_aet", default = "{PatientID}" }',
    '{ map = "PatientID", file = "numbers.csv", missing = "keep" }',
    '{ replace = "PatientName", old = "re:(.)oe", with = "{AccessionNumber}\\\\1" }',
    '{ replace = "InstitutionName", old = "e", with = "{calling_aet}" }',
    '{ upper = "PatientName" }, { lower = "InstitutionName" }, { strip = "AccessionNumber" }',
    '{ pad = "PatientID", size = 5 }, { truncate = "InstitutionName", size = 3 }',
    '{ suffix = "AccessionNumber", with = "-{PatientName}-12345" }',
    '{ copy = "PatientID", to = "OtherPatientIDs" }, { move = "StudyID", to = "PatientID" }',
    '{ copy = "ReferencedImageSequence", to = "SourceImageSequence" }',
    '{ move = "ReferencedImageSequence", to = "SourceImageSequence" }',
    '{ copy = "(0009,1001)", to = "AdmissionID" }, { delete = "(0009,0010)" }',
    '{ delete = "(0010,xxxx)" }',
    '{ delete = "(0009,xxxx)" }, { delete = "ReferencedImageSequence" }',
    '{ set = "SmallestImagePixelValue", to = "5" }',
    '{ set = "PixelRepresentation", to = "1" }, { set = "LargestImagePixelValue", to = "{PatientID}" }',
    '{ set = "SpecificCharacterSet", to = "ISO_IR 192" }',
    '{ delete = "SpecificCharacterSet" }, { set = "StationName", to = "{InstitutionName}" }',
    '{ set = "InstitutionName", to = "Klinik S\u00fcd" }',
    '{ copy = "PatientName", to = "InstitutionName" }',
)
"""What may be remembered."""

DEEP = (
    '{ prefix = "AccessionNumber", with = "E", everywhere = true }',
    '{ set = "PatientID", from = "RequestAttributesSequence.0.AccessionNumber" }',
    '{ set = "RequestAttributesSequence.0.AccessionNumber", to = "{PatientID}" }',
    '{ set = "(0009,xx01,ACME)", to = "{PatientID}", vr = "LO" }',
    '{ move = "(0009,xx01,ACME)", to = "(0011,xx01,ACME)", vr = "LO" }',
    '{ set = "PatientID", to = "{(0009,xx01,ACME)}" }',
    '{ delete = "private" }',
    "{ shift_dates = true }",
    "{ new_uids = true }",
    '{ python = "user.py:edit" }',
)
"""What looks further."""

USER = """
def edit(ds, facts):
    ds.InstitutionName = str(ds.get("PatientID", "")) + facts.calling_aet
    return ds
"""
OPTIONS = ("", 'misfit = "truncate"', 'misfit = "pass"', "record = true")
LISTED = "A1,B2\nA2,C3\n22,Z\nCT_A,Site A\n"


class Image(NamedTuple):
    """Of one of the senders, but for elements that vary; ``damage``: one byte is another; ``tail``: what follows."""

    sender: int
    choices: tuple[int, ...]
    syntax: int
    facts: tuple[int, int]
    uid: int
    damage: tuple[int, int] | None
    tail: int


def given_header(image: Image, varying: tuple[int, ...]) -> tuple[Header, Facts]:
    choices = list(SENDERS[image.sender])
    for tag, choice in zip(varying, image.choices, strict=False):
        choices[TAGS.index(tag)] = choice
    syntax = tuple(ENCODED)[image.syntax]
    data = bytearray(encoded(choices, ENCODED[syntax]))
    data += (b"", element(0x00500004, "CS", b"X ", ENCODED[syntax]), b"\0\0\0", b"\x08\0\5\0CS\0\0")[image.tail]
    if image.damage is not None:
        data[image.damage[0] % len(data)] = image.damage[1]
    uid = f"1.2.3.{image.uid}"
    calling, rest = image.facts
    facts = Facts(
        ("CT_A", "CT_B")[calling], f"R{rest}", f"L{rest}", f"10.0.0.{rest}", f"w{rest}", f"r{rest}", f"d{rest}",
        1.7e9 + image.uid,
    )  # fmt: skip
    return Header(bytes(data), syntax, ("1.2.840.10008.5.1.4.1.1.2", OTHER)[image.uid % 2], uid), facts


FEW = st.sampled_from([0] * 12 + [1, 2])
CHOICE = st.sampled_from([0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 6])
USED = (0x00080005, 0x00080050, 0x00080080, 0x00100010, 0x00100020, 0x0020000D)  # by most steps
VARYING = st.tuples(*[st.sampled_from([*USED, *USED, *TAGS])] * 3)
IMAGES = st.lists(
    st.builds(
        Image,
        FEW,
        st.tuples(CHOICE, CHOICE, CHOICE),
        st.sampled_from([0] * 20 + [1, 2, 3, 4]),
        st.tuples(FEW.map(bool), FEW.map(bool)),
        st.integers(0, 2),
        st.sampled_from([None] * 60 + [(n, m) for n in (5, 33, 61, 90, 120) for m in (0, 1, 4, 65)]),
        st.sampled_from([0] * 12 + [1, 2, 3]),
    ),
    min_size=15,
    max_size=40,
)
STEPS = st.lists(st.sampled_from(PLAIN), min_size=1, max_size=4, unique=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("recall")
    (made / "numbers.csv").write_text(LISTED)
    (made / "user.py").write_text(USER)
    return made


def outcome(made: Compiled, image: tuple[Header, Facts]) -> Edited | str:
    try:
        edited = made.apply(*image)
    except Refused as refused:
        return f"{refused.reason} {refused.drop}"
    return edited._replace(data=bytes(edited.data))


def check(
    steps: list[str], options: str, varying: tuple[int, ...], images: list[Image], folder: Path, seen: Counter[str]
) -> None:
    made = transform(", ".join(steps), SECRET + options, folder)
    kept = Compiled(made.coercions)
    for each in images:
        image = given_header(each, varying)
        expected = outcome(Compiled(made.coercions), image)
        assert outcome(kept, image) == expected
        seen["refused" if isinstance(expected, str) else "made"] += 1
        if isinstance(expected, Edited):
            assert _told_of_few(expected.changes) == _told(expected.changes)
    seen["known"] += kept.recall.hits if kept.recall is not None else 0
    seen["fits"] += kept.shapes.fits


def test_what_came_before_changes_nothing(folder: Path) -> None:
    seen = Counter[str]()

    @given(STEPS, st.sampled_from(OPTIONS[:3]), VARYING, IMAGES)
    @settings(max_examples=40)
    def run(steps: list[str], options: str, varying: tuple[int, ...], images: list[Image]) -> None:
        check(steps, options, varying, images, folder, seen)

    run()
    assert min(seen["known"], seen["refused"], seen["made"] - seen["known"]) > 20


def test_of_what_looks_further_either(folder: Path) -> None:
    seen = Counter[str]()

    @given(STEPS, st.sampled_from(DEEP), st.sampled_from(OPTIONS), VARYING, IMAGES)
    @settings(max_examples=10)
    def run(steps: list[str], deep: str, options: str, varying: tuple[int, ...], images: list[Image]) -> None:
        check([*steps[:1], deep, *steps[1:]], options, varying, images, folder, seen)

    run()
    assert seen["known"] == 0
    assert seen["fits"] > 20


def test_in_several_threads_at_once(folder: Path) -> None:
    made = Compiled(transform(", ".join([PLAIN[0], PLAIN[2], PLAIN[15]]), SECRET, folder).coercions)
    images = [
        given_header(Image(0, (n % 5, n % 2), 0, (n % 2, 0), n % 3, None, 0), (TAGS[n % len(TAGS)], 0x00100020))
        for n in range(4 * len(TAGS))
    ]
    expected = [outcome(Compiled(made.coercions), image) for image in images]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda n: outcome(made, images[n % len(images)]), range(8 * len(images))))
    finally:
        sys.setswitchinterval(interval)
    assert found == expected * 8


def test_a_list_that_was_edited_is_another_transform(tmp_path: Path) -> None:
    image = given_header(Image(0, (), 0, (0, 0), 0, None, 0), ())
    found = []
    for listed in ("A1,B1\n", "A1,B2\n"):
        (tmp_path / "numbers.csv").write_text(listed)
        for _ in range(3):
            edited = transform(PLAIN[10], "", tmp_path).apply(*image)
            found.append(edited.changes[0].after)
    assert found == ["B1"] * 3 + ["B2"] * 3
