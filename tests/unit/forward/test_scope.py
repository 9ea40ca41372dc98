"""Which deliveries may share an association."""

from __future__ import annotations

from operator import attrgetter

import pytest

from asyncroute.config.destinations import SCOPES
from asyncroute.core.model import Delivery
from asyncroute.core.titles import WrongTitle
from asyncroute.forward.base import Titles, title_of
from asyncroute.forward.scope import bonds
from asyncroute.queue.pairs import Pairs
from tests.unit.parts import CT, MR, delivery

ONE = delivery(1, study_uid="1.2", series_uid="1.2.1", patient_id="P 1")
OTHERS = {
    "image": delivery(2, study_uid="1.2", series_uid="1.2.1", patient_id="P 1"),
    "series": delivery(3, study_uid="1.2", series_uid="1.2.2", patient_id="P 1"),
    "study": delivery(4, study_uid="1.3", series_uid="1.3.1", patient_id="P 1"),
    "patient": delivery(5, study_uid="1.4", series_uid="1.4.1", patient_id="P 2"),
    "source": delivery(6, study_uid="1.5", series_uid="1.5.1", patient_id="P 3", calling_aet="MR_B"),
}


def fixed(_: Delivery) -> str:
    return "ROUTER"


@pytest.mark.parametrize(
    ("scope", "apart"),
    [
        ("any", set()),
        ("source", {"source"}),
        ("patient", {"source", "patient"}),
        ("study", {"source", "patient", "study"}),
        ("series", {"source", "patient", "study", "series"}),
    ],
)
def test_what_is_kept_apart(scope: str, apart: set[str]) -> None:
    bond = bonds(scope, fixed)
    assert {name for name, other in OTHERS.items() if bond(other) != bond(ONE)} == apart
    assert {title_of(bond(other)) for other in OTHERS.values()} == {"ROUTER"}


@pytest.mark.parametrize("scope", SCOPES)
def test_calling_titles_never_share(scope: str) -> None:
    bond = bonds(scope, attrgetter("calling_aet"))
    assert bond(ONE) != bond(OTHERS["source"])
    assert title_of(bond(ONE)) == "CT_A"


@pytest.mark.parametrize(
    ("scope", "missing", "alike"),
    [
        ("series", {"series_uid": ""}, True),
        ("patient", {"patient_id": ""}, True),
        ("patient", {"patient_id": "", "study_uid": "9"}, False),
        ("study", {"study_uid": ""}, True),
    ],
)
def test_what_an_image_does_not_tell(scope: str, missing: dict[str, str], alike: bool) -> None:
    bond = bonds(scope, fixed)
    one, other = (delivery(n, **{"study_uid": "1", "series_uid": "2", "patient_id": "3", **missing}) for n in (1, 2))
    other.study_uid = other.study_uid.replace("9", "8")
    assert (bond(one) == bond(other)) == alike


def test_an_image_without_a_title_has_no_bond() -> None:
    def wrong(_: Delivery) -> str:
        raise WrongTitle("none")

    with pytest.raises(WrongTitle):
        bonds("study", wrong)(ONE)


def test_titles_hold_their_bonds() -> None:
    titles = Titles(["A", "B"])
    assert "A" in titles
    assert "A\\1.2" in titles
    assert "A1.2" not in titles


def test_what_is_proposed_for_a_study() -> None:
    """What it needs, then what its title was seen to need, then others."""
    pairs = Pairs()
    for key in (("B\\1", "first", "x"), ("A\\1", "seen", "x"), ("A\\2", "seen", "x")):
        pairs.remember(key)
    ready = [("A\\3", MR, "x"), ("A\\4", "other", "x"), ("A\\3", CT, "x")]
    assert list(pairs.wanted("A\\3", ready)) == [(MR, "x"), (CT, "x"), ("seen", "x"), ("first", "x")]
