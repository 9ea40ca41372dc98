"""Hours as an administrator writes them."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from asyncroute.config.hours import hours_texts, parse_hours, parse_range
from asyncroute.config.words import Invalid
from asyncroute.core.hours import Range

EVERY_DAY = frozenset(range(7))
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("18:00-06:00", Range(1080, 1800, EVERY_DAY, None)),
        ("8:00-18:30", Range(480, 1110, EVERY_DAY, None)),
        ("00:00-24:00", Range(0, 1440, EVERY_DAY, None)),
        ("18:00-00:00", Range(1080, 1440, EVERY_DAY, None)),
        ("Mon-Fri 18:00-06:00 Europe/Berlin", Range(1080, 1800, frozenset(range(5)), BERLIN)),
        ("sat,SUN", Range(0, 1440, frozenset({5, 6}), None)),
        ("Saturday-Mon UTC", Range(0, 1440, frozenset({5, 6, 0}), ZoneInfo("UTC"))),
        ("Mon-Wed,Fri 01:00-02:00", Range(60, 120, frozenset({0, 1, 2, 4}), None)),
        (" 18:00-06:00   Europe/Berlin ", Range(1080, 1800, EVERY_DAY, BERLIN)),
    ],
)
def test_what_is_understood(text: str, expected: Range) -> None:
    assert parse_range(text) == expected


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "must be hours such as"),
        ("at night", "must be hours such as"),
        ("Europe/Berlin", "must be hours such as"),
        ("Mon-Fri 18:00-06:00 Europe/Berlin now", "must be hours such as"),
        (18, "must be hours such as"),
        ([["18:00-06:00"]], "not a list"),
        ("18-06", "has times that are none"),
        ("18:00", "has times that are none"),
        ("18:00-25:00", 'from "00:00" to "24:00"'),
        ("24:00-06:00", 'from "00:00" to "24:00"'),
        ("18:60-20:00", 'from "00:00" to "24:00"'),
        ("08:00-08:00", 'the whole day is "00:00-24:00"'),
        ("Mon-Fry 08:00-09:00", "has days that are none"),
        ("Mon-Tue-Wed", "has days that are none"),
        ("Mon, 08:00-09:00", "has days that are none"),
        ("08:00-09:00 Europe/Berln", "time zone that is not known here"),
        ("08:00-09:00 ../etc/passwd", "time zone that is not known here"),
        ("08:00-09:00 Europe", "time zone that is not known here"),
    ],
)
def test_what_is_refused(value: object, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        hours_texts(value)


def test_one_or_several_or_none() -> None:
    assert hours_texts("18:00-06:00") == ("18:00-06:00",)
    assert hours_texts(["18:00-06:00", "Sun"]) == ("18:00-06:00", "Sun")
    assert parse_hours(()) is None
    both = parse_hours(("18:00-06:00", "Sun"))
    assert both is not None
    assert both.ranges == (parse_range("18:00-06:00"), parse_range("Sun"))
