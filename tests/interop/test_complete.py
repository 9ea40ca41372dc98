"""``when = "complete"`` with the program, dcmtk's storescu and storescp, and an exact receiver."""

from __future__ import annotations

import json
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support import peers, settings, synthetic
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_exactly, received
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import write_part10
from tests.support.peers import StoreSCP
from tests.support.router import Router, run_cli
from tests.support.waiting import wait_until

DOCS = Path(__file__).parents[2] / "docs"
KIND = synthetic.Kind(size=4_000)
NEVER_QUIET = {"when": "complete", "quiet": "10m", "at_latest": "1h"}
ROUTE: settings.Table = {"when": "complete", "quiet": "1s", "at_latest": "10m"}


def router_to(make_router: MakeRouter, port: int, **route: Any) -> Router:
    """One destination, one route."""
    return make_router(
        destination=[settings.dicom("pacs", port)], route=[settings.route("studies", ["pacs"], **{**ROUTE, **route})]
    )


def told(router: Router, *arguments: object, status: int = 0) -> str:
    done = run_cli(*arguments, "-c", router.config_file)
    assert done.returncode == status, done
    return done.stdout + done.stderr


def waiting(router: Router, images: int, studies: int = 1) -> dict[str, Any]:
    """Wait until so many images wait for their studies."""
    status = router.wait_status(
        lambda s: (s["incomplete"]["images"], s["incomplete"]["studies"]) == (images, studies),
        20,
        f"{images} images of {studies} studies wait",
    )
    return dict(status["incomplete"])


def called_at(end: ExactReceiver) -> float:
    """When it was sent to for the first time (monotonic seconds)."""
    return min(event.at for event in end.events("open"))


def pause(seconds: float) -> None:
    """A pause of the modality's."""
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > seconds, 5, "a pause")


# --- complete by itself -----------------------------------------------------------------------------------------------


def test_a_study_goes_when_no_more_images_come(make_router: MakeRouter, tmp_path: Path) -> None:
    """dcmtk at both ends."""
    with StoreSCP(tmp_path / "storescp") as end:
        router = router_to(make_router, end.port, quiet="2s").start()
        files = [write_part10(image, tmp_path) for image in synthetic.series("dcmtk", 4, KIND)]
        peers.storescu(router.caller("MODALITY"), files[:2])
        peers.storescu(router.caller("MODALITY"), files[2:])
        waiting(router, 4)
        assert end.files() == []
        end.wait_files(4)
        router.wait_delivered(4)
        assert router.status()["incomplete"] == {
            **dict.fromkeys(("studies", "images", "late_studies", "late_images"), 0), "next_due_s": None, "list": []
        }  # fmt: skip


