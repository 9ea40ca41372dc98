"""Batches and disks that misbehave: full, gone, remote, not to be read or deleted."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import corpus, settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.dropping import batches, drop, shown, wait_over, wait_reading, wait_state, watch
from tests.support.exact_receiver import ReceiverHost, assert_exactly
from tests.support.fixtures import MakeRouter
from tests.support.images import Image, write_part10
from tests.support.power_fs import PowerDisk
from tests.support.router import Router, run_cli
from tests.support.small_disk import MIB, SmallDisk
from tests.support.waiting import wait_until

KIND = synthetic.Kind(size=300_000)
SMALL = synthetic.Kind(size=4_000)


def distinct(name: str, number: int, kind: synthetic.Kind) -> list[Image]:
    """So many images, or a few less: no two of one file name."""
    return list({image.sop_instance: image for image in synthetic.series(name, number, kind)}.values())


def test_a_full_disk_makes_the_reader_wait(tmp_path: Path, receivers: ReceiverHost) -> None:
    data, base = tmp_path / "data", tmp_path / "incoming"
    images = [*distinct("full", 60, KIND), synthetic.image("large", 0, synthetic.Kind(size=3_000_000))]
    down = receivers.receiver(start=False)
    with SmallDisk({data: "16m"}) as disk:
        router = disk.router(
            tmp_path / "router",
            {
                "node": settings.node(data_dir=str(data), min_free=0),
                "destination": [settings.dicom("pacs", down.port)],
                "route": [settings.route("all", ["pacs"])],
                "watch": [watch(base, after="delete")],
            },
        )
        try:
            router.start()
            drop(base, "set", images)
            it = wait_reading(router, "set", "space")
            assert (it["state"], it["errors"], it["source"]) == ("reading", 0, "left")
            assert "space" in router.status()["watches"][0]["carried"][0]["waits"]
            down.start()
            it = wait_state(router, "set", "done", source="gone")
            assert (it["images"], it["delivered"], it["bad"], it["run"]) == (len(images), len(images), 0, 1)
            assert_exactly(down, images)
            router.stop()
        finally:
            router.kill()
            Router.made.remove(router)


def test_max_spool_is_kept(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    images = distinct("bounded", 60, KIND)
    slow = receivers.receiver(Behaviour(delay=0.02))
    table = {"name": "trial", "mode": "batch", "paths": [str(tmp_path / "base")], "max_spool": "2 MiB", "workers": 1}
    (tmp_path / "base").mkdir()
    for number in range(3):
        drop(tmp_path / "base", f"set{number}", images[number::3])
    router = make_router(
        destination=[settings.dicom("pacs", slow.port, max_associations=1)],
        route=[settings.route("all", ["pacs"])],
        watch=[table],
    ).start()
    assert "3 batches queued" in run_cli("batch", "start", "trial", "-c", router.config_file).stdout
    most, under_way = 0, 0
    waits: set[str] = set()

    def over() -> bool:
        nonlocal most, under_way
        status = router.status()
        (it,) = status["watches"]
        most = max(most, status["spool"]["bytes"])
        under_way = max(under_way, it["reading"] + it["processing"])
        waits.update(each["waits"] for each in it["carried"])
        return all(each["state"] == "done" for each in batches(router))

    wait_until(over, 60, "all are done", lambda: json.dumps(batches(router))[-3000:])
    assert MIB < most <= 2 * MIB + MIB
    assert "the spool holds max_spool: waits until images are delivered" in waits
    assert under_way == 1, "the one worker carries each to its end"
    assert_exactly(slow, images)


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Path]:
    """A folder on what says that it is a network file system."""
    with PowerDisk(tmp_path / "remote", "sshfs"):
        yield tmp_path / "remote"


def nothing_is_new(router: Router, base: Path) -> int:
    """Wait until the watch of ``base`` has looked again at what lies there; how many batches there were before."""
    before = len(batches(router))
    (base / "empty.tmp").mkdir()
    (base / "empty.tmp").rename(base / f"empty{before}")
    wait_state(router, f"empty{before}", "empty")
    wait_until(lambda: not any(it["settling"] for it in router.status()["watches"]), 20, "all is as it was")
    assert len(batches(router)) == before + 1
    return before


def notified(router: Router) -> bool:
    """Whether the router has the system tell it of changes."""
    links = Path(f"/proc/{router.pid}/fd")
    return any("inotify" in str(link.readlink()) for link in links.iterdir() if link.is_symlink())


def test_a_network_file_system_is_looked_at(
    make_router: MakeRouter, receivers: ReceiverHost, remote: Path, tmp_path: Path
) -> None:
    """It tells nothing of changes, and its inodes may have another number every time."""
    first, second, near = (distinct(name, 3, SMALL) for name in ("first", "second", "near"))
    end = receivers.receiver()
    router = make_router(
        destination=[settings.dicom("pacs", end.port)],
        route=[settings.route("all", ["pacs"])],
        watch=[watch(remote / "incoming", poll="300ms")],
    )
    drop(remote / "incoming", "first", first)
    router.start()
    assert wait_state(router, "first", "done")["delivered"] == 3
    drop(remote / "incoming", "second", second)
    assert wait_state(router, "second", "done")["delivered"] == 3
    assert not notified(router)
    router.stop()
    router.config["watch"].append(watch(tmp_path / "near", name="near"))
    router.write_config()
    router.start()
    drop(tmp_path / "near", "near", near)
    assert wait_state(router, "near", "done")["delivered"] == 3
    assert notified(router)
    assert nothing_is_new(router, remote / "incoming") == 3
    assert_exactly(end, [*first, *second, *near])


def test_a_folder_that_goes_while_it_is_read(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    images, other = distinct("going", 200, SMALL), distinct("other", 2, SMALL)
    down = receivers.receiver(start=False)
    router = make_router(
        destination=[settings.dicom("pacs", down.port, max_backlog={"images": 5})],
        route=[settings.route("all", ["pacs"])],
        watch=[watch(tmp_path / "incoming", workers=1)],
    ).start()
    folder = drop(tmp_path / "incoming", "going", images)
    wait_reading(router, "going", "pacs")
    shutil.rmtree(folder)
    down.start()
    it = wait_state(router, "going", "error")
    assert it["reason"] == "its folder went away"
    assert (it["images"], it["delivered"]) == (it["now"]["images"], it["now"]["images"])
    drop(tmp_path / "incoming", "going", other)
    assert wait_state(router, "going", "done")["run"] == 2
    assert it["now"]["images"] + 2 == len(down.stored())


def test_odd_names_and_folders(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    """New lines, bytes that are no text, paths that are too long, links that lead out, archives in a folder."""
    base = tmp_path / "incoming"
    odd, deep, zipped = distinct("odd", 4, SMALL), distinct("deep", 2, SMALL), distinct("zipped", 2, SMALL)
    outside = distinct("outside", 1, SMALL)
    end = receivers.receiver()
    router = make_router(
        destination=[settings.dicom("pacs", end.port)],
        route=[settings.route("all", ["pacs"])],
        watch=[watch(base, after="delete")],
    )
    names = [b"new\nline.dcm", b"\xff\xfe.dcm", b"\xff\xfd.dcm", b"\x1b[31m.dcm"]
    writing = drop(base, "odd.part", odd)
    for image, name in zip(odd, names, strict=True):
        os.rename(writing / f"{image.sop_instance}.dcm", os.fsencode(writing) + b"/" + name)
    os.rename(writing, os.fsencode(base) + b"/o\ndd\xff")
    before = drop(base, "deep.part", deep)
    number = os.open(before, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("a" * 250, dir_fd=number)
        below = os.open("a" * 250, os.O_RDONLY, dir_fd=number)
        os.close(number)
        number = below
    os.close(number)
    before.rename(base / "deep")
    shutil.make_archive(str(tmp_path / "inner"), "zip", drop(tmp_path, "for the archive", zipped[1:]))
    drop(base, "zipped", zipped[:1], {"inner.zip": (tmp_path / "inner.zip").read_bytes()})
    write_part10(outside[0], tmp_path)
    (base / "link").symlink_to(tmp_path / "for the archive")
    router.start()
    ends = {it["name"]: it for it in wait_over(router, 3)}
    assert {name: (it["state"], it["delivered"], it["source"]) for name, it in ends.items()} == {
        "o\ndd\\udcff": ("done", 4, "gone"),
        "deep": ("error", 2, "left"),
        "zipped": ("error", 1, "left"),
    }
    (trouble,) = shown(router, "deep")["troubles"]
    assert (trouble["error"], trouble["text"]) == (True, "cannot be read: file name too long")
    (trouble,) = shown(router, "zipped")["troubles"]
    assert (trouble["file"], trouble["text"]) == (
        *("inner.zip", "is an archive; archives inside a batch are not opened"),
    )
    for words in (["batch", "list"], ["batch", "export"], ["batch", "show", "1"], ["status"]):
        done = run_cli(*words, "-c", router.config_file)
        assert done.returncode in {0, 1}, done.stderr
        assert "\x1b" not in done.stdout
    assert sorted(os.listdir(base)) == ["deep", "link", "zipped"]
    assert_exactly(end, [*odd, *deep, *zipped[:1]])
    assert nothing_is_new(router, base) == 3
    shutil.rmtree(base / "deep")  # others walk through their folders by path


def test_a_source_that_cannot_go_is_told_once(tmp_path: Path, receivers: ReceiverHost) -> None:
    """Where something is mounted, a folder cannot be removed; where the target is a file, nothing can be moved to."""
    base, other = tmp_path / "incoming", tmp_path / "other"
    images, more = distinct("mounted", 3, SMALL), distinct("unmoved", 2, SMALL)
    end = receivers.receiver()
    folder = drop(watch_folder(base), "set", images[:2])
    (tmp_path / "file").write_text("in the way")
    with SmallDisk({folder / "sub": "4m"}) as disk:
        write_part10(images[2], disk.inside(folder / "sub"))
        router = disk.router(
            tmp_path / "router",
            {
                "node": settings.node(),
                "destination": [settings.dicom("pacs", end.port)],
                "route": [settings.route("all", ["pacs"])],
                "watch": [
                    watch(base, after="delete"),
                    watch(other, name="other", after=f"move:{tmp_path / 'file' / 'done'}"),
                ],
            },
        )
        try:
            router.start()
            drop(other, "unmoved", more)
            wait_over(router, 2)
            it = wait_state(router, "set", "done", delivered=3)
            (trouble,) = it["troubles"]
            rest = f"{base}/.set.asyncroute-{it['id']}-doomed"
            assert trouble["text"] == f"could not be deleted; what is left of it is at {rest}: device or resource busy"
            assert (it["source"], it["warnings"]) == ("left", 1)
            (trouble,) = wait_state(router, "unmoved", "done", delivered=2)["troubles"]
            assert trouble["text"] == "stays where it is: not a directory"
            router.stop()
            router.start()
            assert nothing_is_new(router, other) == 2
            assert nothing_is_new(router, base) == 3
            assert_exactly(end, [*images, *more])
            assert len(list((other / "unmoved").iterdir())) == 2
            router.stop()
        finally:
            router.kill()
            Router.made.remove(router)


def watch_folder(path: Path) -> Path:
    """The folder of a watch, made."""
    path.mkdir()
    return path


def test_a_source_that_changes_between_reading_and_deleting(
    make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path
) -> None:
    """A file is written to while its batch is read, one comes while it is delivered, and a zip is replaced."""
    base = tmp_path / "incoming"
    images, late, zips = distinct("changing", 150, SMALL), distinct("late", 1, SMALL), distinct("zips", 2, SMALL)
    down = receivers.receiver(start=False)
    router = make_router(
        destination=[settings.dicom("pacs", down.port, max_backlog={"images": 5})],
        route=[settings.route("all", ["pacs"])],
        watch=[watch(base, after="delete")],
    ).start()
    folder = drop(base, "set", images)
    wait_reading(router, "set", "pacs")
    first = min(folder.iterdir())
    content = first.read_bytes()
    first.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(first, (0, 0))
    down.start()
    it = wait_state(router, "set", "done", source="gone")
    assert (it["files"], it["images"], it["delivered"]) == (len(images), len(images), len(images) + 1)
    assert [each["text"] for each in it["troubles"] if each["file"] == first.name] == [
        "has the SOP Instance UID of the file as it was read before, but other content"
    ]
    last = [stored for stored in down.stored() if stored.sop_instance == first.stem][-1]
    changed = hashlib.sha256(data_set_of(content)[:-1] + bytes([content[-1] ^ 1])).hexdigest()
    assert last.sha256 == changed, "what is deleted has been delivered"

    down.stop()
    shutil.make_archive(str(tmp_path / "first"), "zip", drop(tmp_path, "one", zips[:1]))
    shutil.make_archive(str(tmp_path / "second"), "zip", drop(tmp_path, "two", zips[1:]))
    folder = drop(base, "grown", late)
    shutil.move(tmp_path / "first.zip", base / "x.tmp")
    (base / "x.tmp").rename(base / "z.zip")
    for name in ("grown", "z.zip"):
        wait_state(router, name, "processing")
    (folder / "more.txt").write_text("late")
    shutil.move(tmp_path / "second.zip", base / "x.tmp")
    (base / "x.tmp").rename(base / "z.zip")
    down.start()
    for name in ("grown", "z.zip"):
        wait_state(router, name, "done", source="gone", run=2)
    runs = {(it["name"], it["run"]): (it["source"], it["not_dicom"]) for it in batches(router)}
    assert (runs["grown", 1], runs["grown", 2], runs["z.zip", 1]) == (("left", 0), ("gone", 1), ("left", 0))
    assert {image.sop_instance for image in zips} <= {stored.sop_instance for stored in down.stored()}
    assert not list(base.iterdir())
    again = [each["text"] for each in shown(router, "z.zip", run=1)["troubles"]]
    assert again == ["stays where it is: is not as it was read: something came later"]


def data_set_of(part10: bytes) -> bytes:
    """What stands behind the File Meta Information."""
    return part10[corpus.read_meta(part10).offset :]
