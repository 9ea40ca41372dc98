"""What conversions cost those who wait for none: ``python -m benchmarks.beside`` prints a table.

A router gets large images that it compresses (``j2k-lossless``, the slowest), as many as keep its workers busy all the
time. Beside them: C-ECHOs over an association of their own, one after the other, which need nothing but the router's
loop; then images of 34 KB for another destination, as fast as they go. The same without the large images. The router
and its workers have one half of the processors, those that send and take its images the other one, as if these were
other machines: Linux shares processors out by session (sched(7), autogroup), and a router that works takes its part of
what the other programs would have, however nice its workers are.
Medians of ``ROUNDS`` alternating rounds; ratios are to the first line.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import data_store

from asyncroute.wire import command as dimse
from asyncroute.wire.pdata import command_pdus
from benchmarks import upper
from benchmarks.load import Load
from benchmarks.peers.asyncroute import CONFIG, Asyncroute
from benchmarks.peers.base import AE_TITLE, Place
from benchmarks.run import Bench, BenchError, environment

LARGE = "RG1_UNCR.dcm"
COUNT = 60
ROUNDS = 3
SECONDS = 3.0
"""For which C-ECHOs are sent."""

PAUSE = 0.005
EVERY = sorted(os.sched_getaffinity(0))
ROUTERS, PEERS = set(EVERY[len(EVERY) // 2 :]), set(EVERY[: len(EVERY) // 2]) or set(EVERY)
"""Processors of the router, and of those that send and take its images: what is beside takes none of theirs away."""

WORKERS = min(max(len(ROUTERS) - 1, 1), 3)
"""Conversions at a time: ``workers`` is four, of which one is left to others."""

VERIFICATION, IMPLICIT = "1.2.840.10008.1.1", "1.2.840.10008.1.2"
BESIDE = """
[[destination]]
name = "compressed"
kind = "folder"
path = {path}
compress = "j2k-lossless"
[[route]]
name = "large"
match = {{ calling_aet = "LARGE" }}
to = ["compressed"]
final = true
"""


class Compressing(Asyncroute):
    """With a folder besides, whose images are compressed."""

    name = "asyncroute-compressing"

    def _config(self, place: Place) -> str:
        head, route, rest = super()._config(place).partition("[[route]]")
        return head + BESIDE.format(path=json.dumps(str(place.memory / "compressed"))) + route + rest


@dataclass
class Found:
    """Of one case: seconds of each C-ECHO, images a second, by round."""

    echoes: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Of the router's own process, seconds for each of the small images."""
    behind: list[int] = field(default_factory=list)
    """Conversions that were still to be made at the end: the workers were busy all the time."""


