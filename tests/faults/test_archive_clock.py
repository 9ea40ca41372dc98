"""The archive and a wall clock that jumps: what is due moves, and nothing is deleted by a wrong date."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support import settings, synthetic
from tests.support.archiving import digests, digests_in, files_in
from tests.support.exact_receiver import ReceiverHost
from tests.support.exact_sender import send_all
from tests.support.faked_clock import FakedClock
from tests.support.fixtures import MakeRouter
from tests.support.waiting import wait_until

DAY = 86400.0


def test_a_jump_moves_what_is_due_and_deletes_nothing(
    make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path
) -> None:
    ssd, raid = tmp_path / "ssd", tmp_path / "raid"
    clock = FakedClock(tmp_path)
    at = time.strftime("%H:%M UTC", time.gmtime(time.time() + DAY / 2))
    router = make_router(
        destination=[settings.dicom("pacs", receivers.receiver().port)],
        route=[settings.route("all", ["pacs"])],
        archive={"keep": "2d", "tiers": [{"path": str(ssd)}, {"path": str(raid), "move_in": {"at": at}}]},
    ).start(True, **clock.environment)
    images = synthetic.series("clock", 4)
    send_all(router.caller(), images)
    router.wait_status(lambda s: s["archive"]["tiers"][0]["images"] == 4, 20, "all are archived")
    assert digests_in(ssd) == digests(images)
    clock.jump(30 * DAY)
    wait_until(lambda: not files_in(ssd), 20, "its time has come")
    router.wait_status(lambda s: s["archive"]["tiers"][1]["images"] == 4, 20, "status tells")
    router.wait_status(lambda s: s["archive"]["tiers"][1]["next"] > clock.now() - 60, 20, "it was looked again")
    assert digests_in(raid) == digests(images), "a date that jumps ahead deletes nothing"
    router.stop()
