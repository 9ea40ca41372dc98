"""Peers that vanish without a word: TCP itself asks whether they are still there.

What a lost network does to a connection cannot be had on the loopback, where the kernel answers for both ends. What
can be seen is that the kernel's timer is set on every connection, in both directions, where nothing else is due.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asyncroute.link.stream import VANISHED
from tests.support import crowds, procfs, settings, synthetic
from tests.support.certs import Authority
from tests.support.crowds import Crowd
from tests.support.exact_receiver import ReceiverHost
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.router import Router
from tests.support.waiting import wait_until

KEEPALIVE = "02"
"""Of /proc/net/tcp's timers, where none for a retransmission runs (proc_pid_net(5), tcp_diag)."""
ESTABLISHED = "01"


def timers(router: Router) -> dict[tuple[int, int], tuple[str, float]]:
    """Kind and seconds left of the timer of each connection of the router: by its own port and its peer's."""
    inodes = {text[8:-1] for text in procfs.descriptors(router.pid) if text.startswith("socket:[")}
    found = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, ours, theirs, state, _, timer, _, _, _, inode, *_ = line.split()
        if inode in inodes and state == ESTABLISHED:
            kind, _, ticks = timer.partition(":")
            ports = int(ours.split(":")[1], 16), int(theirs.split(":")[1], 16)
            found[ports] = kind, int(ticks, 16) / os.sysconf("SC_CLK_TCK")
    return found


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_both_directions_are_probed(
    make_router: MakeRouter, receivers: ReceiverHost, authority: Authority, encrypted: bool
) -> None:
    end = receivers.receiver()
    server = authority.issue("door")
    tls = {"tls": {"certificate": str(server.certificate), "key": str(server.key)}} if encrypted else {}
    router = make_router(
        listener=[settings.listener(idle_timeout="never", **tls)],
        destination=[settings.dicom("end", end.port, association={"idle_close": "60s"})],
        route=[settings.route("all", ["end"])],
    ).start()
    caller = router.caller(tls=authority.client_context() if encrypted else None)
    with Crowd("idle", 0) as crowd:
        crowd.join(crowds.idle, caller, 3)
        send_all(caller, synthetic.series("probed", 3))
        router.wait_delivered(3)
        seen = wait_until(lambda: idle_timers(router, end.port, 3), 20, "3 callers and a lane", lambda: timers(router))
        assert seen is not None
    inward, outward = seen
    print(f"keepalive in {min(inward + outward):.0f} to {max(inward + outward):.0f} s, given up after {VANISHED} s")
    assert all(0 < left <= VANISHED for left in inward + outward)


def idle_timers(router: Router, destination: int, callers: int) -> tuple[list[float], list[float]] | None:
    """The seconds until each caller and each destination is asked; None while others than these timers run."""
    seen = timers(router)
    if any(kind != KEEPALIVE for kind, _ in seen.values()):
        return None
    inward = [left for (ours, _), (_, left) in seen.items() if ours == router.port]
    outward = [left for (_, theirs), (_, left) in seen.items() if theirs == destination]
    return (inward, outward) if len(inward) == callers and outward else None
