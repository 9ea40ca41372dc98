"""What every journal remembers of an image, for people (journal.base.Stories)."""

from __future__ import annotations

import pytest

from asyncroute.core.model import RouteHit, Selection, Settlement
from asyncroute.core.states import DeliveryState as S
from asyncroute.core.told import Part, Remembered
from asyncroute.journal import story
from asyncroute.journal.base import Discard, Event, FileLost, Group, ImageStory, Reroute, Retry
from tests.contract.journals import NOW, Journal
from tests.contract.made import T0, delivered, failed, image, retried


def told(journal: Journal, *ids: int) -> list[ImageStory]:
    return journal.reader.tell(lambda stories: stories.images(ids))


def kinds(journal: Journal, instance_id: int) -> list[tuple[str, str | None]]:
    (it,) = told(journal, instance_id)
    return [(event.kind, event.destination) for event in it.events]


# --- one image --------------------------------------------------------------------------------------------------------


def test_an_image_is_told_whole(journal: Journal) -> None:
    sent = image(7, "b", "a", series_uid="1.5", patient_id="Mül^ler", accession="A1", modality="CT")
    journal.writer.commit(Group([sent], at=T0 + 8))
    wait = Settlement(7, "a", S.READY, 1, T0 + 9, 0xA900, "0xA900: no", NOW + 60)
    event = Event(T0 + 9, "retry", "0xA900: no", 7, "a")
    journal.writer.commit(Group(settlements=[delivered(7, "b"), wait], events=[event]))
    (it,) = told(journal, 7)
    assert (it.source, it.sop_instance_uid, it.received_at) == (sent.source, sent.sop_instance_uid, T0 + 7)
    assert (it.size, it.checksum, it.patient_id, it.accession, it.modality) == (
        1007,
        sent.checksum,
        "Mül^ler",
        "A1",
        "CT",
    )
    assert (it.study_uid, it.series_uid, it.sop_class_uid) == (sent.study_uid, "1.5", sent.sop_class_uid)
    assert (it.transfer_syntax, it.hold_reason, it.in_spool) == (sent.transfer_syntax, None, True)
    a, b = it.deliveries
    assert (a.destination, a.route, a.state, a.attempts, a.not_before) == ("a", "all", S.READY, 1, NOW + 60)
    assert (a.last_status, a.last_error) == (0xA900, "0xA900: no")
    assert (a.queued_at, a.first_try_at, a.settled_at) == (T0 + 8, T0 + 9, None)
    assert (b.destination, b.state, b.first_try_at, b.settled_at) == ("b", S.DELIVERED, T0 + 1000, T0 + 1000)
    assert it.events == [event]


