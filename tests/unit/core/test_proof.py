"""What follows where a destination does not confirm a delivery."""

from __future__ import annotations

import pytest

from asyncroute.core.proof import Kept, Reference, Unproven, reason_text, setback, verdict
from asyncroute.core.retry import Backoff
from asyncroute.core.states import DeliveryState as S

RETRY = Backoff(5, 2, 60)


def image(attempts: int) -> Unproven:
    return Unproven(7, "1.2", "1.2.3", "", "", "r", "CT", "US", "US@h:1", attempts, 0.0, 100, 1000.0)


@pytest.mark.parametrize(
    ("reason", "attempts", "state"),
    [
        (0x0110, 1, S.READY),
        (0x0110, 4, S.READY),
        (0x0110, 5, S.FAILED),
        (0x0112, 5, S.FAILED),
        (0x0213, 500, S.READY),
        (0x0122, 1, S.FAILED),
        (0x0119, 1, S.FAILED),
        (0x9999, 2, S.READY),
        (0x9999, 3, S.FAILED),
        (None, 4, S.READY),
        (None, 5, S.FAILED),
    ],
)
def test_the_reason_decides_whether_it_is_sent_again(reason: int | None, attempts: int, state: S) -> None:
    done = setback(image(attempts), reason, "why", RETRY, 10.0, 2000.0)
    assert (done.instance_id, done.state, done.reason, done.error) == (7, state, reason, "why")


@pytest.mark.parametrize(("attempts", "wait"), [(1, 5), (2, 10), (4, 40)])
def test_it_waits_longer_each_time(attempts: int, wait: float) -> None:
    assert setback(image(attempts), 0x0112, "", RETRY, 10.0, 2000.0).not_before == 2000 + wait


def test_the_rules_of_retry_hold() -> None:
    assert setback(image(2), 0x0112, "", Backoff(attempts=2), 10.0, 0).state is S.FAILED
    assert setback(image(1), 0x0112, "", Backoff(give_up=60), 61.0, 0).state is S.FAILED


def test_reasons_in_words() -> None:
    assert reason_text(0x0112) == "0112 (no such object instance)"
    assert reason_text(0x0005) == "0005 (an unknown failure reason)"


DONE = Kept("1.2", False, 2, 0, 0, 0)


@pytest.mark.parametrize(
    ("kept", "early", "late"),
    [
        (DONE, 0, 0),
        (DONE._replace(undelivered=1), None, 0x0110),
        (DONE._replace(unproven=1), None, 0x0110),
        (DONE._replace(undelivered=1, discarded=1), 0x0110, 0x0110),
        (DONE._replace(deliveries=0), 0x0110, 0x0110),
        (DONE._replace(deliveries=0, held=True), None, 0x0110),
        (DONE._replace(sop_class_uid="1.3"), 0x0119, 0x0119),
        (DONE._replace(sop_class_uid=None), 0x0112, 0x0112),
    ],
)
def test_what_a_sender_is_told(kept: Kept, early: int | None, late: int) -> None:
    reference = Reference("1.2", "1.2.3")
    assert (verdict(reference, kept, False), verdict(reference, kept, True)) == (early, late)
