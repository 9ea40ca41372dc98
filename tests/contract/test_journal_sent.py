"""What every journal promises about deliveries that a transform has made something else of."""

from __future__ import annotations

import json

from asyncroute.core.model import Sent, Settlement
from asyncroute.core.proof import Ask, Asked, ProofAction
from asyncroute.core.states import DeliveryState as S
from asyncroute.journal.base import Group
from tests.contract.journals import NOW, Journal
from tests.contract.made import CT, delivered, image

CHANGES = json.dumps([["PatientID", "1", "X-1", "site-a, step 1 (prefix)"]])


def sent(number: int, **more: str) -> Sent:
    return Sent("site-a", CT, f"2.25.{number}", "2.25.7", "2.25.8", CHANGES)._replace(**more)


def changed(instance_id: int, destination: str = "a", **more: str) -> Settlement:
    return delivered(instance_id, destination)._replace(sent=sent(instance_id, **more), unproven=destination == "a")


def told(journal: Journal, instance_id: int) -> dict[str, Sent | None]:
    (story,) = journal.reader.tell(lambda stories: stories.images([instance_id]))
    return {it.destination: it.sent for it in story.deliveries}


def test_what_was_sent_is_told_for_each_destination(journal: Journal) -> None:
    journal.writer.commit(Group([image(n, "a", "b", "c") for n in (1, 2)]))
    results = [changed(1), changed(1, "b", transform="other", changes="[]"), delivered(1, "c"), changed(2)]
    journal.writer.commit(Group(settlements=results))
    assert told(journal, 1) == {"a": sent(1), "b": sent(1, transform="other", changes="[]"), "c": None}
    assert told(journal, 2) == {"a": sent(2), "b": None, "c": None}


def test_text_that_no_database_takes_is_told_escaped(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a")]))
    odd = json.dumps([["PatientID", "\udc80\0", None, "x"]], ensure_ascii=False)
    journal.writer.commit(Group(settlements=[changed(1, changes=odd)]))
    found = told(journal, 1)["a"]
    assert found is not None
    assert "udc80" in found.changes


def test_what_is_sent_again_as_it_came_is_told_so(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a", "b")]))
    failed = Settlement(1, "a", S.FAILED, 1, NOW, 0x0122, "no", sent=sent(1))
    journal.writer.commit(Group(settlements=[failed, changed(1, "b")]))
    assert told(journal, 1) == {"a": sent(1), "b": sent(1)}
    again = Settlement(1, "a", S.READY, 1, NOW, None, "later")
    journal.writer.commit(Group(settlements=[again, changed(1, "b")]))
    assert told(journal, 1)["a"] == sent(1)  # not sent since then
    journal.writer.commit(Group(settlements=[delivered(1, "a")]))
    assert told(journal, 1) == {"a": None, "b": sent(1)}


def test_proof_is_of_what_was_sent(journal: Journal) -> None:
    journal.writer.commit(Group([image(n, "a") for n in (1, 2)]))
    plain = delivered(2, "a")._replace(unproven=True)
    journal.writer.commit(Group(settlements=[changed(1), plain]))
    one, two = journal.proofs(lambda proofs: proofs.waiting("a", 10))
    assert one[1:5] == (CT, "2.25.1", "2.25.7", "2.25.8")
    assert two.sop_instance_uid == image(2, "a").sop_instance_uid
    actions: list[ProofAction] = [Ask("2.25.9", "a", [1, 2], NOW + 60), Asked("2.25.9", NOW + 60)]
    journal.writer.commit(Group(actions=actions, at=NOW))
    inquiry = journal.proofs(lambda proofs: proofs.inquiry("2.25.9"))
    assert inquiry is not None
    assert [it.sop_instance_uid for it in inquiry.images] == ["2.25.1", two.sop_instance_uid]


def test_results_of_deliveries_that_are_gone_are_no_trouble(journal: Journal) -> None:
    journal.writer.commit(Group([image(1, "a")]))
    journal.writer.commit(Group(settlements=[changed(99), changed(1)]))
    assert told(journal, 1) == {"a": sent(1)}
