"""A router under mixed load with everything that happens around one, measured all the while.

Three destinations: one that comes and goes, a slow one, a folder that somebody empties. Modalities with many titles,
over plain TCP and TLS; bad callers, echoes, status polls, reloads, a person who clears what is held or failed.
"""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncroute.status.client import Client
from tests.support import settings
from tests.support.behaviour import Behaviour
from tests.support.certs import Authority
from tests.support.exact_receiver import ExactReceiver, ReceiverHost
from tests.support.fixtures import MakeRouter
from tests.support.ledger import Arrivals, Sent
from tests.support.router import ROOT, Status
from tests.support.traffic import HELD_TITLE, BadCaller, Echoing, Gate, Modality, Pace, Worker
from tests.support.waiting import wait_until

MODALITIES = 8
MOST_WAITING = 3000
"""Deliveries; while more wait, nobody sends: the load must not depend on what else the machine does."""

COUNTS = ("tasks", "threads", "descriptors")
TROUBLES = [
    Behaviour(reject=(2, 3, 2)),
    Behaviour(abort_after=30_000),
    Behaviour(reset_after=30_000),
    Behaviour(close_at_connect=True),
    Behaviour(with_ac="abort"),
    Behaviour(with_ac="release"),
    Behaviour(mute="association"),
    Behaviour(mute="store"),
    Behaviour(status=0xA700),
    Behaviour(status=0x0122),
]


@dataclass(frozen=True)
class Sample:
    """What was measured at one moment. ``images``: received so far; sizes in bytes."""

    at: float
    images: int
    tasks: int
    threads: int
    descriptors: int
    rss: int
    journal: int
    log: int
    waiting: int
    spool: int


class Flapping(Worker):
    """Lets a receiver come and go, each time in another way: ``up`` and ``down`` are seconds."""

    def __init__(self, gate: Gate, receiver: ExactReceiver) -> None:
        super().__init__(gate, "flapping")
        self.up, self.down = 4.0, 1.5
        self._receiver = receiver
        self._ways: Iterator[Behaviour | None] = itertools.cycle([None, *TROUBLES])

    def turn(self) -> None:
        """Well for a while, then not."""
        self.gate.pause(self.up)
        way = next(self._ways)
        if way is None:
            self._receiver.stop()
        else:
            self._receiver.set(way)
        self.gate.pause(self.down)
        self._receiver.set(Behaviour())
        if way is None:
            self._receiver.start()


class Operating(Worker):
    """A person, and cron: reloads with and without changes, clears what is held, retries what failed."""

    def __init__(self, gate: Gate, soak: Soak) -> None:
        super().__init__(gate, "operating")
        self._soak = soak
        self._client = Client(soak.router.data_dir, timeout=60)

    def turn(self) -> None:
        """One of each."""
        self.gate.pause(2)
        self._soak.reload(self.turns)
        self.gate.pause(2)
        self.clear()

    def clear(self) -> None:
        """What is held goes, what failed is sent again."""
        self._client.queue_list({"limit": 50})
        self._client.queue_act("discard", {"state": "held"})
        self._client.queue_act("retry", {"state": "failed"})


