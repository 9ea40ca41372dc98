"""Whatever came before, a router says of an image what one that has seen no other says of it.

Images of several senders come in any order; they differ in few elements each, so that equal ones and nearly equal ones
are frequent; routes ask for all kinds of attributes and facts, in all ways.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncroute.config.hours import parse_hours
from asyncroute.core.conditions import Condition, During, Either, Not, Term
from asyncroute.core.model import Source
from asyncroute.core.paths import Key, Step
from asyncroute.core.patterns import Glob, Numbers, Pattern, Presence, Regex
from asyncroute.core.rules import RouteTable, Rule
from asyncroute.link.buffers import ImageBytes, Memory
from asyncroute.route import Router
from asyncroute.wire import layout
from asyncroute.wire.header import header_end
from tests.support.encoding import deflate, element
from tests.support.varied import ENCODED, OTHER, SENDERS, TAGS, encoded
from tests.unit.parts import CT, instance

EVENING = parse_hours(["18:00-24:00 UTC"])
assert EVENING is not None
KEYS: tuple[str | Key, ...] = (
    *TAGS,
    0x00080060,
    0x00091002,
    *("calling_aet", "called_aet", "listener", "peer", "watch"),
    (Step(0x00400275), Step(0x00080050)),
    (Step(0x00081140), Step(0x00100020)),
    (Step(0x00090001, "ACME"),),
)
PATTERNS: tuple[tuple[Pattern, ...], ...] = (
    *(
        (Glob(text),)
        for text in ("A1", "A*", "1*", "2?", "", "*", "*e*", "CT_A", "Doe*", "M\u00fcller", "p1", "X-1", "5")
    ),
    *((Glob(text),) for text in ("Ione", "Itwo", "one", "ISO_IR 192", "1.2.3", "1.2.5", "H\u00f4pital", "second", "w")),
    (Presence(True),),
    (Presence(False),),
    (Regex("[13579]$"),),
    (Numbers(1, 50),),
    (Glob("A2"), Glob(""), Regex("^R")),
)
CONDITIONS = st.builds(Condition, st.sampled_from(KEYS), st.sampled_from(PATTERNS))
TABLES = st.lists(CONDITIONS, min_size=1, max_size=3).map(tuple)
TERMS: st.SearchStrategy[Term] = st.one_of(
    CONDITIONS,
    CONDITIONS,
    CONDITIONS,
    st.just(During(EVENING)),
    st.builds(Either, st.lists(TABLES, min_size=1, max_size=2).map(tuple)),
    st.builds(Not, TABLES),
)
RULES = st.lists(
    st.builds(
        Rule,
        st.sampled_from("abcdef"),
        st.sampled_from([("x",), ("y",), ("x", "z"), ("u",)]),
        st.lists(TERMS, max_size=3).map(tuple),
        st.lists(TERMS, max_size=1).map(tuple),
        st.sampled_from([False] * 4 + [True]),
    ),
    min_size=1,
    max_size=6,
)
SOURCES = (
    Source("CT_A", "ROUTER", "ROUTER@0.0.0.0:104", "10.0.0.1"),
    Source("CT_A", "SECOND", "second@0.0.0.0:105", "10.0.0.1"),
    Source("CT_A", "", "watch:w", ""),
    Source("MR_A", "ROUTER", "ROUTER@0.0.0.0:104", "10.0.0.2"),
)
PIXELS = 0x7FE00010


class Image(NamedTuple):
    """Of one of the senders, but for some elements; ``tail``: what follows; ``where``: how it lies in memory."""

    sender: int
    changed: dict[int, int]
    source: int
    syntax: int
    sop_class: str
    hour: int
    tail: int
    where: int
    damage: tuple[int, int] | None


FEW = st.sampled_from([0] * 20 + [1, 2])
CHOICES = st.sampled_from([1] * 8 + [0, 2, 3, 4, 5, 6])
IMAGES = st.lists(
    st.builds(
        Image,
        FEW,
        st.dictionaries(st.sampled_from([0, 2, 2, 3, 4, 5, 5, 10, *range(len(TAGS))]), CHOICES, max_size=2),
        st.integers(0, 3),
        st.sampled_from([0] * 20 + [1, 2, 3, 4]),
        st.sampled_from([CT] * 12 + [OTHER]),
        st.sampled_from([12] * 4 + [19]),
        FEW,
        FEW,
        st.sampled_from([None] * 60 + [(n, m) for n in (5, 33, 61, 90, 120) for m in (0, 1, 4, 65)]),
    ),
    min_size=20,
    max_size=50,
)


def data_of(image: Image, syntax: str) -> bytes:
    choices = list(SENDERS[image.sender])
    for number, choice in image.changed.items():
        choices[number] = choice
    plain = ENCODED[syntax]
    data = bytearray(encoded(choices, plain))
    data += (element(PIXELS, "OW", bytes(8), plain), b"", b"\0\0\0")[image.tail]
    if image.damage is not None:
        data[image.damage[0] % len(data)] = image.damage[1]
    return deflate(bytes(data)) if syntax.endswith(".99") else bytes(data)


def said(router: Router, image: Image) -> tuple[object, ...]:
    syntax = tuple(ENCODED)[image.syntax]
    data = data_of(image, syntax)
    made = instance(1, size=len(data), transfer_syntax=syntax, sop_class_uid=image.sop_class, hits=())
    made.source, made.received_at = SOURCES[image.source], image.hour * 3600.0
    if image.where == 2:
        router.route(made, None, data, True)
    else:
        parts = ImageBytes()
        view = memoryview(data)
        parts.parts = [view] if image.where == 0 else [view[:50], view[50:]]
        parts.buffers, parts.size = [Memory(1 << 16).take(8)], len(data)
        router.route(made, parts, b"")
    facts = made.study_uid, made.series_uid, made.patient_id, made.accession, made.modality
    assert made.header_length in (0, header_end(data, syntax) or len(data) if made.header_length else 0)
    return (*facts, made.hits, made.hold_reason, made.header)


@pytest.mark.parametrize("proved", [layout.PROVED, 4], ids=["structs", "expressions"])
def test_what_came_before_changes_nothing(monkeypatch: pytest.MonkeyPatch, proved: int) -> None:
    monkeypatch.setattr(layout, "PROVED", proved)
    seen = Counter[str]()

    @given(RULES, IMAGES)
    @settings(max_examples=15)
    def run(rules: list[Rule], images: list[Image]) -> None:
        check(rules, images, seen)

    run()
    assert seen["fits"] > 100
    assert min(seen["following"], seen["held"]) > 5


def check(rules: list[Rule], images: list[Image], seen: Counter[str]) -> None:
    table = RouteTable(rules)
    router = Router(table)
    for image in images:
        expected = said(Router(RouteTable(rules)), image)
        assert said(router, image) == expected
        seen["held"] += expected[6] is not None
    scanner = router._scanner
    seen["fits"] += scanner.layouts.fits
    seen["following"] += sum(bool(example.changed) for example in scanner._examples.values())
