"""Layouts of folder destinations: what they render to, and that no image can name a path outside."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncroute.config.template import ABSENT, DEFAULT_LAYOUT, parse_layout

PATIENT, DATE, MODALITY, SOP = 0x00100020, 0x00080020, 0x00080060, 0x00080018
IMAGE = {PATIENT: ("P 1",), DATE: ("20240131",), MODALITY: ("CT",), SOP: ("1.2.3",)}


@pytest.mark.parametrize(
    ("layout", "path"),
    [
        (DEFAULT_LAYOUT, "P 1/20240131-CT/1.2.3.dcm"),
        ("{SOPInstanceUID}", "1.2.3"),
        ("all/{(0010,0020)}/{00080018}", "all/P 1/1.2.3"),
        ("{AccessionNumber}/{SOPInstanceUID}", f"{ABSENT}/1.2.3"),
        ("images", "images"),
    ],
)
def test_paths(layout: str, path: str) -> None:
    assert parse_layout(layout).render(IMAGE) == path


def test_a_layout_names_the_attributes_it_needs() -> None:
    assert parse_layout(DEFAULT_LAYOUT).tags == {PATIENT, DATE, MODALITY, SOP}


def render(value: str, *more: str) -> str:
    return parse_layout("{PatientID}").render({PATIENT: (value, *more)})


@pytest.mark.parametrize("value", ["P1", "M\u00fcller^Eva", "a.b", "a b", "1..2", "\u5c71\u7530"])
def test_harmless_values_stay_as_they_are(value: str) -> None:
    assert render(value) == value


@pytest.mark.parametrize(
    ("value", "start"),
    [
        ("../../etc", "_._.._etc~"),
        ("/etc/passwd", "_etc_passwd~"),
        ("..", "_.~"),
        (".", "_~"),
        (".hidden", "_hidden~"),
        ("a\\b", "a_b~"),
        ("a\nb\x00c", "a_b_c~"),
        ("a:b*c?", "a_b_c_~"),
    ],
)
def test_harmful_values_are_changed_and_marked(value: str, start: str) -> None:
    assert render(value).startswith(start)


@pytest.mark.parametrize("value", ["", " ", "-", "--"])
def test_values_without_content_are_unknown(value: str) -> None:
    assert render(value) == ABSENT


def test_several_values_are_joined() -> None:
    assert render("A", "B") == "A-B"
    assert parse_layout("{PatientID}").render({}) == ABSENT


def test_long_names_are_shortened_but_stay_different_and_keep_their_extension() -> None:
    layout = parse_layout("{PatientID}.dcm")
    one, other = (layout.render({PATIENT: ("\u00fc" * 500 + end,)}) for end in "ab")
    assert one != other
    assert one.endswith(".dcm")
    assert len(one.encode()) <= 200


@given(
    st.lists(st.text(max_size=40) | st.text("./\\~-\0 ", max_size=6), max_size=3).map(tuple),
    st.sampled_from(["{PatientID}", "x/{PatientID}/y", "{PatientID}{PatientID}", ".{PatientID}", "{PatientID}."]),
)
def test_no_value_leads_outside(values: tuple[str, ...], text: str) -> None:
    layout = parse_layout(text)
    path = layout.render({PATIENT: values})
    components = path.split("/")
    assert len(components) == len(layout.components)
    assert not {"", ".", ".."} & set(components)
    assert not PurePosixPath(path).is_absolute()
    assert all(len(component.encode()) <= 200 for component in components)
    assert not any(ord(character) < 32 for character in path)


WORDS = st.text(min_size=1).map(str.strip).filter(bool)


@given(WORDS, WORDS)
def test_different_values_have_different_names(one: str, other: str) -> None:
    nothing = {value for value in (one, other) if not value.strip("-") or value == ABSENT}
    assert nothing or (render(one) == render(other)) == (one == other)


WRONG = [
    "",
    "/x",
    "x/",
    "a//b",
    "..",
    "a/../b",
    "./a",
    "a\\b",
    "a\nb",
    "{",
    "}",
    "{PatientID",
    "PatientID}",
    "{{PatientID}}",
    "{}",
    "{Nothing}",
    "{PixelData}",
    "{RequestAttributesSequence}",
    "{calling_aet}",
    "{StudyDate:%Y}",
]


@pytest.mark.parametrize("text", WRONG)
def test_wrong_layouts(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|cannot|has|\{"):
        parse_layout(text)
