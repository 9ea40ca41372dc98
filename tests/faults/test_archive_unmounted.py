"""A tier whose disk is unmounted while files move to it, and mounted again: real mounts under the real router."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support import settings, synthetic
from tests.support.archiving import digests, digests_in, files_in
from tests.support.exact_receiver import ReceiverHost
from tests.support.exact_sender import send_all
from tests.support.router import Router
from tests.support.small_disk import SmallDisk
from tests.support.waiting import wait_until

KIND = synthetic.Kind(size=300_000)


def test_a_tier_that_is_unmounted_in_the_middle_of_a_move(tmp_path: Path, receivers: ReceiverHost) -> None:
    """The empty folder below the mount is on the file system of the tier before: what gets there is not moved."""
    ssd, raid, disk_of_raid = tmp_path / "ssd", tmp_path / "raid", tmp_path / "disk of the raid"
    for folder in (ssd, raid, disk_of_raid):
        folder.mkdir()
    with SmallDisk({tmp_path / "data": "64m"}) as disk:

        def mount() -> None:
            subprocess.run(disk.command("mount", "--bind", disk_of_raid, raid), check=True)

        def unmount() -> None:
            subprocess.run(disk.command("umount", "--lazy", raid), check=True)

        mount()
        move_in = {"older_than": "0s", "bandwidth": "2 MB/s"}
        router = disk.router(
            tmp_path / "router",
            {
                "node": settings.node(data_dir=str(tmp_path / "data"), min_free=0),
                "destination": [settings.dicom("pacs", receivers.receiver().port)],
                "route": [settings.route("all", ["pacs"])],
                "archive": {"tiers": [{"path": str(ssd)}, {"path": str(raid), "move_in": move_in}]},
            },
        )
        try:
            router.start()
            images = [synthetic.image("moving", n, KIND, study=n // 8) for n in range(24)]
            send_all(router.caller(), images)
            for had in (0, 4, 12):
                wait_until(lambda: len(files_in(disk_of_raid)) > had, 30, "files move")  # noqa: B023 - called at once
                unmount()
                status = router.wait_status(lambda s: s["archive"]["tiers"][1]["state"] == "missing", 20, "it is told")
                assert any("tier 2: missing" in line and "is its disk mounted?" in line for line in status["trouble"])
                assert set(digests_in(ssd) + digests_in(disk_of_raid)) == set(digests(images)), "nothing is lost"
                mount()
            wait_until(lambda: not files_in(ssd), 40, "all has moved", lambda: router.status()["archive"])
            router.wait_status(lambda s: s["archive"]["tiers"][1]["images"] == 24, 20, "status tells")
            router.wait_status(lambda s: not s["trouble"], 20, "all is well")
            assert digests_in(disk_of_raid) == digests(images)
            router.stop()
            assert not list((disk_of_raid / ".asyncroute" / "part").glob("*"))
        finally:
            router.kill()
            Router.made.remove(router)
