"""The journal is damaged or removed under a running router: no image is taken, a person is told, nothing is lost."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import settings, stored, synthetic
from tests.support.exact_receiver import ReceiverHost, assert_all_there, received
from tests.support.exact_sender import send, send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.router import Router, run_cli
from tests.support.waiting import stays, wait_until

PAGE = 4096
LIVE = 1500
"""More images than a router holds in memory: it has to read the journal on and on."""


def noise(data_dir: Path) -> None:
    """All pages but the first."""
    path, chance = data_dir / "journal.db", random.Random(5)
    with path.open("r+b") as file:
        for at in range(PAGE, path.stat().st_size, PAGE):
            os.pwrite(file.fileno(), chance.randbytes(PAGE), at)


def gone(data_dir: Path) -> None:
    (data_dir / "journal.db").unlink()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("damage", "live"), [(noise, LIVE), (gone, 60)], ids=["noise", "gone"])
def test_nothing_acknowledged_is_lost(
    make_router: MakeRouter, receivers: ReceiverHost, damage: Callable[[Path], None], live: int
) -> None:
    ends = {name: receivers.receiver(start=False) for name in stored.DESTINATIONS}
    peers = [settings.dicom(name, end.port, max_associations=4) for name, end in ends.items()]
    router = make_router(destination=peers, route=[settings.route("all", list(ends), unless={"Modality": "OT"})])
    expected = stored.make(router.data_dir, live=live, history=0)
    router.start()
    acknowledged = send_all(router.caller(), synthetic.series("before", 20), associations=2)
    damage(router.data_dir)
    for end in ends.values():
        end.start()
    meanwhile = until_it_is_told(router)
    assert_no_image_is_taken(router)
    assert_calm(router)
    router.stop()
    assert_refused(router)
    done = run_cli("rebuild", "-c", router.config_file, timeout=120)
    assert done.returncode == 0, done.stderr
    router.start()
    router.wait_status(lambda s: not s["totals"]["waiting"], 120, "all sent")
    for name, end in ends.items():
        owed = [expected.images[number] for number, to in expected.owed if to == name]
        assert_all_there([end], [*owed, *acknowledged, *meanwhile])
    sent = sum(received(end).total() for end in ends.values())
    least = len(expected.owed) + 2 * len([*acknowledged, *meanwhile])
    print(f"{least} deliveries owed, 0 lost, {sent - least} more than once or had ended")


def until_it_is_told(router: Router) -> list[Image]:
    """Send until the damage is met; what was acknowledged until then."""
    taken: list[Image] = []

    def told() -> bool:
        taken.extend(send(router.caller(), [synthetic.image("meanwhile", len(taken))]).acknowledged)
        return any('"asyncroute rebuild"' in line for line in router.status()["trouble"])

    wait_until(told, 60, "the damage is told", router.log_tail, every=0.1)
    return taken


def assert_no_image_is_taken(router: Router) -> None:
    report = send(router.caller(), synthetic.series("late", 2))
    assert not report.acknowledged
    assert all(result.status == 0xA700 for result in report.refused)
    done = run_cli("status", "-c", router.config_file)
    assert done.returncode == 1
    assert '"asyncroute rebuild"' in done.stdout
    assert "CRITICAL" in router.log_tail(500)


def assert_calm(router: Router) -> None:
    """It lives, does not burn the processor, and does not fill the log."""
    before, lines = router.status()["process"]["cpu_s"], len(router.log_tail(100_000).splitlines())
    stays(lambda: router.running, 3, "the router lives")
    assert router.status()["process"]["cpu_s"] - before < 1.5
    assert len(router.log_tail(100_000).splitlines()) - lines < 60


def assert_refused(router: Router) -> None:
    router.start(wait=False)
    assert router.wait_exit() == 1
    assert '"asyncroute rebuild"' in router.log_tail(1)
