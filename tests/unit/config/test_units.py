"""Durations and sizes: what is written comes back, and what is wrong says what to write."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncroute.config.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("10m", 600),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("7d", 604800),
        ("2w", 1209600),
        ("0s", 0),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("1m30s500ms", 90.5),
        (" 5s ", 5),
        ("never", math.inf),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (30, 'must have a unit, such as "30s"'),
        (1.5, 'must have a unit, such as "1.5s"'),
        ("30", 'must have a unit, such as "30s"'),
        (True, "must be a duration"),
        (None, "must be a duration"),
        (["1s"], "must be a duration"),
        ("", "must be a duration"),
        ("-1s", "must be a duration"),
        ("-1", "must be a duration"),
        (-1, "must be a duration"),
        ("1 s", "must be a duration"),
        ("s", "must be a duration"),
        ("1S", "must be a duration"),
        ("1y", "must be a duration"),
        ("Never", "must be a duration"),
        ("\u0663s", "must be a duration"),
        ("30m1h", "must have its units in falling order"),
        ("1m1m", "must have its units in falling order"),
        ("999999999999999d", 'write "never"'),
        ("9" * 5000 + "d", "must be a duration"),
        (float("nan"), "must be a duration"),
        pytest.param(10**5000, "must be a duration", id="huge"),
    ],
)
def test_wrong_durations(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_duration(value)


@given(st.integers(0, 100 * 365 * 86400 * 1000))
def test_a_formatted_duration_reads_as_the_same(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.5, "500ms"), (90, "1m30s"), (86400, "1d"), (30 * 86400, "30d"), (math.inf, "never"), (0.0001, "0s")],
)
def test_formatted_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("128 KiB", 131072),
        ("128KiB", 131072),
        ("128 kib", 131072),
        ("1 GiB", 2**30),
        ("20 MB", 20_000_000),
        ("1 TB", 10**12),
        ("1.5 GiB", 1610612736),
        ("0.1 MB", 100_000),
        ("10 B", 10),
        (0, 0),
        (4096, 4096),
        (2**60, 2**60),
    ],
)
def test_sizes(value: object, count: int) -> None:
    assert parse_size(value) == count


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("128", 'must have a unit, such as "128 MiB"'),
        ("128 K", 'unknown unit "K"; write "128 KiB" or "128 KB"'),
        ("1 GBit", 'unknown unit "GBit"; write "1 GiB" or "1 GB"'),
        ("1 furlong", 'unknown unit "furlong"; write "1 KiB" or "1 KB"'),
        ("", "must be a size"),
        ("MiB", "must be a size"),
        ("-1 MiB", "must be a size"),
        ("1,5 GiB", "must be a size"),
        (1.5, "must be a size"),
        (True, "must be a size"),
        ([], "must be a size"),
        (-1, "must be 0 bytes to 1024 PiB"),
        (2**60 + 1, "must be 0 bytes to 1024 PiB"),
        ("2000 PiB", "must be 0 bytes to 1024 PiB"),
        ("9" * 5000 + " B", "must be a size"),
    ],
)
def test_wrong_sizes(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_size(value)


@given(st.integers(0, 2**60))
def test_a_formatted_size_reads_as_nearly_the_same(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.05)


@given(st.integers(1, 1023), st.sampled_from([0, 10, 20, 30, 40, 50]))
def test_a_formatted_size_in_whole_units_reads_as_the_same(count: int, power: int) -> None:
    assert parse_size(format_size(count << power)) == count << power


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (131072, "128 KiB"),
        (1536 << 20, "1536 MiB"),
        (1_500_000_000, "1.4 GiB"),
        (200 << 30, "200 GiB"),
    ],
)
def test_formatted_sizes(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.text() | st.integers() | st.floats() | st.booleans() | st.none())
def test_any_value_is_a_number_or_told_in_one_line(value: object) -> None:
    for parse in (parse_duration, parse_size):
        try:
            assert parse(value) >= 0
        except ValueError as error:
            told = str(error)
            assert len(told) < 900  # 60 characters, each escaped at worst
            assert told.isprintable()
