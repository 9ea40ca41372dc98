"""What every journal promises about deliveries that a destination has yet to prove."""

from __future__ import annotations

from dataclasses import replace
from operator import methodcaller

from asyncroute.core.model import Selection, Settlement
from asyncroute.core.proof import (
    Ask,
    Asked,
    Inquiry,
    Kept,
    Overdue,
    Pledge,
    ProofAction,
    Proven,
    Redeem,
    Reference,
    Setback,
    Unask,
    Waive,
)
from asyncroute.core.states import DeliveryState as S
from asyncroute.journal.base import Discard, Group, Redirect, Retry
from tests.contract.journals import NOW, Journal
from tests.contract.made import CT, delivered, image, path_of

DUE = NOW + 60


def unproven(instance_id: int, destination: str = "a") -> Settlement:
    return delivered(instance_id, destination)._replace(unproven=True)


def filled(journal: Journal, count: int = 3) -> None:
    """Images 1 to ``count`` are delivered to ``a``, unproven, and to ``b``."""
    journal.writer.commit(Group([image(n, "a", "b") for n in range(1, count + 1)]))
    settlements = [s for n in range(1, count + 1) for s in (unproven(n), delivered(n, "b"))]
    assert journal.writer.commit(Group(settlements=settlements)).releasable == []


def act(journal: Journal, *actions: ProofAction) -> list[int]:
    return journal.writer.commit(Group(actions=actions, at=NOW)).acted


def waiting(journal: Journal, destination: str = "a") -> list[int]:
    return [it.instance_id for it in journal.proofs(lambda proofs: proofs.waiting(destination, 100))]


def inquiry(journal: Journal, uid: str) -> Inquiry | None:
    return journal.proofs(lambda proofs: proofs.inquiry(uid))


def members(journal: Journal, uid: str) -> list[tuple[int, bool, bool]]:
    found = inquiry(journal, uid)
    assert found is not None
    return [(it.instance_id, it.open, it.newest) for it in found.images]


def state(journal: Journal, instance_id: int, destination: str = "a") -> S:
    (story,) = journal.reader.tell(lambda stories: stories.images([instance_id]))
    return next(it.state for it in story.deliveries if it.destination == destination)


def test_what_is_unproven_keeps_its_file(journal: Journal) -> None:
    filled(journal)
    assert waiting(journal) == [1, 2, 3]
    assert waiting(journal, "b") == waiting(journal, "nowhere") == []
    counts = journal.reader.counts()
    assert (counts.unconfirmed, counts.delivered, counts.open) == ({"a": 3}, {"a": 3, "b": 3}, {})
    assert [it.pending for it in journal.writer.unreleased(0, 10)] == [True] * 3
    assert journal.writer.prune(NOW + 1e9) == 0
    (first, *_) = journal.proofs(lambda proofs: proofs.waiting("a", 1))
    assert (first.sop_class_uid, first.sop_instance_uid, first.attempts, first.size) == (CT, "1.2.3.4.1", 1, 1001)


