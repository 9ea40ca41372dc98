"""The number of associations to a destination is found by trying, with the program and real receivers."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support import settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_exactly
from tests.support.exact_sender import Fleet
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.peers import StoreSCP
from tests.support.router import Router, run_cli
from tests.support.waiting import wait_until

KIND = synthetic.Kind(size=20_000)
SENDERS = 10
DELAY = 0.05
"""Seconds that a receiver takes for an image."""


def routed(make_router: MakeRouter, end: ExactReceiver, **more: Any) -> Router:
    destination = settings.dicom("pacs", end.port, **{"max_associations": 10, **more})
    return make_router(destination=[destination], route=[settings.route("all", ["pacs"])]).start()


def send(router: Router, count: int, title: str = "") -> list[Image]:
    """So many images of each sender, all at the same time."""
    shares = [(router.caller(title or f"S{n}"), synthetic.series(f"{title}{n}", count, KIND)) for n in range(SENDERS)]
    Fleet(shares).run().assert_clean()
    return [image for _, images in shares for image in images]


def journal(router: Router, query: str) -> list[tuple[Any, ...]]:
    """When all is delivered; results are written some 50 ms after they count."""
    router.wait_drained()
    with closing(sqlite3.connect(router.data_dir / "journal.db")) as connection:
        return connection.execute(query).fetchall()


def told(router: Router) -> str:
    done: subprocess.CompletedProcess[str] = run_cli("status", "-c", router.config_file)
    assert done.returncode == 0, done
    return done.stdout


def test_three_are_granted_then_ten(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    """No image is charged an attempt, no breaker opens, and nobody needs to do anything."""
    end = receivers.receiver(Behaviour(max_associations=3, delay=DELAY))
    router = routed(make_router, end, calling_ae_title="ROUTER")
    images = send(router, 100)

    def settled_at(size: int) -> bool:
        channel = router.channel("pacs")
        assert (channel["state"], channel["failed"]) == ("up", 0)
        return bool((channel["window"], channel["lanes"]) == (size, size))

    wait_until(lambda: settled_at(3), 20, "three associations")
    refused = end.tally().rejected
    assert end.tally().most_at_once == 3
    assert "3 of 10 associations: association rejected 2/3/2: local limit exceeded" in told(router)
    end.set(Behaviour(delay=DELAY))
    wait_until(lambda: settled_at(10), 40, "ten associations")
    assert "limited" not in told(router)
    router.wait_delivered(len(images), 60)
    assert refused <= end.tally().rejected <= refused + 6
    assert end.tally().most_at_once == 10
    assert_exactly(end, images)
    assert journal(router, "SELECT DISTINCT attempts FROM delivery") == [(1,)]
    assert journal(router, "SELECT * FROM event") == []


def test_a_program_that_serves_one_at_a_time(make_router: MakeRouter, tmp_path: Path) -> None:
    """dcmtk's storescp without processes: it takes further connections, and says nothing before the first is over."""
    with StoreSCP(tmp_path / "storescp", "--single-process", "--ignore") as end:
        router = make_router(
            destination=[settings.dicom("pacs", end.port, max_associations=10, connect_timeout="1s")],
            route=[settings.route("all", ["pacs"])],
        ).start()
        images = send(router, 30, "ONE")
        status = router.wait_delivered(len(images), 60)
        assert router.channel("pacs", status)["failed"] == 0
        assert journal(router, "SELECT * FROM event") == []
