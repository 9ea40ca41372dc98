"""Exact storage SCPs in a process of their own, steered from the test.

A ``ReceiverHost`` is one process; it holds any number of receivers, each on a port of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.behaviour import Behaviour, Event, Stored, Tally
from tests.support.images import Image
from tests.support.ports import free_port
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
Identity = tuple[str, str, str, str]


class ReceiverHost:
    """A process with exact receivers. Use as a context manager."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.support.receiver_process"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True
        )
        self._lock = threading.Lock()

    def order(self, do: str, port: int, **more: object) -> Any:
        """Send one command and return its answer.

        Raises:
            RuntimeError: the receiver process could not, or died.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps({"do": do, "port": port, **more}).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the receiver process died"}
        if "error" in answer:
            raise RuntimeError(f"{do} on port {port}: {answer['error']}")
        return answer["ok"]

    def receiver(
        self, behaviour: Behaviour | None = None, start: bool = True, port: int | None = None
    ) -> ExactReceiver:
        """A new receiver on ``port`` (or a free one); with ``start`` false nothing listens there yet."""
        port = port or free_port()
        behaviour = behaviour or Behaviour()
        self.order("make", port, behaviour=behaviour.to_json())
        receiver = ExactReceiver(self, port, behaviour)
        if start:
            receiver.start()
        return receiver

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> ReceiverHost:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass
class ExactReceiver:
    """The test's handle on one receiver."""

    host: ReceiverHost
    port: int
    behaviour: Behaviour

    def start(self) -> None:
        """Listen (again)."""
        self.host.order("start", self.port)

    def stop(self) -> None:
        """Close the listener and all connections: from now on connections are refused."""
        self.host.order("stop", self.port)

    def set(self, behaviour: Behaviour) -> None:
        """Behave like this from now on."""
        self.behaviour = behaviour
        self.host.order("set", self.port, behaviour=behaviour.to_json())

    def stored(self, first: int = 0) -> list[Stored]:
        """What arrived whole, in order, from the ``first``-th on."""
        return [Stored(**values) for values in self.host.order("stored", self.port, first=first)]

    def take(self) -> list[Stored]:
        """What arrived whole since the last ``take``; the receiver forgets it, and its events."""
        return [Stored(**values) for values in self.host.order("take", self.port)]

    def events(self, *kinds: str) -> list[Event]:
        """What happened, in order; with ``kinds`` only those."""
        events = [Event(**values) for values in self.host.order("events", self.port)]
        return [event for event in events if not kinds or event.kind in kinds]

    def tally(self) -> Tally:
        """The counters."""
        return Tally(**self.host.order("tally", self.port))

    def wait_stored(self, count: int, deadline: float = 30) -> list[Stored]:
        """Wait until at least ``count`` data sets have arrived whole."""
        what = f"{count} images at the receiver on port {self.port}"
        wait_until(lambda: self.tally().stored >= count, deadline, what, self.tally)
        return self.stored()

    def wait_events(self, kind: str, count: int = 1, deadline: float = 20) -> list[Event]:
        """Wait until events of ``kind`` have happened ``count`` times."""
        what = f"{count} times {kind} at the receiver on port {self.port}"
        wait_until(lambda: len(self.events(kind)) >= count, deadline, what, lambda: self.events()[-10:])
        return self.events(kind)

    def wait_quiet(self, deadline: float = 20) -> None:
        """Wait until no association is open."""
        wait_until(lambda: self.tally().current == 0, deadline, "no association left open", self.tally)


def received(*receivers: ExactReceiver) -> Counter[Identity]:
    """How often each identity arrived at ``receivers`` together, refused ones not counted."""
    return Counter(stored.identity for r in receivers for stored in r.stored() if _kept(stored.status))


def _kept(status: int) -> bool:
    """Success or warning (PS3.4 B.2.3, PS3.7 Annex C)."""
    return status in {0x0000, 0x0001, 0x0107, 0x0116} or status >> 12 == 0xB


def assert_exactly(receiver: ExactReceiver, images: Iterable[Image]) -> None:
    """Check that ``receiver`` got each of ``images`` once, byte for byte, and nothing else.

    Raises:
        AssertionError: with the names of what is missing and the UIDs of what is too much.
    """
    wanted = list(images)
    expected = Counter(image.identity for image in wanted)
    got = received(receiver)
    names = {image.identity: image.name for image in wanted}
    missing = [names[identity] for identity in (expected - got)]
    extra = [identity[1:] for identity in (got - expected)]
    assert not missing, f"missing or changed at port {receiver.port}: {len(missing)}, such as {missing[:5]}"
    assert not extra, f"too much or changed at port {receiver.port}: {len(extra)}, such as {extra[:5]}"


def assert_all_there(receivers: Collection[ExactReceiver], images: Iterable[Image]) -> None:
    """Check that each of ``images`` arrived, byte for byte, at every one of ``receivers``; repeats are allowed."""
    wanted = list(images)
    for receiver in receivers:
        got = received(receiver)
        missing = [image.name for image in wanted if image.identity not in got]
        assert not missing, f"lost or changed at port {receiver.port}: {len(missing)}, such as {missing[:5]}"
        known = {image.sop_instance: image.sha256 for image in wanted}
        changed = [i[1] for i in got if i[1] in known and known[i[1]] != i[3]]
        assert not changed, f"other bytes at port {receiver.port}: {changed[:5]}"
