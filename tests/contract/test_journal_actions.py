"""What every journal promises: a person's actions, bad rows, conflicts, recovery, pruning, threads."""

from __future__ import annotations

import threading

import pytest

from asyncroute.core.errors import StorageFault
from asyncroute.core.model import RouteHit, Selection
from asyncroute.core.states import DeliveryState as S
from asyncroute.journal.base import Discard, Event, FileLost, Group, Held, Hold, Redirect, Release, Reroute, Retry
from tests.contract.journals import NOW, Journal
from tests.contract.made import T0, delivered, failed, image, path_of, retried

# --- a person's actions -----------------------------------------------------------------------------------------------


def test_retry_makes_dead_letters_ready_again(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a"), image(2, "a"), image(3, "a")]))
    journal.writer.commit(Group(settlements=[failed(1, "a"), failed(2, "a"), retried(3, "a", NOW + 60)]))
    assert journal.writer.commit(Group(actions=[Retry(Selection(instance_ids=[2]))])).acted == [1]
    (it,) = journal.reader.claim("a", 10, NOW, ())
    assert (it.instance_id, it.attempts, it.not_before) == (2, 0, 0.0)


def test_retry_does_not_wake_what_is_settled(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a")]))
    journal.writer.commit(Group(settlements=[delivered(1, "a")]))
    states = Selection(states=tuple(S))
    assert journal.writer.commit(Group(actions=[Retry(states)])).acted == [0]


def test_retry_now(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a")]))
    journal.writer.commit(Group(settlements=[retried(1, "a", NOW + 60)]))
    assert journal.writer.commit(Group(actions=[Retry(Selection(states=(S.READY,)))])).acted == [1]
    assert journal.ids("a") == [1]


def test_discard_ends_dead_letters_and_frees_the_file(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a", "b"), image(2, "a")]))
    journal.writer.commit(Group(settlements=[failed(1, "a"), failed(2, "a"), delivered(1, "b")]))
    done = journal.writer.commit(Group(actions=[Discard(Selection(instance_ids=[1]))]))
    assert (done.acted, done.releasable) == ([1], [(1, path_of(1))])
    counts = journal.reader.counts()
    assert (counts.totals["discarded"], counts.open) == (1, {"a": {S.FAILED: 1}})


def test_discard_leaves_what_is_ready_unless_it_is_named(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a")]))
    assert journal.writer.commit(Group(actions=[Discard(Selection())])).acted == [0]
    done = journal.writer.commit(Group(actions=[Discard(Selection(states=(S.READY, S.WAITING)))]))
    assert (done.acted, done.releasable) == ([1], [(1, path_of(1))])
    late = journal.writer.commit(Group(settlements=[delivered(1, "a")]))
    assert (journal.reader.counts()).totals["delivered"] == 0
    assert late.releasable in ([], [(1, path_of(1))])


def test_redirect_ends_here_and_begins_there(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a"), image(2, "a"), image(3, "a", "b"), image(4, "a")], at=NOW))
    journal.writer.commit(Group(settlements=[failed(1, "a"), failed(2, "a"), failed(3, "a"), delivered(3, "b")]))
    done = journal.writer.commit(Group(actions=[Redirect(Selection(destination="a"), "b")], at=NOW + 5))
    assert (done.acted, done.releasable) == ([2], [])
    assert [(it.instance_id, it.route, it.attempts, it.queued_at) for it in journal.reader.claim("b", 10, NOW, ())] == [
        (1, "all", 0, NOW + 5),
        (2, "all", 0, NOW + 5),
    ]
    assert journal.reader.counts().open == {"a": {S.FAILED: 1, S.READY: 1}, "b": {S.READY: 2}}
    done = journal.writer.commit(Group(settlements=[delivered(1, "b")]))
    assert done.releasable == [(1, path_of(1))]


def test_redirect_and_back_again(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a")]))
    there, back = (Redirect(Selection(states=(S.READY,)), name) for name in ("b", "a"))
    assert journal.writer.commit(Group(actions=[there, there, back])).acted == [1, 0, 1]
    assert (journal.ids("a"), journal.ids("b")) == ([1], [])
    assert journal.reader.counts().totals["discarded"] == 0


def test_selection_by_error_and_age(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a"), image(2, hold_reason="no route matches")], at=NOW))
    journal.writer.commit(Group([image(3, "a")], at=NOW + 60))
    journal.writer.commit(Group(settlements=[failed(1, "a"), failed(3, "a")]))
    (row, _) = journal.reader.rows(Selection(), 10)
    part = row.last_error[1:-1].upper()
    assert [r.instance_id for r in journal.reader.rows(Selection(error=part), 10)] == [1, 3]
    assert journal.reader.rows(Selection(error=part + "%"), 10) == []
    assert [r.instance_id for r in journal.reader.rows(Selection(error="ROUTE"), 10, held=True)] == [2]
    assert journal.reader.rows(Selection(error="rout_"), 10, held=True) == []
    assert [r.instance_id for r in journal.reader.rows(Selection(before=NOW + 60), 10)] == [1]
    assert journal.reader.rows(Selection(before=T0), 10, held=True) == []
    assert journal.writer.commit(Group(actions=[Discard(Selection(error=part, before=NOW + 1))])).acted == [1]


def test_a_hold_and_its_end(journal: Journal) -> None:
    assert journal.reader.counts().holds == {}
    done = journal.writer.commit(Group(actions=[Hold("a"), Hold("a"), Release("b")], at=NOW))
    assert done.acted == [1, 0, 0]
    ((name, (held,)),) = journal.reader.counts().holds.items()
    assert (name, held.at, held.until) == ("a", NOW, None)
    assert 0 <= held.since <= journal.writer.clock()
    assert journal.writer.commit(Group(actions=[Release("a"), Release("a"), Hold("a")], at=NOW + 5)).acted == [1, 0, 1]
    first, second = journal.reader.counts().holds["a"]
    assert first.until is not None
    assert held.since <= first.until <= second.since <= journal.writer.clock()
    assert (first.at, second) == (NOW, Held(NOW + 5, second.since, None))


def test_a_hold_survives(journal: Journal) -> None:
    journal.writer.commit(Group(actions=[Hold("a")], at=NOW))
    before = journal.reader.counts().holds
    journal.reopen()
    assert journal.reader.counts().holds == before


def test_a_hold_is_of_a_destination_not_of_its_images(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a")], actions=[Hold("a")]))
    assert (journal.reader.counts().held, journal.ids("a")) == (0, [1])


def test_ended_holds_are_remembered_up_to_a_bound(journal: Journal) -> None:
    for _ in range(102):
        journal.writer.commit(Group(actions=[Hold("a"), Release("a")]))
    journal.writer.commit(Group(actions=[Hold("a")]))
    periods = journal.reader.counts().holds["a"]
    assert [p.until is None for p in periods] == [False] * 100 + [True]


def test_discard_of_a_held_image(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, hold_reason="no route"), image(2, hold_reason="no route"), image(3, "a")]))
    done = journal.writer.commit(Group(actions=[Discard(Selection(instance_ids=[2, 3]), held=True)]))
    assert (done.acted, done.releasable) == ([1], [(2, path_of(2))])
    counts = journal.reader.counts()
    assert (counts.held, counts.totals["discarded"]) == (1, 1)


def test_reroute_ends_a_hold(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, hold_reason="no route")]))
    done = journal.writer.commit(Group(actions=[Reroute(1, (RouteHit("new", "a"),))], at=NOW))
    assert (done.acted, done.releasable) == ([1], [])
    (it,) = journal.reader.claim("a", 1, NOW, ())
    assert (it.instance_id, it.route, it.queued_at, it.size) == (1, "new", NOW, 1001)
    assert (journal.reader.counts()).held == 0


def test_reroute_to_nowhere_changes_the_reason_only(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, hold_reason="no route")]))
    assert journal.writer.commit(Group(actions=[Reroute(1, ()), Reroute(1, (), "still none")])).acted == [0, 1]
    (row,) = journal.reader.rows(Selection(), 10, held=True)
    assert row.last_error == "still none"


