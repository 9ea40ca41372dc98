"""What a router must look like after whatever was done to it: the same process, nothing left over, and answering."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from tests.support import peers, procfs
from tests.support.router import Router, run_cli
from tests.support.waiting import wait_until

ECHO_WITHIN = 1.0
LOG, LINE = 20_000, 50
"""Bytes of log that bad connections may cost in all, and each: far less than a line each."""
THREADS, DESCRIPTORS = 8, 4
"""What may be there since: threads of pools, which grow to their limits by and by, and descriptors of the journal."""
CRASHES = ("Traceback", "unexpected error", "Exception in callback", "never retrieved", "could not be carried out")
PATIENT = {"drain": "60s"}
"""For [node]: longer than ``Router.stop`` waits, so that a connection that was forgotten, not closed, is noticed."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Before:
    """A quiet router: its process, what it holds, and the length of its log."""

    router: Router
    pid: int
    usage: procfs.Usage
    tasks: int
    log: int


def measure(router: Router) -> Before:
    """What ``router`` holds now that nothing happens."""
    router.wait_quiet()
    return Before(router, router.pid, router.usage(), tasks(router), router.log_file.stat().st_size)


def tasks(router: Router) -> int:
    """Asyncio tasks of the router."""
    return int(router.status()["process"]["tasks"])


def assert_unharmed(before: Before, connections: int, what: str, memory: int = 64 * procfs.MIB) -> None:
    """Check that ``connections`` bad connections left no trace, and say the figures in one line.

    Raises:
        AssertionError: a crash, a leak, too much log, or a router that does not answer.
    """
    router = before.router
    assert router.running, f"the router ended with {router.exit_status}:\n{router.log_tail()}"
    assert router.pid == before.pid
    assert_no_crash(router)
    echo = assert_echo(router)
    router.wait_quiet(60)
    wait_until(lambda: _back(before), 30, "tasks, threads and descriptors as before", lambda: _held(before))
    assert_spool_is_owed(router)
    grown = router.log_file.stat().st_size - before.log
    assert grown <= LOG + LINE * connections, f"{grown} bytes of log for {connections} bad connections"
    now, then = router.usage(), before.usage
    assert now.rss <= then.rss + memory, f"memory grew from {then.rss} to {now.rss} bytes"
    print(
        f"{what}: tasks {before.tasks} -> {tasks(router)}, threads {then.threads} -> {now.threads}, "
        f"descriptors {then.descriptors} -> {now.descriptors}, memory {then.rss >> 20} -> {now.rss >> 20} MiB, "
        f"log {grown} bytes ({grown / max(connections, 1):.0f} each), echo {echo * 1000:.0f} ms"
    )


def _back(before: Before) -> bool:
    usage = before.router.usage()
    return (
        tasks(before.router) <= before.tasks
        and usage.threads <= before.usage.threads + THREADS
        and usage.descriptors <= before.usage.descriptors + DESCRIPTORS
    )


def _held(before: Before) -> object:
    return before, before.router.usage(), tasks(before.router), procfs.descriptors(before.pid)


def assert_no_crash(router: Router) -> None:
    """Check that no exception that nobody expected was logged.

    Raises:
        AssertionError: with the first lines.
    """
    lines = router.log_file.read_text(errors="replace").splitlines()
    found = [line for line in lines if any(word in line for word in CRASHES)]
    assert not found, f"{len(found)} crashes in the log, such as\n" + "\n".join(found[:3])


def assert_echo(router: Router) -> float:
    """Check that echoscu, from its start to its end, is answered within a second; how long it took.

    A busy machine may start programs slowly: the best of five counts.
    """
    best = float("inf")
    for _ in range(5):
        began = time.monotonic()
        peers.assert_ran(peers.echoscu(router.caller("AFTERWARDS")))
        best = min(best, time.monotonic() - began)
        if best < ECHO_WITHIN:
            break
    assert best < ECHO_WITHIN, f"echoscu was answered after {best:.2f} s"
    return best


def queue(router: Router) -> list[Row]:
    """Every open delivery and held image, as ``queue list --json`` tells."""
    done = run_cli("queue", "list", "-c", router.config_file, "--json", "--limit", 100_000, timeout=300)
    assert done.returncode == 0, done.stderr
    rows: list[Row] = json.loads(done.stdout)
    return rows


def assert_spool_is_owed(router: Router) -> None:
    """Check that the spool holds the images that are owed or held, and no other file."""

    def same() -> bool:
        files = {int(path.stem) for path in router.spool_files() if path.suffix == ".dcm"}
        return files == {row["instance_id"] for row in queue(router)} and len(files) == len(router.spool_files())

    wait_until(same, 30, "the spool's files are those that are owed", router.spool_files, every=0.5)
