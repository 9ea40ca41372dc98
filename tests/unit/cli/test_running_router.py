"""``status``, ``queue`` and ``send`` with a router that runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support import settings
from tests.support.fixtures import MakeRouter
from tests.support.ports import free_port
from tests.support.router import Router, environment
from tests.support.waiting import wait_until
from tests.unit.cli.running import Cli, Done, heeding_ctrl_c, part10_files


@pytest.fixture
def router(make_router: MakeRouter, tmp_path: Path) -> Router:
    """MR goes to a folder, CR to a destination that is down; anything else is held."""
    return make_router(
        destination=[
            settings.folder("out", tmp_path / "out", layout="{SOPInstanceUID}.dcm"),
            settings.dicom("down", free_port(), calling_ae_title="ME"),
        ],
        route=[
            settings.route("ct", ["out"], match={"Modality": "CT", "calling_aet": "GOOD"}),
            settings.route("down", ["down"], match={"calling_aet": "DOWN"}),
        ],
    ).start()


def send(cli: Cli, router: Router, folder: Path, calling: str) -> Done:
    return cli("send", folder, "--to", f"ASYNCROUTE@127.0.0.1:{router.port}", "--calling", calling)


def test_status_and_queue(cli: Cli, router: Router, tmp_path: Path) -> None:
    asked = ("-c", router.config_file)
    assert cli("status", *asked).status == 0
    images = part10_files(tmp_path / "in", 3)
    assert send(cli, router, tmp_path / "in", "GOOD").status == 0
    router.wait_delivered(3)
    assert cli("status", *asked).status == 0

    assert send(cli, router, tmp_path / "in", "HELD").status == 0
    done = cli("status", *asked)
    assert done.status == 1
    assert "3 images are held" in done.out
    held = cli("queue", "list", "--held", "--json", *asked).facts
    assert {row["sop_instance_uid"] for row in held} == {image.sop_instance for image in images}
    assert cli("queue", "discard", "--id", held[0]["instance_id"], "--yes", "--json", *asked).facts == {
        "deliveries": 0,
        "images": 1,
    }
    assert cli("status", "--json", *asked).facts["totals"]["held"] == 2


def test_held_images_are_routed_again_under_a_new_configuration(cli: Cli, router: Router, tmp_path: Path) -> None:
    part10_files(tmp_path / "in", 2)
    assert send(cli, router, tmp_path / "in", "HELD").status == 0
    router.stop()
    router.config["route"].append(settings.route("held", ["out"], match={"calling_aet": "HELD"}))
    router.write_config()
    router.start()
    assert cli("queue", "retry", "--held", "-c", router.config_file, "--json").facts == {"deliveries": 0, "images": 2}
    router.wait_delivered(2)
    assert cli("status", "-c", router.config_file).status == 0


def test_a_destination_that_is_down_needs_a_person(cli: Cli, router: Router, tmp_path: Path) -> None:
    part10_files(tmp_path / "in", 1)
    assert send(cli, router, tmp_path / "in", "DOWN").status == 0
    router.wait_status(lambda s: router.channel("down", s)["state"] == "down", 20, "the destination is down")
    done = cli("status", "-c", router.config_file)
    assert done.status == 1
    assert "connection refused" in done.out
    (row,) = cli("queue", "list", "--to", "down", "--json", "-c", router.config_file).facts
    assert row["state"] in ("ready", "sending")  # just being tried again


def test_status_works_while_its_configuration_is_being_edited(cli: Cli, router: Router) -> None:
    with router.config_file.open("a", encoding="utf-8") as file:
        file.write("\n[[route]]\nunfinished = 1\n")
    assert cli("status", "-c", router.config_file).status == 0
    assert cli("check", "-c", router.config_file).status == 1


def test_what_the_router_refuses(cli: Cli, router: Router) -> None:
    done = cli("queue", "retry", "--state", "ready", "-c", router.config_file)
    assert done.status == 1
    assert "only failed deliveries and held images" in done.error


def test_a_crashed_router_is_read_from_its_journal(cli: Cli, router: Router, tmp_path: Path) -> None:
    part10_files(tmp_path / "in", 2)
    assert send(cli, router, tmp_path / "in", "HELD").status == 0
    router.kill()
    assert (router.data_dir / "control.sock").exists()
    done = cli("status", "--json", "-c", router.config_file)
    assert done.status == 1
    assert (done.facts["running"], done.facts["totals"]["held"]) == (False, 2)


def watch(router: Router, output: Path, *arguments: str) -> subprocess.Popen[bytes]:
    with output.open("wb") as file:
        program = heeding_ctrl_c("status", "-c", router.config_file, "--watch", *arguments)
        return subprocess.Popen(program, stdout=file, env=environment())


def test_watch_until_ctrl_c(router: Router, tmp_path: Path) -> None:
    file = tmp_path / "watched"
    process = watch(router, file, "--json")
    try:
        wait_until(lambda: file.read_bytes().count(b"\n") >= 2, 20, "two looks")
        router.stop()
        wait_until(lambda: b'"running": false' in file.read_bytes(), 20, "a look at the stopped router")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait(10)
    looks = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert looks[0]["running"] is True


def test_watch_on_a_terminal_leaves_it_as_it_was(router: Router) -> None:
    near, far = os.openpty()
    process = subprocess.Popen(
        heeding_ctrl_c("status", "-c", router.config_file, "--watch"),
        stdin=far,
        stdout=far,
        stderr=far,
        env=environment(TERM="xterm", COLUMNS="120", LINES="40"),
    )
    os.close(far)
    seen = bytearray()
    try:
        wait_until(lambda: b"running for" in _read_more(near, seen), 20, "a picture", lambda: bytes(seen[-300:]))
        process.send_signal(signal.SIGINT)
        wait_until(
            lambda: b"\x1b[?1049l" in _read_more(near, seen), 20, "the old screen back", lambda: bytes(seen[-300:])
        )
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait(10)
        os.close(near)
    assert b"\x1b[?1049h" in seen
    assert b"\x1b[?25h" in seen


def _read_more(terminal: int, seen: bytearray) -> bytearray:
    import select

    if select.select([terminal], [], [], 0)[0]:
        try:
            seen += os.read(terminal, 65536)
        except OSError:  # nobody holds the other end any more
            pass
    return seen