def test_reroute_of_what_is_not_held_changes_nothing(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a")]))
    hits = (RouteHit("new", "b"),)
    assert (
        journal.writer.commit(Group(actions=[Reroute(1, hits), Reroute(9, hits), Reroute(1, (), "why")])).acted
        == [0] * 3
    )
    assert journal.ids("b") == []


def test_a_lost_file_fails_its_pending_deliveries(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a", "b", "c")]))
    journal.writer.commit(Group(settlements=[delivered(1, "a"), failed(1, "b", "other reason")]))
    lost = FileLost(1, "spool file missing", NOW)
    assert journal.writer.commit(Group(actions=[lost])).acted == [1]
    assert journal.writer.commit(Group(actions=[lost])).acted == [0]
    rows = journal.reader.rows(Selection(), 10)
    assert [(row.destination, row.state, row.last_error) for row in rows] == [
        ("b", "failed", "other reason"),
        ("c", "failed", "spool file missing"),
    ]


def test_a_lost_file_of_a_held_image_is_said_in_its_reason(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, hold_reason="no route")]))
    lost = FileLost(1, "spool file missing", NOW)
    assert [journal.writer.commit(Group(actions=[lost])).acted for _ in range(2)] == [[1], [0]]
    (row,) = journal.reader.rows(Selection(), 10, held=True)
    assert "spool file missing" in row.last_error
    assert "no route" in row.last_error


