"""What every journal promises of groups: a study is one member's, is kept until it is over, and moves as a whole."""

from __future__ import annotations

import pytest

from asyncroute.core.groups import EndStudies, Move, Regrouped
from asyncroute.core.model import Instance, RouteHit, Selection, Wait
from asyncroute.core.states import DeliveryState as S
from asyncroute.journal.base import Complete, Discard, FileLost, Group, Reroute
from tests.contract.journals import NOW, Journal
from tests.contract.made import delivered, failed, image, path_of

STUDY = ("archive", "1.2.3.4")
TO_B = Move(*STUDY, "b", "a is down")
AT_ONCE = EndStudies({}, 86400.0)


def grouped(number: int, member: str = "a", *direct: str, **changes: object) -> Instance:
    """An image for the group "archive", of which ``member`` is chosen; ``direct``: other destinations."""
    here = RouteHit("all", member, groups=(STUDY,), direct=member in direct)
    others = tuple(RouteHit("all", name) for name in direct if name != member)
    return image(number, hits=(here, *others), **changes)


def admit(journal: Journal, *images: Instance) -> Regrouped | None:
    return journal.writer.commit(Group(images)).regrouped


def move(journal: Journal, action: Move = TO_B) -> Regrouped:
    done = journal.writer.commit(Group(actions=[action], at=NOW))
    assert done.regrouped is not None
    assert done.acted == [len(done.regrouped.given)]
    return done.regrouped


def states(journal: Journal, number: int) -> dict[str, S]:
    (story,) = journal.reader.tell(lambda stories: stories.images([number]))
    return {it.destination: it.state for it in story.deliveries}


def test_what_is_of_no_group_is_no_news(journal: Journal) -> None:
    assert admit(journal, image(1, "a")) is None


def test_an_image_is_kept_until_its_study_is_over(journal: Journal) -> None:
    admit(journal, grouped(1), grouped(2))
    assert journal.ids("a") == [1, 2]
    assert journal.writer.commit(Group(settlements=[delivered(1, "a")])).releasable == []
    (first, second) = journal.writer.unreleased(0, 10)
    assert (first.pending, first.kept, second.pending, second.kept) == (False, True, True, True)
    assert journal.writer.commit(Group(actions=[AT_ONCE])).acted == [0]  # one is on its way
    journal.writer.commit(Group(settlements=[delivered(2, "a")]))
    done = journal.writer.commit(Group(actions=[AT_ONCE]))
    assert (done.acted, sorted(done.releasable)) == ([1], [(1, path_of(1)), (2, path_of(2))])
    assert done.regrouped is not None
    assert done.regrouped.ended == [STUDY]
    assert journal.reader.group_studies() == []


def test_a_study_is_over_when_its_group_says_so(journal: Journal) -> None:
    admit(journal, grouped(1))
    journal.writer.commit(Group(settlements=[delivered(1, "a")]))
    assert journal.writer.commit(Group(actions=[EndStudies({"archive": 1000.0}, 86400.0)])).acted == [0]
    assert journal.writer.commit(Group(actions=[EndStudies({"archive": 1000.0}, 0.0)])).acted == [1]


def test_a_dead_letter_holds_up_its_own_file_only(journal: Journal) -> None:
    admit(journal, grouped(1), grouped(2))
    journal.writer.commit(Group(settlements=[delivered(1, "a"), failed(2, "a")]))
    done = journal.writer.commit(Group(actions=[AT_ONCE]))
    assert (done.acted, done.releasable) == ([1], [(1, path_of(1))])


def test_only_so_many_end_at_a_time(journal: Journal) -> None:
    for number in range(1, 6):
        hit = RouteHit("all", "a", groups=(("archive", f"1.{number}"),), direct=False)
        admit(journal, image(number, hits=(hit,)))
        journal.writer.commit(Group(settlements=[delivered(number, "a")]))
    ends = [journal.writer.commit(Group(actions=[EndStudies({}, 1.0, limit=2)])).acted for _ in range(4)]
    assert ends == [[2], [2], [1], [0]]


def test_a_study_moves_as_a_whole(journal: Journal) -> None:
    admit(journal, grouped(1), grouped(2), grouped(3), grouped(4))
    journal.writer.commit(Group(settlements=[delivered(1, "a"), failed(2, "a")]))
    news = move(journal)
    assert sorted(news.given) == [(n, "b", 1000 + n) for n in (1, 2, 3, 4)]
    assert sorted(news.taken) == [(2, "a", 1002, True), (3, "a", 1003, False), (4, "a", 1004, False)]
    assert (journal.ids("a"), journal.ids("b")) == ([], [1, 2, 3, 4])
    assert states(journal, 1) == {"a": S.DELIVERED, "b": S.READY}
    assert states(journal, 2) == {"b": S.READY}
    assert journal.reader.group_studies() == [(*STUDY, "b")]
    (it, *_) = journal.reader.claim("b", 1, NOW, ())
    assert (it.route, it.queued_at, it.attempts) == ("all", image(1).received_at, 0)
    late = journal.writer.commit(Group(settlements=[delivered(3, "a")]))
    assert (late.releasable, states(journal, 3)) == ([], {"b": S.READY})


def test_moving_twice_changes_nothing(journal: Journal) -> None:
    admit(journal, grouped(1), grouped(2))
    move(journal)
    journal.writer.commit(Group(settlements=[delivered(1, "b")]))
    news = move(journal)
    assert (news.given, news.taken) == ([], [])
    assert (states(journal, 1), states(journal, 2)) == ({"b": S.DELIVERED}, {"b": S.READY})


