"""Tiers that are full, really full: file systems of some megabytes under the real router."""

from __future__ import annotations

from pathlib import Path

from tests.support import settings, synthetic
from tests.support.archiving import digests, digests_in, files_in
from tests.support.exact_receiver import ReceiverHost
from tests.support.exact_sender import send_all
from tests.support.router import Router
from tests.support.small_disk import Filler, SmallDisk
from tests.support.waiting import wait_until

KIND = synthetic.Kind(size=300_000)
MIB = 1 << 20


def states(router: Router) -> list[str]:
    return [tier["state"] for tier in router.status()["archive"]["tiers"]]


def test_full_tiers_lose_nothing_and_go_on(tmp_path: Path, receivers: ReceiverHost) -> None:
    data, ssd, raid = tmp_path / "data", tmp_path / "ssd", tmp_path / "raid"
    with SmallDisk({data: "64m", ssd: "24m", raid: "96m"}) as disk:
        tiers = [{"path": str(ssd)}, {"path": str(raid), "move_in": {"below_free": "10 MiB"}}]
        router = disk.router(
            tmp_path / "router",
            {
                "node": settings.node(data_dir=str(data), min_free=0),
                "destination": [settings.dicom("pacs", receivers.receiver().port)],
                "route": [settings.route("all", ["pacs"])],
                "archive": {"tiers": tiers},
            },
        )
        try:
            router.start()
            there, far = disk.inside(ssd), disk.inside(raid)
            images = [synthetic.image("full", n, KIND, study=n // 5) for n in range(60)]
            send_all(router.caller(), images[:20])
            router.wait_drained()
            assert digests_in(there) == digests(images[:20]), "there is space enough"
            send_all(router.caller(), images[20:50])
            router.wait_drained()
            wait_until(lambda: len(files_in(there)) <= 45, 20, "there is space again")
            wait_until(lambda: sorted(digests_in(there) + digests_in(far)) == digests(images[:50]), 20, "all are there")
            moved = digests_in(far)
            assert moved == digests(images[: len(moved)]), "the oldest"
            assert not len(moved) % 5, "whole studies"

            near_full, far_full = Filler(there), Filler(far)
            far_full.fill()
            near_full.fill()
            send_all(router.caller(), images[50:])
            router.wait_delivered(60)
            wait_until(lambda: states(router) == ["ok", "full"], 20, "it says so", lambda: states(router))
            trouble = router.status()["trouble"]
            assert "images stay in the spool: full: cannot write" in trouble[0]
            assert "no room" in trouble[1]
            assert router.status()["spool"]["files"]
            near_full.remove()
            far_full.remove()
            router.wait_drained(30)
            wait_until(lambda: sorted(digests_in(there) + digests_in(far)) == digests(images), 20, "all are there")
            router.wait_status(lambda s: not s["trouble"], 20, "all is well again")
            router.stop()
        finally:
            router.kill()
            Router.made.remove(router)
