"""The life of a delivery: the table, and what the numbers in a journal mean."""

from __future__ import annotations

from itertools import product

from asyncroute.core.states import OPEN, PENDING, TRANSITIONS, DeliveryState, may

S = DeliveryState
ALLOWED = {
    (S.WAITING, S.READY),
    (S.WAITING, S.FAILED),
    (S.WAITING, S.DISCARDED),
    (S.READY, S.SENDING),
    (S.READY, S.WAITING),
    (S.READY, S.FAILED),
    (S.READY, S.DISCARDED),
    (S.SENDING, S.DELIVERED),
    (S.SENDING, S.READY),
    (S.SENDING, S.FAILED),
    (S.SENDING, S.DISCARDED),
    (S.DELIVERED, S.CONFIRMED),
    (S.DELIVERED, S.READY),
    (S.FAILED, S.READY),
    (S.FAILED, S.DISCARDED),
}


def test_the_table() -> None:
    assert {(old, new) for old, new in product(S, S) if may(old, new)} == ALLOWED
    assert set(TRANSITIONS) == set(S)


def test_the_numbers_in_journals_stay() -> None:
    assert [(state.value, state.word) for state in S] == [
        (0, "waiting"),
        (1, "ready"),
        (2, "sending"),
        (3, "delivered"),
        (4, "confirmed"),
        (5, "failed"),
        (6, "discarded"),
    ]


def test_open_and_pending() -> None:
    assert frozenset({S.WAITING, S.READY, S.SENDING, S.FAILED}) == OPEN
    assert {S.FAILED} == OPEN - PENDING


def test_what_is_over_stays_over() -> None:
    """Discarded and confirmed have no way back; whatever is open has one on."""
    for state in S:
        assert bool(TRANSITIONS[state]) == (state not in (S.DISCARDED, S.CONFIRMED))


def test_every_state_can_be_reached_from_the_first() -> None:
    reached = {S.WAITING}
    while more := {new for old in reached for new in TRANSITIONS[old]} - reached:
        reached |= more
    assert reached == set(S)