def echoes(port: int, seconds: float) -> list[float]:
    """How long each C-ECHO took, over one association."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(upper.request("PING", AE_TITLE, VERIFICATION, IMPLICIT, 64 << 10))
        _pdu(sock)
        found: list[float] = []
        end = time.monotonic() + seconds
        while (begun := time.monotonic()) < end:
            sock.sendall(command_pdus(1, dimse.echo_request(len(found) % 65535 + 1), 16 << 10))
            _pdu(sock)
            found.append(time.monotonic() - begun)
            time.sleep(PAUSE)
    return found


def _pdu(sock: socket.socket) -> None:
    head = _exactly(sock, 6)
    _exactly(sock, int.from_bytes(head[2:], "big"))


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        if not (piece := sock.recv(count - len(data))):
            raise BenchError("the router closed the association")
        data += piece
    return data


# --- what is beside ---------------------------------------------------------------------------------------------------


@contextmanager
def nothing(bench: Bench) -> Iterator[None]:
    """Nothing."""
    yield


@contextmanager
def conversions(bench: Bench) -> Iterator[None]:
    """All workers convert."""
    folder = bench.folder / "large"
    folder.mkdir()
    source = next((Path(str(data_store.__file__)).parent / "data").rglob(LARGE))
    for number in range(COUNT):
        shutil.copy(source, folder / f"{number}.dcm")
    words = ["send", str(folder), "--to", f"{AE_TITLE}@127.0.0.1:{bench.place.port}", "--calling", "LARGE"]
    _asyncroute(bench, *words)
    end = time.monotonic() + 30
    while running(bench) < WORKERS and time.monotonic() < end:
        time.sleep(0.1)
    yield


def running(bench: Bench) -> int:
    """Conversions that were asked for and are not made."""
    return int(json.loads(_asyncroute(bench, "status", "--json"))["conversions"]["running"])


def router_cpu(bench: Bench) -> float:
    """Seconds of processor time that the router's own process has used, without its workers."""
    assert bench.router is not None
    words = Path(f"/proc/{bench.router.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _asyncroute(bench: Bench, *words: str) -> str:
    command = [sys.executable, "-m", "asyncroute", *words, "-c", str(bench.folder / CONFIG)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment({}), cwd=bench.folder)
    if done.returncode > 1:
        raise BenchError(f"{words[0]}: {done.stderr}")
    return done.stdout


CASES: dict[str, Callable[[Bench], object]] = {
    "nothing beside": nothing,
    "conversions beside": conversions,
}


@contextmanager
def on(processors: set[int]) -> Iterator[None]:
    """What is started meanwhile runs on these."""
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, PEERS)


def measure(beside: Callable[[Bench], object], found: Found, images: int) -> None:
    """One round."""
    with Bench(Compressing(), Load("small", images, 10)) as bench, ExitStack() as stack:
        bench.start_sinks()
        with on(ROUTERS):
            bench.start_router()
            stack.enter_context(beside(bench))  # type: ignore[arg-type]
        found.echoes += echoes(bench.place.port, SECONDS)
        before = router_cpu(bench)
        bench.start_sender()
        if trouble := bench.wait_sent() or bench.wait_delivered():
            raise BenchError(trouble)
        found.cpu.append((router_cpu(bench) - before) / images)
        if beside is conversions:
            found.behind.append(running(bench))
        bench.stop_sinks()
        report = json.loads(bench.report.read_text())
        found.rates.append(images / (max(report["answered"]) - min(filter(None, report["started"]))))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.beside", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--images", type=int, default=2000)
    options = parser.parse_args()
    results = {name: Found() for name in CASES}
    os.sched_setaffinity(0, PEERS)
    for number in range(options.rounds):
        for name in list(CASES) if number % 2 == 0 else reversed(CASES):
            measure(CASES[name], results[name], options.images)
    print("| | C-ECHO p50 | p99 | p50 ratio | router's CPU per image | ratio | images/s | ratio |")
    print(f"|---|{'---:|' * 7}")
    first = results["nothing beside"]
    for name, found in results.items():
        print(f"| {name} | {_line(found, first)} |")
    for name, found in results.items():
        print(f"{name}: images/s of each round {[round(rate) for rate in found.rates]}", file=sys.stderr)
    print(f"conversions to be made at the end of each round: {results['conversions beside'].behind}", file=sys.stderr)


def _line(found: Found, first: Found) -> str:
    (p50, p99), (base, _) = _percentiles(found), _percentiles(first)
    rate, before = statistics.median(found.rates), statistics.median(first.rates)
    cpu, less = statistics.median(found.cpu), statistics.median(first.cpu)
    echo = f"{p50 * 1e3:.2f} ms | {p99 * 1e3:.2f} ms | {p50 / base:.2f}"
    return f"{echo} | {cpu * 1e3:.2f} ms | {cpu / less:.2f} | {rate:.0f} | {rate / before:.2f}"


def _percentiles(found: Found) -> tuple[float, float]:
    every = statistics.quantiles(found.echoes, n=100)
    return every[49], every[98]


if __name__ == "__main__":
    main()
