"""Values on their way into SQLite and back."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from asyncroute.journal.values import clean, json_ids, signed, uid_key, unsigned


@given(st.integers(0, (1 << 64) - 1))
def test_signed_and_back(number: int) -> None:
    assert -(1 << 63) <= signed(number) < 1 << 63
    assert unsigned(signed(number)) == number


@given(st.text(st.characters()))
def test_uid_keys_fit(uid: str) -> None:
    assert -(1 << 63) <= uid_key(uid) < 1 << 63


def test_uid_keys_of_a_series_are_neighbours_and_differ() -> None:
    keys = [uid_key(f"1.2.840.113619.2.55.3.604688.{n}") for n in range(1000)]
    assert len(set(keys)) == 1000
    assert len({key >> 32 for key in keys}) == 1
    assert uid_key("1.2.840.113619.2.55.3.604689.1") >> 32 not in {key >> 32 for key in keys}


@given(st.text(st.characters()))
def test_clean_text_can_be_stored(text: str) -> None:
    cleaned = clean(text)
    assert isinstance(cleaned, str)
    assert cleaned.encode().decode() == cleaned
    assert clean(cleaned) == cleaned


def test_clean_leaves_other_values() -> None:
    assert [clean(value) for value in (None, 1, b"\xff", 1.5)] == [None, 1, b"\xff", 1.5]


@given(st.lists(st.integers()))
def test_json_ids(ids: list[int]) -> None:
    assert json.loads(json_ids(ids)) == ids
