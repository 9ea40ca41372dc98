"""The wall clock jumps, by a day, by ten years, ahead and back: the router does not care.

Retries go on with their usual waits (no storm, no stall), images flow, nothing becomes a dead letter of old age.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.support import settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_exactly
from tests.support.exact_sender import send_all
from tests.support.faked_clock import FakedClock
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.router import Router
from tests.support.waiting import wait_until

DAY = 86400.0
YEARS = 3650 * DAY
PROCESSING_FAILURE = 0x0110
TRIES = 5
"""After so many an image with this status is a dead letter."""

LONGEST = 1.0
"""Seconds between two tries at most: every wait is a random part of it."""

NOISE = 20.0
WAITING = 6
RETRY: dict[str, Any] = {"first": f"{LONGEST:g}s", "factor": 1, "max": f"{LONGEST:g}s", "give_up": "1h"}
KIND = synthetic.Kind(size=2_000)


@dataclass
class Bench:
    """Destinations that fail each image (``busy``), refuse connections (``down``), and take all (``good``)."""

    router: Router
    clock: FakedClock
    busy: ExactReceiver
    down: ExactReceiver
    good: ExactReceiver

    @property
    def attempts(self) -> int:
        """Images offered to ``busy``."""
        return self.busy.tally().stored

    def wait_attempts(self, count: int) -> None:
        """Wait until ``busy`` has been offered so many images."""
        wait_until(lambda: self.attempts >= count, 30, f"{count} tries", self.router.log_tail)

    def send(self, seed: str, count: int) -> list[Image]:
        """Images from a caller whose title names the destination."""
        images = synthetic.series(seed, count, KIND)
        return send_all(self.router.caller(seed.partition("/")[0].upper()), images)

    def waits(self) -> list[float]:
        """Seconds between the tries of each image at ``busy``."""
        times = defaultdict(list)
        for stored in self.busy.stored():
            times[stored.sop_instance].append(stored.at)
        return [later - earlier for tries in times.values() for earlier, later in pairwise(tries)]

    def pauses(self) -> list[float]:
        """Seconds between the connections to ``down``, after the breaker has opened."""
        return [later.at - earlier.at for earlier, later in pairwise(self.down.events("connect")[3:])]

    def check_tries(self, count: int) -> None:
        """Each of ``count`` images was tried as often as it should be, and only then given up."""
        self.router.wait_status(
            lambda s: s["totals"]["failed"] >= count, 60, f"{count} dead letters after {TRIES} tries"
        )
        tries: Counter[str] = Counter()
        for stored in self.busy.stored():
            tries[stored.sop_instance] += 1
        assert set(tries.values()) == {TRIES}
        assert len(tries) == count


@pytest.fixture
def bench(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> Bench:
    """A bench whose router has started."""
    busy = receivers.receiver(Behaviour(status=PROCESSING_FAILURE))
    down = receivers.receiver(Behaviour(close_at_connect=True))
    good = receivers.receiver()
    names = {"busy": busy, "down": down, "good": good}
    router = make_router(
        destination=[settings.dicom(name, end.port, retry=RETRY) for name, end in names.items()],
        route=[settings.route(name, [name], match={"calling_aet": name.upper()}) for name in names],
    )
    clock = FakedClock(tmp_path)
    router.start(True, **clock.environment)
    return Bench(router, clock, busy, down, good)


def check_usual(waits: Sequence[float]) -> None:
    """Waits as without any jump: half of the longest on average, none much longer."""
    assert median(waits) > LONGEST / 5, "a storm"
    assert max(waits) < LONGEST + NOISE, "a stall"


def told(waits: Iterable[float]) -> str:
    """Waits in a few words."""
    found = sorted(waits)
    return f"{len(found)} waits of {found[0]:.2f} to {found[-1]:.2f} s, median {median(found):.2f}"


def received_at(router: Router) -> float:
    """The date that the last image bears in the journal."""
    with sqlite3.connect(f"file:{router.data_dir / 'journal.db'}?mode=ro", uri=True) as journal:
        found: float = journal.execute("SELECT received_at FROM instance ORDER BY id DESC LIMIT 1").fetchone()[0]
    journal.close()
    return found


def negative(value: Any, name: str = "") -> list[str]:
    """The names of all ages and durations in a status that are below zero."""
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in negative(inner, key)]
    if isinstance(value, list):
        return [found for inner in value for found in negative(inner, name)]
    return [name] if name.endswith("_s") and value is not None and value < 0 else []


def check_calm(bench: Bench) -> None:
    """Nothing odd in status."""
    status = bench.router.status()
    assert status["totals"]["held"] == 0
    assert not negative(status)
    assert not status["trouble"]


def jumps(count: int) -> list[float]:
    """Where the clock stands after each jump, in seconds ahead of the right time."""
    chance = random.Random(7)
    usual = [DAY, YEARS, 0.0, -DAY, -YEARS]
    return usual + [chance.choice((-1, 1)) * 10 ** chance.uniform(0, 8.5) for _ in range(count - len(usual))]


@pytest.mark.parametrize("count", [5, pytest.param(60, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_jumps_while_it_runs(bench: Bench, count: int) -> None:
    unreached, good, busy = bench.send("down/a", WAITING), [], []
    wait_until(lambda: len(bench.pauses()) >= 2, 30, "the breaker has opened")
    for number, offset in enumerate(jumps(count)):
        busy += bench.send(f"busy/{number}", WAITING)
        bench.clock.jump(offset)
        good += bench.send(f"good/{number}", 2)
        assert received_at(bench.router) == pytest.approx(bench.clock.now(), abs=60), "the clock did not jump"
        bench.good.wait_stored(len(good))
        bench.wait_attempts(2 * len(busy))
        check_calm(bench)
    bench.check_tries(len(busy))
    check_usual(bench.waits())
    check_usual(bench.pauses())
    assert_exactly(bench.good, good)
    print(f"{count} clock jumps: {told(bench.waits())}; connections to a dead peer: {told(bench.pauses())}")
    bench.down.set(Behaviour())
    bench.down.wait_stored(WAITING)
    assert_exactly(bench.down, unreached)


@pytest.mark.parametrize("offset", [-YEARS, pytest.param(YEARS, marks=pytest.mark.long)], ids=["back", "ahead"])
def test_a_jump_between_two_runs(bench: Bench, offset: float) -> None:
    busy, unreached = bench.send("busy/a", WAITING), bench.send("down/a", WAITING)
    bench.wait_attempts(WAITING)
    bench.router.stop()
    bench.clock.jump(offset)
    restarted = len(bench.pauses())
    bench.router.start(True, **bench.clock.environment)
    bench.check_tries(len(busy))
    wait_until(lambda: len(bench.pauses()) >= restarted + 8, 60, "the dead peer is called again")
    check_usual(bench.pauses()[restarted + 4 :])
    check_calm(bench)
    good = bench.send("good/a", 2)
    bench.down.set(Behaviour())
    bench.down.wait_stored(WAITING)
    bench.good.wait_stored(2)
    assert_exactly(bench.good, good)
    assert_exactly(bench.down, unreached)
    print(f"clock jump of {offset / DAY:+.0f} days between two runs: {told(bench.waits())}")


def test_give_up_counts_the_seconds_that_pass(bench: Bench) -> None:
    """The age does not come from the date, and is still an age."""
    bench.router.stop()
    bench.router.config["destination"][0]["retry"] = {"first": "4s", "max": "4s", "give_up": "2500ms"}
    bench.router.write_config()
    bench.clock.jump(-YEARS)
    bench.router.start(True, **bench.clock.environment)
    bench.send("busy/a", WAITING)
    bench.clock.jump(0)
    bench.router.wait_status(lambda s: s["totals"]["failed"] == WAITING, 60, "all are given up in time")
    assert WAITING < bench.attempts < TRIES * WAITING
