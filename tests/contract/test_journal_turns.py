"""What a claim promises about priorities and turns (journal.base.Reader.claim)."""

from __future__ import annotations

from collections import Counter

import pytest

from asyncroute.core.model import Instance, RouteHit, Source
from asyncroute.core.priority import HIGH, LOW, NORMAL, STAT
from asyncroute.journal.base import Claim, Group, Reroute
from tests.contract.journals import NOW, Journal
from tests.contract.made import image, retried

A, B = Source("CT_A", "X", "", ""), Source("CT_B", "X", "", "")


def one(number: int, study: str = "1", priority: int = NORMAL, source: Source = A) -> Instance:
    return image(number, source=source, study_uid=study, hits=(RouteHit("all", "pacs", priority),))


def ids(claim: Claim) -> list[int]:
    return [it.instance_id for it in claim.deliveries]


def test_by_priority_and_each_class_as_far_as_it_has_room(journal: Journal) -> None:
    classes = [LOW, STAT, NORMAL, HIGH]
    journal.writer.commit(Group([one(n, priority=classes[n % 4]) for n in range(40)]))
    found = journal.reader.claim_rooms("pacs", {STAT: 2, HIGH: 100, LOW: 3})
    assert ids(found) == [1, 5, *range(3, 40, 4), 0, 4, 8]
    assert [it.priority for it in found.deliveries] == [STAT] * 2 + [HIGH] * 10 + [LOW] * 3
    assert found.more
    assert found.cut == {(STAT, "CT_A", "1"), (LOW, "CT_A", "1")}


def test_of_each_study_and_source_as_many(journal: Journal) -> None:
    journal.writer.commit(Group([one(n) for n in range(1, 1001)]))
    journal.writer.commit(Group([one(n, "2") for n in range(1001, 1004)]))
    journal.writer.commit(Group([one(n, source=B) for n in range(1004, 1104)]))
    found = journal.reader.claim_rooms("pacs", {NORMAL: 63})
    assert ids(found) == [*range(1, 31), *range(1001, 1034)]
    assert found.cut == {(NORMAL, "CT_A", "1"), (NORMAL, "CT_B", "1")}
    rest = journal.reader.claim_rooms("pacs", {NORMAL: 60}, range(1, 1004))
    assert ids(rest) == [*range(1004, 1064)]
    assert rest.cut == {(NORMAL, "CT_B", "1")}
    assert ids(journal.reader.claim_rooms("pacs", {NORMAL: 2000}, range(1, 1004))) == [*range(1004, 1104)]


def test_whether_there_is_more(journal: Journal) -> None:
    journal.writer.commit(Group([one(n) for n in range(1, 11)]))
    some = journal.reader.claim_rooms("pacs", {NORMAL: 9})
    assert (some.more, some.partial) == (True, False)
    assert not journal.reader.claim_rooms("pacs", {NORMAL: 11}).more
    assert journal.reader.claim_rooms("pacs", {STAT: 11}).more
    assert journal.reader.claim_rooms("other", {NORMAL: 11}) == Claim([])


@pytest.mark.parametrize("room", [1, 7, 50, 400])
def test_very_many_studies_all_have_their_turn(journal: Journal, room: int) -> None:
    """Whatever the room, nothing is claimed again before all others were."""
    journal.writer.commit(Group([one(n, f"1.{n % 300}") for n in range(1, 1201)]))
    seen: list[int] = []
    turns: Counter[int] = Counter()
    while len(seen) < 1200:
        found = journal.reader.claim_rooms("pacs", {NORMAL: room}, seen)
        assert 0 < len(found.deliveries) <= room
        assert found.partial or room > 300 or len(seen) + len(found.deliveries) == 1200
        seen += ids(found)
        turns.update(n % 300 for n in ids(found))
        if len(seen) <= 300 and room <= 128:
            assert max(turns.values()) == 1
    assert sorted(seen) == list(range(1, 1201))
    last = journal.reader.claim_rooms("pacs", {NORMAL: room}, seen)
    assert (last.deliveries, last.more) == ([], False)


def test_studies_of_which_nothing_is_due_take_no_room(journal: Journal) -> None:
    journal.writer.commit(Group([one(n, f"1.{n}") for n in range(1, 401)]))
    journal.writer.commit(Group(settlements=[retried(n, "pacs", NOW + 60) for n in range(1, 400)]))
    found = journal.reader.claim_rooms("pacs", {NORMAL: 3})
    assert (ids(found), found.more) == ([400], False)


def test_what_is_routed_again_has_its_priority_and_its_turn(journal: Journal) -> None:
    held = image(1, hold_reason="no route", study_uid="9")
    journal.writer.commit(Group([held, *(one(n) for n in range(2, 50))]))
    journal.writer.commit(Group(actions=[Reroute(1, (RouteHit("new", "pacs", NORMAL), RouteHit("new", "b", STAT)))]))
    assert 1 in ids(journal.reader.claim_rooms("pacs", {NORMAL: 4}))
    (it,) = journal.reader.claim_rooms("b", {STAT: 1}).deliveries
    assert it.priority == STAT


def test_priorities_survive_a_restart(journal: Journal) -> None:
    journal.writer.commit(Group([one(n, priority=[STAT, LOW][n % 2]) for n in range(1, 7)]))
    journal.reopen()
    assert ids(journal.reader.claim_rooms("pacs", {STAT: 9, LOW: 9})) == [2, 4, 6, 1, 3, 5]