# --- bad rows ---------------------------------------------------------------------------------------------------------


def test_one_bad_image_does_not_spoil_its_group(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "old"), image(2, "old")]))
    bad = [image(1, "fresh"), image(4, "a", size=1 << 70), image(5, "a", study_uid=None)]
    group = Group([image(3, "a"), *bad, image(6, "a")], [delivered(2, "old")], at=NOW)
    done = journal.writer.commit(group)
    assert sorted(done.refused) == [1, 4, 5]
    assert all("\n" not in reason and reason for reason in done.refused.values())
    assert done.releasable == [(2, path_of(2))]
    assert journal.ids("a") == [3, 6]
    assert journal.ids("old") == [1]
    assert journal.ids("fresh") == []
    counts = journal.reader.counts()
    assert (counts.totals["received"], counts.totals["delivered"]) == (4, 1)
    assert journal.writer.commit(Group([image(7, "fresh")])).refused == {}
    assert journal.ids("fresh") == [7]


def test_text_that_is_no_unicode_is_kept_escaped(journal: Journal) -> None:
    odd = image(1, "a\ud800", patient_id="x\udcffy", sop_instance_uid="1.2\udc80", accession="a\0b\n")
    done = journal.writer.commit(Group([odd], events=[Event(NOW, "odd", "te\ud800xt")]))
    assert done.refused == {}
    journal.writer.commit(Group(settlements=[]))
    found = journal.reader.instance(1)
    assert found is not None
    assert (found.patient_id, found.accession) == ("x\\udcffy", "a\0b\n")


