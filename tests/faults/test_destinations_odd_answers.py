"""Destinations that answer what no honest peer answers: nothing is lost, nobody else is held up, no memory is eaten.

One router sends the same images to a destination for each odd answer, all at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.support import odd_answers, procfs, settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_exactly, received
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.router import Router, owed
from tests.support.waiting import stays, wait_until

QUICK = {"response_timeout": "1s", "connect_timeout": "1s", "association": {"idle_close": "1s"}}
MEMORY = 200 * procfs.MIB

ASSOCIATION = {
    "half header": "no answer to the association request in 1 s",
    "half an AC": "no answer to the association request in 1 s",
    "cut items": "unusable answer to our A-ASSOCIATE-RQ",
    "4 GiB": "PDU type 02H with a length of 4294967295 bytes",
    "unknown type": "unknown PDU type 2AH",
    "data": "unexpected data instead of a response",
    "web page": "unknown PDU type 48H",
    "noise": "unknown PDU type FFH",
}
"""What ``status`` says of an odd answer to our association request. ("no contexts": the image's own failure.)"""

RESPONSES = {
    "half header": "no response within 1 s: one was begun",
    "half a PDU": "no response within 1 s: one was begun",
    "half a command set": "protocol error: command set",
    "wrong message id": "protocol error: a message that answers nothing of ours",
    "other instance": "protocol error: a response for another SOP instance",
    "answer to an echo": "protocol error: a message that answers nothing of ours",
    "a request": "protocol error: a message that answers nothing of ours",
    "no status": "protocol error: a response without a status",
    "a data set": "protocol error: unexpected data instead of a response",
    "pending only": "no response within 1 s",
    "without end": "protocol error: unexpected data instead of a response",
    "empty fragments": "no response within 1 s",
    "4 GiB": "protocol error: P-DATA PDU of 4294967295 bytes",
    "unknown type": "protocol error: unknown PDU type 2AH",
    "an AC": "protocol error: unexpected PDU type 02H",
    "a rejection": "protocol error: unexpected PDU type 03H",
    "noise": "protocol error: unknown PDU type FFH",
}
"""What the dead letter's line in the log says of an odd response."""


@dataclass
class Field:
    """A router, and a destination for each odd answer."""

    router: Router
    ends: dict[str, ExactReceiver]

    def channel(self, case: str, status: dict[str, object] | None = None) -> dict[str, object]:
        return self.router.channel(name_of(case), status)

    def log_lines(self, case: str, words: str) -> list[str]:
        log = self.router.log_file.read_text(errors="replace").splitlines()
        return [line for line in log if f"{name_of(case)}: " in line and words in line]


def name_of(case: str) -> str:
    return case.replace(" ", "-").lower()


def field_of(make_router: MakeRouter, host: ReceiverHost, conduct: dict[str, Behaviour]) -> Field:
    ends = {case: host.receiver(behaviour) for case, behaviour in conduct.items()}
    names = [name_of(case) for case in ends]
    router = make_router(
        destination=[settings.dicom(name_of(case), end.port, **QUICK) for case, end in ends.items()],
        route=[settings.route("all", names)],
    ).start()
    return Field(router, ends)


def test_the_tables_are_complete() -> None:
    assert set(RESPONSES) == set(odd_answers.RESPONSES)
    assert {*ASSOCIATION, "no contexts"} == set(odd_answers.ASSOCIATION)


@pytest.mark.timeout(180)
def test_odd_answers_to_an_image(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    """The image that gets them is tried three times while others pass, and is a dead letter then; the others arrive."""
    bad = synthetic.image("odd", 0)
    conduct = {case: Behaviour(odd_response=case, odd_for=[bad.sop_instance]) for case in RESPONSES}
    field = field_of(make_router, receivers, conduct)
    before = procfs.memory(field.router.pid)
    send_all(field.router.caller(), [bad])
    good: list[Image] = []

    def over() -> bool:
        good.extend(send_all(field.router.caller(), [synthetic.image("odd", len(good) + 1)]))
        status = field.router.status()
        return all(field.channel(case, status)["failed"] == 1 for case in RESPONSES)

    wait_until(over, 120, "a dead letter at each destination", field.router.status, every=0.2)
    field.router.wait_delivered(len(good) * len(RESPONSES))
    tries: dict[str, int] = {}
    for case, end in field.ends.items():
        counted = received(end)
        tries[case] = counted.pop(bad.identity)  # those while nothing else passed are not the image's
        assert all(counted[image.identity] >= 1 for image in good), case
        assert set(counted) == {image.identity for image in good}, case
        (line,) = field.log_lines(case, "is a dead letter")
        assert RESPONSES[case] in line
        assert owed(field.channel(case)) == 0
    grown = procfs.memory(field.router.pid) - before
    assert all(3 <= tried <= 12 for tried in tries.values()), tries
    print(
        f"{len(RESPONSES)} odd responses, {sum(tries.values())} times in all, {len(good)} good images: "
        f"{grown / procfs.MIB:.0f} MiB more memory"
    )
    assert procfs.memory(field.router.pid) < MEMORY
    assert "Traceback" not in field.router.log_file.read_text(errors="replace")
    field.router.wait_quiet()
    field.router.stop()


@pytest.mark.timeout(180)
def test_odd_answers_to_an_association_request(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    """The destination counts as down; when it comes to its senses, everything is delivered."""
    field = field_of(make_router, receivers, {case: Behaviour(odd_ac=case) for case in ASSOCIATION})
    images = send_all(field.router.caller(), synthetic.series("odd-ac", 5))
    for case, words in ASSOCIATION.items():
        wait_until(
            lambda case=case: field.channel(case)["state"] == "down",  # type: ignore[misc]
            60,
            f"{case}: down",
            lambda case=case: field.channel(case),  # type: ignore[misc]
        )
        assert words in str(field.channel(case)["last_error"])
        assert len(field.log_lines(case, "down:")) == 1
    calls = {case: end.tally().connections for case, end in field.ends.items()}
    stays(lambda: all(owed(field.channel(case)) == 5 for case in ASSOCIATION), 1, "nothing is given up", every=0.2)
    more = {case: end.tally().connections - calls[case] for case, end in field.ends.items()}
    assert max(more.values()) <= 10, more  # pauses of 200 ms at least
    assert procfs.memory(field.router.pid) < MEMORY
    for end in field.ends.values():
        end.set(Behaviour())
    field.router.wait_delivered(5 * len(ASSOCIATION))
    for end in field.ends.values():
        assert_exactly(end, images)
    assert all(field.channel(case)["failed"] == 0 for case in ASSOCIATION)
    assert "Traceback" not in field.router.log_file.read_text(errors="replace")


def test_an_acceptance_without_contexts_is_the_image_s_failure(
    make_router: MakeRouter, receivers: ReceiverHost
) -> None:
    field = field_of(make_router, receivers, {"no contexts": Behaviour(odd_ac="no contexts", trouble_first=1)})
    send_all(field.router.caller(), [synthetic.image("no-contexts", 0)])
    field.router.wait_status(lambda s: s["channels"][0]["failed"] == 1, 20, "a dead letter")
    (image,) = send_all(field.router.caller(), [synthetic.image("no-contexts", 1, synthetic.Kind(synthetic.MR))])
    field.router.wait_delivered(1)
    assert_exactly(field.ends["no contexts"], [image])
