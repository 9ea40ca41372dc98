"""Which member a study is for."""

from __future__ import annotations

from collections import Counter

import pytest

from asyncroute.core.groups import Group

STUDIES = [f"1.2.840.{n}.7" for n in range(4000)]


def balanced(*members: str, weights: tuple[int, ...] = ()) -> Group:
    return Group("g", True, members, weights or (1,) * len(members), 600.0)


def firsts(group: Group) -> Counter[str]:
    return Counter(group.ranked(study)[0] for study in STUDIES)


def test_failover_keeps_the_order_of_the_file() -> None:
    group = Group("g", False, ("z", "a", "m"), (1, 1, 1), 600.0)
    assert {tuple(group.ranked(study)) for study in STUDIES} == {("z", "a", "m")}


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (1, 5), (2, 3, 5)])
def test_balance_goes_by_weight(weights: tuple[int, ...]) -> None:
    members = tuple("abc"[: len(weights)])
    found = firsts(balanced(*members, weights=weights))
    for member, weight in zip(members, weights, strict=True):
        assert found[member] / len(STUDIES) == pytest.approx(weight / sum(weights), abs=0.03)


def test_without_a_member_the_others_share_its_studies_and_keep_their_own() -> None:
    three, two = balanced("a", "b", "c"), balanced("a", "c")
    taken_over: Counter[str] = Counter()
    for study in STUDIES:
        ranked = list(three.ranked(study))
        assert two.ranked(study)[0] == next(name for name in ranked if name != "b")
        if ranked[0] == "b":
            taken_over[ranked[1]] += 1
    assert taken_over["a"] / taken_over["c"] == pytest.approx(1, abs=0.2)


def test_any_text_is_a_study() -> None:
    assert set(balanced("a", "b").ranked("\ud800 ä")) == {"a", "b"}
