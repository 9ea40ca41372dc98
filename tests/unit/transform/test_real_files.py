"""Edits of the headers of real files: as pydicom would edit them, and byte-identical in all that is not named."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from asyncroute.transform.base import Refused
from asyncroute.transform.compiled import Compiled
from asyncroute.wire.header import header_end
from tests.support import corpus
from tests.support.coercing import FACTS, edited, elements, header, read, transform
from tests.support.encoding import BIG, DEFLATED, EXPLICIT, IMPLICIT, element
from tests.support.images import Image

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of what is in real files

ODD = {"winter.dcm"}  # has an element twice


@lru_cache(maxsize=1)
def headers() -> tuple[tuple[str, bytes, str], ...]:
    """Name, header and encoding of real files, each header once."""
    found: dict[bytes, tuple[str, bytes, str]] = {}
    for image in corpus.storable():
        if image.transfer_syntax != DEFLATED and (made := _header(image)):
            found.setdefault(made[1], made)
    return tuple(found.values())


def _header(image: Image) -> tuple[str, bytes, str] | None:
    data = b"".join(image.chunks(1 << 20))
    end = header_end(data, image.transfer_syntax, True)
    syntax = image.transfer_syntax if image.transfer_syntax in (IMPLICIT, BIG) else EXPLICIT
    if image.name == "SC_rgb_jpeg.dcm":
        syntax = IMPLICIT  # whatever it says
    return None if end is None else (image.name, data[:end], syntax)


SAMPLE = b"".join(
    element(tag, vr, value)
    for tag, vr, value in [
        (0x00080005, "CS", b"ISO_IR 100"),
        (0x00080060, "CS", b"CT"),
        (0x00100010, "PN", b"Test^Image"),
        (0x00100020, "LO", b"P1"),
        (0x00101010, "UT", b"text"),
    ]
)


def without_lengths(dataset: Dataset) -> Dataset:
    """Without group lengths, whose values may differ."""
    for tag in [tag for tag in dataset.keys() if not tag.element]:  # noqa: SIM118
        del dataset[tag]
    return dataset


def some(step: int) -> list[tuple[str, bytes, str]]:
    return [each for n, each in enumerate(headers()) if n % step == 0]


def test_there_are_headers_in_every_encoding() -> None:
    assert len(headers()) > 60
    assert {syntax for _, _, syntax in headers()} == {EXPLICIT, IMPLICIT, BIG}


def _prefixed(dataset: Dataset) -> None:
    if dataset.get("PatientID"):
        dataset.PatientID = "AHI-" + dataset.PatientID


def _five(dataset: Dataset) -> None:
    _prefixed(dataset)
    if not dataset.get("AccessionNumber"):
        dataset.AccessionNumber = "CT_A"
    dataset.AccessionNumber += "-A"
    dataset.InstitutionName = "Site A Imaging"
    dataset.pop("StationName", None)
    if dataset.get("PatientSex"):
        dataset.PatientSex = dataset.PatientSex.upper()


def _private(dataset: Dataset) -> None:
    dataset.remove_private_tags()


def _moved(dataset: Dataset) -> None:
    if "ReferringPhysicianName" in dataset:
        dataset.PerformingPhysicianName = dataset.ReferringPhysicianName
        del dataset.ReferringPhysicianName


def _everywhere(dataset: Dataset) -> None:
    for each in dataset.iterall():
        if each.keyword == "ReferencedSOPClassUID":
            each.value = "1.2.3"


EDITS: list[tuple[str, Callable[[Dataset], None], set[int]]] = [
    ('{ prefix = "PatientID", with = "AHI-" }', _prefixed, {0x00100020}),
    (
        '{ prefix = "PatientID", with = "AHI-" }, { fill = "AccessionNumber", from = "calling_aet" },'
        '{ suffix = "AccessionNumber", with = "-A" }, { set = "InstitutionName", to = "Site A Imaging" },'
        '{ delete = "StationName" }, { upper = "PatientSex" }',
        _five,
        {0x00100020, 0x00080050, 0x00080080, 0x00081010, 0x00100040},
    ),
    ('{ delete = "private" }', _private, set()),
    ('{ move = "ReferringPhysicianName", to = "PerformingPhysicianName" }', _moved, {0x00080090, 0x00081050}),
    ("{ replace = 'ReferencedSOPClassUID', old = 're:.+', with = '1.2.3', everywhere = true }", _everywhere, set()),
]


@pytest.mark.parametrize(("steps", "edit", "named"), EDITS, ids=["prefix", "five", "private", "move", "everywhere"])
def test_an_edit_is_pydicoms_and_the_rest_is_kept(steps: str, edit: Callable[[Dataset], None], named: set[int]) -> None:
    for name, data, syntax in some(3):
        if name in ODD:
            with pytest.raises(Refused, match="for sure"):
                edited(data, steps, syntax=syntax)
            continue
        try:
            result = edited(data, steps, 'misfit = "pass"', syntax)
        except Refused as refused:
            assert "characters of the image's character set" in refused.reason, name  # noqa: PT017
            continue
        expected = read(data, syntax)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            edit(expected)
            found = read(bytes(result.data), syntax)
            assert without_lengths(found) == without_lengths(expected), name
        before, after = elements(data, syntax), elements(bytes(result.data), syntax)
        lengths = {tag for tag in before if not tag & 0xFFFF}
        for tag, made in after.items():
            if tag not in named | lengths and not _changed_inside(tag, expected, data, syntax):
                assert made == before[tag], f"{name} {tag:08x}"
        assert list(after) == sorted(after)


def _changed_inside(tag: int, expected: Dataset, data: bytes, syntax: str) -> bool:
    return tag in expected and expected[tag].VR in ("SQ", "UN") and expected[tag] != read(data, syntax)[tag]


def test_headers_that_look_like_earlier_ones_are_edited_as_if_they_were_the_first() -> None:
    """Lengths that vary, elements that are more or fewer, headers of other senders in between."""
    steps = (
        '{ prefix = "PatientID", with = "AHI-" }, { set = "InstitutionName", to = "Site A" }, { delete = "StudyID" }'
    )
    known = transform(steps, 'misfit = "pass"')
    learning = Compiled(known.coercions)
    for name, data, syntax in some(4):
        if name in ODD or len(data) > 20_000:
            continue
        varied = [data]
        for longer in ("A", "A long name of somebody", ""):
            changed = edited(data, f'{{ set = "OperatorsName", to = "{longer}" }}', syntax=syntax)
            varied += [bytes(changed.data), data]
        for one in varied:
            fresh = Compiled(known.coercions)
            assert _outcome(learning, one, syntax) == _outcome(fresh, one, syntax), name
    assert learning.shapes.fits > 20


def _outcome(made: Compiled, data: bytes, syntax: str) -> tuple[bytes, object] | str:
    try:
        result = made.apply(header(data, syntax), FACTS)
    except Refused as refused:
        return refused.reason
    return bytes(result.data), result.changes


@given(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255), st.integers(0, len(SAMPLE)))
def test_a_damaged_header_is_no_known_one(at: int, byte: int, end: int) -> None:
    known = transform('{ prefix = "PatientID", with = "A" }')
    learning = Compiled(known.coercions)
    _outcome(learning, SAMPLE, EXPLICIT)
    damaged = (SAMPLE[:at] + bytes((byte,)) + SAMPLE[at + 1 :])[: end if end > at else len(SAMPLE)]
    assert _outcome(learning, damaged, EXPLICIT) == _outcome(Compiled(known.coercions), damaged, EXPLICIT)
