"""What every journal promises: admission, claims, settlements, counts (journal.base.Writer and Reader)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from asyncroute.core.model import RouteHit, Selection, Settlement
from asyncroute.core.states import DeliveryState as S
from asyncroute.journal.base import Group, Retry
from tests.contract.journals import NOW, Journal
from tests.contract.made import T0, delivered, failed, image, path_of, retried

FAR = 30 * 86400.0


# --- admission and claims ---------------------------------------------------------------------------------------------


def test_an_admitted_image_is_claimed_with_all_that_a_lane_needs(journal: Journal) -> None:
    sent = image(7, "pacs")
    assert journal.writer.commit(Group([sent])).refused == {}
    (it,) = journal.reader.claim("pacs", 10, NOW, ())
    assert (it.instance_id, it.destination, it.route, it.attempts, it.not_before) == (7, "pacs", "all", 0, 0.0)
    assert (it.calling_aet, it.called_aet, it.listener) == ("CT_A", "ASYNCROUTE", "ROUTER@0.0.0.0:104")
    assert (it.sop_class_uid, it.sop_instance_uid) == (sent.sop_class_uid, sent.sop_instance_uid)
    assert (it.transfer_syntax, it.study_uid) == (sent.transfer_syntax, sent.study_uid)
    assert (it.path, it.data_offset, it.size, it.checksum) == (sent.path, 400, 1007, sent.checksum)
    assert it.queued_at == sent.received_at


def test_instance_comes_back_whole(journal: Journal) -> None:
    sent = image(
        7, "b", "a", series_uid="1.2.3", patient_id="Mül^ler", accession="A1", modality="CT", header=b"\0\xff",
        hold_reason="odd",
    )  # fmt: skip
    journal.writer.commit(Group([sent]))
    found = journal.reader.instance(7)
    assert found is not None
    assert sorted(found.hits, key=lambda hit: hit.destination) == [RouteHit("all", "a"), RouteHit("all", "b")]
    found.hits = sent.hits
    assert found == sent
    assert journal.reader.instance(8) is None


def test_claims_are_oldest_first_and_bounded(journal: Journal) -> None:
    journal.writer.commit(Group([image(n, "pacs") for n in (30, 10, 20, 40)]))
    assert journal.ids("pacs", limit=3) == [10, 20, 30]
    assert journal.ids("pacs", limit=0) == []
    assert journal.ids("unknown") == []


def test_claims_leave_out_what_others_hold(journal: Journal) -> None:
    journal.writer.commit(Group([image(n, "pacs") for n in range(1, 3001)]))
    assert journal.ids("pacs", limit=2, exclude=tuple(range(1, 2999))) == [2999, 3000]
    assert journal.ids("pacs", exclude=tuple(range(1, 3001))) == []


def test_a_destination_sees_only_its_own(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a"), image(2, "b"), image(3, "a", "b")]))
    assert journal.ids("a") == [1, 3]
    assert journal.ids("b") == [2, 3]


def test_two_routes_to_one_destination_make_one_delivery(journal: Journal) -> None:
    twice = image(1, hits=(RouteHit("first", "pacs"), RouteHit("second", "pacs")))
    assert journal.writer.commit(Group([twice])).refused == {}
    (it,) = journal.reader.claim("pacs", 10, NOW, ())
    assert it.route == "first"


def test_a_released_image_is_never_claimed(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "pacs"), image(2, "pacs")]))
    journal.writer.commit(Group(released=[1]))
    assert journal.ids("pacs") == [2]


def test_everything_survives_a_restart(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a", "b"), image(2, hold_reason="no route")]))
    journal.writer.commit(Group(settlements=[delivered(1, "a"), retried(1, "b", NOW + 5)]))
    before = journal.reader.counts()
    journal.reopen()
    assert journal.reader.counts() == before
    assert journal.ids("b", now=NOW + 5) == [1]
    assert journal.writer.commit(Group([image(3, "b")])).refused == {}
    assert journal.ids("b", now=NOW + 5) == [1, 3]


# --- times ------------------------------------------------------------------------------------------------------------


def test_a_retry_is_claimed_when_it_is_due(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "pacs")]))
    journal.writer.commit(Group(settlements=[retried(1, "pacs", NOW + 10, attempts=2)]))
    assert journal.ids("pacs", now=NOW + 9.9) == []
    (it,) = journal.reader.claim("pacs", 1, NOW + 10, ())
    assert (it.attempts, it.not_before) == (2, NOW + 10)


@pytest.mark.parametrize("jump", [-FAR, -10 * 365 * 86400.0])
def test_a_clock_set_back_stalls_nothing(journal: Journal, jump: float) -> None:
    journal.writer.commit(Group([image(1, "pacs")]))
    journal.writer.commit(Group(settlements=[retried(1, "pacs", NOW + 10)]))
    assert journal.ids("pacs", now=NOW + jump) == [1]


def test_next_due(journal: Journal) -> None:
    journal.writer.commit(Group([image(n, "pacs") for n in range(1, 5)]))
    assert journal.reader.next_due("pacs", NOW, ()) is None
    assert journal.reader.next_due("unknown", NOW, ()) is None
    settlements = [retried(1, "pacs", NOW + 30), retried(2, "pacs", NOW + 20), retried(3, "pacs", NOW - 5)]
    journal.writer.commit(Group(settlements=settlements))
    assert journal.reader.next_due("pacs", NOW, ()) == pytest.approx(20)
    assert journal.reader.next_due("pacs", NOW, (2,)) == pytest.approx(30)
    assert journal.reader.next_due("pacs", NOW + 25, ()) == pytest.approx(5)
    assert journal.reader.next_due("pacs", NOW + 30, ()) is None


def test_a_settled_retry_is_no_longer_due(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "pacs")]))
    journal.writer.commit(Group(settlements=[retried(1, "pacs", NOW + 30)]))
    journal.writer.commit(Group(settlements=[delivered(1, "pacs")]))
    assert journal.reader.next_due("pacs", NOW, ()) is None


# --- settlements and releases -----------------------------------------------------------------------------------------


def test_an_image_is_releasable_after_its_last_delivery(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a", "b"), image(2, "a")]))
    assert journal.writer.commit(Group(settlements=[delivered(1, "a")])).releasable == []
    done = journal.writer.commit(Group(settlements=[delivered(1, "b"), delivered(2, "a")]))
    assert sorted(done.releasable) == [(1, path_of(1)), (2, path_of(2))]
    assert journal.writer.commit(Group(released=[1, 2])).releasable == []
    assert journal.writer.unreleased(0, 10) == []


def test_one_group_admits_settles_and_releases(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a"), image(2, "a")]))
    journal.writer.commit(Group(settlements=[delivered(1, "a")]))
    done = journal.writer.commit(Group([image(3, "a")], [delivered(2, "a")], [1]))
    assert done.releasable == [(2, path_of(2))]
    assert [row.id for row in journal.writer.unreleased(0, 10)] == [2, 3]


@pytest.mark.parametrize("open_one", [retried(1, "b", NOW + 1), failed(1, "b")])
def test_an_open_delivery_keeps_the_file(journal: Journal, open_one: Settlement) -> None:
    journal.writer.commit(Group([image(1, "a", "b")]))
    assert journal.writer.commit(Group(settlements=[open_one, delivered(1, "a")])).releasable == []


def test_a_held_image_keeps_its_file(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a", hold_reason="to be looked at")]))
    assert journal.writer.commit(Group(settlements=[delivered(1, "a")])).releasable == []


def test_an_image_owed_to_nobody_is_releasable_at_once(journal: Journal) -> None:
    done = journal.writer.commit(Group([image(1), image(2, hold_reason="no route"), image(3, "a")]))
    assert done.releasable == [(1, path_of(1))]


def test_a_delivery_is_settled_and_counted_once(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a")]))
    journal.writer.commit(Group(settlements=[delivered(1, "a"), delivered(1, "a")]))
    journal.writer.commit(Group(settlements=[delivered(1, "a"), failed(1, "a"), retried(1, "a", 0)]))
    counts = journal.reader.counts()
    assert (counts.totals["delivered"], counts.delivered, counts.open) == (1, {"a": 1}, {})


def test_settling_what_is_not_there_changes_nothing(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a")]))
    done = journal.writer.commit(Group(settlements=[delivered(9, "a"), delivered(1, "unknown")], released=[77]))
    assert (done.releasable, done.refused) == ([], {})
    assert journal.ids("a") == [1]


# --- counts and lists -------------------------------------------------------------------------------------------------


def test_counts(journal: Journal) -> None:
    images = [image(1, "a", "b"), image(2, "a"), image(3, "b"), image(4, hold_reason="no route"), image(5, "b")]
    journal.writer.commit(Group(images))
    journal.writer.commit(Group(settlements=[delivered(1, "a"), delivered(3, "b", 0xB000), failed(2, "a")]))
    counts = journal.reader.counts()
    assert counts.open == {"a": {S.FAILED: 1}, "b": {S.READY: 2}}
    assert counts.backlog_bytes == {"b": 1001 + 1005}
    assert counts.oldest == {"b": T0 + 1}
    assert counts.held == 1
    assert counts.totals == {"received": 5, "delivered": 2, "discarded": 0, "warned": 1}
    assert counts.delivered == {"a": 1, "b": 1}


def test_counts_of_an_empty_journal(journal: Journal) -> None:
    counts = journal.reader.counts()
    assert (counts.open, counts.held, counts.delivered) == ({}, 0, {})
    assert counts.totals == {"received": 0, "delivered": 0, "discarded": 0, "warned": 0}


def test_rows_tell_each_open_delivery(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a", "b", accession="X", patient_id="P", modality="MR"), image(2, "a")]))
    journal.writer.commit(Group(settlements=[failed(1, "b", "refused"), delivered(2, "a")]))
    first, second = journal.reader.rows(Selection(), 10)
    assert (first.instance_id, first.destination, first.state, first.attempts) == (1, "a", "ready", 0)
    assert (first.last_status, first.last_error, first.queued_at) == (None, "", T0 + 1)
    assert (second.instance_id, second.destination, second.state, second.attempts) == (1, "b", "failed", 3)
    assert (second.last_status, second.last_error, second.route) == (0xA900, "refused", "all")
    assert (second.calling_aet, second.sop_instance_uid, second.study_uid) == ("CT_A", "1.2.3.4.1", "1.2.3.4")
    assert (second.accession, second.patient_id, second.modality, second.size) == ("X", "P", "MR", 1001)


def test_rows_of_held_images(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a"), image(2, hold_reason="no route"), image(3, hold_reason="why not")]))
    rows = journal.reader.rows(Selection(), 10, held=True)
    assert [(row.instance_id, row.state, row.destination, row.last_error) for row in rows] == [
        (2, "held", "", "no route"),
        (3, "held", "", "why not"),
    ]
    assert journal.reader.rows(Selection(instance_ids=[3, 1]), 10, held=True) == rows[1:]


SELECTIONS = [
    (Selection(), [(1, "a"), (1, "b"), (2, "a"), (3, "b")]),
    (Selection(states=(S.FAILED,)), [(1, "b")]),
    (Selection(states=(S.DELIVERED,)), []),
    (Selection(destination="a"), [(1, "a"), (2, "a")]),
    (Selection(destination="nowhere"), []),
    (Selection(sop_instance_uid="1.2.3.4.3"), [(3, "b")]),
    (Selection(study_uid="9.9"), [(3, "b")]),
    (Selection(accession="X"), [(2, "a")]),
    (Selection(instance_ids=(3, 2, 99)), [(2, "a"), (3, "b")]),
    (Selection(instance_ids=()), []),
    (Selection(destination="b", instance_ids=(1, 2)), [(1, "b")]),
    (Selection(sop_instance_uid="' OR 1=1 --"), []),
    (Selection(destination="\ud800"), []),
]


@pytest.mark.parametrize(("selection", "expected"), SELECTIONS, ids=lambda it: repr(it)[:60])
def test_selections(journal: Journal, selection: Selection, expected: list[tuple[int, str]]) -> None:
    images = [image(1, "a", "b"), image(2, "a", accession="X"), image(3, "b", study_uid="9.9"), image(4, "a")]
    journal.writer.commit(Group(images))
    journal.writer.commit(Group(settlements=[failed(1, "b"), delivered(4, "a")]))
    rows = journal.reader.rows(selection, 10)
    assert [(row.instance_id, row.destination) for row in rows] == expected
    if not selection.states:
        retry = Retry(replace(selection, states=(S.FAILED, S.READY)))
        assert journal.writer.commit(Group(actions=[retry])).acted == [len(expected)]


def test_rows_are_oldest_first_and_bounded(journal: Journal) -> None:
    journal.writer.commit(Group([image(n, "b", "a") for n in (3, 1, 2)]))
    rows = journal.reader.rows(Selection(), 4)
    assert [row.instance_id for row in rows] == [1, 1, 2, 2]
