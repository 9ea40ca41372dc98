"""Hours of the day against a plain recount, minute by minute, around the days on which clocks are changed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncroute.core.hours import DAY, Hours, Range

BERLIN = ZoneInfo("Europe/Berlin")
EVERY_DAY = frozenset(range(7))
MINUTE = timedelta(minutes=1)

CHANGES = [
    ("Europe/Berlin", "2026-03-29"),  # 02:00 to 03:00 is skipped
    ("Europe/Berlin", "2026-10-25"),  # 02:00 to 03:00 comes twice
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-10-04"),  # by half an hour
    ("Australia/Lord_Howe", "2026-04-05"),
    ("America/Santiago", "2026-09-06"),  # midnight is skipped
    ("Asia/Beirut", "2026-10-25"),  # midnight comes twice
    ("Pacific/Apia", "2011-12-30"),  # a whole day is skipped
    ("Asia/Kolkata", "2026-07-01"),  # never
]


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


def hours(begin: int, end: int, days: frozenset[int] = EVERY_DAY, zone: ZoneInfo | None = BERLIN) -> Hours:
    return Hours((Range(begin, end, days, zone),))


NIGHT = hours(18 * 60, 30 * 60)


# --- usual days -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-06-10 17:59:59", (False, "2026-06-10 18:00")),
        ("2026-06-10 18:00", (True, "2026-06-11 06:00")),
        ("2026-06-11 00:00", (True, "2026-06-11 06:00")),
        ("2026-06-11 05:59:59", (True, "2026-06-11 06:00")),
        ("2026-06-11 06:00", (False, "2026-06-11 18:00")),
    ],
)
def test_a_range_over_midnight(now: str, expected: tuple[bool, str]) -> None:
    opened, change = expected
    assert NIGHT.at(at(now)) == (opened, at(change))


def test_a_range_belongs_to_the_day_on_which_it_begins() -> None:
    friday = hours(18 * 60, 30 * 60, frozenset({4}))
    assert friday.at(at("2026-06-12 05:00")) == (False, at("2026-06-12 18:00"))
    assert friday.at(at("2026-06-13 05:00")) == (True, at("2026-06-13 06:00"))
    assert friday.at(at("2026-06-13 07:00")) == (False, at("2026-06-19 18:00"))


def test_ranges_that_touch_are_one() -> None:
    both = Hours((*hours(8 * 60, 12 * 60).ranges, *hours(12 * 60, 13 * 60).ranges, *hours(11 * 60, 12 * 60).ranges))
    assert both.at(at("2026-06-10 08:30")) == (True, at("2026-06-10 13:00"))


def test_always_open() -> None:
    opened, change = hours(0, DAY).at(at("2026-06-10 08:30"))
    assert opened
    assert change > at("2026-06-17 08:30")


def test_zones_side_by_side() -> None:
    """Of Kiritimati (UTC+14) and Niue (UTC-11), on the same Wednesday."""
    wednesday = frozenset({2})
    far = [Range(0, DAY, wednesday, ZoneInfo(name)) for name in ("Pacific/Kiritimati", "Pacific/Niue")]
    now = datetime(2026, 6, 9, 9, tzinfo=UTC).timestamp()
    assert Hours((far[0],)).at(now) == (False, now + 3600)
    assert Hours((far[1],)).at(now) == (False, now + 26 * 3600)
    assert Hours(tuple(far)).at(now + 3600) == (True, now + 25 * 3600)


# --- days on which the clock is changed -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begin", "end", "opens", "closes"),
    [
        ("02:30", "06:00", "03:00", "06:00"),
        ("01:00", "02:30", "01:00", "03:00"),
        ("02:00", "03:00", "03:00", "04:00"),
        ("02:15", "02:45", "03:00", "03:30"),
    ],
)
def test_times_that_the_clock_skips(begin: str, end: str, opens: str, closes: str) -> None:
    found = Hours((Range(minutes(begin), minutes(end), EVERY_DAY, BERLIN),))
    assert found.at(at("2026-03-29 00:30")) == (False, at(f"2026-03-29 {opens}"))
    assert found.at(at(f"2026-03-29 {opens}")) == (True, at(f"2026-03-29 {closes}"))


def test_an_hour_that_comes_twice_is_open_both_times() -> None:
    found = hours(minutes("02:15"), minutes("02:45"))
    opens = at("2026-10-25 02:15", fold=0)
    assert found.at(at("2026-10-25 01:00")) == (False, opens)
    assert found.at(opens) == (True, at("2026-10-25 02:45", fold=1))
    assert at("2026-10-25 02:45", fold=1) - opens == 90 * 60


def test_an_end_to_which_the_clock_is_put_back_comes_the_first_time() -> None:
    assert hours(0, 120).at(at("2026-10-25 01:00")) == (True, at("2026-10-25 02:00", fold=0))
    assert hours(0, 180).at(at("2026-10-25 01:00")) == (True, at("2026-10-25 03:00"))


def minutes(text: str) -> int:
    hour, _, minute = text.partition(":")
    return int(hour) * 60 + int(minute)


def recounted(each: Range, zone: ZoneInfo, since: datetime, count: int) -> list[bool]:
    """Whether each of ``count`` minutes from ``since`` is open: what a person finds who watches the clock on the wall.

    A range is open once the clock has shown its begin or later, until it never again shows anything before its end.
    Of a range for which there is no such minute, its length in minutes from the jump on.
    """
    shown = [(since + n * MINUTE).astimezone(zone).replace(tzinfo=None) for n in range(count)]
    latest, earliest = list(shown), list(shown)
    for n in range(1, count):
        latest[n] = max(latest[n], latest[n - 1])
    for n in range(count - 2, -1, -1):
        earliest[n] = min(earliest[n], earliest[n + 1])
    found = [False] * count
    day = shown[0].date() + timedelta(days=1)
    while day < shown[-1].date() - timedelta(days=1):
        if day.weekday() in each.days:
            midnight = datetime.combine(day, datetime.min.time())
            begin, end = midnight + each.begin * MINUTE, midnight + each.end * MINUTE
            opens = next(n for n in range(count) if latest[n] >= begin)
            closes = next(n for n in range(count) if earliest[n] >= end)
            closes = closes if closes > opens else opens + each.end - each.begin
            found[opens:closes] = [True] * (closes - opens)
        day += timedelta(days=1)
    return found


@st.composite
def ranges(draw: st.DrawFn) -> Range:
    begin = draw(st.integers(0, DAY - 1) | st.sampled_from([0, 60, 90, 120, 150, 180, 1380]))
    length = draw(st.integers(1, DAY) | st.sampled_from([15, 30, 60, 120]))
    days = draw(st.just(EVERY_DAY) | st.frozensets(st.integers(0, 6), min_size=1))
    return Range(begin, begin + length, days, None)


@settings(max_examples=30, deadline=None)
@given(change=st.sampled_from(CHANGES), chosen=st.lists(ranges(), min_size=1, max_size=3))
def test_as_a_plain_recount_says(change: tuple[str, str], chosen: list[Range]) -> None:
    zone = ZoneInfo(change[0])
    placed = [Range(x.begin, x.end, x.days, zone) for x in chosen]
    compare(Hours(tuple(placed)), placed, zone, change[1])


def compare(found: Hours, placed: list[Range], zone: ZoneInfo, day: str) -> None:
    since = datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC) - timedelta(days=4)
    count = 8 * DAY
    expected = [any(both) for both in zip(*(recounted(x, zone, since, count) for x in placed), strict=True)]
    looked, right = 3 * DAY, 5 * DAY  # elsewhere ranges may have begun before, or end after, what was counted
    known, until = found.at((since + looked * MINUTE).timestamp())
    for n in range(looked, right):
        now = (since + n * MINUTE).timestamp()
        if now >= until:
            known, until = found.at(now)
            assert until > now
        assert known == expected[n], f"{since + n * MINUTE}: {found}"
        if n % 97 == 0:
            assert found.at(now)[0] == known


# --- the system's zone ------------------------------------------------------------------------------------------------


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_without_a_zone_it_is_the_systems(in_berlin: None, day: str) -> None:
    assert os.environ["TZ"] == "Europe/Berlin"
    for begin, end in ((60, 150), (120, 180), (135, 165), (150, 360), (1080, 1800)):
        placed = [Range(begin, end, EVERY_DAY, None)]
        compare(Hours(tuple(placed)), placed, BERLIN, day)
