"""Files of the spool deleted, cut or altered behind the router's back: dead letters with the reason, all else flows."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import settings, synthetic
from tests.support.corpus import read_meta
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_exactly
from tests.support.exact_sender import Caller, send, send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import Image
from tests.support.router import Router, run_cli
from tests.support.waiting import wait_until

Spoil = Callable[[Path, Path], object]


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 4]))


def offset(path: Path) -> int:
    return read_meta(path.read_bytes()).offset


def in_the_meta(word: bytes) -> Spoil:
    """Alters a byte behind ``word`` in the File Meta."""
    return lambda path, _: flip(path, path.read_bytes().index(word) + len(word) + 6)


def append(path: Path, _: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


SPOILS: dict[str, tuple[Spoil, str]] = {
    "deleted": (lambda path, _: path.unlink(), "missing|No such file"),
    "cut": (lambda path, _: os.truncate(path, path.stat().st_size - 100), "damaged|shorter"),
    "emptied": (lambda path, _: os.truncate(path, 0), "damaged|shorter"),
    "longer": (append, "damaged|longer"),
    "a bit of a pixel": (lambda path, _: flip(path, path.stat().st_size - 700), "its checksum is not the one"),
    "a bit of a UID in the data": (lambda path, _: flip(path, offset(path) + 60), "its checksum is not the one"),
    "a bit of the meta's UID": (in_the_meta(b"\2\0\3\0UI"), "its header is not the one it was written with"),
    "a bit of the facts": (in_the_meta(b"ASYNCRTE"), "its header is not the one it was written with"),
    "another image's file": (lambda path, other: shutil.copyfile(other, path), "it is the file of another image"),
}
"""What is done to a file (the second path: another image's), and a reason that is told."""


@dataclass
class Scene:
    """A router with images queued for two destinations, none of which takes any yet, and images held."""

    router: Router
    end: ExactReceiver
    folder: Path
    images: list[Image]
    held: list[Image]

    def file(self, image: Image) -> Path:
        """Its file in the spool."""
        word = image.sop_instance.encode()
        return next(path for path in self.router.spool_files() if word in path.read_bytes()[:1000])

    def open_the_way(self) -> None:
        """Both destinations take images now."""
        self.end.start()
        (self.folder / "in").unlink()
        for name in ("end", "files"):
            assert run_cli("queue", "retry", "--to", name, "-c", self.router.config_file).returncode == 0

    def written(self) -> set[str]:
        """Digests of the data sets in the folder."""
        contents = [path.read_bytes() for path in self.folder.rglob("*") if path.is_file()]
        return {hashlib.sha256(content[read_meta(content).offset :]).hexdigest() for content in contents}


def make_scene(make_router: MakeRouter, receivers: ReceiverHost, folder: Path, count: int) -> Scene:
    """Images are read from disk later, not kept in memory: the router is restarted."""
    end = receivers.receiver(start=False)
    folder.mkdir()
    (folder / "in").write_text("in the way")
    router = make_router(
        destination=[
            settings.dicom("end", end.port),
            settings.folder("files", folder, layout="in/{SOPInstanceUID}.dcm"),
        ],
        route=[settings.route("all", ["end", "files"], unless={"Modality": "US"})],
    ).start()
    images = synthetic.series("spoiled", count, synthetic.Kind(size=8192))
    held = synthetic.series("held", 3, synthetic.Kind(synthetic.US, size=8192))
    send_all(router.caller(), images + held)
    router.stop()
    return Scene(router, end, folder, images, held)


@pytest.mark.parametrize("running", [False, True], ids=["before the start", "while running"])
def test_what_is_spoiled_is_a_dead_letter_and_all_else_flows(
    make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path, running: bool
) -> None:
    scene = make_scene(make_router, receivers, tmp_path / "written", 2 * len(SPOILS))
    router, bad, good = scene.router, scene.images[: len(SPOILS)], scene.images[len(SPOILS) :]
    files, other = [scene.file(image) for image in bad], scene.file(good[0])
    if running:
        router.start()
        router.wait_status(lambda s: s["totals"]["waiting"] == 2 * len(scene.images), 20, "all queued")
    for file, (spoil, _) in zip(files, SPOILS.values(), strict=True):
        spoil(file, other)
    left = {path.name for path in files if path.exists()}
    if not running:
        router.start()
    scene.open_the_way()
    status = router.wait_status(lambda s: not s["totals"]["waiting"], 60, "all sent or dead")
    assert status["totals"]["failed"] == 2 * len(bad)
    assert status["totals"]["held"] == len(scene.held)
    assert_exactly(scene.end, good)
    assert scene.written() == {image.sha256 for image in good}
    assert_reasons(router, bad)
    wait_until(lambda: len(router.spool_files()) == len(left) + len(scene.held), 20, "only those are left")
    assert {path.name for path in router.spool_files()} >= left
    assert any("dead letters" in line for line in status_lines(router))
    print(f"{len(bad)} kinds of damage: {status['totals']['failed']} dead letters, {len(good)} others at both ends")


def status_lines(router: Router) -> list[str]:
    done = run_cli("status", "-c", router.config_file)
    assert done.returncode == 1
    return done.stdout.splitlines()


def assert_reasons(router: Router, bad: Sequence[Image]) -> None:
    """Each dead letter tells what was found."""
    done = run_cli("queue", "list", "--state", "failed", "--json", "-c", router.config_file)
    told = {(row["sop_instance_uid"], row["destination"]): row["last_error"] for row in json.loads(done.stdout)}
    for image, (name, (_, words)) in zip(bad, SPOILS.items(), strict=True):
        for to in ("end", "files"):
            error = told[image.sop_instance, to]
            assert any(word in error for word in words.split("|")), (name, to, error)


def test_held_images_are_not_routed_without_their_file(
    make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path
) -> None:
    scene = make_scene(make_router, receivers, tmp_path / "written", 1)
    gone, cut, altered = map(scene.file, scene.held)
    gone.unlink()
    scene.router.config["route"].append(settings.route("us", ["end"], match={"Modality": "US"}))
    scene.router.write_config()
    scene.router.start()
    os.truncate(cut, 100)
    flip(altered, altered.stat().st_size - 700)
    listed = json.loads(run_cli("queue", "list", "--held", "--json", "-c", scene.router.config_file).stdout)
    assert [row["last_error"].startswith("spool file missing") for row in listed] == [True, False, False]
    assert run_cli("queue", "retry", "--held", "-c", scene.router.config_file).returncode == 0
    scene.open_the_way()
    status = scene.router.wait_status(lambda s: not s["totals"]["waiting"], 30, "all sent or dead")
    assert (status["totals"]["held"], status["totals"]["failed"]) == (2, 1)
    assert_exactly(scene.end, scene.images)


def test_a_shard_folder_is_deleted(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    scene = make_scene(make_router, receivers, tmp_path / "written", 6)
    scene.router.start()
    scene.router.wait_status(lambda s: s["totals"]["waiting"] == 12, 20, "all queued")
    shutil.rmtree(scene.router.data_dir / "spool" / "000000")
    more = synthetic.series("more", 4)
    send_all(scene.router.caller(), more)
    scene.open_the_way()
    status = scene.router.wait_status(lambda s: not s["totals"]["waiting"], 60, "all sent or dead")
    assert status["totals"]["failed"] == 12
    assert_exactly(scene.end, more)
    scene.router.stop()
    scene.router.start()
    held = json.loads(run_cli("queue", "list", "--held", "--json", "-c", scene.router.config_file).stdout)
    assert all(row["last_error"].startswith("spool file missing") for row in held)


def refusal(caller: Caller, image: Image) -> tuple[int, str]:
    report = send(caller, [image])
    return (report.refused[0].status, report.refused[0].comment) if report.refused else (0, report.ended)


def test_the_spool_folder_is_moved_away_while_running(
    make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path
) -> None:
    """What is acknowledged must be where the next start looks for it: nothing is taken into a folder without a name."""
    scene = make_scene(make_router, receivers, tmp_path / "written", 3)
    router = scene.router.start()
    spool = router.data_dir / "spool"
    spool.rename(tmp_path / "moved")
    status, comment = refusal(router.caller(), synthetic.image("late", 0))
    assert status in {0xA700, 0}  # 0: the association was rejected
    assert not send(router.caller(), [synthetic.image("late", 1)]).acknowledged
    router.wait_status(lambda s: any("was removed or replaced" in line for line in s["trouble"]), 10, "it is told")
    assert status == 0 or "was removed or replaced" in comment
    assert any("was removed or replaced" in line for line in status_lines(router))
    assert "was removed or replaced" in router.log_tail(200)
    router.stop()
    shutil.rmtree(spool, ignore_errors=True)
    (tmp_path / "moved").rename(spool)
    router.start()
    send_all(router.caller(), late := synthetic.series("after", 2))
    scene.open_the_way()
    router.wait_status(lambda s: not s["totals"]["waiting"], 30, "all sent")
    assert_exactly(scene.end, [*scene.images, *late])
