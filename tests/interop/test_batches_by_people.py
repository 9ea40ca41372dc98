"""What people do while batches are under way, or after: queue commands, cancel, reload, kill and restart."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path

from tests.support import settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.dropping import OVER, batches, drop, shown, wait_over, wait_reading, wait_state, watch
from tests.support.exact_receiver import ReceiverHost, assert_all_there, assert_exactly, received
from tests.support.fixtures import MakeRouter
from tests.support.router import Router, run_cli
from tests.support.waiting import wait_until

KIND = synthetic.Kind(size=4_000)


def told(router: Router, *arguments: object, status: int = 0) -> str:
    done = run_cli(*arguments, "-c", router.config_file)
    assert done.returncode == status, done
    return done.stdout + done.stderr


def test_a_batch_follows_what_becomes_of_its_images(
    make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path
) -> None:
    bad, nowhere = synthetic.series("bad", 4, KIND), synthetic.series("nowhere", 3, KIND)
    end = receivers.receiver(Behaviour(status_of={image.sop_instance: 0x0122 for image in bad[:2]}))
    other = receivers.receiver()
    router = make_router(
        destination=[settings.dicom("pacs", end.port), settings.dicom("other", other.port)],
        route=[settings.route("some", ["pacs"], match={"watch": "incoming"})],
        watch=[watch(tmp_path / "incoming", after="delete"), watch(tmp_path / "other", name="other", after="delete")],
    ).start()
    drop(tmp_path / "incoming", "bad", bad)
    drop(tmp_path / "other", "nowhere", nowhere)
    wait_over(router, 2)
    assert (shown(router, "bad")["reason"], shown(router, "bad")["source"]) == ("2 deliveries failed", "left")
    assert shown(router, "nowhere")["reason"] == "3 images are held"

    end.set(Behaviour(status_of={bad[0].sop_instance: 0x0122}))
    told(router, "queue", "retry", "--to", "pacs")
    it = wait_state(router, "bad", "error", failed=1)
    assert (it["delivered"], it["reason"]) == (3, "1 deliveries failed")
    router.stop()
    told(router, "queue", "reroute", "other", "--to", "pacs")
    assert "bad" in told(router, "batch", "list", "--state", "processing")
    router.start()
    it = wait_state(router, "bad", "done", source="gone")
    assert (it["delivered"], it["failed"], it["given_up"], it["reason"], it["run"]) == (4, 0, 0, "", 1)
    assert_exactly(end, bad[1:])
    assert_exactly(other, bad[:1])

    first = router.status()["watches"][1]
    assert (first["errors"], first["processing"]) == (1, 0)
    ids = [row["instance_id"] for row in json.loads(told(router, "queue", "list", "--state", "held", "--json"))]
    told(router, "queue", "discard", "--id", ids[0], "--yes")
    it = wait_state(router, "nowhere", "error", given_up=1)
    assert it["reason"] == "2 images are held; 1 deliveries were given up by a person"
    told(router, "queue", "reroute", "pacs", "--held")
    it = wait_state(router, "nowhere", "error", delivered=2)
    assert (it["held"], it["given_up"], it["source"]) == (0, 1, "left")
    told(router, "batch", "cancel", "nowhere")
    wait_until(lambda: not router.status()["watches"][1]["errors"], 20, "nobody has to look at it any more")
    assert sorted(path.name for path in tmp_path.glob("*/nowhere")) == ["nowhere"]
    drop(tmp_path / "incoming", "more", [], {"notes.txt": b"hello", ".hidden": b"", "cut.dcm": bytes(128) + b"DICM"})
    wait_state(router, "more", "error")
    check_exports(router, sum(image.size for image in bad), sum(image.size for image in nowhere))


def check_exports(router: Router, *sizes: int) -> None:
    """What was exported, against what was dropped."""
    figures = ("files", "images", "bytes", "not_dicom", "skipped", "bad", "delivered", "held", "failed", "given_up")
    wanted = {
        "bad": ("done", 4, 4, sizes[0], 0, 0, 0, 4, 0, 0, 0),
        "nowhere": ("error", 3, 3, sizes[1], 0, 0, 0, 2, 0, 0, 1),
        "more": ("error", 3, 0, 0, 1, 1, 1, 0, 0, 0, 0),
    }
    rows = json.loads(told(router, "batch", "export", "--form", "json"))
    assert {row["name"]: tuple(row[key] for key in ("state", *figures)) for row in rows} == wanted
    assert all(row["queued_at"] <= row["begun_at"] <= row["read_at"] <= row["ended_at"] for row in rows)
    lines = list(csv.DictReader(io.StringIO(told(router, "batch", "export"))))
    assert [{key: str(row[key]) for key in figures} for row in rows] == [
        {key: line[key] for key in figures} for line in lines
    ]
    summed = ("batches", "done", "error", "files", "images", "bytes", "not_dicom", "delivered", "errors")
    days = json.loads(told(router, "batch", "export", "--per", "day", "--form", "json"))
    assert {day["day"] for day in days} == {time.strftime("%Y-%m-%d", time.localtime(row["ended_at"])) for row in rows}
    total = [sum(day[key] for day in days if day["watch"] == "incoming") for key in summed]
    assert total == [2, 1, 1, 7, 4, sizes[0], 1, 4, 1]
    mine = [row for row in rows if row["watch"] == "incoming"]
    took = sum(day["seconds"] for day in days if day["watch"] == "incoming")
    assert abs(took - sum(row["ended_at"] - row["begun_at"] for row in mine)) < 0.01


def test_changes_while_a_batch_is_read(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    """A reload that adds, changes and removes watches; a kill; a cancel; each with a batch half read."""
    images = list({image.sop_instance: image for image in synthetic.series("long", 250, KIND)}.values())
    small, many = synthetic.series("small", 2, KIND), len(images)
    slow, end = receivers.receiver(start=False), receivers.receiver()
    first = watch(tmp_path / "incoming", after="delete", calling_aet="FIRST")
    router = make_router(
        destination=[settings.dicom("slow", slow.port, max_backlog={"images": 5}), settings.dicom("pacs", end.port)],
        route=[
            settings.route("slow", ["slow"], match={"calling_aet": "FIRST"}),
            settings.route("fast", ["pacs"], match={"calling_aet": "SECOND"}),
        ],
        watch=[first],
    ).start()
    drop(tmp_path / "incoming", "long", images)
    wait_reading(router, "long", "slow")
    before = shown(router, "long")

    def reload(*watches: settings.Table) -> str:
        router.config["watch"] = list(watches)
        router.write_config()
        return told(router, "reload")

    second = watch(tmp_path / "second", name="second", calling_aet="SECOND")
    assert "watch" in reload(first, second)
    drop(tmp_path / "second", "added", small)
    assert wait_state(router, "added", "done")["delivered"] == 2
    reload({**first, "settle": "1s", "workers": 1}, second)
    reload(second)
    assert [(it["name"], it["mode"], it["reading"]) for it in router.status()["watches"]] == [
        ("second", "stream", 0),
        ("incoming", "", 1),
    ]
    reload(first, second)
    assert [it["name"] for it in router.status()["watches"]] == ["incoming", "second"]
    it = shown(router, "long")
    assert (it["id"], it["state"], it["run"], it["begun_at"]) == (*(before["id"], "reading", 1, before["begun_at"]),)

    router.kill()
    router.config["watch"] = [second]
    router.write_config()
    router.start()
    wait_until(lambda: len(router.status()["watches"]) == 2, 20, "it is known", router.log_tail)
    assert router.status()["watches"][1]["carried"] == [], "how to read on is not known"
    (trouble,) = [line for line in router.status()["trouble"] if "watch incoming" in line]
    assert trouble.endswith("it is no longer in the configuration, and 1 batches of it are not read")
    reload(second, first)
    wait_reading(router, "long", "slow")
    admitted = shown(router, "long")["now"]["images"]
    assert admitted < many
    told(router, "batch", "cancel", "long")
    wait_state(router, "long", "processing")
    slow.start()
    it = wait_state(router, "long", "error")
    assert (it["reason"], it["delivered"], it["source"]) == ("cancelled by a person", it["images"], "left")
    assert admitted <= it["images"] < many
    told(router, "batch", "retry", "long")
    it = wait_state(router, "long", "done", source="gone")
    assert (it["images"], it["delivered"], it["run"]) == (many, many, 1)
    assert_all_there([slow], images)
    assert router.status()["totals"]["received"] == many + 2, "nothing was submitted twice"
    assert received(slow).total() - many <= 5, "but what was being sent at the kill"
    assert {it["state"] for it in batches(router)} <= set(OVER)