def test_images_come_in_the_order_asked_and_only_those_that_there_are(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a"), image(2, "a")]))
    assert [it.id for it in told(journal, 2, 9, 1)] == [2, 1]
    assert told(journal) == []


def test_an_image_received_again_is_found_each_time(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a"), image(2, "a"), image(3, "a", sop_instance_uid="1.2.3.4.1")]))
    assert journal.reader.tell(lambda it: it.copies("1.2.3.4.1")) == [1, 3]
    assert journal.reader.tell(lambda it: it.copies("1.2.3.4")) == []
    assert kinds(journal, 3) == [("conflict", None)]


# --- what a person did, and what befell an image ----------------------------------------------------------------------


def test_a_persons_words_are_remembered(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a", "b"), image(2, hold_reason="no route"), image(3, hold_reason="none")]))
    journal.writer.commit(Group(settlements=[failed(1, "a"), failed(1, "b")]))
    one = Selection(instance_ids=[1])
    journal.writer.commit(Group(actions=[Retry(Selection(destination="a"))], at=NOW))
    journal.writer.commit(Group(actions=[Discard(one)], at=NOW + 1))
    journal.writer.commit(Group(actions=[Reroute(2, (RouteHit("new", "a"),)), Discard(Selection(), held=True)], at=NOW))
    first, second, third = told(journal, 1, 2, 3)
    assert [(e.at, e.kind, e.destination) for e in first.events] == [
        (NOW, "retried", "a"),
        (NOW + 1, "discarded", "b"),
    ]
    (routed,), (gone,) = second.events, third.events
    assert (routed.kind, "no route" in routed.text, second.hold_reason) == ("routed", True, None)
    assert (gone.kind, "held until then: none" in gone.text, third.hold_reason) == ("discarded", True, None)


def test_words_that_touch_nothing_are_not(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a"), image(2, hold_reason="no route")]))
    journal.writer.commit(Group(actions=[Retry(Selection()), Discard(Selection()), Reroute(1, ()), Reroute(2, ())]))
    assert kinds(journal, 1) == kinds(journal, 2) == []


def test_a_lost_file_is_remembered(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a")]))
    journal.writer.commit(Group(actions=[FileLost(1, "spool file missing", NOW)]))
    assert kinds(journal, 1) == [("file-lost", None)]


def test_what_is_tried_for_ever_has_its_last_hundred_events(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a", "b")]))
    other = Event(T0, "retry", "the other", 1, "b")
    journal.writer.commit(Group(events=[other, *(Event(T0 + n, "retry", str(n), 1, "a") for n in range(250))]))
    (it,) = told(journal, 1)
    assert [e.text for e in it.events] == ["the other", *map(str, range(150, 250))]


def test_a_destinations_troubles(journal: Journal) -> None:
    events = [
        Event(T0 + 1, "down", "early", None, "a"),
        Event(T0 + 10, "down", "refused", None, "a"),
        Event(T0 + 11, "retry", "an image's", 1, "a"),
        Event(T0 + 12, "up", "answers", None, "a"),
        Event(T0 + 13, "down", "another's", None, "b"),
    ]
    journal.writer.commit(Group(events=events))
    found = journal.reader.tell(lambda it: it.troubles(["a"], T0 + 5, T0 + 20, 10))
    assert found == [events[1], events[3]]
    assert journal.reader.tell(lambda it: it.troubles(["a"], T0 + 5, T0 + 20, 1)) == [events[3]]


# --- all images of a name ---------------------------------------------------------------------------------------------


def test_studies_and_accession_numbers_are_found(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story, "STRETCH", 3)
    images = [image(n, "a", study_uid=f"1.{n % 2}", accession=f"A{n % 3}") for n in (1, 2, 3, 4, 50, 51, 900)]
    journal.writer.commit(Group(images))
    assert journal.reader.tell(lambda it: it.belonging("1.1")) == [1, 3, 51]
    assert journal.reader.tell(lambda it: it.belonging("A0")) == [3, 51, 900]
    assert journal.reader.tell(lambda it: it.belonging("nothing")) == []


def test_a_study_in_figures(journal: Journal) -> None:
    images = [image(1, "a", "b"), image(2, "a"), image(3, hold_reason="no route"), image(4, "a", accession="X")]
    journal.writer.commit(Group(images))
    journal.writer.commit(Group(settlements=[delivered(1, "a"), delivered(2, "a"), failed(4, "a")]))
    ids = [1, 2, 3, 4]
    assert journal.reader.tell(lambda it: it.tallies(ids)) == [
        ("a", S.DELIVERED, 2),
        ("a", S.FAILED, 1),
        ("b", S.READY, 1),
    ]
    assert journal.reader.tell(lambda it: it.parts(ids)) == [
        Part("1.2.3.4", "", "", "CT_A", 3, 3006, 1, T0 + 1, T0 + 3),
        Part("1.2.3.4", "X", "", "CT_A", 1, 1004, 0, T0 + 4, T0 + 4),
    ]


def test_what_is_not_plainly_delivered_comes_worst_first(journal: Journal) -> None:
    numbers = range(1, 10)
    journal.writer.commit(Group([*(image(n, "a") for n in numbers), image(10, hold_reason="no route"), image(11)]))
    settled = [delivered(1, "a"), delivered(2, "a"), delivered(3, "a", 0xB000), failed(5, "a"), retried(6, "a", NOW)]
    late = [Settlement(n, "a", S.DELIVERED, 2, NOW, 0) for n in (7,)]
    done = [delivered(n, "a") for n in (8, 9)]
    journal.writer.commit(Group(settlements=[*settled, *late, *done], events=[Event(NOW, "attempt", "odd", 8, "a")]))
    ids = [*numbers, 10, 11]
    assert journal.reader.tell(lambda it: it.remarkable(ids)) == [5, 10, 4, 6, 3, 7, 8, 11]


def test_how_far_back_it_remembers(journal: Journal) -> None:
    assert journal.reader.tell(lambda it: it.memory()) == Remembered(0, 0, False, None)
    journal.writer.commit(Group([image(n, "a") for n in (1, 2, 3, 4)]))
    assert journal.reader.tell(lambda it: it.memory()) == Remembered(4, 4, False, T0 + 1)
    journal.writer.commit(Group(settlements=[delivered(n, "a") for n in (2, 3)]))
    journal.writer.commit(Group(released=[2, 3]))
    assert journal.writer.prune(T0 + 3) == 1
    assert journal.reader.tell(lambda it: it.memory()) == Remembered(3, 4, True, T0 + 3)


def test_a_study_is_known_for_longer_than_its_images(journal: Journal) -> None:
    journal.writer.commit(Group([image(1), image(2)]))
    journal.writer.commit(Group(released=[1, 2]))
    assert journal.writer.prune(T0 + 2) == 1
    assert journal.reader.tell(lambda it: it.sources("1.2.3.4")) == [("CT_A", 2, T0 + 1, T0 + 2)]
    assert journal.reader.tell(lambda it: it.sources("1.2.3.5")) == []
