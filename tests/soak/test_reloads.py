"""Reloads that change destinations leave nothing behind, however many there are."""

from __future__ import annotations

from pathlib import Path

from asyncroute.status.client import Client
from tests.support import settings, synthetic
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.soaking import COUNTS

RELOADS, WARM = 12, 3
FOLDER_LANES = 4
IMAGES = 6


def test_each_change_of_a_folder_destination_ends_what_it_replaces(make_router: MakeRouter, tmp_path: Path) -> None:
    table = settings.folder("written", tmp_path / "written")
    router = make_router(destination=[table], route=[settings.route("all", ["written"])]).start()
    client = Client(router.data_dir, timeout=30)
    figures = []
    for turn in range(RELOADS):
        table["layout"] = f"{turn}/{{SOPInstanceUID}}.dcm"
        router.write_config()
        assert client.reload() == ["destination written: changed"]
        send_all(router.caller(), synthetic.series(f"reload{turn}", IMAGES), associations=2)
        router.wait_delivered(IMAGES * (turn + 1))
        router.wait_quiet()
        process = router.wait_drained()["process"]
        figures.append([process[kind] for kind in COUNTS])
    print(f"tasks, threads, descriptors after {RELOADS} reloads: {figures}")
    warm, last = figures[WARM], figures[-1]
    assert last[0] <= warm[0] + 1
    assert last[1] <= warm[1] + FOLDER_LANES  # the writers' pool starts its threads as they are needed
    assert last[2] <= warm[2] + 2
    router.stop()
