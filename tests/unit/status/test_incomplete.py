"""The studies that wait, as status shows them."""

from __future__ import annotations

from asyncroute.core.completion import Completion
from asyncroute.status import incomplete, render
from tests.unit.status.test_render import HOSTILE, snapshot

NOW = 1_700_000_000.0


def waiting(number: int, uid: str = "1.2", held: bool = False) -> Completion:
    return Completion(number, "r", "CT_A", "study", uid, held, NOW - 90, NOW - 30, 0.0, 60.0, 4, {"pacs": 4})


def test_the_next_that_is_due_comes_first() -> None:
    due = {1: 40.0, 2: 10.0, 3: None, 4: 20.04}
    found = incomplete.facts([waiting(n, f"1.{n}", n == 3) for n in due], NOW, due.get)
    assert [(it["uid"], it["due_s"], it["late"]) for it in found["list"]] == [
        ("1.2", 10.0, False),
        ("1.4", 20.0, False),
        ("1.1", 40.0, False),
        ("1.3", None, True),
    ]
    assert (found["studies"], found["images"], found["next_due_s"]) == (3, 12, 10.0)
    assert (found["late_studies"], found["late_images"]) == (1, 4)
    assert (found["list"][0]["first_s"], found["list"][0]["last_s"]) == (90.0, 30.0)


def test_all_are_counted_and_some_are_named() -> None:
    found = incomplete.facts([waiting(n) for n in range(2000)], NOW, lambda number: 2000.0 - number)
    assert (found["studies"], len(found["list"]), found["next_due_s"]) == (2000, incomplete.MOST_TOLD, 1.0)


def test_as_text() -> None:
    facts = incomplete.facts([waiting(1), waiting(2, held=True)], NOW, {1: 42.0}.get)
    shown = render.text(snapshot(incomplete=facts)).splitlines()
    assert "not complete: 4 images of 1 studies wait; the next is due in 42s" in shown
    at = shown.index("not complete")
    assert [" ".join(row.split()) for row in shown[at + 1 : at + 4]] == [
        "route from waits for images first last due in",
        "r CT_A study 1.2 4 1m 30s 42s",
        "r CT_A study 1.2 4 1m 30s late, held",
    ]
    assert any("4 images of 1 studies came late and are held" in line for line in shown)


def test_nothing_is_shown_where_nothing_waits() -> None:
    assert "not complete" not in render.text(snapshot(incomplete=incomplete.facts([], NOW, lambda _: None)))


def test_uids_of_peers_cannot_forge_a_line() -> None:
    facts = incomplete.facts([waiting(1, HOSTILE)], NOW, {1: 42.0}.get)
    assert all(line.isprintable() for line in render.text(snapshot(incomplete=facts)).splitlines())
