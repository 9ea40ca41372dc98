"""Log lines that can come in any number."""

from __future__ import annotations

from asyncroute.receive.repeats import EVERY, KINDS, Repeats


def test_the_first_is_said_and_the_rest_counted() -> None:
    repeats = Repeats()
    assert repeats.note("a", 100.0) == ""
    assert [repeats.note("a", 100.0 + n) for n in range(1, 8)] == [None] * 7
    assert repeats.note("b", 101.0) == ""
    assert repeats.note("a", 100.0 + EVERY) == " (and 7 times more before)"
    assert repeats.note("a", 101.0 + EVERY) is None
    assert repeats.note("a", 100.0 + 2 * EVERY) == " (and 1 times more before)"
    assert repeats.note("a", 100.0 + 3 * EVERY) == ""


def test_few_kinds_are_remembered() -> None:
    repeats = Repeats()
    for n in range(3 * KINDS):
        assert repeats.note(n, 100.0) == ""
    assert len(repeats._kinds) == KINDS
    assert repeats.note(0, 101.0) == "", "the oldest are forgotten"
