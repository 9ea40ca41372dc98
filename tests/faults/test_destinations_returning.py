"""Many destinations that return at once, and how they share the associations that there are (``max_outbound``)."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

import pytest

from tests.support import procfs, settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.deliveries import attempts
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_exactly
from tests.support.exact_sender import Caller, send_all
from tests.support.fixtures import MakeRouter
from tests.support.ports import BlackHole
from tests.support.router import Router
from tests.support.waiting import wait_until

MEMORY = 200 * procfs.MIB
ANSWERS_WITHIN = 10.0
"""Seconds that a C-ECHO to the router may take on a busy machine."""


@dataclass
class Echoes:
    """Asks the router for a C-ECHO again and again while the context lasts; ``seconds``: how long each took."""

    caller: Caller
    seconds: list[float] = field(default_factory=list)

    def __enter__(self) -> Echoes:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def _run(self) -> None:
        while not self._over.wait(0.05):
            begun = time.monotonic()
            with self.caller.associate() as association:
                assert association.echo() == 0
            self.seconds.append(time.monotonic() - begun)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()


@dataclass(frozen=True)
class Plan:
    """So many destinations with so many images each, and the associations in all."""

    destinations: int
    images: int
    max_outbound: int


SHORT, LONG = Plan(20, 20, 6), Plan(20, 2000, 6)


def names_of(plan: Plan) -> list[str]:
    return [f"end{n:02}" for n in range(plan.destinations)]


def busy(router: Router, seen: list[int]) -> int:
    """Associations to destinations at this moment, kept in ``seen``; returns what is owed."""
    status = router.status()
    seen.append(len(status["associations"]["outbound"]))
    return int(status["totals"]["waiting"])


def open_at_once(ends: Sequence[ExactReceiver]) -> int:
    """The most associations that all ``ends`` together had open at a time."""
    steps = []
    for end in ends:
        opened = set()
        for event in end.events():
            if event.kind == "open":
                opened.add(event.association)
                steps.append((event.at, 1))
            elif event.association in opened and event.kind != "echo":
                steps.append((event.at, -1))
    now = most = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most


@pytest.mark.timeout(600)
@pytest.mark.parametrize("plan", [SHORT, pytest.param(LONG, marks=pytest.mark.long)], ids=["short", "2000-each"])
def test_twenty_return_at_once(make_router: MakeRouter, receivers: ReceiverHost, plan: Plan) -> None:
    ends = [receivers.receiver(Behaviour(delay=0.01), start=False) for _ in range(plan.destinations)]
    names = names_of(plan)
    router = make_router(
        node=settings.node(max_outbound=plan.max_outbound),
        destination=[settings.dicom(name, end.port, max_associations=2) for name, end in zip(names, ends, strict=True)],
        route=[settings.route("all", names)],
    ).start()
    images = send_all(router.caller("OLDEST"), [synthetic.image("oldest", 0)])
    images += send_all(router.caller("LATER"), synthetic.series("later", plan.images - 1), associations=4)
    router.wait_status(
        lambda s: all(channel["state"] == "down" for channel in s["channels"]), 60, "all destinations count as down"
    )
    assert router.status()["totals"]["waiting"] == plan.destinations * plan.images
    seen: list[int] = []
    with Echoes(router.caller("ECHO")) as echoes:
        returned = time.monotonic()
        for end in ends:
            end.start()
        wait_until(lambda: not busy(router, seen), 400, "nothing is owed", router.status, every=0.05)
    firsts = [end.stored()[0].at - returned for end in ends]
    last = max(end.stored()[-1].at for end in ends) - returned
    together = open_at_once(ends)
    print(
        f"{plan.destinations} destinations with {plan.images} images each return at once: first image of the quickest "
        f"after {min(firsts):.1f} s, of the slowest after {max(firsts):.1f} s, everything after {last:.1f} s; at most "
        f"{max(seen)} associations in status, {together} seen by the destinations, {plan.max_outbound} allowed; "
        f"slowest of {len(echoes.seconds)} echoes {max(echoes.seconds):.3f} s; memory "
        f"{procfs.memory(router.pid) / procfs.MIB:.0f} MiB"
    )
    for name, end in zip(names, ends, strict=True):
        assert_exactly(end, images)
        assert end.events("echo")[0].detail == "OLDEST", "probed under the oldest image's title"
        assert end.events("echo")[0].at < end.stored()[0].at
        assert end.stored()[0].sop_instance == images[0].sop_instance, "the oldest first"
        assert end.tally().most_at_once <= 2
        assert router.channel(name)["failed"] == 0
    router.wait_drained()
    assert attempts(router, names[0]) == {1: plan.images}
    assert max(seen) <= plan.max_outbound
    assert together <= 2 * plan.max_outbound, "those being released are soon gone"
    assert max(firsts) < min(20.0, last + 1), "nobody waits until others are through"
    assert max(echoes.seconds) < ANSWERS_WITHIN
    assert procfs.memory(router.pid) < MEMORY
    router.stop()


def test_those_with_much_to_send_take_turns(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    """Four busy destinations share two associations, and a black hole takes its turn, too: each has had its first image
    before anyone has its last."""
    ends = [receivers.receiver(Behaviour(delay=0.04)) for _ in range(4)]
    with BlackHole() as hole:
        router = make_router(
            node=settings.node(max_outbound=2),
            destination=[
                settings.dicom("hole", hole.port, connect_timeout="1s"),
                *(settings.dicom(f"end{n}", end.port) for n, end in enumerate(ends)),
            ],
            route=[settings.route("all", ["hole", *(f"end{n}" for n in range(4))])],
        ).start()
        images = send_all(router.caller(), synthetic.series("turns", 60), associations=2)
        router.wait_delivered(len(images) * len(ends))
        router.stop()
    for end in ends:
        assert_exactly(end, images)
    firsts = [end.stored()[0].at for end in ends]
    lasts = [end.stored()[-1].at for end in ends]
    begun = min(firsts)
    first, last = (", ".join(f"{at - begun:.1f}" for at in times) for times in (firsts, lasts))
    print(
        f"{len(ends)} destinations, 2 associations: first images after {first} s, last ones after {last} s, "
        f"associations {[end.tally().associations for end in ends]}"
    )
    assert max(firsts) < min(lasts)
    assert max(end.tally().associations for end in ends) < len(images) / 4, "turns, not an association for each image"


def test_one_alone_does_not_make_room_for_itself(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    """It would like more associations than there are: those that it has go on."""
    end = receivers.receiver(Behaviour(delay=0.01))
    router = make_router(
        node=settings.node(max_outbound=3),
        destination=[settings.dicom("end", end.port, max_associations=10)],
        route=[settings.route("all", ["end"])],
    ).start()
    images = send_all(router.caller(), synthetic.series("alone", 120), associations=4)
    router.wait_delivered(len(images))
    assert_exactly(end, images)
    tally = end.tally()
    assert (tally.most_at_once, tally.associations) == (3, 3)
