"""Proof of deliveries by query: with Orthanc and dcmtk's archive, and what one of them has lost is sent again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import corpus, settings, synthetic
from tests.support.committing import Archive
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.peers import ENVIRONMENT, Orthanc, program
from tests.support.ports import free_port, listening
from tests.support.router import Router, run_cli
from tests.support.waiting import wait_until


def routed(make_router: MakeRouter, port: int, **more: Any) -> Router:
    table = settings.dicom("pacs", port, **{"verify": "query", "verify_wait": "60s", **more})
    return make_router(destination=[table], route=[settings.route("all", ["pacs"])])


def wait_confirmed(router: Router, delivered: int) -> None:
    router.wait_status(
        lambda s: s["totals"]["delivered"] == delivered and not router.channel("pacs", s)["unconfirmed"],
        60,
        f"{delivered} deliveries are confirmed",
    )
    router.wait_drained()


@contextmanager
def dcmqrscp(folder: Path) -> Iterator[int]:
    """dcmtk's archive; its port."""
    port, store = free_port(), folder / "store"
    store.mkdir(parents=True)
    config = folder / "dcmqrscp.cfg"
    config.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nPACS {store} RW (200, 1024mb) ANY\nAETable END\n"
    )
    with (folder / "dcmqrscp.log").open("wb") as log:
        command = [program("dcmqrscp"), "-c", str(config)]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=ENVIRONMENT, cwd=folder)
    try:
        wait_until(lambda: listening(port), 20, "dcmqrscp listens", (folder / "dcmqrscp.log").read_text)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def test_what_is_missing_is_sent_again(make_router: MakeRouter, tmp_path: Path) -> None:
    with Orthanc(tmp_path / "orthanc", {"router": ("CT", free_port())}) as orthanc:  # it answers whom it knows
        router = routed(make_router, orthanc.port, ae_title="ORTHANC", verify_wait="1s").start()
        images = corpus.named("CT_small.dcm", "MR_small.dcm", "examples_palette.dcm")
        send_all(router.caller("CT"), images)
        lost = orthanc.wait_instances(3)[0]
        orthanc.request("DELETE", f"/instances/{lost}")
        router.wait_status(lambda s: len(orthanc.instances()) == 3, 60, "what was lost is there again")
        wait_confirmed(router, 3)
        told = [run_cli("why", image.sop_instance, "-c", router.config_file).stdout for image in images]
        assert all("confirmed by the destination: found by a query" in story for story in told)
        again = [story for story in told if "not confirmed, to be sent again: not found at the destination" in story]
        assert len(again) == 1


def test_dcmtk_is_queried_under_the_title_of_each_sender(make_router: MakeRouter, tmp_path: Path) -> None:
    with dcmqrscp(tmp_path / "dcmqrscp") as port:
        # Two of its processes that begin in the same moment may give their images one name, and one is lost there.
        router = routed(make_router, port, max_associations=1).start()
        for title in ("CT_A", "CT_B"):
            send_all(router.caller(title), synthetic.series(title, 5, synthetic.Kind(size=512)))
        router.wait_delivered(10)
        wait_confirmed(router, 10)


def test_a_destination_that_cannot_be_queried(make_router: MakeRouter) -> None:
    with Archive() as archive:
        router = routed(make_router, archive.port).start()
        send_all(router.caller(), synthetic.series("none", 2, synthetic.Kind(size=512)))
        words = "does not accept queries (Study Root C-FIND)"
        router.wait_status(lambda s: router.channel("pacs", s)["verify_error"] == words, 30, "it is told")
        assert router.status()["spool"]["files"] == 2
