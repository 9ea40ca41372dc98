"""Courses of measurement other than "send it all and wait": a backlog, idle associations, dcmtk at one end.

Each takes a router and a load and gives an ``Outcome``, like ``run.measure``; the first two ask things of a router that
only asyncroute is made for.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.corpus import Corpus
from benchmarks.evaluate import Outcome, Proof
from benchmarks.load import Load
from benchmarks.peers import Peer
from benchmarks.peers.asyncroute import CONFIG
from benchmarks.peers.base import AE_TITLE
from benchmarks.programs import dcmtk
from benchmarks.run import Bench, BenchError, environment

TIDYING = 4.0
"""Seconds after which nothing is left of images that have been delivered: files stay for new ones for 3 s at most."""

WATCHED = 10.0
"""Seconds for which idle associations are looked at."""


def backlog(peer: Peer, load: Load) -> Outcome:
    """All arrives while the destinations are down; the router is restarted, so that nothing is left in memory; then
    they come up. What is measured begins there, but for ``arriving_*``, and ends when all files are gone.
    """
    with Bench(peer, load) as bench:
        bench.start_sinks(down=True)
        tree = bench.start_router()
        before = tree.sample()
        bench.start_sender()
        trouble = bench.wait_sent()
        figures = {"arriving_cpu_s": tree.settle() - before, "arriving_peak_mb": tree.peak / 1e6}
        bench.stop_router()
        tree = bench.start_router(patience=20.0)
        before, opened = tree.sample(), time.monotonic()
        bench.open_sinks()
        trouble = trouble or bench.wait_delivered()
        time.sleep(TIDYING)
        cpu, peak = tree.settle() - before, tree.peak
        bench.stop_router()
        bench.stop_sinks()
        evidence = bench.evidence()
        figures |= evidence.figures(cpu, peak)
        last = max((at for stored in evidence.sinks for *_, at in stored), default=opened)
        wall = max(last - opened, 1e-9)
        figures |= {"wall_s": wall, "images_per_s": load.count / wall}
        figures["mb_per_s"] = evidence.report["bytes"] / wall / 1e6
        latency = [name for name in figures if name.startswith("e2e_")]
        return Outcome({k: v for k, v in figures.items() if k not in latency}, evidence.proof(), trouble)


def idle(peer: Peer, load: Load) -> Outcome:
    """Established associations that send nothing: share of one core, bytes of buffers and of memory for each."""
    with Bench(peer, load) as bench:
        bench.start_sinks()
        tree = bench.start_router()
        tree.sample()
        alone, buffers = tree.peak, _buffers(bench)
        bench.start_sender(hold=True)
        sender = bench.sender
        assert sender is not None
        _until(bench.report.exists, 30.0, "the associations did not all come about")
        tree.settle()
        before = tree.sample()
        time.sleep(WATCHED)
        cpu = tree.sample() - before
        figures = {
            "associations": float(load.associations),
            "core_share": cpu / WATCHED,
            "buffer_bytes": (_buffers(bench) - buffers) / load.associations,
            "memory_bytes": (tree.peak - alone) / load.associations,
            "peak_mb": tree.peak / 1e6,
        }
        sender.send_signal(signal.SIGTERM)
        return Outcome(figures)


def _buffers(bench: Bench) -> int:
    """Bytes of buffers that the router holds, by its own status."""
    config = str(bench.folder / CONFIG)
    command = [sys.executable, "-m", "asyncroute", "status", "--json", "-c", config]
    done = subprocess.run(command, env=environment({}), capture_output=True, text=True, timeout=30, check=False)
    try:
        return int(json.loads(done.stdout)["memory"]["used_bytes"])
    except (ValueError, KeyError) as error:
        raise BenchError(f"asyncroute status --json tells nothing of memory: {error!r}") from None


def _until(done: Callable[[], bool], patience: float, what: str) -> None:
    end = time.monotonic() + patience
    while not done():
        if time.monotonic() > end:
            raise BenchError(what)
        time.sleep(0.02)


def dcmtk_missing() -> str | None:
    """Why the courses with dcmtk's own programs cannot run, or None."""
    return None if dcmtk("storescu") and dcmtk("storescp") else "dcmtk is not installed"


def _nagle(on: bool) -> dict[str, str]:
    """dcmtk's switch: Nagle's algorithm is on unless TCP_NODELAY is 1."""
    return environment({"TCP_NODELAY": "0" if on else "1"})


def storescu(peer: Peer, load: Load) -> Outcome:
    """dcmtk's storescu as the senders, one process per association; they re-encode, so only UIDs are compared.

    Nagle's algorithm is as ``load.senders`` says.
    """
    with Bench(peer, load) as bench:
        for index in range(load.associations):
            share = Corpus(load.kind, load.count // load.associations, load.study, f"storescu {index}")
            share.write(bench.memory / f"{index}")
        bench.start_sinks()
        tree = bench.start_router()
        before, began = tree.sample(), time.monotonic()
        with _storescus(bench, _nagle(not load.senders.nodelay)) as statuses:
            trouble = "" if not any(statuses()) else "a storescu failed"
        wanted = load.count // load.associations * load.associations
        _until(lambda: bench.progress[0].get()[0] >= wanted, load.stall, "not all images came")
        wall = bench.progress[0].get()[2] - began
        cpu = tree.settle() - before
        return Outcome(_figures(wall, wanted, cpu, tree.peak), Proof(), trouble)


@contextmanager
def _storescus(bench: Bench, env: dict[str, str]) -> Iterator[Callable[[], list[int]]]:
    command = [str(dcmtk("storescu")), "-aec", AE_TITLE, "+sd", "--max-pdu", "131072"]
    processes = [
        subprocess.Popen(
            [*command, "-aet", title, "127.0.0.1", str(bench.place.port), str(bench.memory / str(index))],
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for index, title in enumerate(bench.place.calling)
    ]
    try:
        yield lambda: [process.wait(bench.load.timeout) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()


def storescp(peer: Peer, load: Load) -> Outcome:
    """dcmtk's storescp as the destination (a process per association); what it has written is counted.

    Nagle's algorithm is as ``load.sinks`` says.
    """
    with Bench(peer, load) as bench:
        incoming = bench.memory / "in"
        incoming.mkdir()
        (destination,) = bench.place.destinations
        settings = ["-aet", destination.name, "--max-pdu", "131072", "-od", str(incoming)]
        command = [str(dcmtk("storescp")), "--fork", *settings]
        silent: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        server = subprocess.Popen(
            [*command, str(destination.port)], env=_nagle(not load.sinks.nodelay), start_new_session=True, **silent
        )
        try:
            tree = bench.start_router()
            before, began = tree.sample(), time.monotonic()
            bench.start_sender()
            trouble = bench.wait_sent()
            _until(lambda: _written(incoming) >= load.count, load.stall, "not all images came")
            wall = time.monotonic() - began
            cpu = tree.settle() - before
            return Outcome(_figures(wall, load.count, cpu, tree.peak), Proof(), trouble)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(10)


def _written(folder: Path) -> int:
    return len(os.listdir(folder))


def _figures(wall: float, count: int, cpu: float, peak: int) -> dict[str, float]:
    return {
        "images": float(count),
        "wall_s": wall,
        "images_per_s": count / wall,
        "cpu_s": cpu,
        "cpu_ms_per_image": cpu / count * 1e3,
        "peak_mb": peak / 1e6,
    }
