"""What every journal promises of images that wait for their study or series."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from asyncroute.core.completion import Awaited, Completion
from asyncroute.core.model import Instance, RouteHit, Selection, Source, Wait
from asyncroute.core.states import DeliveryState as S
from asyncroute.journal.base import (
    Complete,
    Discard,
    FileLost,
    Group,
    ImageStory,
    Redirect,
    SendNow,
    Stories,
)
from tests.contract.journals import NOW, Journal
from tests.contract.made import SOURCE, T0, delivered, image, path_of

STUDY, SERIES, HELD = Wait("study"), Wait("series"), Wait("study", hold_late=True)
OTHER = Source("CT_B", SOURCE.called_aet, SOURCE.listener, SOURCE.peer)


def waits(instance_id: int, *destinations: str, wait: Wait = STUDY, route: str = "r", **changes: object) -> Instance:
    hits = tuple(RouteHit(route, name, wait=wait) for name in destinations or ("a",))
    return image(instance_id, **{"hits": hits, "series_uid": "1.2.3.4.9", **changes})


def story(journal: Journal, instance_id: int) -> ImageStory:
    async def ask(stories: Stories) -> list[ImageStory]:
        return await stories.images([instance_id])

    (it,) = journal.reader.tell(ask)
    return it


def states(journal: Journal, instance_id: int) -> dict[str, S]:
    return {delivery.destination: delivery.state for delivery in story(journal, instance_id).deliveries}


def complete(journal: Journal, *ids: int) -> int:
    return journal.writer.commit(Group(actions=[Complete(ids)], at=NOW)).acted[0]


def test_images_wait_and_become_ready_together(journal: Journal) -> None:
    first = journal.writer.commit(Group([waits(1), waits(2)], at=NOW - 20)).completions
    second = journal.writer.commit(Group([waits(3)], at=NOW - 10)).completions
    ((one,), (two,)) = first, second
    assert (one.id, one.images, one.owed, two.id, two.images) == (two.id, 2, {"a": 2}, one.id, 1)
    assert journal.ids("a") == []
    assert journal.reader.counts().open == {"a": {S.WAITING: 3}}
    (found,) = journal.reader.completions()
    assert (found.route, found.calling_aet, found.unit, found.uid) == ("r", "CT_A", "study", "1.2.3.4")
    assert (found.held, found.images, found.owed) == (False, 3, {"a": 3})
    assert (found.first_at, found.last_at) == (NOW - 20, NOW - 10)
    assert found.first_since <= found.last_since <= journal.writer.clock()
    assert complete(journal, found.id) == 3
    assert journal.ids("a") == [1, 2, 3]
    assert journal.reader.completions() == []
    assert complete(journal, found.id) == 0


def test_only_what_waits_waits(journal: Journal) -> None:
    """An image of two routes, one of them at once."""
    both = image(1, hits=(RouteHit("now", "a"), RouteHit("r", "b", wait=STUDY)))
    assert len(journal.writer.commit(Group([both, image(2, "a", "b")])).completions) == 1
    assert (journal.ids("a"), journal.ids("b")) == ([1, 2], [2])
    (found,) = journal.reader.completions()
    assert found.owed == {"b": 1}
    complete(journal, found.id)
    assert journal.ids("b") == [1, 2]


def test_nothing_is_told_where_nothing_waits(journal: Journal) -> None:
    assert journal.writer.commit(Group([image(1, "a")])).completions == []
    assert journal.reader.completions() == []
    assert complete(journal) == 0


@pytest.mark.parametrize(
    ("other", "apart"),
    [
        (lambda: waits(2), False),
        (lambda: waits(2, "b"), False),
        (lambda: waits(2, series_uid="1.9"), False),
        (lambda: waits(2, study_uid="1.2.3.5"), True),
        (lambda: waits(2, source=OTHER), True),
        (lambda: waits(2, route="s"), True),
    ],
    ids=["same", "destination", "series", "study", "source", "route"],
)
def test_which_images_belong_together(journal: Journal, other: Callable[[], Instance], apart: bool) -> None:
    journal.writer.commit(Group([waits(1), other()]))
    found = journal.reader.completions()
    assert len(found) == 1 + apart
    complete(journal, found[0].id)
    assert set(states(journal, 2).values()) == {S.WAITING if apart else S.READY}


def test_series_are_complete_by_themselves(journal: Journal) -> None:
    series = [waits(1, wait=SERIES), waits(2, wait=SERIES, series_uid="1.9"), waits(3, wait=SERIES)]
    journal.writer.commit(Group(series))
    found = {it.uid: it for it in journal.reader.completions()}
    assert {uid: (it.unit, it.images) for uid, it in found.items()} == {
        "1.2.3.4.9": ("series", 2),
        "1.9": ("series", 1),
    }
    complete(journal, found["1.9"].id)
    assert journal.ids("a") == [2]


def test_images_of_several_destinations_are_counted_once(journal: Journal) -> None:
    journal.writer.commit(Group([waits(1, "a", "b"), waits(2, "a", "b"), waits(3, "b")]))
    (found,) = journal.reader.completions()
    assert (found.images, found.owed) == (3, {"a": 2, "b": 3})
    assert complete(journal, found.id) == 5


def test_what_comes_after_the_completion_begins_another_one(journal: Journal) -> None:
    ((first,), _) = journal.writer.commit(Group([waits(1)])).completions, complete(journal, 1)
    (second,) = journal.writer.commit(Group([waits(2)])).completions
    assert second.id > first.id
    assert (second.held, journal.ids("a")) == (False, [1])
    complete(journal, second.id)
    assert journal.ids("a") == [1, 2]


def test_what_comes_late_is_held_if_the_route_says_so(journal: Journal) -> None:
    journal.writer.commit(Group([waits(1, wait=HELD)]))
    complete(journal, journal.reader.completions()[0].id)
    (late,) = journal.writer.commit(Group([waits(2, wait=HELD)])).completions
    (more,) = journal.writer.commit(Group([waits(3, wait=HELD), waits(4, wait=HELD, study_uid="1.5")])).completions[:1]
    assert (late.held, more.held, more.id) == (True, True, late.id)
    journal.reopen()
    assert {it.uid: it.held for it in journal.reader.completions()} == {"1.2.3.4": True, "1.5": False}
    errors = {row.instance_id: row.last_error for row in journal.reader.rows(Selection(states=(S.WAITING,)), 9)}
    assert errors == dict.fromkeys((2, 3), "came after its study was complete; held for a person") | {4: ""}
    assert journal.writer.commit(Group(actions=[SendNow(Selection(), late=True)])).acted == [2]
    assert [row.last_error for row in journal.reader.rows(Selection(states=(S.READY,)), 9)] == [""] * 3
    assert journal.ids("a") == [1, 2, 3]


def test_a_completion_survives(journal: Journal) -> None:
    journal.writer.commit(Group([waits(1, "a", "b"), waits(2)], at=NOW))
    before = journal.reader.completions()
    journal.reopen()
    assert journal.reader.completions() == before
    (joined,) = journal.writer.commit(Group([waits(3)])).completions
    assert joined.id == before[0].id


def test_ids_never_return(journal: Journal) -> None:
    (first,) = journal.writer.commit(Group([waits(1)], at=T0)).completions
    complete(journal, first.id)
    journal.writer.commit(Group(settlements=[delivered(1, "a")], released=[1]))
    assert journal.writer.prune(NOW) == 1
    journal.reopen()
    (second,) = journal.writer.commit(Group([waits(2)])).completions
    assert second.id > first.id
    assert not second.held


def test_pruning_leaves_what_waits(journal: Journal) -> None:
    journal.writer.commit(Group([waits(1)], at=T0))
    journal.writer.prune(NOW)
    assert len(journal.reader.completions()) == 1


def test_the_time_until_it_is_complete_is_no_age(journal: Journal) -> None:
    """``give_up`` counts from there."""
    (found,) = journal.writer.commit(Group([waits(1)])).completions
    before = journal.writer.clock()
    complete(journal, found.id)
    (it,) = journal.reader.claim("a", 1, NOW, ())
    assert it.since >= before


def test_send_now_is_of_what_is_selected(journal: Journal) -> None:
    journal.writer.commit(Group([waits(1, "a", "b"), waits(2, "a"), waits(3, study_uid="1.5"), image(4, "a")]))
    acted = journal.writer.commit(Group(actions=[SendNow(Selection(instance_ids=[1, 4], destination="a"))])).acted
    assert (acted, journal.ids("a"), journal.ids("b")) == ([1], [1, 4], [])
    assert {it.uid: it.owed for it in journal.reader.completions()} == {"1.2.3.4": {"a": 1, "b": 1}, "1.5": {"a": 1}}
    assert [event.kind for event in story(journal, 1).events] == ["released"]
    assert journal.writer.commit(Group(actions=[SendNow(Selection(study_uid="1.2.3.4"))])).acted == [2]
    assert journal.writer.commit(Group([waits(5)])).completions[0].id > 2, "the first one is over"
    assert journal.writer.commit(Group(actions=[SendNow(Selection(), late=True)])).acted == [0]


def test_what_waits_can_be_discarded(journal: Journal) -> None:
    journal.writer.commit(Group([waits(1), waits(2)]))
    chosen = Selection(states=(S.WAITING,))
    done = journal.writer.commit(Group(actions=[Discard(chosen)]))
    assert (done.acted, sorted(done.releasable)) == ([2], [(1, path_of(1)), (2, path_of(2))])
    assert journal.reader.completions() == []
    (again,) = journal.writer.commit(Group([waits(3)])).completions
    assert again.images == 1
    assert journal.reader.completions()[0].id == again.id


def test_an_image_whose_file_is_lost_waits_no_longer(journal: Journal) -> None:
    journal.writer.commit(Group([waits(1), waits(2)]))
    journal.writer.commit(Group(actions=[FileLost(1, "gone", NOW)]))
    assert states(journal, 1) == {"a": S.FAILED}
    assert journal.reader.completions()[0].images == 1


def test_the_last_image_of_a_study_is_lost(journal: Journal) -> None:
    """The next one waits for itself, from its own arrival."""
    (first,) = journal.writer.commit(Group([waits(1)], at=NOW)).completions
    journal.writer.commit(Group(actions=[FileLost(1, "gone", NOW)]))
    (again,) = journal.writer.commit(Group([waits(2)], at=NOW + 500)).completions
    assert (again.id > first.id, again.first_at, again.images) == (True, NOW + 500, 1)


def test_a_bad_image_does_not_spoil_the_others(journal: Journal) -> None:
    bad = waits(1, checksum=-(1 << 70))
    done = journal.writer.commit(Group([bad, waits(2)]))
    assert list(done.refused) == [1]
    (found,) = journal.reader.completions()
    assert found.images == 1
    complete(journal, found.id)
    assert journal.ids("a") == [2]


def test_text_that_is_no_unicode(journal: Journal) -> None:
    odd = Source("CT\udcff", SOURCE.called_aet, SOURCE.listener, SOURCE.peer)
    journal.writer.commit(Group([waits(1, source=odd, study_uid="1.\udcff")]))
    (joined,) = journal.writer.commit(Group([waits(2, source=odd, study_uid="1.\udcff")])).completions
    (found,) = journal.reader.completions()
    assert (found.id, found.images, found.uid) == (joined.id, 2, "1.\\udcff")


def test_what_an_image_waited_for_is_told(journal: Journal) -> None:
    journal.writer.commit(Group([waits(1)], at=NOW - 5))
    (found,) = journal.reader.completions()
    assert awaited(journal, 1) == Awaited(found.id, "study", "1.2.3.4", False, NOW - 5, NOW - 5, None)
    complete(journal, found.id)
    assert awaited(journal, 1) == Awaited(found.id, "study", "1.2.3.4", False, NOW - 5, NOW - 5, NOW)
    journal.writer.commit(Group([image(2, "a")]))
    assert awaited(journal, 2) is None


def awaited(journal: Journal, instance_id: int) -> Awaited | None:
    (delivery,) = story(journal, instance_id).deliveries
    return delivery.awaited


def test_the_order_of_what_is_told(journal: Journal) -> None:
    group = [waits(n, study_uid=f"1.{n}") for n in (3, 1, 2)]
    told: list[Completion] = journal.writer.commit(Group(group)).completions
    assert [it.uid for it in told] == ["1.3", "1.1", "1.2"]
    assert [it.uid for it in journal.reader.completions()] == ["1.3", "1.1", "1.2"]


def test_what_waits_can_go_to_another_destination_at_once(journal: Journal) -> None:
    journal.writer.commit(Group([waits(1), waits(2)]))
    chosen = Selection(states=(S.WAITING,), instance_ids=[1])
    assert journal.writer.commit(Group(actions=[Redirect(chosen, "b")])).acted == [1]
    assert (journal.ids("b"), journal.reader.completions()[0].images) == ([1], 1)
    assert journal.writer.commit(Group(actions=[Redirect(Selection(states=(S.WAITING,)), "b")])).acted == [1]
    assert journal.reader.completions() == []
    assert journal.writer.commit(Group([waits(3)])).completions[0].id == 2