def test_quiet_is_measured_from_the_last_image(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    end = receivers.receiver()
    router = router_to(make_router, end.port, quiet="2s").start()
    images = synthetic.series("last", 6, KIND)
    last = 0.0
    with router.caller().associate(images) as association:
        for image in images:
            last = time.monotonic()
            assert association.store(image).status == 0
            pause(0.5)
        association.release()
    router.wait_delivered(6)
    assert_exactly(end, images)
    assert called_at(end) >= last + 2


def test_at_latest_while_images_keep_coming(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    end = receivers.receiver()
    router = router_to(make_router, end.port, quiet="3s", at_latest="4s").start()
    images = synthetic.series("endless", 400, KIND)
    began, sent = time.monotonic(), 0
    with router.caller().associate(images) as association:
        while not end.stored():
            assert time.monotonic() < began + 40, "it is never complete"
            assert association.store(images[sent]).status == 0
            sent += 1
            pause(0.2)
        association.release()
    assert called_at(end) >= began + 4
    router.wait_delivered(sent)
    assert_exactly(end, images[:sent])


def test_other_routes_do_not_wait(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    end = receivers.receiver()
    router = make_router(
        destination=[settings.dicom("pacs", end.port), settings.folder("copy", tmp_path / "copy")],
        # not a whole number of minutes: those are still shown in the first 50 ms, after which there is one less
        route=[settings.route("studies", ["pacs"], **NEVER_QUIET | {"quiet": "595s"}), settings.route("now", ["copy"])],
    ).start()
    images = synthetic.series("both", 3, KIND)
    send_all(router.caller(), images)
    router.wait_delivered(3)
    waiting(router, 3)
    pacs, copy = router.channel("pacs"), router.channel("copy")
    assert (pacs["waiting"], pacs["incomplete"], pacs["ready"], pacs["delivered"]) == (3, 3, 0, 0)
    assert (copy["waiting"], copy["incomplete"], copy["delivered"]) == (0, 0, 3)
    shown = told(router, "status")
    assert "not complete: 3 images of 1 studies wait; the next is due in 9m" in shown
    assert "waits for" in shown
    router.stop()
    assert "not complete: 3 images of 1 studies wait\n" in told(router, "status")
    assert end.stored() == []


# --- restarts ---------------------------------------------------------------------------------------------------------


def test_killed_while_a_study_waits(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    end = receivers.receiver()
    router = router_to(make_router, end.port, quiet="3s").start()
    first, second = synthetic.series("killed", 5, KIND)[:3], synthetic.series("killed", 5, KIND)[3:]
    send_all(router.caller(), first)
    router.kill()
    router.start()
    waiting(router, 3)
    last = time.monotonic()
    send_all(router.caller(), second)
    router.kill()
    assert end.stored() == []
    router.start()
    router.wait_delivered(5)
    assert_exactly(end, [*first, *second])
    assert called_at(end) >= last + 3


@pytest.mark.parametrize("point", ["completion-written", "completion-committed"])
def test_killed_at_the_completion(make_router: MakeRouter, receivers: ReceiverHost, point: str) -> None:
    end = receivers.receiver()
    router = router_to(make_router, end.port).start(True, ASYNCROUTE_CRASH=point)
    images = synthetic.series(point, 5, KIND)
    send_all(router.caller(), images)
    wait_until(lambda: not router.running, 20, f"the crash at {point}", router.log_tail)
    assert end.stored() == []
    router.start()
    router.wait_delivered(5)
    assert_exactly(end, images)


# --- late -------------------------------------------------------------------------------------------------------------


def test_late_images_are_a_completion_of_their_own(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    end = receivers.receiver()
    router = router_to(make_router, end.port, **NEVER_QUIET).start()
    images = synthetic.series("late", 5, KIND)
    send_all(router.caller(), images[:3])
    waiting(router, 3)
    (line,) = router.status()["incomplete"]["list"]
    assert told(router, "queue", "release", "--study", line["uid"]) == "3 deliveries wait no longer\n"
    router.wait_delivered(3)
    router.wait_drained()  # their files leave when their results are durable: the kill is to cost none
    send_all(router.caller(), images[3:])
    waiting(router, 2)
    router.kill()
    router.start()
    waiting(router, 2)
    assert told(router, "queue", "release", "--all") == "2 deliveries wait no longer\n"
    router.wait_delivered(5)
    assert_exactly(end, images)


def test_late_images_are_held(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    end = receivers.receiver()
    router = router_to(make_router, end.port, late="hold").start()
    images = synthetic.series("held", 6, KIND)
    send_all(router.caller(), images[:3])
    router.wait_delivered(3)
    send_all(router.caller(), images[3:])
    router.wait_status(lambda s: s["incomplete"]["late_images"] == 3, 10, "three late images")
    router.kill()
    shown = told(router, "status", status=1)
    assert "3 images of 1 studies came late and are held" in shown
    router.start()
    assert "3 images of 1 studies came late and are held" in told(router, "status", status=1)
    rows = json.loads(told(router, "queue", "list", "--state", "waiting", "--json"))
    assert {row["last_error"] for row in rows} == {"came after its study was complete; held for a person"}
    story = told(router, "why", images[3].sop_instance)
    assert "now: came after its study was complete; held for a person" in story
    told(router, "queue", "retry", "--id", rows[0]["instance_id"])
    router.wait_delivered(4)
    assert told(router, "queue", "release", "--uid", images[4].sop_instance) == "1 deliveries wait no longer\n"
    router.wait_delivered(5)
    told(router, "queue", "discard", "--state", "waiting", "--yes")
    assert set(received(end)) == {image.identity for image in images[:5]}  # the kill may have cost a few results
    told(router, "status")
    assert "released" in told(router, "why", images[4].sop_instance)


def test_a_stopped_routers_images_are_released(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    end = receivers.receiver()
    router = router_to(make_router, end.port, **NEVER_QUIET).start()
    images = synthetic.series("stopped", 3, KIND)
    send_all(router.caller(), images)
    router.stop()
    assert "waits for its study to be complete" in told(router, "why", images[0].sop_instance)
    assert told(router, "queue", "release", "--all") == "3 deliveries wait no longer\n"
    router.start()
    router.wait_delivered(3)
    assert_exactly(end, images)


# --- which images belong together -------------------------------------------------------------------------------------


def test_two_sources_of_one_study_are_kept_apart(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    end = receivers.receiver()
    router = router_to(make_router, end.port, **NEVER_QUIET).start()
    images = synthetic.series("shared", 5, KIND)
    send_all(router.caller("CT_A"), images[:3])
    send_all(router.caller("CT_B"), images[3:])
    found = waiting(router, 5, 2)
    assert {(line["calling_aet"], line["images"]) for line in found["list"]} == {("CT_A", 3), ("CT_B", 2)}
    assert len({line["uid"] for line in found["list"]}) == 1
    rows = json.loads(told(router, "queue", "list", "--json"))
    ids = [option for row in rows if row["calling_aet"] == "CT_A" for option in ("--id", row["instance_id"])]
    told(router, "queue", "release", *ids)
    router.wait_delivered(3)
    waiting(router, 2)
    assert_exactly(end, images[:3])


def test_series_of_one_study_are_complete_by_themselves(make_router: MakeRouter, tmp_path: Path) -> None:
    with StoreSCP(tmp_path / "storescp") as end:
        router = router_to(make_router, end.port, complete="series", **NEVER_QUIET).start()
        files = [write_part10(image, tmp_path) for image in synthetic.series("series", 4, KIND)]
        for file in files[2:]:
            data_set = peers.read(file)
            data_set.SeriesInstanceUID = "1.2.3.4.5"
            data_set.save_as(file)
        peers.storescu(router.caller("MODALITY"), files)
        found = waiting(router, 4, 2)
        assert {line["unit"] for line in found["list"]} == {"series"}
        assert "1.2.3.4.5" in {line["uid"] for line in found["list"]}
        told(router, "queue", "release", "--uid", str(peers.read(files[3]).SOPInstanceUID))
        router.wait_delivered(1)
        waiting(router, 3, 2)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_a_reload_changes_how_long_is_waited(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    end = receivers.receiver()
    router = router_to(make_router, end.port, **NEVER_QUIET).start()
    images = synthetic.series("reload", 4, KIND)
    send_all(router.caller(), images[:2])
    waiting(router, 2)
    story = told(router, "why", images[0].sop_instance)
    assert "now: waits for its study to be complete (last image 20" in story
    assert "if no more come" in story
    router.config["route"][0]["quiet"] = "500ms"
    router.write_config()
    told(router, "reload")
    router.wait_delivered(2)
    assert "study complete: images from 20" in told(router, "why", images[0].sop_instance)
    router.config["route"][0]["quiet"] = "10m"
    router.write_config()
    told(router, "reload")
    send_all(router.caller(), images[2:])
    waiting(router, 2)
    router.config["route"] = [settings.route("studies", ["pacs"])]
    router.write_config()
    told(router, "reload")
    router.wait_delivered(4)
    assert_exactly(end, images)


# --- configuration.md -------------------------------------------------------------------------------------------------


def test_the_example_of_the_documentation(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    """As "When a study is complete" says, with a shorter time."""
    text = (DOCS / "configuration.md").read_text("utf-8").split("## When a study is complete")[1]
    (example,) = tomllib.loads(text.split("```toml")[1].split("```")[0])["route"]
    end = receivers.receiver()
    router = make_router(destination=[settings.dicom("reading", end.port)], route=[example]).start()
    images = synthetic.series("documented", 3, KIND)
    send_all(router.caller(), images)
    assert 50 < waiting(router, 3)["next_due_s"] <= 60
    router.config["route"][0]["quiet"] = "500ms"
    router.write_config()
    told(router, "reload")
    router.wait_delivered(3)
    assert_exactly(end, images)