def test_there_and_back(journal: Journal) -> None:
    """What the first member had got already it is not sent again."""
    admit(journal, grouped(1), grouped(2))
    journal.writer.commit(Group(settlements=[delivered(1, "a")]))
    move(journal)
    journal.writer.commit(Group(settlements=[delivered(2, "b")]))
    news = move(journal, Move(*STUDY, "a", "b is down"))
    assert (news.given, news.taken) == ([(2, "a", 1002)], [(1, "b", 1001, False)])
    assert (journal.ids("a"), journal.ids("b")) == ([2], [])


def test_a_move_is_told(journal: Journal) -> None:
    admit(journal, grouped(1))
    move(journal)
    (story,) = journal.reader.tell(lambda stories: stories.images([1]))
    (event,) = story.events
    assert (event.at, event.kind, event.destination) == (NOW, "moved", "b")
    assert event.text == "group archive: from a to b: a is down"


def test_a_move_of_nothing(journal: Journal) -> None:
    news = move(journal, Move("archive", "9.9", "b", "a is down"))
    assert news == Regrouped()


def test_a_move_survives(journal: Journal) -> None:
    admit(journal, grouped(1), grouped(2))
    journal.writer.commit(Group(settlements=[delivered(1, "a")]))
    move(journal)
    journal.reopen()
    assert (journal.ids("a"), journal.ids("b")) == ([], [1, 2])
    assert journal.reader.group_studies() == [(*STUDY, "b")]


@pytest.mark.parametrize("other", ["a", "b"])
def test_what_a_route_names_itself_stays_there(journal: Journal, other: str) -> None:
    admit(journal, grouped(1, "a", other))
    news = move(journal)
    assert journal.ids("b") == [1]
    assert journal.ids("a") == ([1] if other == "a" else [])
    assert len(news.given) == (1 if other == "a" else 0)
    back = move(journal, Move(*STUDY, "a", "b is down"))
    assert journal.ids("a") == [1]
    assert journal.ids("b") == ([1] if other == "b" else [])
    assert len(back.taken) == (1 if other == "a" else 0)


def test_two_groups_at_one_member(journal: Journal) -> None:
    both = RouteHit("all", "a", groups=(STUDY, ("second", "1.2.3.4")), direct=False)
    admit(journal, image(1, hits=(both,)))
    news = move(journal)
    assert (news.taken, journal.ids("a"), journal.ids("b")) == ([], [1], [1])
    news = move(journal, Move("second", "1.2.3.4", "c", "a is down"))
    assert (news.taken, journal.ids("a"), journal.ids("c")) == ([(1, "a", 1001, False)], [], [1])


def test_an_image_for_a_member_that_its_study_has_left_is_told_and_found(journal: Journal) -> None:
    admit(journal, grouped(1))
    move(journal)
    news = admit(journal, grouped(2))
    assert news is not None
    assert news.members == [(*STUDY, "b", "a")]
    assert journal.reader.group_strays() == [(*STUDY, "a")]
    journal.reopen()
    assert journal.reader.group_strays() == [(*STUDY, "a")]
    move(journal)
    assert (journal.reader.group_strays(), journal.ids("b")) == ([], [1, 2])


def test_what_a_member_is_owed(journal: Journal) -> None:
    admit(journal, grouped(1), grouped(2), image(3, "a"))
    assert journal.reader.group_owed("archive", "a") == [("1.2.3.4", 2)]
    journal.writer.commit(Group(settlements=[delivered(1, "a"), failed(2, "a")]))
    assert journal.reader.group_owed("archive", "a") == []
    assert journal.reader.group_owed("archive", "b") == []


def test_what_a_person_discarded_does_not_move(journal: Journal) -> None:
    admit(journal, grouped(1), grouped(2))
    journal.writer.commit(Group(actions=[Discard(Selection(states=(S.READY,), instance_ids=[1]))]))
    move(journal)
    assert journal.ids("b") == [2]


def test_a_held_image_that_is_routed_to_a_group(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, hold_reason="no route")]))
    journal.writer.commit(Group(actions=[Reroute(1, (RouteHit("all", "a", groups=(STUDY,), direct=False),))]))
    move(journal)
    assert (journal.ids("a"), journal.ids("b")) == ([], [1])


def test_a_kept_image_whose_file_is_lost(journal: Journal) -> None:
    """It has been delivered: nothing is owed."""
    admit(journal, grouped(1))
    journal.writer.commit(Group(settlements=[delivered(1, "a")]))
    assert journal.writer.commit(Group(actions=[FileLost(1, "missing", NOW)])).acted == [0]


def test_names_that_no_text_can_hold(journal: Journal) -> None:
    """A lone surrogate in a study's UID costs nobody else anything."""
    odd = image(1, hits=(RouteHit("all", "a", groups=(("archive", "1.\ud800"),), direct=False),))
    done = journal.writer.commit(Group([odd, grouped(2)]))
    assert done.refused == {}
    assert journal.ids("a") == [1, 2]
    assert len(journal.reader.group_studies()) == 2


def test_what_waits_for_a_completion_waits_at_the_new_member(journal: Journal) -> None:
    wait = Wait("study")
    hit = RouteHit("all", "a", wait=wait, groups=(STUDY,), direct=False)
    done = journal.writer.commit(Group([image(1, hits=(hit,))]))
    news = move(journal)
    assert news.given == [(1, "b", 1001)]
    assert (states(journal, 1), journal.ids("b")) == ({"b": S.WAITING}, [])
    journal.writer.commit(Group(actions=[Complete([it.id for it in done.completions])]))
    assert journal.ids("b") == [1]