class Soak:
    """The router, its surroundings, and what was measured."""

    def __init__(
        self,
        make_router: MakeRouter,
        receivers: ReceiverHost,
        authority: Authority,
        folder: Path,
        program: Sequence[str] = (),
        **environment: str,
    ) -> None:
        self.written = folder / "written"
        self._receiver = receivers.receiver()
        self.slow = receivers.receiver(Behaviour(delay=0.005))
        self.router = make_router(**_config(self._receiver, self.slow, self.written, authority, folder))
        self._environment = environment
        if program:
            self.router.program = program
            self._environment["PYTHONPATH"] = f"{ROOT}/src:{ROOT}"
        self.sent = Sent()
        self.arrivals = {name: Arrivals() for name in ("flapping", "slow", "written")}
        self.running: list[Sample] = []
        self.resting: list[Sample] = []
        self.reloads = 0
        self.gate = Gate()
        self.pace = Pace(self.gate)
        plain = self.router.caller(timeout=60)
        tls = self.router.caller(listener=1, timeout=60, tls=authority.client_context())
        self._modalities: list[Worker] = [
            Modality(self.gate, f"soak{n}", tls if n == 0 else plain, self.pace, self.sent) for n in range(MODALITIES)
        ]
        self.operating = Operating(self.gate, self)
        self.flapping = Flapping(self.gate, self._receiver)
        others = [self.flapping, self.operating]
        others += [BadCaller(self.gate, "bad", plain, tls), Echoing(self.gate, "echo", [plain, tls])]
        self._others: list[Worker] = others

    # ---- phases

    def full_speed(self, seconds: float) -> float:
        """Images a second from first sending to last delivery, with all destinations well and nobody else there."""
        self.router.start(wait=True, **self._environment)
        began = time.monotonic()
        for worker in self._modalities:
            worker.start()
        self.gate.open()
        self.gate.pause(seconds)
        self.gate.close()
        self.operating.clear()
        status = self.router.wait_drained(120)
        received: int = status["totals"]["received"]
        self._collect()
        return received / (time.monotonic() - began)

    def run(self, seconds: float, every: float) -> None:
        """All of it at once, for ``seconds``."""
        for worker in self._others:
            if not worker.is_alive():
                worker.start()
        self.gate.open()
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.gate.pause(min(every, left))
            sample = self.measure()
            self.running.append(sample)
            self._hold(sample.waiting > MOST_WAITING, every)
            self._collect()

    def rest(self) -> Sample:
        """Stop everybody, let the router finish, and measure it with nothing to do."""
        self.pace.held = False
        self.gate.close()
        self.operating.clear()
        self.router.wait_drained(120)
        self.router.wait_quiet(30)
        self._collect()
        self.resting.append(self._settled())
        return self.resting[-1]

    def _settled(self) -> Sample:
        """A sample whose counts are the same as those of a moment before: the last connections have gone."""
        seen = [self.measure()]

        def same() -> bool:
            seen.append(self.measure())
            return [getattr(seen[-1], kind) for kind in COUNTS] == [getattr(seen[-2], kind) for kind in COUNTS]

        wait_until(same, 30, "the router has come to rest", lambda: seen[-3:], every=0.5)
        return seen[-1]

    def finish(self) -> None:
        """Send the workers home and stop the router."""
        self.gate.end()
        self.router.stop()
        self._collect()

    # ---- parts

    def reload(self, turn: int) -> None:
        """SIGHUP; every other time with another configuration of each kind of destination and of a listener."""
        slow, written = self.router.config["destination"][1:3]
        slow["max_associations"] = 4 + turn // 2 % 2
        written["layout"] = f"{{Modality}}/{turn // 2 % 2}/{{SOPInstanceUID}}.dcm"
        self.router.config["listener"][1]["max_associations"] = 100 + turn // 2 % 2
        self.router.config["destination"][3:] = [settings.folder("spare", self.written)] if turn % 4 < 2 else []
        self.router.write_config()
        self.router.signal(signal.SIGHUP)
        self.reloads += 1

    def measure(self) -> Sample:
        """What the router says of itself, and what its files have grown to."""
        status: Status = self.router.status()
        process = status["process"]
        return Sample(
            at=time.monotonic(),
            images=status["totals"]["received"],
            tasks=process["tasks"],
            threads=process["threads"],
            descriptors=process["descriptors"] - status["spool"]["open_files"],
            rss=process["rss_bytes"],
            journal=sum(path.stat().st_size for path in self.router.data_dir.glob("journal.db*")),
            log=self.router.log_file.stat().st_size,
            waiting=status["totals"]["waiting"],
            spool=status["spool"]["files"],
        )

    def _hold(self, hold: bool, seconds: float) -> None:
        self.pace.held = hold
        self.pace.seconds_held += seconds if hold else 0

    def _collect(self) -> None:
        self.arrivals["flapping"].take_from(self._receiver)
        self.arrivals["slow"].take_from(self.slow)
        self.arrivals["written"].take_files(self.written)


def _config(
    flapping: ExactReceiver, slow: ExactReceiver, written: Path, authority: Authority, folder: Path
) -> dict[str, Any]:
    identity = authority.issue("soak")
    quick = {"first": "100ms", "factor": 2, "max": "500ms"}
    briefly = {"idle_close": "500ms", "max_age": "5s"}
    return {
        "node": settings.node(memory="64 MiB", history="5m"),
        "listener": [
            settings.listener(idle_timeout="30s"),
            settings.listener(tls={"certificate": str(identity.certificate), "key": str(identity.key)}),
        ],
        "destination": [
            settings.dicom("flapping", flapping.port, retry=quick, response_timeout="2s", association=briefly),
            settings.dicom("slow", slow.port, max_associations=4, association=briefly),
            settings.folder("written", written),
        ],
        "route": [settings.route("all", ["flapping", "slow", "written"], unless={"calling_aet": HELD_TITLE})],
    }
