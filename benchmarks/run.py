"""One measurement: sinks, a router, a sender; what it cost; whether everything arrived.

``Bench`` holds the processes of one run and ends them, whatever happens; ``measure`` is the usual course. Processes are
started in sessions of their own and ended by their ids. Failures: ``BenchError`` with one line, for what cannot be
measured; a router that loses or stops is an ``Outcome`` with trouble instead.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks import sender, sink
from benchmarks.corpus import Corpus
from benchmarks.evaluate import Evidence, Outcome
from benchmarks.load import Load
from benchmarks.measure import Tree, machine_cpu, wait_quiet
from benchmarks.peers import Destination, Peer, Place
from benchmarks.peers.asyncroute import Asyncroute

MEMORY = Path("/dev/shm")
STARTING = 30.0
PAUSE = 0.02
"""Seconds between two looks at the sinks' progress."""


class BenchError(Exception):
    """One line: what could not be measured, and why."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """For every process of the bench: where the sources are."""
    return {**os.environ, **Asyncroute().environment(), **more}


class Bench:
    """See module. Use as a context manager."""

    def __init__(self, peer: Peer, load: Load, quiet: float = 1.0) -> None:
        wait_quiet(quiet)
        self.peer = peer
        self.load = load
        self.folder = Path(tempfile.mkdtemp(prefix="asyncroute-bench-"))
        self.memory = Path(tempfile.mkdtemp(prefix="asyncroute-bench-", dir=MEMORY if MEMORY.is_dir() else None))
        self.corpus = Corpus(load.kind, load.count, load.study)
        ports = free_ports(load.destinations + 2)
        self.place = Place(
            self.folder,
            self.memory,
            ports[0],
            ports[1],
            [Destination(f"SINK{n + 1}", port) for n, port in enumerate(ports[2:])],
            [f"MOD{n:02d}" for n in range(load.associations)],
            load.options,
        )
        self.sinks: list[subprocess.Popen[bytes]] = []
        self.progress: list[sink.Progress] = []
        self.router: subprocess.Popen[bytes] | None = None
        self.tree: Tree | None = None
        self.sender: subprocess.Popen[bytes] | None = None
        self.last_report: dict[str, Any] = {}
        self._since = machine_cpu(), time.monotonic()

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in [self.sender, *self.sinks]:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
            if process is not None and process.stdout is not None:
                process.stdout.close()
        self.stop_router()
        if kind is None or not issubclass(kind, BenchError):
            shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.memory, ignore_errors=True)

    def with_options(self, **options: str) -> Place:
        """The router's place, with these options besides the load's."""
        return replace(self.place, options={**self.place.options, **options})

    # ---- processes

    def start_sinks(self, down: bool = False) -> None:
        """One per destination."""
        for n, destination in enumerate(self.place.destinations):
            settings = sink.Settings(
                destination.port,
                str(self._sink_report(n)),
                str(self.memory / f"sink{n}.progress"),
                self.load.delay(n),
                down,
                **asdict(self.load.sinks),
            )
            process = self._python("benchmarks.sink", settings, stdout=subprocess.PIPE)
            self.sinks.append(process)
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                raise BenchError(f"the sink did not start; see {self.folder}/sink.log")
            self.progress.append(sink.Progress(settings.progress))

    def _python(self, module: str, settings: Any, **more: Any) -> subprocess.Popen[bytes]:
        text = json.dumps(asdict(settings))
        log = self.folder / f"{module.rpartition('.')[2]}.log"
        with log.open("ab") as stderr:
            return subprocess.Popen([sys.executable, "-m", module, text], stderr=stderr, env=environment({}), **more)

    def _sink_report(self, number: int) -> Path:
        return self.folder / f"sink{number}.json"

    def start_router(self, patience: float = 5.0) -> Tree:
        """Start the router, wait until it takes associations and is idle (for ``patience`` seconds at most)."""
        command = self.peer.command(self.place)
        with (self.folder / "router.log").open("ab") as log:
            self.router = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=environment(self.peer.environment()),
                start_new_session=True,
            )
        self.tree = Tree(self.router.pid)
        end = time.monotonic() + STARTING
        while not self.peer.ready(self.place):
            if self.router.poll() is not None or time.monotonic() > end:
                raise BenchError(f"{self.peer.name} did not start; see {self.folder}/router.log")
            time.sleep(0.05)
        self.tree.settle(patience)
        return self.tree

    def stop_router(self) -> None:
        """End it and all that it started."""
        if self.tree is not None:
            self.tree.end()
            self.tree = None
        if self.router is not None:
            self.router.poll()

    def start_sender(self, **changed: Any) -> None:
        """Send the corpus; ``changed``: settings of the sender that differ from the load's."""
        load = self.load
        settings = sender.Settings(
            **{
                "port": self.place.port,
                "report": str(self.report),
                "kind": load.kind,
                "count": load.count,
                "per_study": load.study,
                "associations": load.associations,
                "per_association": load.per_association,
                "max_pdu": load.max_pdu,
                "together": 0.2 if self.peer.one_at_a_time else 10.0,
                "timeout": load.timeout,
                **asdict(load.senders),
                **changed,
            }
        )
        self._since = machine_cpu(), time.monotonic()
        self.sender = self._python("benchmarks.sender", settings)

    @property
    def report(self) -> Path:
        """Where the sender's report will be."""
        return self.folder / "sender.json"

    def open_sinks(self) -> None:
        """Sinks that were down take connections from now on."""
        for process in self.sinks:
            process.send_signal(signal.SIGUSR1)

    # ---- waiting

    def wait_sent(self) -> str:
        """Wait until the sender is through. Trouble, or an empty text."""
        process = self.sender
        assert process is not None
        return self._wait(lambda: process.poll() is not None, self.load.timeout + 30.0)

    def wait_delivered(self) -> str:
        """Wait until every sink has all that was acknowledged. Trouble, or an empty text."""
        report = json.loads(self.report.read_text())
        wanted = report["statuses"].count(0)
        return self._wait(lambda: all(p.get()[0] >= wanted for p in self.progress), self.load.stall)

    def _wait(self, done: Callable[[], bool], patience: float) -> str:
        """``patience``: seconds without any progress at the sinks."""
        moved, before = time.monotonic(), -1
        while not done():
            now, came = time.monotonic(), sum(p.get()[1] for p in self.progress)
            if came != before:
                moved, before = now, came
            if self.router is not None and self.router.poll() is not None:
                return f"the router ended with status {self.router.returncode}"
            if now - moved > patience:
                return f"nothing came for {patience:g} s"
            if self.tree is not None:
                self.tree.look()
            time.sleep(PAUSE)
        return ""

    # ---- the end

    def stop_sinks(self) -> None:
        """Let them write what they know."""
        for process in self.sinks:
            process.terminate()
        for process in self.sinks:
            process.wait(60)

    def evidence(self) -> Evidence:
        """Of a run whose sender and sinks have ended."""
        if not self.report.exists():
            raise BenchError(f"the sender wrote no report; see {self.folder}/sender.log")
        return Evidence.read(self.corpus, self.report, [self._sink_report(n) for n in range(len(self.sinks))])

    def busy(self) -> tuple[float, float]:
        """CPU seconds of the whole machine, and seconds, since the sender was started."""
        return machine_cpu() - self._since[0], time.monotonic() - self._since[1]


def measure(peer: Peer, load: Load) -> Outcome:
    """Send the load through the router, from idle to idle."""
    with Bench(peer, load) as bench:
        bench.start_sinks()
        tree = bench.start_router()
        before = tree.sample()
        bench.start_sender()
        trouble = bench.wait_sent() or bench.wait_delivered()
        cpu = tree.settle() - before
        busy, seconds = bench.busy()
        peak = tree.peak
        bench.stop_router()
        bench.stop_sinks()
        evidence = bench.evidence()
        others = (busy - cpu - evidence.report["cpu_s"] - evidence.sinks_cpu_s) / seconds
        proof = evidence.proof(coerced="five" in load.options)
        return Outcome(evidence.figures(cpu, peak) | {"others": max(others, 0.0)}, proof, trouble)