def test_settlements_with_odd_text_are_not_lost(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a"), image(2, "a")]))
    journal.writer.commit(Group(settlements=[failed(1, "a", "b\udc80d" + "x" * 5000), delivered(2, "a")]))
    (row,) = journal.reader.rows(Selection(), 10)
    assert row.last_error.startswith("b\\udc80dxxx")
    assert len(row.last_error) <= 1010


# --- conflicts --------------------------------------------------------------------------------------------------------


def test_the_same_uid_with_other_bytes_is_flagged(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a", sop_instance_uid="1.2.3", checksum=1)]))
    same = journal.writer.commit(Group([image(2, "a", sop_instance_uid="1.2.3", checksum=1, size=1001)]))
    other = journal.writer.commit(Group([image(3, "a", sop_instance_uid="1.2.3", checksum=2, size=1001)]))
    assert (same.conflicts, other.conflicts) == ([], [3])
    assert journal.ids("a") == [1, 2, 3]


def test_conflicts_within_one_group_flag_the_later(journal: Journal) -> None:
    done = journal.writer.commit(
        Group([image(1, "a", sop_instance_uid="1.2.3"), image(2, "a", sop_instance_uid="1.2.3"), image(3, "a")])
    )
    assert done.conflicts == [2]


def test_conflicts_are_found_when_groups_commit_out_of_order(journal: Journal) -> None:
    journal.writer.commit(Group([image(5, "a", sop_instance_uid="1.2.3")]))
    assert journal.writer.commit(Group([image(4, "a", sop_instance_uid="1.2.3")])).conflicts == [4]


# --- recovery and pruning ---------------------------------------------------------------------------------------------


def test_unreleased_images_by_id(journal: Journal) -> None:
    images = [image(1, "a"), image(2, "a"), image(3, hold_reason="no route"), image(4, "a", "b"), image(5, "a")]
    journal.writer.commit(Group(images))
    settlements = [delivered(1, "a"), delivered(2, "a"), failed(4, "a")]
    journal.writer.commit(Group(settlements=settlements, released=[1]))
    rows = journal.writer.unreleased(0, 3)
    assert [(row.id, row.path, row.length) for row in rows] == [(n, path_of(n), 1400 + n) for n in (2, 3, 4)]
    assert [(row.pending, row.failed, row.held) for row in rows] == [
        (False, False, False),
        (False, False, True),
        (True, True, False),
    ]
    assert [row.id for row in journal.writer.unreleased(4, 3)] == [5]


def test_was_admitted(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a")]))
    journal.writer.commit(Group(released=[1]))
    assert journal.writer.was_admitted(1, image(1).checksum)
    assert not journal.writer.was_admitted(1, 5)
    assert not journal.writer.was_admitted(2, image(1).checksum)


def test_pruning_forgets_what_is_over_and_nothing_else(journal: Journal) -> None:
    images = [image(n, "a") for n in range(1, 7)] + [image(7, hold_reason="no route"), image(50, "a")]
    journal.writer.commit(Group(images))
    journal.writer.commit(Group(settlements=[failed(2, "a"), *(delivered(n, "a") for n in (1, 3, 4, 5, 50))]))
    journal.writer.commit(Group(released=[1, 3, 5, 50]))
    before = journal.reader.counts()
    assert journal.writer.prune(T0 + 40, 2) == 2
    assert journal.writer.prune(T0 + 40, 2) == 1
    assert journal.writer.prune(T0 + 40, 2) == 0
    gone = [n for n in (1, 2, 3, 4, 5, 6, 7, 50) if journal.reader.instance(n) is None]
    assert gone == [1, 3, 5]
    assert journal.reader.counts() == before


def test_ids_never_return_after_pruning(journal: Journal) -> None:
    assert journal.writer.last_id() == 0
    journal.writer.commit(Group([image(1, "a"), image(9, "a")]))
    journal.writer.commit(Group(settlements=[delivered(1, "a"), delivered(9, "a")], released=[1, 9]))
    assert journal.writer.last_id() == 9
    assert journal.writer.prune(NOW, 100) == 2
    journal.reopen()
    assert journal.writer.last_id() == 9


def test_totals_survive_pruning_and_restart(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a")]))
    journal.writer.commit(Group(settlements=[delivered(1, "a", 0xB007)]))
    journal.writer.commit(Group(released=[1]))
    journal.writer.prune(NOW, 100)
    journal.reopen()
    totals = (journal.reader.counts()).totals
    assert totals == {"received": 1, "delivered": 1, "discarded": 0, "warned": 1}


# --- threads and ends -------------------------------------------------------------------------------------------------


def test_two_committing_threads_at_once(journal: Journal) -> None:
    problems: list[BaseException] = []

    def commit_many(first: int) -> None:
        try:
            for n in range(first, first + 300, 3):
                journal.writer.commit(Group([image(k, f"d{k % 7}") for k in range(n, n + 3)]))
                journal.writer.commit(Group(settlements=[delivered(k, f"d{k % 7}") for k in range(n, n + 3)]))
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=commit_many, args=(first,)) for first in (1000, 2000)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        journal.reader.counts()
    assert problems == []
    counts = journal.reader.counts()
    assert (counts.totals["received"], counts.totals["delivered"], counts.open) == (600, 600, {})


def test_closing_is_idempotent_and_ends_writing(journal: Journal) -> None:
    journal.writer.close()
    journal.writer.close()
    with pytest.raises(StorageFault):
        journal.writer.commit(Group([image(1, "a")]))
