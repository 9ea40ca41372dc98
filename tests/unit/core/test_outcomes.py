"""The outcome table: every status, every rejection, everything else that can end an attempt."""

from __future__ import annotations

import itertools

import pytest

from asyncroute.core import outcomes
from asyncroute.core.outcomes import Action, Kind, Outcome, Scope, classify

# The design's table, written out once more: ranges of statuses, later rows before earlier ones.
DEAD = Outcome(Kind.IMAGE_FAILED, "", charge=True, limit=1)
SLOWLY = Outcome(Kind.IMAGE_RETRY, "", charge=True, limit=3, delay=600)
SOON = Outcome(Kind.IMAGE_RETRY, "", charge=True, limit=5)
PAUSE = Outcome(Kind.DESTINATION_PAUSE, "", limit=3, scope=Scope.DESTINATION)
WARNING = Outcome(Kind.DELIVERED_WITH_WARNING, "")
TABLE: list[tuple[int, int, Outcome]] = [
    (0x0000, 0xFFFF, SLOWLY),
    (0xB000, 0xBFFF, WARNING),
    (0xA700, 0xA7FF, PAUSE),
    (0x0213, 0x0213, PAUSE),
    (0xA900, 0xA9FF, SLOWLY),
    (0xC000, 0xCFFF, SLOWLY),
    *((status, status, WARNING) for status in (0x0001, 0x0107, 0x0116, 0x0111)),
    *((status, status, SOON) for status in (0x0110, 0x0210)),
    *((status, status, DEAD) for status in (0x0122, 0x0112, 0x0117, 0x0118, 0x0119, 0x0211, 0x0212)),
    (0x0124, 0x0124, Outcome(Kind.IMAGE_FAILED, "", charge=True, limit=1, studies=5, loud=True)),
    (0x0000, 0x0000, Outcome(Kind.DELIVERED, "")),
]


def row(status: int) -> Outcome:
    return next(outcome for low, high, outcome in reversed(TABLE) if low <= status <= high)


def plain(outcome: Outcome) -> Outcome:
    """Without text and status."""
    return Outcome(**{name: getattr(outcome, name) for name in FIELDS}, text="")


FIELDS = ("kind", "charge", "limit", "delay", "scope", "loud", "narrow", "studies")


def test_every_status_has_the_outcome_of_the_table() -> None:
    wrong = [hex(status) for status in range(0x10000) if plain(classify(status)) != row(status)]
    assert wrong == []


def test_every_status_has_its_number_and_words_in_one_line() -> None:
    for status in range(1, 0x10000):
        outcome = classify(status)
        assert outcome.status == status
        assert outcome.text.startswith(f"0x{status:04X} ")
        assert outcome.text.isprintable()


def test_only_success_and_warnings_count_as_delivered() -> None:
    delivered = {status for status in range(0x10000) if classify(status).delivered}
    assert delivered == {0, 0x0001, 0x0107, 0x0111, 0x0116, *range(0xB000, 0xC000)}


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0x0000, "success"),
        (0x0001, "0x0001 warning"),
        (0x0110, "0x0110 processing failure"),
        (0x0111, "0x0111 duplicate SOP instance"),
        (0x0122, "0x0122 SOP class not supported"),
        (0x0124, "0x0124 not authorized"),
        (0x0213, "0x0213 resource limitation"),
        (0xA700, "0xA700 out of resources"),
        (0xA7FF, "0xA7FF out of resources"),
        (0xA800, "0xA800 unknown status"),
        (0xA900, "0xA900 data set does not match SOP class"),
        (0xB000, "0xB000 coercion of data elements"),
        (0xB123, "0xB123 warning"),
        (0xC211, "0xC211 cannot understand"),
        (0xFF00, "0xFF00 unknown status"),
        (0x1234, "0x1234 unknown status"),
    ],
)
def test_statuses_in_words(status: int, text: str) -> None:
    assert classify(status).text == text


def test_the_peers_comment_is_kept_in_one_line() -> None:
    assert classify(0xA700, comment="disk full").text == '0xA700 out of resources: "disk full"'
    assert classify(0xA700, comment="a\r\nb\0 \x1b[1m").text == '0xA700 out of resources: "a b [1m"'
    assert classify(0xA700, comment=" \n").text == "0xA700 out of resources"


