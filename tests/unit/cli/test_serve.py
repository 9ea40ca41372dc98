"""``serve``: what it says at its start, and with which status it ends; the router itself is tested elsewhere."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

import pytest

from asyncroute.cli.serve import announcement
from asyncroute.config import embedded_default, loads
from tests.support import settings
from tests.support.fixtures import MakeRouter
from tests.support.router import command, environment, run_cli

CONFIG = """
[node]
name = "edge-1"
data_dir = "/d"
[[listener]]
[[listener]]
ae_title = "SIX"
host = "::1"
port = 104
[[destination]]
name = "pacs"
kind = "dicom"
host = "10.0.0.5"
port = 104
ae_title = "PACS"
tls = {}
[[destination]]
name = "six"
kind = "dicom"
host = "2001:db8::5"
port = 105
ae_title = "SIX"
max_associations = 2
[[destination]]
name = "out"
kind = "folder"
path = "/out"
[[route]]
name = "all"
to = ["pacs"]
"""


def test_one_line_per_listener_and_destination() -> None:
    assert announcement(loads(CONFIG), [11112, 12345]) == [
        "node: edge-1 (no configuration file: the embedded default), data in /d",
        "listening: ASYNCROUTE on 0.0.0.0:11112",
        "listening: SIX on [::1]:12345",
        "destination: pacs (dicom PACS@10.0.0.5:104, 10 associations, TLS)",
        "destination: six (dicom SIX@[2001:db8::5]:105, 2 associations)",
        "destination: out (folder /out)",
    ]


def test_the_embedded_default_says_that_it_is_one(tmp_path: Path) -> None:
    first, *rest = announcement(embedded_default(tmp_path), [11112])
    assert "the embedded default" in first
    assert rest == ["listening: ASYNCROUTE on 0.0.0.0:11112", f"destination: images (folder {tmp_path}/images)"]


def test_no_route_is_told() -> None:
    text = CONFIG.partition("[[route]]")[0]
    assert "nowhere to go" in announcement(loads(text), [1, 2])[-1]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_starts_and_stops(make_router: MakeRouter, tmp_path: Path, stop: signal.Signals) -> None:
    router = make_router(
        listener=[settings.listener(), settings.listener(ae_title="SECOND")],
        destination=[settings.folder("out", tmp_path / "out")],
        route=[settings.route("all", ["out"])],
    ).start()
    router.signal(stop)
    assert router.wait_exit() == 0
    said = router.log_tail()
    assert f"listening: ASYNCROUTE on 127.0.0.1:{router.port}" in said
    assert "listening: SECOND on" in said
    assert f"destination: out (folder {tmp_path}/out)" in said
    assert "Traceback" not in said


def test_a_wrong_configuration(tmp_path: Path) -> None:
    (tmp_path / "asyncroute.toml").write_text("[[listener]]\nport = -1\n", encoding="utf-8")
    done = run_cli("serve", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{tmp_path}/asyncroute.toml:2: listener[0].port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = {
            "node": {"data_dir": "data"},
            "listener": [settings.listener(port=taken.getsockname()[1])],
            "destination": [settings.folder("out", "out")],
        }
        (tmp_path / "asyncroute.toml").write_text(settings.to_toml(config), encoding="utf-8")
        done = run_cli("serve", cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot listen on 127.0.0.1" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_second_router_on_the_same_folder(make_router: MakeRouter, tmp_path: Path) -> None:
    router = make_router(destination=[settings.folder("out", tmp_path / "out")]).start()
    done = run_cli("serve", "-c", router.config_file)
    assert done.returncode == 1
    assert "in use by another asyncroute" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    router.stop()


def test_nobody_reads_what_it_says(tmp_path: Path) -> None:
    """A closed standard output neither keeps it from running nor changes its exit status."""
    config = {
        "node": {"data_dir": "data", "min_free": "1 MiB"},
        "listener": [settings.listener()],
        "destination": [settings.folder("out", "out")],
    }
    (tmp_path / "asyncroute.toml").write_text(settings.to_toml(config), encoding="utf-8")
    port = config["listener"][0]["port"]  # type: ignore[index]
    process = subprocess.Popen(command("serve"), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.close()
        assert run_until_echo(port, tmp_path)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(10)


def run_until_echo(port: int, folder: Path) -> bool:
    from tests.support.waiting import wait_until

    address = f"ASYNCROUTE@127.0.0.1:{port}"
    wait_until(lambda: run_cli("echo", address, cwd=folder).returncode == 0, 20, f"C-ECHO answered by {address}")
    return True
