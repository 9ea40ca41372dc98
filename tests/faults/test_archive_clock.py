"""The archive and a wall clock that jumps: what is due moves, and nothing is deleted by a wrong date."""

from __future__ import annotations

import time
from datetime import datetime
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


def test_a_time_of_day_when_the_clock_is_changed(
    make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path
) -> None:
    """02:30 does not exist on the last Sunday of March, and comes twice on that of October (2027, in Berlin)."""
    ssd, raid = tmp_path / "ssd", tmp_path / "raid"
    clock = FakedClock(tmp_path)

    def at(text: str) -> float:
        return datetime.fromisoformat(f"{text}+00:00").timestamp()

    def jump(text: str) -> None:
        clock.jump(at(text) - time.time())

    jump("2027-03-28T00:40:00")
    router = make_router(
        destination=[settings.dicom("pacs", receivers.receiver().port)],
        route=[settings.route("all", ["pacs"])],
        archive={"tiers": [{"path": str(ssd)}, {"path": str(raid), "move_in": {"at": "02:30 Europe/Berlin"}}]},
    ).start(True, **clock.environment)

    def wait_next(text: str) -> None:
        router.wait_status(
            lambda s: [it["next"] for it in s["archive"]["tiers"][1:]] == [at(text)], 20, f"the next time is {text}"
        )

    def send(number: int) -> None:
        """One more image, which the archive has seen, and looked around since."""
        before = router.status()["archive"]["tiers"][0]["images"]
        for n in (1, 2):
            send_all(router.caller(), [synthetic.image(f"edge {number}", n)])
            router.wait_status(lambda s: s["archive"]["tiers"][0]["images"] == before + n, 20, "it is archived")  # noqa: B023

    wait_next("2027-03-28T01:00:00")
    send(1)
    jump("2027-03-28T00:59:50")
    send(2)
    assert not files_in(raid)
    jump("2027-03-28T01:00:05")
    wait_until(lambda: not files_in(ssd), 20, "the moment of the jump")
    wait_next("2027-03-29T00:30:00")

    jump("2027-10-31T00:20:00")
    wait_next("2027-10-31T00:30:00")
    send(3)
    jump("2027-10-31T00:30:05")
    wait_until(lambda: not files_in(ssd), 20, "the first of the two")
    wait_next("2027-11-01T01:30:00")
    send(4)
    jump("2027-10-31T01:30:05")
    send(5)
    assert len(files_in(ssd)) == 4, "the second does not count"
    jump("2027-11-01T01:30:05")
    wait_until(lambda: not files_in(ssd), 20, "the next day")
    assert len(files_in(raid)) == 10
    router.stop()
