"""``why`` with a real router: delivered, refused, tried again and held images, and a destination that is down."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.support import settings
from tests.support.behaviour import Behaviour
from tests.support.exact_receiver import ReceiverHost
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.ports import free_port
from tests.support.router import Router
from tests.support.waiting import wait_until
from tests.unit.cli.running import Cli, part10_files

TITLES = ("GOOD", "REFUSED", "AGAIN", "DOWN", "HELD")


def one(cli: Cli, router: Router, image: Image) -> dict[str, Any]:
    done = cli("why", image.sop_instance, "--json", "-c", router.config_file)
    assert done.status == 0, done.err
    (found,) = done.facts["detail"]
    return dict(found)


def send_each(cli: Cli, router: Router, folder: Path) -> dict[str, Image]:
    """An image from each title, of a study of its own."""
    sent = {}
    for title in TITLES:
        (sent[title],) = part10_files(folder / title, 1, seed=title)
        target = f"ASYNCROUTE@127.0.0.1:{router.port}"
        assert cli("send", folder / title, "--to", target, "--calling", title).status == 0
    return sent


def test_stories_of_a_router_that_runs_and_of_one_that_does_not(
    cli: Cli, make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path
) -> None:
    refusing = receivers.receiver(Behaviour(status=0x0122, comment="not ours"))
    busy = receivers.receiver(Behaviour(statuses=[0x0110, 0xA700], comment="later"))
    ports = {"refused": refusing.port, "again": busy.port, "down": free_port()}
    router = make_router(
        destination=[
            settings.folder("good", tmp_path / "out", layout="{SOPInstanceUID}.dcm"),
            *(settings.dicom(name, port) for name, port in ports.items()),
        ],
        route=[settings.route(f"r-{n}", [n], match={"calling_aet": n.upper()}) for n in ("good", *ports)],
    ).start()
    before = time.time()
    sent = send_each(cli, router, tmp_path / "in")
    router.wait_delivered(2)
    router.wait_status(lambda s: router.channel("down", s)["state"] == "down", 20, "the destination is down")
    wait_until(lambda: one(cli, router, sent["AGAIN"])["state"] == "delivered", 20, "the result is written")

    check_stories(cli, router, sent, before)
    (waiting,) = one(cli, router, sent["DOWN"])["deliveries"]
    assert (waiting["attempts"], waiting["settled_at"]) == (0, None)
    shown = cli("why", sent["DOWN"].sop_instance, "-c", router.config_file).out
    assert "now: down is down" in shown
    assert "the destination is down: cannot connect: connection refused" in shown
    router.stop()

    check_stories(cli, router, sent, before)
    shown = cli("why", sent["DOWN"].sop_instance, "-c", router.config_file).out
    assert "now: down is stopped" in shown
    assert "the destination is down: cannot connect: connection refused" in shown
    unknown = cli("why", "1.2.3.4.5", "-c", router.config_file)
    assert (unknown.status, unknown.out) == (1, "")
    assert "among 5 images" in unknown.error


def check_stories(cli: Cli, router: Router, sent: dict[str, Image], before: float) -> None:
    stories = {title: one(cli, router, image) for title, image in sent.items()}
    for title, it in stories.items():
        assert (it["calling_aet"], it["called_aet"], it["peer"]) == (title, "ASYNCROUTE", "127.0.0.1")
        assert before <= it["received_at"] <= time.time()
    assert {title: it["state"] for title, it in stories.items()} == {
        "GOOD": "delivered",
        "REFUSED": "failed",
        "AGAIN": "delivered",
        "DOWN": "waiting",
        "HELD": "held",
    }
    assert stories["HELD"]["hold_reason"] == "no route matches"
    assert stories["HELD"]["deliveries"] == []
    (good,) = stories["GOOD"]["deliveries"]
    assert (good["route"], good["attempts"], good["events"]) == ("r-good", 1, [])
    assert all(seconds >= 0 for seconds in good["stages"].values())
    (refused,) = stories["REFUSED"]["deliveries"]
    assert (refused["state"], refused["last_status"]) == ("failed", "0x0122")
    assert '"not ours"' in refused["last_error"]
    (again,) = stories["AGAIN"]["deliveries"]
    assert (again["state"], [event["kind"] for event in again["events"]]) == ("delivered", ["retry", "attempt"])
    assert all('"later"' in event["text"] for event in again["events"])


def test_the_story_of_a_study(cli: Cli, make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    images = part10_files(tmp_path / "in", 6)
    odd = images[2]
    receiver = receivers.receiver(Behaviour(status_of={odd.sop_instance: 0xB000}))
    router = make_router(
        destination=[settings.dicom("pacs", receiver.port)], route=[settings.route("all", ["pacs"])]
    ).start()
    assert cli("send", tmp_path / "in", "--to", f"ASYNCROUTE@127.0.0.1:{router.port}").status == 0
    router.wait_delivered(6)
    router.stop()
    (first,) = cli("why", images[0].sop_instance, "--json", "-c", router.config_file).facts["detail"]
    for running in (False, True):
        if running:
            router.start()
        found = cli("why", first["study_uid"], "--json", "-c", router.config_file).facts
        assert (found["kind"], found["images"], found["counts"]) == ("study", 6, {"pacs": {"delivered": 6}})
        assert [it["sop_instance_uid"] for it in found["detail"]] == [odd.sop_instance]
