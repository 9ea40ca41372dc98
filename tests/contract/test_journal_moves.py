"""What every journal promises of studies that move after a person's word: what is still owed is owed afterwards."""

from __future__ import annotations

from asyncroute.core.groups import Move
from asyncroute.core.model import Instance, RouteHit, Selection, Wait
from asyncroute.core.states import DeliveryState as S
from asyncroute.journal.base import Complete, Discard, Group, Redirect
from tests.contract.journals import NOW, Journal
from tests.contract.made import delivered, failed, image

STUDY = ("archive", "1.2.3.4")
OTHER = ("research", "1.2.3.4")


def grouped(number: int, *direct: str) -> Instance:
    """An image for the group "archive", of which "a" is chosen, and for ``direct`` destinations."""
    here = RouteHit("all", "a", groups=(STUDY,), direct=False)
    return image(number, hits=(here, *(RouteHit("all", name) for name in direct)))


def twice(number: int) -> Instance:
    """An image for two groups, of which "a" and "x" are chosen."""
    hits = (RouteHit("all", "a", groups=(STUDY,), direct=False), RouteHit("copy", "x", groups=(OTHER,), direct=False))
    return image(number, hits=hits)


def act(journal: Journal, *actions: Discard | Redirect | Move) -> None:
    journal.writer.commit(Group(actions=actions, at=NOW))


def states(journal: Journal, number: int) -> dict[str, S]:
    (story,) = journal.reader.tell(lambda stories: stories.images([number]))
    return {it.destination: it.state for it in story.deliveries}


def chosen(name: str) -> Selection:
    return Selection((S.READY,), name)


def test_an_image_that_came_back_from_where_it_was_rerouted(journal: Journal) -> None:
    journal.writer.commit(Group([grouped(1)]))
    act(journal, Redirect(chosen("a"), "b"), Redirect(chosen("b"), "a"))
    assert states(journal, 1) == {"a": S.READY, "b": S.DISCARDED}
    act(journal, Move(*STUDY, "b", "a is down"))
    assert S.READY in states(journal, 1).values()


def test_a_move_to_where_a_person_discarded_another_delivery(journal: Journal) -> None:
    journal.writer.commit(Group([grouped(1, "b"), grouped(2, "b")]))
    journal.writer.commit(Group(settlements=[delivered(2, "a")]))
    act(journal, Discard(chosen("b")), Move(*STUDY, "b", "a is down"))
    assert states(journal, 1) == {"b": S.READY}
    assert states(journal, 2) == {"a": S.DELIVERED, "b": S.DISCARDED}


def test_what_was_discarded_of_one_group_is_still_owed_to_the_other(journal: Journal) -> None:
    journal.writer.commit(Group([twice(1), twice(2)]))
    journal.writer.commit(Group(settlements=[failed(1, "a")]))
    act(journal, Discard(Selection((S.FAILED,), "a")), Move(*OTHER, "y", "x is down"))
    assert states(journal, 1) == {"a": S.DISCARDED, "y": S.READY}
    assert states(journal, 2) == {"a": S.READY, "y": S.READY}
    act(journal, Move(*STUDY, "b", "a is down"))
    assert states(journal, 1) == {"a": S.DISCARDED, "y": S.READY}
    assert states(journal, 2) == {"b": S.READY, "y": S.READY}


def test_what_waits_goes_on_waiting_for_the_same(journal: Journal) -> None:
    """Though another delivery of the image waited for something later."""
    wait = Wait("study")
    one = RouteHit("all", "a", wait=wait, groups=(STUDY,), direct=False)
    other = RouteHit("copy", "x", wait=wait, groups=(OTHER,), direct=False)
    done = journal.writer.commit(Group([image(1, hits=(one, other))]))
    ids = {it.route: it.id for it in done.completions}
    assert ids["all"] < ids["copy"]
    journal.writer.commit(Group(actions=[Complete([ids["copy"]])]))
    act(journal, Move(*STUDY, "b", "a is down"))
    assert states(journal, 1) == {"b": S.WAITING, "x": S.READY}
    assert [(it.id, it.owed) for it in journal.reader.completions()] == [(ids["all"], {"b": 1})]
