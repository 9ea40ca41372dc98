"""Numbers and tags of binary VRs from text, and back by the reader."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncroute.transform.binary import BINARY, NoNumber, encoded
from asyncroute.wire.values import texts_of

VALUES = [
    ("US", "1\\ 65535", b"\1\0\xff\xff"),
    ("AT", "(0018,1063)\\0008103e", b"\x18\0\x63\x10\x08\0\x3e\x10"),
    ("FD", "0.1", struct.pack("<d", 0.1)),
    ("SV", "-1", b"\xff" * 8),
]


@pytest.mark.parametrize(("vr", "text", "value"), VALUES)
def test_values(vr: str, text: str, value: bytes) -> None:
    assert encoded(text, vr, big=False) == value


NONE = [
    ("US", "65536"), ("US", "-1"), ("US", "1" * 5000), ("US", "1.5"), ("US", "1_0"), ("US", "1\\"), ("US", "٣"),
    ("FL", "1e39"), ("FD", "1e400"), ("FD", "inf"), ("FD", "nan"), ("FD", "1_0"), ("AT", "PatientID"),
]  # fmt: skip


@pytest.mark.parametrize(("vr", "text"), NONE)
def test_what_is_none(vr: str, text: str) -> None:
    with pytest.raises(NoNumber, match=f"is no (number|tag) that {vr} takes"):
        encoded(text, vr, big=False)


def test_nothing_is_an_empty_value() -> None:
    assert {encoded("", vr, big=False) for vr in BINARY} == {b""}


BOUNDS = {"US": (16, False), "SS": (16, True), "UL": (32, False), "SL": (32, True), "UV": (64, False), "SV": (64, True)}


@given(st.data(), st.sampled_from(sorted(BOUNDS)), st.booleans())
def test_integers_come_back(data: st.DataObject, vr: str, big: bool) -> None:
    bits, signed = BOUNDS[vr]
    lowest = -(1 << bits - 1) if signed else 0
    number = data.draw(st.integers(lowest, lowest + (1 << bits) - 1))
    assert texts_of(vr, encoded(str(number), vr, big), ("latin_1",), big=big) == (str(number),)
    for beyond in (lowest - 1, lowest + (1 << bits)):
        with pytest.raises(NoNumber):
            encoded(str(beyond), vr, big)


@given(st.floats(allow_nan=False, allow_infinity=False), st.booleans())
def test_reals_come_back(number: float, big: bool) -> None:
    assert texts_of("FD", encoded(repr(number), "FD", big), ("latin_1",), big=big) == (str(number),)


@given(st.integers(0, 0xFFFFFFFF), st.booleans())
def test_tags_come_back(tag: int, big: bool) -> None:
    text = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
    assert texts_of("AT", encoded(text, "AT", big), ("latin_1",), big=big) == (text,)
