"""From a header to destinations: in memory, cut into slices or on disk, odd, private or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncroute import route
from asyncroute.config.hours import parse_hours
from asyncroute.core.conditions import Attributes, Condition, During
from asyncroute.core.model import Instance, RouteHit, Source, Wait
from asyncroute.core.paths import Key, Step
from asyncroute.core.patterns import Glob, Pattern, Presence
from asyncroute.core.priority import PRIORITIES
from asyncroute.core.rules import RouteTable, Rule, Said
from asyncroute.link.buffers import ImageBytes
from asyncroute.route import FULL_HEADER, KEPT_HEADER, Router
from asyncroute.wire.header import HeaderScanner
from asyncroute.wire.nested import Nested, read_nested
from asyncroute.wire.scan import Scan
from tests.support import synthetic
from tests.support.synthetic import BIG_ENDIAN, CT, JPEG_LOSSLESS, KINDS, MR, PRIVATE_SYNTAX, Kind
from tests.unit.parts import EXPLICIT_LE, in_memory, instance

MODALITY, PATIENT_ID, PLAN_LABEL = 0x00080060, 0x00100020, 0x300A0002
ANY = Rule("any", ("archive",))


def when(tag: str | Key, value: str, to: str, final: bool = False) -> Rule:
    return Rule(f"{value} to {to}", (to,), (Condition(tag, (Glob(value),)),), final=final)


RULES = [when(MODALITY, "CT", "ct"), when(PATIENT_ID, "PAT-*", "patients"), when("calling_aet", "CT_*", "site-a")]


def example(kind: Kind | None = None) -> tuple[Instance, bytes]:
    source = synthetic.image("route", 1, kind or Kind())
    data = b"".join(source.chunks(1 << 20))
    made = instance(1, size=len(data), transfer_syntax=source.transfer_syntax, sop_class_uid=source.sop_class)
    made.hits, made.study_uid = (), ""
    return made, data


def names(hits: tuple[RouteHit, ...]) -> list[str]:
    return [hit.destination for hit in hits]


@pytest.mark.parametrize(("sop_class", "syntax"), KINDS)
def test_facts_and_destinations(sop_class: str, syntax: str) -> None:
    made, data = example(Kind(sop_class, syntax, 4096))
    hits = Router(RouteTable([*RULES, ANY])).route(made, in_memory(data), b"")
    assert names(hits) == [*(["ct"] if sop_class == CT else []), "patients", "site-a", "archive"]
    assert made.hits == hits
    assert made.study_uid == synthetic.uid("route", "study", 0)
    assert made.series_uid == f"{made.study_uid}.1"
    assert made.accession == f"A{made.study_uid[-8:]}"
    assert (made.patient_id, made.modality) == ("PAT-1", synthetic.MODALITIES[sop_class])
    assert made.hold_reason is None


@given(st.lists(st.integers(1, 900), max_size=6))
def test_however_it_lies_in_memory(cuts: list[int]) -> None:
    """The scan begins with the first slice; if that is too short the answer must still be the same."""
    made, data = example(Kind(size=512))
    router = Router(RouteTable([*RULES, ANY]))
    whole = router.route(made, in_memory(data), b"")
    facts = (made.study_uid, made.patient_id, made.modality, made.header)
    again, _ = example(Kind(size=512))
    assert router.route(again, in_memory(data, sorted(set(cuts))), b"") == whole
    assert (again.study_uid, again.patient_id, again.modality, again.header) == facts


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, BIG_ENDIAN, JPEG_LOSSLESS])
def test_a_streamed_image_by_its_beginning(syntax: str) -> None:
    made, data = example(Kind(CT, syntax, 1 << 20))
    hits = Router(RouteTable(RULES)).route(made, None, data[: 128 << 10])
    assert names(hits) == ["ct", "patients", "site-a"]
    assert made.hold_reason is None


def test_what_the_journal_keeps_of_the_header() -> None:
    made, data = example(Kind(size=1 << 20))
    Router(RouteTable([ANY])).route(made, in_memory(data), b"")
    assert made.header is not None
    assert data.startswith(made.header)
    assert 300 < len(made.header) < 1000
    long_header = element(0x00101010, b"LT", b"x" * 60_000) + element(0x00280010, b"US", b"\1\0")
    other = instance(1, size=len(long_header))
    Router(RouteTable([ANY])).route(other, in_memory(long_header), b"")
    assert other.header is not None
    assert len(other.header) == KEPT_HEADER
    Router(RouteTable([ANY])).route(other, in_memory(long_header, [9_000, 17_000, 40_000]), b"")
    assert other.header == long_header[:KEPT_HEADER]


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + vr
    return head + len(value).to_bytes(2, "little") + value


SMALL = element(MODALITY, b"CS", b"SR") + element(PATIENT_ID, b"LO", b"PAT-7 ")


@pytest.mark.parametrize("where", ["memory", "slices", "file"])
def test_an_attribute_that_is_not_there_is_absent_not_unknown(where: str) -> None:
    """A report has no plan label: routes that ask for one do not match, the others decide. Also when it is routed
    again from its file.
    """
    rules = [when(PLAN_LABEL, "*", "plans"), when(MODALITY, "SR", "reports")]
    made = instance(1, size=len(SMALL))
    router = Router(RouteTable(rules))
    image = None if where == "file" else in_memory(SMALL, [5] if where == "slices" else [])
    hits = router.route(made, image, SMALL if image is None else b"", image is None)
    assert names(hits) == ["reports"]
    assert made.hold_reason is None


def test_a_beginning_that_is_too_short_to_decide_is_held() -> None:
    made = instance(1, size=10_000_000)
    assert Router(RouteTable([when(PLAN_LABEL, "*", "plans"), ANY])).route(made, None, SMALL) == ()
    assert made.hold_reason is not None
    assert "beyond the first" in made.hold_reason


def test_a_private_transfer_syntax_is_routed_by_what_is_known() -> None:
    made, data = example(Kind(CT, PRIVATE_SYNTAX, 4096))
    hits = Router(RouteTable([*RULES, when(MODALITY, "", "without"), ANY])).route(made, in_memory(data), b"")
    assert names(hits) == ["site-a", "without", "archive"]
    assert (made.study_uid, made.modality, made.hold_reason) == ("", "", None)


@pytest.mark.parametrize("data", [b"\xff" * 4000, SMALL[:-3], b"\x08\x00\x18\x00UI\xff\xff", bytes(1001)])
def test_damage_holds_what_depends_on_it_and_nothing_else(data: bytes) -> None:
    asking = instance(1, size=len(data))
    assert Router(RouteTable([when(PATIENT_ID, "X*", "patients"), ANY])).route(asking, in_memory(data), b"") == ()
    assert asking.hold_reason is not None
    assert asking.hold_reason.startswith("routes cannot be decided")
    assert "\n" not in asking.hold_reason
    not_asking = instance(1, size=len(data))
    assert names(Router(RouteTable([ANY])).route(not_asking, in_memory(data), b"")) == ["archive"]
    assert not_asking.hold_reason is None


def test_an_empty_data_set() -> None:
    made = instance(1, size=0)
    empty = ImageBytes()
    assert names(Router(RouteTable([*RULES, ANY])).route(made, empty, b"")) == ["site-a", "archive"]
    assert made.header == b""
    assert made.study_uid == ""


def test_attributes_far_behind_the_first_slice() -> None:
    long_text = b"".join(element(0x00091010 + n, b"LT", b"x" * 60_000) for n in range(40))
    data = element(MODALITY, b"CS", b"CT") + long_text + element(PATIENT_ID, b"LO", b"PAT-7 ")
    assert 2_000_000 < len(data) < FULL_HEADER
    made = instance(1, size=len(data))
    data += element(0x00280010, b"US", b"\1\0")
    assert names(Router(RouteTable(RULES)).route(made, in_memory(data, [64 << 10]), b"")) == [
        "ct",
        "patients",
        "site-a",
    ]


@given(
    st.binary(max_size=400), st.sampled_from([EXPLICIT_LE, BIG_ENDIAN, "1.2.840.10008.1.2.1.99", PRIVATE_SYNTAX, "x"])
)
def test_nothing_that_a_sender_makes_up_gets_stuck(data: bytes, syntax: str) -> None:
    """Every image has an answer: routes or a reason to hold it; never an exception, from memory or from disk."""
    for image, head in ((in_memory(data, [len(data) // 2]), b""), (None, data)):
        made = instance(1, size=len(data), transfer_syntax=syntax)
        hits = Router(RouteTable([*RULES, when(PLAN_LABEL, "x", "plans")])).route(made, image, head)
        assert hits == made.hits
        assert hits or made.hold_reason or made.source.calling_aet


def test_the_order_of_routes_and_the_final_one() -> None:
    rules = [when(MODALITY, "MR", "mr"), when(PATIENT_ID, "PAT-1", "first", final=True), ANY]
    made, data = example(Kind(MR))
    assert names(Router(RouteTable(rules)).route(made, in_memory(data), b"")) == ["mr", "first"]


def test_only_what_is_needed_is_looked_for(tmp_path: Path) -> None:
    wanted = Router(RouteTable([when(PLAN_LABEL, "x", "plans")]))._scanner.wanted
    assert wanted == HeaderScanner({0x0020000D, 0x0020000E, PATIENT_ID, 0x00080050, MODALITY, PLAN_LABEL}).wanted


# --- images that are like earlier ones --------------------------------------------------------------------------------


class CountingTable(RouteTable):
    """A table that counts how often it is asked."""

    asked = 0

    def decide(
        self,
        source: Source,
        attributes: Attributes,
        at: float = 0.0,
        said: Said | None = None,
        changed: tuple[int, ...] = (),
    ) -> tuple[RouteHit, ...]:
        self.asked += 1
        return super().decide(source, attributes, at, said, changed)


def outcome(router: Router, data: bytes, source: Source, cuts: list[int] | None = None) -> tuple[object, ...]:
    made = instance(1, size=len(data))
    made.source = source
    router.route(made, in_memory(data, cuts), b"")
    facts = made.study_uid, made.series_uid, made.patient_id, made.accession, made.modality
    return (*facts, made.hits, made.hold_reason, made.header)


def sources(count: int) -> list[Source]:
    return [
        Source(f"CT_{n}" if n % 2 else f"MR_{n}", "ROUTER", "ROUTER@0.0.0.0:104", f"10.0.0.{n}") for n in range(count)
    ]


def series(study: int, count: int) -> list[bytes]:
    """Images of one patient; UIDs and names of several lengths."""
    pixels = b"\xe0\x7f\x10\0OW\0\0\x08\0\0\0" + bytes(8)
    uid = b"1.2.%d" % 10**study
    return [
        b"".join(
            (
                element(0x00080018, b"UI", uid + b".%d" % n),
                element(0x00080050, b"SH", b"A" * study),
                element(MODALITY, b"CS", (b"CT", b"MR")[study % 2]),
                element(PATIENT_ID, b"LO", b"PAT-%d" % study if study % 3 else b"X"),
                element(0x0020000D, b"UI", uid),
                element(0x0020000E, b"UI", uid + b".1"),
                element(0x00200013, b"IS", b"%d" % n),
                pixels,
            )
        )
        for n in range(count)
    ]


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3), st.sampled_from([None, 1, 60, 130])), max_size=40))
def test_what_came_before_changes_no_outcome(order: list[tuple[int, int, int | None]]) -> None:
    """Studies and sources in any order, in memory as it comes: each image as if it were the first."""
    router = Router(RouteTable([*RULES, ANY]))
    for number, (study, sender, cut) in enumerate(order):
        data = series(study, 12)[number % 12]
        cuts = [cut] if cut else []
        expected = outcome(Router(RouteTable([*RULES, ANY])), data, sources(4)[sender], cuts)
        assert outcome(router, data, sources(4)[sender], cuts) == expected


EACH = [
    when(0x00080018, "1.2.10.*[13579]", "odd"),
    when(0x00200013, "1?", "tens"),
    when(0x00080050, "AA*", "accession"),
    when(0x00100010, "M\u00fcller*", "names"),
    Rule("not", ("others",), unless=(Condition(0x00200013, (Glob("7"),)),)),
]


def varied(number: int, character_set: bytes) -> bytes:
    """Of a series: UID and number of each image are others, now and then the patient and his character set."""
    name = "M\u00fcller^A".encode("latin-1" if character_set == b"ISO_IR 100" else "utf-8")
    head = element(0x00080005, b"CS", character_set)
    data = series(1 + number // 40, 40)[number % 40]
    at = data.index(b"\x10\0\x20\0LO")
    return head + data[:at] + element(0x00100010, b"PN", name) + data[at:]


def test_attributes_that_differ_in_every_image_are_asked_for_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [*RULES, *EACH]
    router = Router(RouteTable(rules))
    decoded: list[int] = []
    read = route._texts

    def counting(scan: Scan, tag: int) -> tuple[str, ...]:
        decoded.append(tag)
        return read(scan, tag)

    monkeypatch.setattr(route, "_texts", counting)
    asked = []
    for number in range(160):
        data = varied(number, b"ISO_IR 192" if number % 50 > 45 else b"ISO_IR 100")
        source = sources(2)[number // 20 % 2]
        expected = outcome(Router(RouteTable(rules)), data, source)
        decoded.clear()
        assert outcome(router, data, source) == expected
        asked.append(len(decoded))
    assert asked.count(2) > 100  # UID and number: what is decoded of an image that is like one before


def test_an_image_like_the_last_costs_no_walk_and_no_decision() -> None:
    table = CountingTable([*RULES, ANY])
    router = Router(table)
    source = sources(1)[0]
    images = series(1, 100)
    for data in images:
        outcome(router, data, source)
    walked = len(images) - router._scanner.layouts.fits
    assert walked <= 4  # the first, then one for each length of the UID and the number that was not known
    assert table.asked <= walked + 4


def test_equal_images_from_other_places_go_where_their_own_place_says() -> None:
    """Same title, same content: the called title and the address decide as well."""
    rules = [
        when("called_aet", "SECOND", "second"),
        when("peer", "10.0.0.2", "two"),
        when(PATIENT_ID, "PAT-*", "patients"),
    ]
    router = Router(RouteTable(rules))
    places = [Source("CT", called, "", peer) for called in ("FIRST", "SECOND") for peer in ("10.0.0.1", "10.0.0.2")]
    for _ in range(3):
        found = [[hit.destination for hit in decided(router, SMALL, place)] for place in places]
        assert found == [["patients"], ["two", "patients"], ["second", "patients"], ["second", "two", "patients"]]
    assert router._scanner.layouts.fits == 11


def decided(router: Router, data: bytes, source: Source) -> tuple[RouteHit, ...]:
    made = instance(1, size=len(data))
    made.source = source
    return router.route(made, in_memory(data), b"")


def test_what_is_remembered_is_bounded() -> None:
    router = Router(RouteTable([*RULES, ANY]))
    source = sources(1)[0]
    for number in range(2000):
        outcome(router, SMALL.replace(b"PAT-7 ", b"P%05d" % number), source)
    for other in sources(100):
        outcome(router, SMALL, other)
    assert router._scanner.layouts.fits > 1900
    assert len(router._known) <= 512
    assert len(router._scanner._shared) <= 512
    assert max(len(facts.hits) for facts in router._known.values()) <= 16


# --- waiting for a completion -----------------------------------------------------------------------------------------

WAITING = [
    Rule("studies", ("pacs",), wait=Wait("study")),
    Rule("series", ("research",), priority=PRIORITIES["high"], wait=Wait("series", hold_late=True)),
    ANY,
]


def test_what_waits_and_what_does_not() -> None:
    made, data = example()
    table = RouteTable(WAITING)
    assert table.waits
    hits = Router(table).route(made, in_memory(data), b"")
    assert [hit.wait for hit in hits] == [Wait("study"), Wait("series", hold_late=True), None]
    assert not RouteTable([*RULES, ANY]).waits


def test_without_a_uid_nobody_waits() -> None:
    """A private transfer syntax: what the header says is not known."""
    made, data = example()
    made.transfer_syntax = PRIVATE_SYNTAX
    hits = Router(RouteTable(WAITING)).route(made, in_memory(data), b"")
    assert made.study_uid == made.series_uid == ""
    assert hits == (
        RouteHit("studies", "pacs"),
        RouteHit("series", "research", PRIORITIES["high"]),
        RouteHit("any", "archive"),
    )


# --- inside sequences, private creators, the time ---------------------------------------------------------------------

REQUEST = (Step(0x00400275), Step(0x00080050))
CREATED = (Step(0x00290008, "ACME"),)


def sequence(tag: int, *items: bytes) -> bytes:
    data = b"".join(b"\xfe\xff\x00\xe0" + len(item).to_bytes(4, "little") + item for item in items)
    head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + b"SQ\0\0"
    return head + len(data).to_bytes(4, "little") + data


def with_request(accession: bytes, modality: bytes = b"CT") -> bytes:
    private = element(0x00290011, b"LO", b"ACME") + element(0x00291108, b"LO", b"P" + accession[1:])
    request = sequence(0x00400275, element(0x00080050, b"SH", accession))
    return element(MODALITY, b"CS", modality) + element(0x00280010, b"US", b"\1\0") + private + request


@pytest.mark.parametrize("where", ["memory", "slices", "file"])
def test_inside_a_sequence_and_by_creator(where: str) -> None:
    rules = [when(REQUEST, "A*", "a"), when(CREATED, "P7", "seven"), when(MODALITY, "CT", "ct")]
    router = Router(RouteTable(rules))
    for accession, expected in [(b"A1", ["a", "ct"]), (b"B7", ["seven", "ct"]), (b"A7", ["a", "seven", "ct"])] * 3:
        data = with_request(accession)
        made = instance(1, size=len(data))
        image = None if where == "file" else in_memory(data, [20, 40] if where == "slices" else [])
        assert names(router.route(made, image, data, True)) == expected
        assert made.hold_reason is None


def test_only_images_of_routes_that_ask_are_read_more_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def counting(data: bytes, *rest: object) -> Nested | None:
        looks.append(len(data))
        return read_nested(data, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("asyncroute.route.read_nested", counting)
    rule = Rule("a", ("a",), (Condition(REQUEST, (Glob("A*"),)), Condition(MODALITY, (Glob("CT"),))))
    router = Router(RouteTable([rule]))
    for modality, expected in [(b"MR", []), (b"CT", ["a"]), (b"MR", [])]:
        data = with_request(b"A1", modality)
        assert names(router.route(instance(1, size=len(data)), in_memory(data), b"")) == expected
    assert len(looks) == 1


@pytest.mark.parametrize("complete", [True, False])
def test_damage_inside_a_sequence_that_a_route_asks_for(complete: bool) -> None:
    data = with_request(b"A1")[:-3]
    made = instance(1, size=len(data))
    router = Router(RouteTable([when(REQUEST, "A*", "a"), ANY]))
    assert router.route(made, None, data, complete) == ()
    assert made.hold_reason is not None
    assert made.hold_reason.startswith("routes cannot be decided, the header cannot be read: ")


def test_the_time_of_arrival_decides_however_alike_images_are() -> None:
    evening = parse_hours(["18:00-24:00 UTC"])
    assert evening is not None
    rules = [Rule("evening", ("late",), (During(evening),)), when(MODALITY, "SR", "reports")]
    router = Router(RouteTable(rules))
    for hour, expected in [
        (12, ["reports"]),
        (19, ["late", "reports"]),
        (20, ["late", "reports"]),
        (12, ["reports"]),
    ] * 2:
        made = instance(1, size=len(SMALL))
        made.received_at = hour * 3600.0
        assert names(router.route(made, in_memory(SMALL), b"")) == expected


def test_there_without_a_value_is_not_absent() -> None:
    binary = b"\x19\x00\x10\x10OB\0\0\2\0\0\0\1\2"
    data = element(MODALITY, b"CS", b"") + element(0x00100010, b"PN", b"A ") + binary
    asked: list[tuple[int, Pattern]] = [
        (MODALITY, Presence(True)),
        (PATIENT_ID, Presence(False)),
        (0x00191010, Glob("*")),
    ]
    rules = [Rule(str(tag), (f"{tag:08X}",), (Condition(tag, (pattern,)),)) for tag, pattern in asked]
    made = instance(1, size=len(data))
    assert names(Router(RouteTable(rules)).route(made, in_memory(data), b"")) == ["00080060", "00100020", "00191010"]