@pytest.mark.parametrize("action", Action)
def test_overrides(action: Action) -> None:
    expected = {
        Action.DELIVER: WARNING,
        Action.RETRY: SOON,
        Action.SLOW_RETRY: SLOWLY,
        Action.PAUSE: PAUSE,
        Action.FAIL: DEAD,
    }[action]
    for status in (0xA900, 0xB000, 0x0124, 0xFFFF):
        assert plain(classify(status, {status: action})) == expected
        assert plain(classify(status, {status - 1: action})) == row(status)


def test_success_cannot_be_overridden() -> None:
    assert classify(0, {0: Action.FAIL}).kind is Kind.DELIVERED


# --- Associations ----------------------------------------------------------------------------------------------------


def test_every_rejection_has_the_outcome_of_the_table() -> None:
    for result, source, reason in itertools.product(range(256), range(5), range(12)):
        outcome = outcomes.rejected(result, source, reason)
        if (result, source, reason) == (1, 1, 3):
            expected = (Kind.TITLE_PAUSE, Scope.TITLE, 900.0, True, False)
        elif result == 1:
            expected = (Kind.CONFIG_PAUSE, Scope.DESTINATION, 900.0, True, False)
        else:
            busy = (result, source, reason) in ((2, 3, 1), (2, 3, 2))
            expected = (Kind.ASSOCIATION_FAILED, Scope.DESTINATION, None, False, busy)  # type: ignore[assignment]
        assert (outcome.kind, outcome.scope, outcome.delay, outcome.loud, outcome.narrow) == expected
        assert not outcome.charge
        assert outcome.limit is None
        assert f"{result}/{source}/{reason}" in outcome.text


@pytest.mark.parametrize(
    ("codes", "text"),
    [
        ((1, 1, 1), "association rejected 1/1/1: no reason given"),
        ((1, 1, 2), "association rejected 1/1/2: application context name not supported"),
        (
            (1, 1, 3),
            "association rejected 1/1/3: calling AE title not recognized; "
            "add US to the AE titles that the destination knows",
        ),
        ((1, 1, 7), "association rejected 1/1/7: called AE title not recognized; check ae_title (THEM) here and there"),
        ((1, 2, 2), "association rejected 1/2/2: protocol version not supported"),
        ((2, 3, 1), "association rejected 2/3/1: temporary congestion"),
        ((2, 3, 2), "association rejected 2/3/2: local limit exceeded"),
        ((2, 1, 9), "association rejected 2/1/9: unknown reason"),
    ],
)
def test_rejections_in_words(codes: tuple[int, int, int], text: str) -> None:
    assert outcomes.rejected(*codes, calling="US", called="THEM").text == text


def test_failed_connections_blame_no_image() -> None:
    failed = [
        (outcomes.unreachable("no answer"), "cannot connect: no answer", False, False, True),
        (outcomes.refused(), "cannot connect: connection refused", False, True, True),
        (outcomes.unresolved("x"), "cannot find the host's address: x", False, False, True),
        (outcomes.tls_failed("bad certificate"), "TLS: bad certificate", True, False, True),
        (outcomes.lost("reset", image_in_flight=False), "reset", False, False, False),
    ]
    for outcome, text, loud, narrow, unreached in failed:
        assert outcome == Outcome(
            Kind.ASSOCIATION_FAILED, text, scope=Scope.DESTINATION, loud=loud, narrow=narrow, unreached=unreached
        )


def test_an_image_that_ends_associations_is_counted() -> None:
    outcome = outcomes.lost("aborted by the peer", image_in_flight=True)
    assert outcome == Outcome(Kind.POISON_COUNT, "aborted by the peer", limit=3, scope=Scope.DESTINATION)


def test_without_a_context_the_image_fails_and_the_others_go_on() -> None:
    outcome = outcomes.no_context("1.2.3", "1.2.4")
    assert plain(outcome) == DEAD
    assert outcome.text == "no presentation context accepted for 1.2.3 in 1.2.4"


@pytest.mark.parametrize(
    ("source", "reason", "text"),
    [
        (0, 0, "aborted by the peer"),
        (0, 6, "aborted by the peer"),
        (2, 0, "aborted by the peer's protocol layer: no reason given"),
        (2, 2, "aborted by the peer's protocol layer: unexpected PDU"),
        (2, 3, "aborted by the peer's protocol layer: unknown reason 3"),
        (2, 6, "aborted by the peer's protocol layer: invalid PDU parameter value"),
        (7, 0, "aborted by the peer"),
    ],
)
def test_aborts_in_words(source: int, reason: int, text: str) -> None:
    assert outcomes.abort_text(source, reason) == text
