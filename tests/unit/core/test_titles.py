"""Calling AE titles for deliveries: what templates make, what is refused, and that each is made once."""

from __future__ import annotations

import pytest

from asyncroute.config.fields import title_template
from asyncroute.core.titles import Titles, WrongTitle, facts_of
from tests.unit.parts import delivery


def titles(own: str, **routes: str) -> Titles:
    return Titles(title_template(own), {name: title_template(text) for name, text in routes.items()})


GOOD = [
    ("FIXED", "FIXED"),
    ("{calling_aet}", "CT_A"),
    ("{called_aet}", "CALLED"),
    ("{listener}", "RO@TER"),
    ("RT_{calling_aet}", "RT_CT_A"),
    ("{calling_aet}-{called_aet}!", "CT_A-CALLED!"),
    ("{calling_aet}{calling_aet}", "CT_ACT_A"),
    ("  {calling_aet} X ", "CT_A X"),
]


@pytest.mark.parametrize(("text", "title"), GOOD)
def test_a_title_is_made_of_what_is_known(text: str, title: str) -> None:
    given = delivery(calling_aet="CT_A", called_aet="CALLED", listener="RO@TER@[::1]:104")
    assert titles(text).title(given) == title


def test_a_listener_that_is_only_a_title() -> None:
    assert facts_of(delivery(listener="ROUTER"))["listener"] == "ROUTER"


@pytest.mark.parametrize(
    ("text", "sender", "why"),
    [
        ("RT_{calling_aet}", "FOURTEEN_CHARS", "calling AE title 'RT_FOURTEEN_CHARS' .* has 17 characters"),
        ("{calling_aet}", "SEVENTEEN_LETTERS", "calling AE title 'SEVENTEEN_LETTERS' .* has 17 characters"),
        ("{calling_aet}", "", "calling AE title '' .* is empty"),
        ("{calling_aet}{calling_aet}", "  ", "calling AE title '' .* is empty"),
        ("RT_{calling_aet}", "A\\B", "has characters that do not belong there"),
        ("RT_{calling_aet}", "M\u00dc", "has characters that do not belong there"),
        ("RT_{calling_aet}", "A\nB", "has characters that do not belong there"),
    ],
)
def test_what_is_no_title_is_told_in_one_line(text: str, sender: str, why: str) -> None:
    made = titles(text)
    for _ in range(2):  # a mistake is not remembered as a title
        with pytest.raises(WrongTitle, match=why) as error:
            made.title(delivery(calling_aet=sender))
        assert f"(from calling_ae_title '{text}')" in str(error.value)
        assert "1 to 16 printable ASCII characters, no backslash (PS3.5 6.2)" in str(error.value)
        assert len(str(error.value).splitlines()) == 1
    assert made.title(delivery(calling_aet="CT_A")).endswith("CT_A")


def test_sixteen_characters_are_enough() -> None:
    assert titles("RT_{calling_aet}").title(delivery(calling_aet="THIRTEEN_CHAR")) == "RT_THIRTEEN_CHAR"


@pytest.mark.parametrize("own", ["FIXED", "{calling_aet}", "RT_{calling_aet}"])
def test_a_route_has_another_title_than_the_destination(own: str) -> None:
    made = titles(own, night="N_{listener}", fixed="X")
    plain = titles(own)
    for sender in ("CT_A", "CT_B"):
        given = delivery(calling_aet=sender, listener="EAST@h:1")
        assert made.title(given) == plain.title(given)  # of a route without one, or that is gone
        given.route = "night"
        assert made.title(given) == "N_EAST"
        given.listener = "WEST@h:1"
        assert made.title(given) == "N_WEST"
        given.route = "fixed"
        assert made.title(given) == "X"


@pytest.mark.parametrize(
    ("own", "routes", "made"),
    [
        ("FIXED", {}, 0),
        ("{calling_aet}", {}, 10),
        ("RT_{calling_aet}", {}, 10),
        ("{listener}", {}, 1),
        ("FIXED", {"all": "X"}, 1),
        ("{calling_aet}", {"all": "RT_{called_aet}"}, 10),
    ],
)
def test_a_title_is_made_once_for_all_that_are_alike(own: str, routes: dict[str, str], made: int) -> None:
    counted = Counting(own, routes)
    seen = [counted.title(delivery(n, calling_aet=f"SITE{n % 10}")) for n in range(1000)]
    assert counted.made == made
    assert seen == [Counting(own, routes).title(delivery(calling_aet=f"SITE{n % 10}")) for n in range(1000)]


def test_what_is_remembered_is_bounded() -> None:
    made = titles("RT_{calling_aet}")
    for n in range(10_000):
        assert made.title(delivery(calling_aet=f"{n}")) == f"RT_{n}"
        assert len(made._known) <= 4096


class Counting(Titles):
    """Counts the titles that are made."""

    def __init__(self, own: str, routes: dict[str, str]) -> None:
        super().__init__(title_template(own), {name: title_template(text) for name, text in routes.items()})
        self.made = 0

    def _make(self, *args: object) -> str:
        self.made += 1
        return super()._make(*args)  # type: ignore[arg-type]
