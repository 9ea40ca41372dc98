"""Watched folders with the program and an exact receiver: streaming, batches by hand, restarts, people's words."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

from tests.support import settings, synthetic
from tests.support.dropping import batches, drop, wait_over, watch
from tests.support.exact_receiver import ReceiverHost, assert_exactly, received
from tests.support.fixtures import MakeRouter
from tests.support.router import Router, run_cli

KIND = synthetic.Kind(size=4_000)
LARGE = synthetic.Kind(size=3_000_000)


def watching(make_router: MakeRouter, port: int, *watches: settings.Table, **route: Any) -> Router:
    """One destination, to which everything from the first watch goes."""
    match = {"watch": watches[0]["name"]}
    return make_router(
        destination=[settings.dicom("pacs", port)],
        route=[settings.route("dropped", ["pacs"], match=match, **route)],
        watch=list(watches),
    )


def test_folders_that_are_dropped_are_delivered(
    make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path
) -> None:
    base = tmp_path / "incoming"
    images = [*synthetic.mixed("first", 6), *synthetic.series("large", 2, LARGE)]
    later = synthetic.series("later", 3, KIND)
    end = receivers.receiver()
    router = watching(make_router, end.port, watch(base))
    drop(base, "before", images, {"notes.txt": b"hello", "sub/DICOMDIR": b"x", ".hidden": b"y"})
    router.start()
    (first,) = wait_over(router)
    drop(base, "after", later)
    _, second = wait_over(router, 2)
    assert (first["name"], first["state"], first["images"], first["files"]) == ("before", "done", 8, 11)
    assert (first["not_dicom"], first["skipped"], first["delivered"]) == (2, 1, 8)
    assert (second["name"], second["state"], second["delivered"]) == ("after", "done", 3)
    assert_exactly(end, [*images, *later])
    router.stop()
    router.start()
    router.wait_drained()
    assert len(batches(router)) == 2
    assert received(end).total() == len(images) + len(later)
    assert "changes detected" not in router.log_file.read_text(), "what the library says of every event"


def told(router: Router, *arguments: object, status: int = 0) -> str:
    done = run_cli(*arguments, "-c", router.config_file)
    assert done.returncode == status, done
    return done.stdout + done.stderr


def test_what_becomes_of_the_source(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    deleting, moving, done = tmp_path / "deleting", tmp_path / "moving", tmp_path / "done"
    end = receivers.receiver()
    router = make_router(
        destination=[settings.dicom("pacs", end.port)],
        route=[settings.route("all", ["pacs"], match={"watch": ["gone", "moved"]})],
        watch=[
            watch(deleting, name="gone", after="delete"),
            watch(moving, name="moved", after=f"move:{done}"),
            watch(tmp_path / "held", name="held", after="delete"),
        ],
    ).start()
    images = [synthetic.series(name, 2, KIND) for name in ("a", "b", "c", "d")]
    drop(deleting, "a", images[0])
    drop(moving, "b", images[1])
    drop(tmp_path / "held", "c", images[2])
    (empty := tmp_path / "deleting" / "empty.tmp").mkdir()
    empty.rename(deleting / "nothing")
    wait_over(router, 4)
    ends = {it["name"]: (it["state"], it["source"]) for it in batches(router)}
    assert ends == {
        "a": ("done", "gone"),
        "b": ("done", "gone"),
        "c": ("error", "left"),
        "nothing": ("empty", "left"),
    }
    assert [path.name for path in deleting.iterdir()] == ["nothing"]
    assert not list(moving.iterdir())
    assert len(list((done / "b").iterdir())) == 2
    drop(deleting, "a", images[3])
    again = wait_over(router, 5)[-1]
    assert (again["name"], again["run"], again["state"]) == ("a", 2, "done")
    assert_exactly(end, [*images[0], *images[1], *images[3]])
    shown = json.loads(told(router, "batch", "show", "held/c", "--json"))
    assert (shown["now"]["held"], shown["reason"]) == (2, "2 images are held")
    running = json.loads(told(router, "status", "--json", status=1))
    router.stop()
    stopped = json.loads(told(router, "status", "--json", status=1))
    assert [it["errors"] for it in stopped["watches"]] == [0, 0, 1]
    assert [it | {"settling": 0} for it in running["watches"]] == stopped["watches"]
    assert stopped["trouble"] == running["trouble"]
    assert "watch held: 1 batches ended in error" in told(router, "status", status=1)


def test_batches_by_hand(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    bases = [tmp_path / "one", tmp_path / "two"]
    sets = {name: synthetic.series(name, 2, KIND) for name in ("p", "q", "r", "s")}
    for base in (*bases, bases[1] / "first"):
        base.mkdir()
    drop(bases[0], "p", sets["p"])
    drop(bases[1], "q", sets["q"])
    drop(bases[1] / "first", "r", sets["r"])
    (bases[0] / "x.tmp12").mkdir()
    end = receivers.receiver()
    table = {"name": "research", "mode": "batch", "paths": [str(base) for base in bases], "workers": 1}
    router = watching(make_router, end.port, table).start()
    assert "1 of them with errors" not in told(
        router, "batch", "start", "research", "--number", "2", "--subfolder", "first", "--follow"
    )
    assert [it["name"] for it in wait_over(router, 2)] == ["r", "p"]
    assert "1 batches queued" in told(router, "batch", "start", "research")
    wait_over(router, 3)
    assert "0 batches queued" in told(router, "batch", "start", "research")
    assert_exactly(end, [*sets["p"], *sets["q"], *sets["r"]])
    told(router, "watch", "stop", "research")
    drop(bases[0], "s", sets["s"])
    assert "is stopped" in told(router, "batch", "start", "research")
    assert "not finished: 1 queued" in told(router, "batch", "start", "research", status=1)
    told(router, "batch", "cancel", "research/s")
    assert "queued again" in told(router, "batch", "retry", "s")
    router.stop()
    assert "research/s" in told(router, "batch", "list", "--state", "queued")
    (left,) = json.loads(told(router, "status", "--json"))["watches"]
    assert (left["name"], left["mode"], left["stopped"], left["queued"], left["errors"]) == (
        *("research", "batch", True, 1, 0),
    )
    assert (left["paths"], [it["name"] for it in left["last"]]) == ([*map(str, bases)], ["r", "p", "q"])
    router.start()
    assert json.loads(told(router, "watch", "status", "--json"))[0]["stopped"]
    told(router, "watch", "start")
    wait_over(router, 4)
    lines = list(csv.DictReader(io.StringIO(told(router, "batch", "export", "--per", "day"))))
    assert [(it["batches"], it["done"], it["images"]) for it in lines] == [("4", "4", "8")]
    assert len(list(csv.DictReader(io.StringIO(told(router, "batch", "export"))))) == 4
    assert "done" in told(router, "batch", "show", "s")


def test_bad_entries_hold_up_nothing(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    base = tmp_path / "incoming"
    end = receivers.receiver()
    router = watching(make_router, end.port, watch(base, workers=1), watch(tmp_path / "strict", name="s", strict=True))
    router.start()
    good = synthetic.series("good", 3, KIND)
    whole = drop(base, "copies.part", good[:1]).rename(base / "twice")
    file = next(whole.iterdir())
    (whole / "second.dcm").write_bytes(file.read_bytes())
    bad = drop(base, "bad", good[1:2], {"cut.dcm": file.read_bytes()[:200], "later.tmp": b"x"})
    (bad / "link.dcm").symlink_to("/etc/passwd")
    ended = {it["name"]: it for it in wait_over(router, 2)}
    assert (ended["twice"]["state"], ended["twice"]["duplicates"], ended["twice"]["images"]) == ("done", 1, 1)
    assert (ended["bad"]["state"], ended["bad"]["bad"], ended["bad"]["delivered"]) == ("error", 3, 1)
    for name in ("cut.dcm", "later.tmp", "link.dcm"):
        (bad / name).unlink()
    (bad / "new.dcm").write_bytes(next(drop(tmp_path, "elsewhere", good[2:]).iterdir()).read_bytes())
    told(router, "batch", "retry", "bad")
    wait_over(router, 2)
    ended = {it["name"]: it for it in wait_over(router, 2)}
    assert (ended["bad"]["state"], ended["bad"]["delivered"], ended["bad"]["run"]) == ("done", 2, 1)
    two = [synthetic.image("strict", n, KIND, patient=f"PAT-{n}") for n in range(2)]
    drop(tmp_path / "strict", "two", two)
    strict = wait_over(router, 3)[-1]
    assert strict["state"] == "error"
    assert "several patients" in strict["reason"]
    assert_exactly(end, good)


def test_a_full_backlog_makes_the_reader_wait(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    base = tmp_path / "incoming"
    images = synthetic.series("many", 60, KIND)
    end = receivers.receiver()
    router = make_router(
        destination=[settings.dicom("pacs", end.port, max_backlog={"images": 5})],
        route=[settings.route("all", ["pacs"])],
        watch=[watch(base)],
    )
    router.start()
    drop(base, "many", images)
    (it,) = wait_over(router)
    assert (it["state"], it["images"], it["bad"]) == ("done", 60, 0)
    assert_exactly(end, images)


def test_an_archive_is_a_batch(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    base, made = tmp_path / "incoming", tmp_path / "made"
    made.mkdir()
    images = synthetic.series("zipped", 3, KIND)
    drop(made, "set", images)
    end = receivers.receiver()
    router = watching(make_router, end.port, watch(base, after="delete")).start()
    shutil.make_archive(str(made / "set"), "zip", made / "set")
    shutil.move(made / "set.zip", base / "set.zip.tmp")
    (base / "set.zip.tmp").rename(base / "set.zip")
    (it,) = wait_over(router)
    assert (it["name"], it["state"], it["delivered"], it["source"]) == ("set.zip", "done", 3, "gone")
    assert not list((router.data_dir / "unpacked").iterdir())
    assert_exactly(end, images)
