"""Decisions of the route table."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncroute.config.hours import parse_hours
from asyncroute.core.conditions import Condition, During, Either, Not, Term
from asyncroute.core.model import RouteHit, Source
from asyncroute.core.paths import Step
from asyncroute.core.patterns import (
    Ages,
    Glob,
    Moments,
    Network,
    Numbers,
    Pattern,
    Presence,
    Regex,
    network_test,
    text_test,
)
from asyncroute.core.priority import LOW, NORMAL, STAT
from asyncroute.core.rules import RouteTable, Rule

SOURCE = Source("CT_A", "ROUTER", "MAIN", "10.1.2.3")
TAG, OTHER = 0x00080060, 0x00100020


def condition(key: str | int, *patterns: Pattern | str) -> Condition:
    return Condition(key, tuple(Glob(p) if isinstance(p, str) else p for p in patterns))


CT, MR, TEST = condition(TAG, "CT"), condition(TAG, "MR"), condition(OTHER, "TEST*")


def decide(*rules: Rule, source: Source = SOURCE, **values: str) -> list[tuple[str, str]]:
    attributes = {{"modality": TAG, "patient": OTHER}[name]: (value,) for name, value in values.items()}
    return [(hit.route, hit.destination) for hit in RouteTable(rules).decide(source, attributes)]


# --- Routes ----------------------------------------------------------------------------------------------------------


def test_no_routes_no_hits() -> None:
    assert decide() == []


def test_all_matching_routes_apply_in_order() -> None:
    rules = (Rule("a", ("x", "y"), (CT,)), Rule("b", ("z",), (MR,)), Rule("c", ("w",)))
    assert decide(*rules, modality="CT") == [("a", "x"), ("a", "y"), ("c", "w")]
    assert decide(*rules, modality="MR") == [("b", "z"), ("c", "w")]
    assert decide(*rules) == [("c", "w")]


def test_a_final_route_stops_only_where_it_matches() -> None:
    rules = (Rule("a", ("x",), (CT,), final=True), Rule("b", ("y",)))
    assert decide(*rules, modality="CT") == [("a", "x")]
    assert decide(*rules, modality="MR") == [("b", "y")]
    assert decide(Rule("a", ("x",), final=True), Rule("b", ("y",))) == [("a", "x")]


def test_a_destination_is_hit_once_by_the_first_route() -> None:
    rules = (Rule("a", ("x", "x")), Rule("b", ("y", "x")), Rule("c", ("y",)))
    assert decide(*rules) == [("a", "x"), ("b", "y")]
    assert decide(Rule("a", ("x",), (MR,)), Rule("b", ("x",), (CT,)), modality="CT") == [("b", "x")]


def test_all_conditions_of_match_must_hold() -> None:
    rule = Rule("a", ("x",), (CT, condition("calling_aet", "CT_*"), condition(OTHER, "*")))
    assert decide(rule, modality="CT", patient="1")
    assert not decide(rule, modality="CT")
    assert not decide(rule, modality="MR", patient="1")
    assert not decide(rule, modality="CT", patient="1", source=Source("MR", "R", "M", "::1"))


def test_unless_excludes_only_where_all_of_it_holds() -> None:
    rule = Rule("a", ("x",), unless=(CT, TEST))
    assert not decide(rule, modality="CT", patient="TEST1")
    assert decide(rule, modality="CT", patient="1")
    assert decide(rule, modality="MR", patient="TEST1")
    assert decide(rule)


def test_match_and_unless_together() -> None:
    rule = Rule("a", ("x",), (CT,), (TEST,))
    assert decide(rule, modality="CT", patient="1")
    assert not decide(rule, modality="CT", patient="TEST")
    assert not decide(rule, modality="MR", patient="1")


def test_the_tags_are_those_of_all_conditions() -> None:
    table = RouteTable([Rule("a", ("x",), (CT, condition("peer", Network("::1")))), Rule("b", ("y",), unless=(TEST,))])
    assert table.tags == {TAG, OTHER}
    assert RouteTable([Rule("a", ("x",))]).tags == frozenset()


def test_more_combinations_than_are_remembered() -> None:
    """Thirteen independent routes: 8192 combinations, every one right, also when asked again."""
    rules = [Rule(f"r{n}", (f"d{n}",), (condition(n, "1"),)) for n in range(13)]
    table = RouteTable(rules)
    for combination in [*range(1 << 13), *range(1 << 13)]:
        attributes = {n: (str(combination >> n & 1),) for n in range(13)}
        hits = table.decide(SOURCE, attributes)
        assert hits == tuple(RouteHit(f"r{n}", f"d{n}") for n in range(13) if combination >> n & 1)


# --- Against a slow and obvious reading of the same rules -------------------------------------------------------------

CONDITIONS = st.builds(
    condition,
    st.sampled_from([TAG, OTHER, "calling_aet"]),
    st.sampled_from(["", "*", "A", "A*", "?", "[AB]", "AB"]),
    st.sampled_from(["B", "", "AA"]),
)
PATH = (Step(0x00400275), Step(0x00080050))
EVENING = parse_hours(["18:00-24:00 UTC"])
assert EVENING is not None
LEAVES: st.SearchStrategy[Term] = st.one_of(
    CONDITIONS,
    CONDITIONS.map(lambda each: replace(each, key=PATH)),
    st.sampled_from([Condition(key, (Presence(there),)) for key in (TAG, OTHER, PATH) for there in (True, False)]),
    st.just(During(EVENING)),
)
TERMS: st.SearchStrategy[Term] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=2).map(lambda terms: Not(tuple(terms))),
        st.lists(st.lists(inner, min_size=1, max_size=2).map(tuple), min_size=1, max_size=2).map(
            lambda tables: Either(tuple(tables))
        ),
    ),
    max_leaves=4,
)
RULES = st.lists(
    st.tuples(
        st.lists(st.sampled_from("xyz"), max_size=2),
        st.lists(TERMS, max_size=2),
        st.lists(TERMS, max_size=2),
        st.booleans(),
    ),
    max_size=4,
)
VALUES = st.lists(st.sampled_from(["", "A", "B", "AA", "AB", "ABC"]), max_size=2)


def holds_slowly(term: Term, values: Mapping[object, Sequence[str]], evening: bool) -> bool:
    if isinstance(term, During):
        return evening
    if isinstance(term, Not):
        return not all(holds_slowly(each, values, evening) for each in term.table)
    if isinstance(term, Either):
        return any(all(holds_slowly(each, values, evening) for each in table) for table in term.tables)
    return condition_holds_slowly(term, values[term.key])


def condition_holds_slowly(condition: Condition, values: Sequence[str]) -> bool:
    if Presence(bool(values)) in condition.patterns:
        return True
    filled = [value for value in values if value]
    texts = [pattern.text for pattern in condition.patterns if isinstance(pattern, Glob)]
    if not filled:
        return "" in texts
    return any(fnmatch.fnmatchcase(value, text) for value in filled for text in texts if text)


@given(RULES, VALUES, VALUES, VALUES, st.sampled_from(["", "A", "B", "AB"]), st.booleans())
def test_decisions_are_those_of_the_obvious_reading(
    drawn: list[tuple[list[str], list[Term], list[Term], bool]],
    one: list[str],
    two: list[str],
    nested: list[str],
    title: str,
    evening: bool,
) -> None:
    rules = [
        Rule(str(n), tuple(to), tuple(match), tuple(unless), final)
        for n, (to, match, unless, final) in enumerate(drawn)
    ]
    values: dict[object, list[str]] = {TAG: one, OTHER: two, "calling_aet": [title], PATH: nested}
    expected: dict[str, str] = {}
    for rule in rules:
        matching = all(holds_slowly(each, values, evening) for each in rule.match)
        excluded = rule.unless and all(holds_slowly(each, values, evening) for each in rule.unless)
        if matching and not excluded:
            for name in rule.destinations:
                expected.setdefault(name, rule.name)
            if rule.final:
                break
    source = Source(title, "", "", "")
    table = RouteTable(rules)
    for _ in range(2):
        attributes = {TAG: tuple(one), OTHER: tuple(two), PATH: tuple(nested)}
        hits = table.decide(source, attributes, (19 if evening else 12) * 3600.0)
        assert {hit.destination: hit.route for hit in hits} == expected


# --- Patterns --------------------------------------------------------------------------------------------------------


def matches(pattern: Pattern, *values: str) -> bool:
    return bool(decide_values((pattern,), values))


def decide_values(patterns: tuple[Pattern, ...], values: tuple[str, ...]) -> tuple[RouteHit, ...]:
    return RouteTable([Rule("r", ("d",), (Condition(TAG, patterns),))]).decide(SOURCE, {TAG: values})


@pytest.mark.parametrize(
    ("pattern", "right", "wrong"),
    [
        (Glob("CT"), "CT", "CT "),
        (Glob("C*"), "C", "MC"),
        (Glob("C?"), "CT", "C"),
        (Glob("[!C]T"), "PT", "CT"),
        (Glob("C*"), "C\nT", "\nC"),
        (Glob("a.c"), "a.c", "abc"),
        (Glob("[C"), "[C", "C"),
        (Regex("T$"), "CT", "TC"),
        (Regex("(?i)ct"), "xCTx", "MR"),
        (Numbers(1, 5), "5", "5.01"),
        (Numbers(high=5), "-1e9", "1e9"),
        (Numbers(), "0", "nan"),
        (Ages(high=365), "011M", "001Y"),
        (Moments("date", "2024"), "20240101", "20231231"),
        (Moments("date", None, "2024"), "20241231", "20250101"),
        (Moments("date", "20240131", "20240131"), "20240131", "202401311"),
        (Moments("time", "0830", "0830"), "083059.9", "083100"),
        (Moments("time", "08"), "08", "07"),
        (Moments("datetime", "2024", "2024"), "20241231235959.999999", "20250101"),
        (Moments("datetime", "202401010830"), "20240101083000-0500", "20240101082959-0500"),
    ],
)
def test_patterns(pattern: Pattern, right: str, wrong: str) -> None:
    assert matches(pattern, right)
    assert not matches(pattern, wrong)
    assert matches(pattern, wrong, right)
    assert not matches(pattern)
    assert not matches(pattern, "")


@given(st.text(max_size=30) | st.sampled_from(["\u0663", "1" * 5000, "1_0", "inf", "99999999", "246060", "999Y"]))
def test_no_value_raises(value: str) -> None:
    patterns = (
        Numbers(1, 2),
        Ages(),
        Moments("date"),
        Moments("time"),
        Moments("datetime"),
        Regex("x"),
        Network("::/0"),
    )
    for pattern in patterns:
        decide_values((pattern,), (value,))
    decide_values(patterns, (value, value))


def test_patterns_of_different_kinds_are_alternatives() -> None:
    patterns = (Glob("A"), Glob("B*"), Regex("C$"), Numbers(1, 2), Glob(""))
    for right in ("A", "BX", "XC", "1.5", ""):
        assert decide_values(patterns, (right,))
    for wrong in ("X", "AB", "3"):
        assert not decide_values(patterns, (wrong,))


@pytest.mark.parametrize(
    ("peer", "inside"),
    [
        ("10.1.2.3", True),
        ("10.2.0.0", False),
        ("::ffff:10.1.9.9", True),
        ("2001:db8::5", True),
        ("2001:db9::5", False),
        ("fe80::1%eth0", True),
        ("192.168.1.1", True),
        ("192.168.1.2", False),
        ("", False),
        ("host.example.org", False),
    ],
)
def test_networks(peer: str, inside: bool) -> None:
    test = network_test(["10.1.0.0/16", "2001:db8::/32", "fe80::/10", "192.168.1.1"])
    for _ in range(2):
        assert bool(test(peer)) is inside
    assert network_test(["*", "10.1.0.0/16"])(peer)


def test_titles() -> None:
    test = text_test(["A", "B*"])
    assert [title for title in ("A", "B", "BX", "AX", "", "a") if test(title)] == ["A", "B", "BX"]
    assert not text_test([])("A")


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (condition("nothing", "x"), ValueError),
        (condition("peer", Network("10.0.0.1/8")), ValueError),
        (condition(TAG, Regex("(")), re.error),
    ],
)
def test_what_cannot_be_compiled_is_refused_when_the_table_is_made(wrong: Condition, error: type[Exception]) -> None:
    with pytest.raises(error):
        RouteTable([Rule("a", ("x",), (wrong,))])


def test_the_most_urgent_of_several_routes_counts() -> None:
    """The destination belongs to the first route all the same."""
    table = RouteTable(
        [
            Rule("all", ("pacs", "copy")),
            Rule("er", ("pacs",), (Condition("calling_aet", (Glob("ER"),)),), priority=STAT),
            Rule("late", ("pacs", "night"), priority=LOW),
        ]
    )
    pacs = RouteHit("all", "pacs", NORMAL)
    others = (RouteHit("all", "copy", NORMAL), RouteHit("late", "night", LOW))
    assert table.decide(Source("CT", "X", "", ""), {}) == (pacs, *others)
    assert table.decide(Source("ER", "X", "", ""), {}) == (RouteHit("all", "pacs", STAT), *others)


def test_what_takes_a_closer_look_is_asked_for_last_and_only_where_it_decides() -> None:
    class Looking(dict[object, tuple[str, ...]]):
        looked = 0

        def __missing__(self, key: object) -> tuple[str, ...]:
            assert key == PATH
            self.looked += 1
            return ("A1",)

    nested = Condition(PATH, (Glob("A*"),))
    table = RouteTable(
        [Rule("ct", ("x",), (nested, CT)), Rule("mr", ("y",), (MR,), final=True), Rule("late", ("z",), (nested,))]
    )
    assert table.paths == {PATH}
    for modality, routes, looks in [("MR", ["mr"], 0), ("CT", ["ct", "late"], 2), ("US", ["late"], 1)]:
        attributes = Looking({TAG: (modality,)})
        assert [hit.route for hit in table.decide(SOURCE, attributes)] == routes
        assert attributes.looked == looks