def test_only_what_was_delivered_is_to_be_proven(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a")]))
    journal.writer.commit(Group(actions=[Discard(Selection(states=(S.READY,)))]))
    journal.writer.commit(Group(settlements=[unproven(1)]))
    assert waiting(journal) == []


def test_a_transaction_from_beginning_to_end(journal: Journal) -> None:
    filled(journal)
    assert act(journal, Ask("1.1", "a", [1, 2], DUE)) == [2]
    assert waiting(journal) == [3]
    assert members(journal, "1.1") == [(1, True, True), (2, True, True)]
    assert journal.proofs(lambda proofs: proofs.next_due("a")) == DUE
    assert act(journal, Asked("1.1", DUE + 5)) == [1]
    assert journal.proofs(lambda proofs: proofs.next_due("a")) == DUE + 5
    assert journal.proofs(lambda proofs: proofs.of([1, 3])) == {(1, "a"): "1.1", (3, "a"): ""}
    journal.reopen()
    done = journal.writer.commit(Group(actions=[Proven("a", "1.1", [1, 2], [], "how")], at=NOW))
    assert (done.acted, sorted(done.releasable)) == ([2], [(1, path_of(1)), (2, path_of(2))])
    assert [state(journal, n) for n in (1, 2, 3)] == [S.CONFIRMED, S.CONFIRMED, S.DELIVERED]
    assert members(journal, "1.1") == [(1, False, False), (2, False, False)]
    assert journal.proofs(lambda proofs: proofs.next_due("a")) is None
    counts = journal.reader.counts()
    assert (counts.unconfirmed, counts.delivered["a"]) == ({"a": 1}, 3)
    (story,) = journal.reader.tell(lambda stories: stories.images([1]))
    assert [(it.kind, it.text, it.destination) for it in story.events] == [("confirmed", "how", "a")]
    assert journal.reader.tell(lambda stories: stories.remarkable([1])) == []


def test_a_report_changes_nothing_the_second_time(journal: Journal) -> None:
    filled(journal)
    act(journal, Ask("1.1", "a", [1, 2, 3], DUE))
    report = Proven("a", "1.1", [1], [Setback(2, S.READY, 0x0112, "no", NOW), Setback(3, S.FAILED, 0x0122, "no")], "")
    assert act(journal, report) == [3]
    assert act(journal, report) == [0]
    assert act(journal, Proven("a", "1.1", [2, 3], [], "")) == [0]
    counts = journal.reader.counts()
    assert (counts.delivered["a"], counts.open["a"]) == (1, {S.READY: 1, S.FAILED: 1})


def test_what_is_set_back_is_sent_again_and_asked_for_anew(journal: Journal) -> None:
    filled(journal, 1)
    act(journal, Ask("1.1", "a", [1], DUE), Proven("a", "1.1", [], [Setback(1, S.READY, 0x0112, "why", NOW + 9)], ""))
    assert journal.ids("a") == []
    (again,) = journal.reader.claim("a", 10, NOW + 9, ())
    assert (again.attempts, again.not_before) == (1, NOW + 9)
    (row,) = journal.reader.rows(Selection(), 10)
    assert (row.state, row.last_status, row.last_error) == ("ready", 0x0112, "why")
    assert journal.reader.counts().totals["delivered"] == 1, "the other destination's"
    journal.writer.commit(Group(settlements=[unproven(1)]))
    assert waiting(journal) == [1]
    assert members(journal, "1.1") == [(1, True, False)]
    assert journal.reader.counts().totals["delivered"] == 2


def test_a_dead_letter_of_a_report_can_be_retried(journal: Journal) -> None:
    filled(journal, 1)
    act(journal, Ask("1.1", "a", [1], DUE), Proven("a", "1.1", [], [Setback(1, S.FAILED, 0x0122, "never")], ""))
    assert journal.writer.commit(Group(actions=[Retry(Selection())])).acted == [1]
    assert journal.ids("a") == [1]


def test_what_is_overdue_is_asked_for_again(journal: Journal) -> None:
    filled(journal)
    act(journal, Ask("1.1", "a", [1], NOW - 1), Ask("1.2", "a", [2], NOW + 1), Ask("1.3", "a", [3], NOW + 9000))
    assert act(journal, Overdue("a", NOW, 3600)) == [2]
    assert waiting(journal) == [1, 3]
    assert act(journal, Overdue("a", NOW, 3600)) == [0]
    assert act(journal, Ask("2.1", "a", [1, 3], DUE)) == [2]
    assert members(journal, "1.1") == [(1, True, False)], "known, and superseded"
    assert act(journal, Proven("a", "1.1", [1], [], "late")) == [1]
    assert members(journal, "2.1") == [(1, False, False), (3, True, True)]


def test_what_was_about_to_be_asked_when_a_run_ended(journal: Journal) -> None:
    filled(journal)
    act(journal, Ask("1.1", "a", [1], DUE), Ask("1.2", "a", [2], DUE), Asked("1.2", DUE))
    journal.reopen()
    assert act(journal, Overdue("a", NOW, 3600, unsure=True)) == [1]
    assert waiting(journal) == [1, 3]


def test_a_request_that_was_not_made(journal: Journal) -> None:
    filled(journal)
    act(journal, Ask("1.1", "a", [1], DUE), Ask("1.2", "a", [2], DUE))
    assert act(journal, Unask("1.1", heard=False), Unask("1.2", heard=True), Unask("9", heard=True)) == [1, 1, 0]
    assert waiting(journal) == [1, 2, 3]
    assert inquiry(journal, "1.1") is None
    assert members(journal, "1.2") == [(2, True, False)]


def test_a_report_on_a_part_leaves_the_rest_to_be_waited_for(journal: Journal) -> None:
    filled(journal)
    act(journal, Ask("1.1", "a", [1, 2], DUE), Asked("1.1", DUE), Proven("a", "1.1", [1], [], ""))
    assert waiting(journal) == [3]
    assert journal.proofs(lambda proofs: proofs.next_due("a")) == DUE


def test_no_proof_is_needed_any_more(journal: Journal) -> None:
    filled(journal)
    act(journal, Ask("1.1", "a", [1], DUE))
    done = journal.writer.commit(Group(actions=[Waive("a"), Waive("b")]))
    assert (done.acted, len(done.releasable)) == ([3, 0], 3)
    assert (state(journal, 1), journal.reader.counts().unconfirmed) == (S.DELIVERED, {})
    assert journal.proofs(lambda proofs: proofs.next_due("a")) is None


def test_few_transactions_are_remembered(journal: Journal) -> None:
    filled(journal, 1)
    for n in range(1100):
        act(journal, Ask(f"1.{n}", "a", [1], DUE), Unask(f"1.{n}", heard=True))
    assert inquiry(journal, "1.0") is None
    assert inquiry(journal, "1.1099") is not None


# --- what senders ask us to commit ------------------------------------------------------------------------------------


def pledge(uid: str = "2.25.1", *numbers: int) -> Pledge:
    return Pledge(uid, "CT_A", "ROUTER", NOW + 60, tuple(Reference(CT, f"1.2.3.4.{n}") for n in numbers or (1,)))


def pledged(journal: Journal) -> list[Pledge | None]:
    ids = journal.proofs(lambda proofs: proofs.pledges())
    return [journal.proofs(methodcaller("pledge", id_)) for id_ in ids]


def test_a_pledge_is_kept_until_it_is_redeemed(journal: Journal) -> None:
    assert act(journal, pledge(), pledge("2.25.2", 1, 2), pledge()) == [1, 1, 0]
    journal.reopen()
    first, second = pledged(journal)
    assert first is not None
    assert second is not None
    assert (first, second) == (replace(pledge(), id=first.id), replace(pledge("2.25.2", 1, 2), id=second.id))
    assert act(journal, Redeem(first.id), Redeem(first.id)) == [1, 0]
    assert pledged(journal) == [second]
    assert journal.proofs(lambda proofs: proofs.pledge(first.id)) is None


def test_what_became_of_an_instance(journal: Journal) -> None:
    journal.writer.commit(Group([image(n, "a", "b") for n in (1, 2, 3)] + [image(4, hold_reason="no"), image(5)]))
    journal.writer.commit(
        Group(
            settlements=[unproven(1), delivered(1, "b"), delivered(2, "a")],
            actions=[Discard(Selection(states=(S.READY,), destination="b", instance_ids=[3]))],
        )
    )
    asked = [Reference(CT, f"1.2.3.4.{n}") for n in (9, 5, 4, 3, 2, 1)]
    assert journal.proofs(lambda proofs: proofs.kept(asked)) == [
        Kept(None, False, 0, 0, 0, 0),
        Kept(CT, False, 0, 0, 0, 0),
        Kept(CT, True, 0, 0, 0, 0),
        Kept(CT, False, 2, 1, 1, 0),
        Kept(CT, False, 2, 1, 0, 0),
        Kept(CT, False, 2, 0, 0, 1),
    ]


def test_a_delivery_that_was_rerouted_is_none_that_was_given_up(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a")]))
    asked = [Reference(CT, "1.2.3.4.1")]
    journal.writer.commit(Group(actions=[Redirect(Selection(states=(S.READY,), destination="a"), "b")]))
    assert journal.proofs(lambda proofs: proofs.kept(asked)) == [Kept(CT, False, 2, 1, 0, 0)]
    journal.writer.commit(Group(settlements=[delivered(1, "b")]))
    assert journal.proofs(lambda proofs: proofs.kept(asked)) == [Kept(CT, False, 2, 0, 0, 0)]


def test_what_is_discarded_after_it_was_rerouted_is_given_up(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a")]))
    ready = Selection(states=(S.READY,))
    journal.writer.commit(Group(actions=[Redirect(ready, "b"), Redirect(ready, "a"), Discard(ready)]))
    (kept,) = journal.proofs(lambda proofs: proofs.kept([Reference(CT, "1.2.3.4.1")]))
    assert kept == Kept(CT, False, 2, 0, 1, 0)


def test_the_latest_copy_of_an_instance_counts(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a")]))
    journal.writer.commit(Group(settlements=[delivered(1, "a")]))
    journal.writer.commit(Group([image(2, "a", sop_instance_uid="1.2.3.4.1")]))
    (kept,) = journal.proofs(lambda proofs: proofs.kept([Reference(CT, "1.2.3.4.1")]))
    assert kept == Kept(CT, False, 1, 1, 0, 0)
