"""Every way in which a destination can answer, and what becomes of the image: the outcome table of the design.

One router has a destination for each case; a caller of the same name as the case sends to it alone, so that all cases
run side by side, none in the way of another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support import settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_exactly
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.ports import BlackHole, free_port
from tests.support.router import Router, owed, run_cli
from tests.support.waiting import stays, wait_until

DELIVERED, FAILED, KEPT, LATER = "delivered", "failed", "kept", "later"
ONE_MEGABYTE = 1_000_000
QUICK = {"response_timeout": "1s", "connect_timeout": "1s", "max_associations": 1}


@dataclass
class Case:
    """A destination's conduct, and what must become of the one image sent to it.

    ``outcome``: DELIVERED at once; FAILED: a dead letter; KEPT: owed, with its error shown, for as long as one looks;
    LATER: delivered after the trouble is over, never a dead letter. ``error``: what ``last_error`` says.
    ``tries``: how many C-STOREs (or, when there are none, connections) there may be.
    """

    name: str
    outcome: str
    behaviour: Behaviour | None = field(default_factory=Behaviour)
    error: str = ""
    tries: int | None = None
    size: int = 20_000
    more: dict[str, Any] = field(default_factory=dict)


def status(code: int, outcome: str, tries: int, **more: Any) -> Case:
    name = f"S{code:04X}" + ("O" if more else "")
    shown = "" if outcome == DELIVERED else f"0x{code:04X}"
    return Case(name, outcome, Behaviour(status=code, comment="so it is"), shown, tries, more=more)


def trouble(name: str, times: int = 2, **conduct: Any) -> Case:
    """A case whose trouble ends after ``times`` associations."""
    return Case(name, LATER, Behaviour(trouble_first=times, **conduct), size=ONE_MEGABYTE)


CASES = [
    *[status(code, DELIVERED, 1) for code in (0x0000, 0x0001, 0x0107, 0x0116, 0x0111, 0xB000, 0xB006, 0xB007)],
    *[status(code, FAILED, 1) for code in (0x0122, 0x0112, 0x0117, 0x0118, 0x0119, 0x0124, 0x0211, 0x0212)],
    *[status(code, FAILED, 5) for code in (0x0110, 0x0210)],
    *[status(code, KEPT, 1) for code in (0xA900, 0xA9FF, 0xC000, 0xC211, 0xFE00, 0x0105, 0x1234)],
    status(0xA900, FAILED, 1, outcomes={"A900": "fail"}),
    status(0xC000, FAILED, 5, outcomes={"Cxxx": "retry"}),
    status(0x0122, DELIVERED, 1, outcomes={"0122": "deliver"}),
    status(0x0110, FAILED, 2, retry={**settings.QUICK_RETRY, "attempts": 2}),
    Case("PAUSE_A700", LATER, Behaviour(statuses=[0xA700])),
    Case("PAUSE_A7FF", LATER, Behaviour(statuses=[0xA7FF, 0xA701])),
    Case("PAUSE_0213", LATER, Behaviour(statuses=[0x0213])),
    Case("RETRY_0110", LATER, Behaviour(statuses=[0x0110, 0x0110, 0x0110])),
    *[trouble(f"RJ2{s}{r}", reject=(2, s, r)) for s, r in ((1, 1), (2, 1), (3, 1), (3, 2))],
    *[
        Case(f"RJ1{s}{r}", KEPT, Behaviour(reject=(1, s, r)), f"1/{s}/{r}", 1)
        for s, r in ((1, 1), (1, 2), (1, 3), (1, 7), (2, 1), (2, 2))
    ],
    trouble("AC_ABORT", with_ac="abort"),
    trouble("AC_RELEASE", with_ac="release"),
    trouble("AC_HALF", times=1, with_ac="half"),
    trouble("MID_ABORT", abort_after=300_000),
    trouble("MID_RESET", reset_after=300_000),
    trouble("CLOSES", close_at_connect=True),
    trouble("NO_AC", times=1, mute="association"),
    trouble("NO_ANSWER", times=1, mute="store"),
    Case("NEVER_READS", LATER, Behaviour(mute="read", trouble_first=1), size=12_000_000),
    Case("TINY_PDUS", DELIVERED, Behaviour(max_pdu=1024), tries=1),
    Case("ANY_PDU", DELIVERED, Behaviour(max_pdu=0), tries=1, size=ONE_MEGABYTE),
    Case("ONE_EACH", DELIVERED, Behaviour(max_images=1), tries=1),
    Case("NO_CONTEXT", FAILED, Behaviour(only_transfer=["1.2.840.10008.1.2.5"]), "context", 0),
    Case("NO_CLASS", FAILED, Behaviour(refuse_classes=[synthetic.CT]), "context", 0),
    Case("REFUSED", KEPT, None, "connect"),
    Case("DNS", KEPT, None, more={"host": "no-such-host.invalid"}),
]
BY_NAME = {case.name: case for case in CASES}


@dataclass
class Field:
    """The router, and the receivers and images by case."""

    router: Router
    ends: dict[str, ExactReceiver]
    images: dict[str, Image]

    def channel(self, name: str) -> dict[str, Any]:
        """The channel of a case."""
        return self.router.channel(name)

    def tries(self, name: str) -> int:
        """C-STOREs seen, or connections where there were none."""
        tally = self.ends[name].tally()
        return tally.stored or tally.rejected


@pytest.fixture(scope="module")
def field_(make_module_router: MakeRouter, receivers: ReceiverHost) -> Field:
    ends = {case.name: receivers.receiver(case.behaviour) for case in CASES if case.behaviour}
    router = make_module_router(
        destination=[
            settings.dicom(
                case.name, ends[case.name].port if case.name in ends else free_port(), **{**QUICK, **case.more}
            )
            for case in CASES
        ],
        route=[settings.route(case.name, [case.name], match={"calling_aet": case.name}) for case in CASES],
    ).start()
    images = {case.name: synthetic.image(case.name, 0, synthetic.Kind(size=case.size)) for case in CASES}
    for case in CASES:
        send_all(router.caller(case.name), [images[case.name]])
    return Field(router, ends, images)


def of(outcome: str) -> list[str]:
    return [case.name for case in CASES if case.outcome == outcome]


def settled(field_: Field, name: str, what: str) -> dict[str, Any]:
    """Wait until the channel of ``name`` has one delivery in ``what``; nothing may then be owed."""
    field_.router.wait_status(
        lambda status: field_.router.channel(name, status)[what] == 1, 60, f"{name}: one delivery {what}"
    )
    channel = field_.channel(name)
    assert owed(channel) == 0
    return channel


@pytest.mark.parametrize("name", of(DELIVERED))
def test_delivered_at_once(field_: Field, name: str) -> None:
    channel = settled(field_, name, "delivered")
    assert channel["failed"] == 0
    assert field_.tries(name) == BY_NAME[name].tries
    (stored,) = field_.ends[name].stored()
    assert stored.identity == field_.images[name].identity


@pytest.mark.parametrize("name", of(FAILED))
def test_dead_letter(field_: Field, name: str) -> None:
    channel = settled(field_, name, "failed")
    assert channel["delivered"] == 0
    assert BY_NAME[name].error in channel["last_error"]
    assert field_.tries(name) == BY_NAME[name].tries


@pytest.mark.parametrize("name", of(KEPT))
def test_kept_and_shown(field_: Field, name: str) -> None:
    case = BY_NAME[name]
    wait_until(lambda: field_.channel(name)["last_error"], 20, f"{name}: an error is shown")
    channel = field_.channel(name)
    assert (owed(channel), channel["failed"], channel["delivered"]) == (1, 0, 0)
    assert case.error in channel["last_error"]
    if case.tries is not None:
        assert field_.tries(name) == case.tries


def test_what_is_kept_stays_kept(field_: Field) -> None:
    def all_owed() -> bool:
        status = field_.router.status()
        return all(owed(field_.router.channel(name, status)) == 1 for name in of(KEPT))

    stays(all_owed, 2, "every image of a destination that is not to be given up is owed")
    tries = {name: field_.tries(name) for name in of(KEPT) if BY_NAME[name].tries is not None}
    assert tries == {name: BY_NAME[name].tries for name in tries}


@pytest.mark.parametrize("name", of(LATER))
def test_delivered_when_the_trouble_is_over(field_: Field, name: str) -> None:
    channel = settled(field_, name, "delivered")
    assert channel["failed"] == 0
    (last,) = [stored for stored in field_.ends[name].stored() if stored.status == 0][-1:]
    assert last.identity == field_.images[name].identity


def test_status_exits_with_1_while_something_needs_a_person(field_: Field) -> None:
    assert run_cli("status", "-c", field_.router.config_file).returncode == 1


def test_only_that_calling_title_pauses(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    end = receivers.receiver(Behaviour(reject=(1, 1, 3), reject_calling=["BAD"]))
    router = make_router(
        destination=[settings.dicom("end", end.port, max_associations=1)], route=[settings.route("all", ["end"])]
    ).start()
    bad, good = synthetic.series("bad", 5), synthetic.series("good", 20)
    send_all(router.caller("BAD"), bad)
    send_all(router.caller("GOOD"), good)
    router.wait_delivered(20)
    assert_exactly(end, good)
    channel = router.channel("end")
    assert (owed(channel), channel["failed"]) == (5, 0)
    assert "1/1/3" in channel["last_error"]
    assert "BAD" in channel["last_error"]
    assert end.tally().rejected == 1


def test_a_black_hole_starves_nobody(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    end = receivers.receiver()
    with BlackHole() as hole:
        router = make_router(
            destination=[settings.dicom("hole", hole.port, connect_timeout="1s"), settings.dicom("end", end.port)],
            route=[settings.route("all", ["hole", "end"])],
        ).start()
        images = synthetic.mixed("hole", 20)
        send_all(router.caller(), images)
        router.wait_delivered(20)
        wait_until(lambda: router.channel("hole")["last_error"], 20, "the black hole's error is shown")
    assert_exactly(end, images)
    assert owed(router.channel("hole")) == 20
    router.stop()


def trickle(router: Router, seed: str, until: Any) -> list[Image]:
    """Send one good image after the other until ``until()``; returns them."""
    sent: list[Image] = []

    def one_more() -> bool:
        sent.extend(send_all(router.caller(), [synthetic.image(seed, len(sent) + 1)]))
        return bool(until())

    wait_until(one_more, 90, "the bad image is a dead letter", router.status, every=0.2)
    return sent


@pytest.mark.parametrize("kind", ["poison", "no-room"])
def test_an_image_that_fails_while_others_pass_is_a_dead_letter(
    make_router: MakeRouter, receivers: ReceiverHost, kind: str
) -> None:
    bad = synthetic.image(kind, 0)
    poison, no_room = Behaviour(abort_on=[bad.sop_instance]), Behaviour(status_of={bad.sop_instance: 0xA700})
    end = receivers.receiver(poison if kind == "poison" else no_room)
    router = make_router(destination=[settings.dicom("end", end.port)], route=[settings.route("all", ["end"])]).start()
    send_all(router.caller(), [bad])
    good = trickle(router, kind, lambda: router.channel("end")["failed"] == 1)
    router.wait_delivered(len(good))
    assert_exactly(end, good)
    assert owed(router.channel("end")) == 0


def test_not_authorized_for_five_studies_holds_the_destination(
    make_router: MakeRouter, receivers: ReceiverHost
) -> None:
    end = receivers.receiver(Behaviour(status=0x0124))
    router = make_router(
        destination=[settings.dicom("end", end.port, max_associations=1)], route=[settings.route("all", ["end"])]
    ).start()
    healthy = router.channel("end")["state"]
    send_all(router.caller(), [synthetic.image("studies", n, study=n) for n in range(9)])
    router.wait_status(lambda s: s["channels"][0]["failed"] >= 5, 20, "five dead letters")
    stays(lambda: end.tally().stored <= 6, 1, "no more is sent")
    channel = router.channel("end")
    assert owed(channel) >= 3
    assert channel["state"] != healthy


def test_the_breaker_probes_with_an_echo_before_it_sends(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    end = receivers.receiver(Behaviour(close_at_connect=True))
    router = make_router(destination=[settings.dicom("end", end.port)], route=[settings.route("all", ["end"])]).start()
    healthy = router.channel("end")["state"]
    images = synthetic.series("probe", 30)
    send_all(router.caller("PROBER"), images)
    end.wait_events("closed-at-connect", 3)
    assert router.channel("end")["state"] != healthy
    stays(lambda: end.tally().connections < 20, 1, "the pauses are pauses")
    end.set(Behaviour())
    end.wait_stored(30, deadline=60)
    assert_exactly(end, images)
    first_echo = end.events("echo")[0]
    assert first_echo.detail == "PROBER"
    assert first_echo.at < min(stored.at for stored in end.stored())
    router.wait_status(lambda s: s["channels"][0]["state"] == healthy, 10, "the channel is healthy again")
