"""Time in which a destination takes nothing, for whatever reason; and trouble that is told at once."""

from __future__ import annotations

import logging

import pytest

from asyncroute.core import outcomes
from asyncroute.core.outcomes import Outcome
from asyncroute.core.retry import Backoff
from asyncroute.queue.breaker import covered
from tests.unit.parts import delivery
from tests.unit.queue.test_verdict import GONE, HOUR, NOW, OK, Desk, old

DENIED = outcomes.classify(0x0124)
BUSY = outcomes.classify(0xA700)
REJECTED = outcomes.rejected(1, 1, 7)
RETRY = outcomes.classify(0x0110)


def test_seconds_that_periods_cover() -> None:
    assert covered([], 0, 100) == 0
    assert covered([(10, 20), (15, 30), (50, 60), (5, 12)], 0, 100) == 35
    assert covered([(10, 20), (12, 14)], 11, 15) == 4
    assert covered([(float("-inf"), 50)], 20, 100) == 30


@pytest.mark.parametrize("pause", [BUSY, REJECTED], ids=["out of resources", "rejected"])
def test_a_pause_does_not_count_for_give_up(pause: Outcome) -> None:
    desk = Desk(Backoff(give_up=HOUR))
    desk.on(OK, 9, NOW - 3 * HOUR)
    for n in range(10):
        desk.on(pause, 20 + n, NOW - 1.9 * HOUR + n)
    desk.on(RETRY, old(1), NOW)
    assert desk.states[-1] == (1, "ready")
    desk.on(RETRY, old(2, 3.1 * HOUR), NOW + 1)
    assert desk.states[-1] == (2, "failed"), "the time before the pause counts"


def test_the_time_in_which_it_was_held_does_not_count() -> None:
    desk = Desk(Backoff(give_up=HOUR))
    desk.on(OK, 9, NOW - 3 * HOUR)
    for n in range(5):
        desk.on(DENIED, delivery(20 + n, study_uid=f"1.{n}"), NOW - 1.9 * HOUR)
    assert desk.verdict.held
    desk.verdict.resume()
    desk.on(RETRY, old(1), NOW)
    assert desk.states[-1] == (1, "ready")


def test_loud_trouble_is_told_at_once_and_once(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    with caplog.at_level(logging.WARNING):
        for n in range(5):
            desk.on(outcomes.tls_failed("expired"), n, NOW + 1000 * n)
            assert desk.verdict.state(NOW + 1000 * n) == "down"
        desk.on(OK, 9, NOW + 10_000)
    assert [r.getMessage() for r in caplog.records] == ["pacs: down: TLS: expired", "pacs: answers again"]


def test_other_trouble_is_told_when_the_breaker_opens(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    with caplog.at_level(logging.WARNING):
        desk.on(GONE, 1, NOW)
        assert caplog.records == []
        assert desk.verdict.state(NOW) == "recovering"
        for n in range(4):
            desk.on(GONE, 1, NOW + 1000 * n)
    assert [r.getMessage() for r in caplog.records] == [f"pacs: down: {GONE.text}"]


def test_who_was_not_reached_blames_no_image() -> None:
    """Others are tried first after two failures of one, but not where it cannot be the cause."""
    desk = Desk()
    for _ in range(3):
        desk.on(GONE, 1)
    assert desk.back == [(1, True)] * 3
    desk.back.clear()
    for _ in range(3):
        desk.on(outcomes.lost("aborted", image_in_flight=False), 1)
    assert desk.back == [(1, True), (1, False), (1, False)]
