"""The command line as a user types it: exit statuses and JSON are strict, human text is not."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import corpus, settings, synthetic
from tests.support.behaviour import Behaviour
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_exactly
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import write_part10
from tests.support.ports import free_port
from tests.support.router import Router, run_cli
from tests.support.waiting import wait_until

TOTALS = {"received", "delivered", "waiting", "held", "failed"}
CHANNEL = {
    "name", "kind", "state", "waiting", "ready", "sending", "failed", "delivered", "oldest_s", "window",
    "window_most", "window_why", "lanes", "rate_per_s", "last_error",
}  # fmt: skip
INBOUND = {"calling_aet", "called_aet", "peer", "since_s", "images", "bytes"}
OUTBOUND = {"destination", "calling_aet", "since_s", "images", "bytes", "state"}


def simple(make_router: MakeRouter, end: ExactReceiver, **more: Any) -> Router:
    return make_router(destination=[settings.dicom("end", end.port, **more)], route=[settings.route("all", ["end"])])


def failed(done: subprocess.CompletedProcess[str]) -> str:
    """What a command said that failed as it should."""
    said = done.stderr + done.stdout
    assert done.returncode not in {0, None}, said
    assert "Traceback" not in said
    return said


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The error of a command that failed as it should: one line, no traceback."""
    failed(done)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


# --- status -----------------------------------------------------------------------------------------------------------


def test_status_while_it_runs(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    router = simple(make_router, receivers.receiver(Behaviour(delay=0.2))).start()
    with router.caller("WATCHED").associate([synthetic.image("s", 0)]) as association:
        association.store(synthetic.image("s", 0))
        status = router.wait_status(lambda s: s["associations"]["outbound"], 10, "an outbound association")
        assert set(router.cli_status()) >= set(status)
    assert set(status) >= {"node", "running", "uptime_s", "totals", "associations", "channels", "spool"}
    assert (status["node"], status["running"]) == ("test", True)
    assert status["uptime_s"] > 0
    assert set(status["totals"]) == TOTALS
    assert set(status["channels"][0]) >= CHANNEL
    assert set(status["spool"]) >= {"files", "bytes", "free_bytes"}
    (inbound,) = status["associations"]["inbound"]
    assert set(inbound) >= INBOUND
    assert (inbound["calling_aet"], inbound["called_aet"], inbound["images"]) == ("WATCHED", "ASYNCROUTE", 1)
    assert inbound["peer"].startswith("127.0.0.1")
    assert set(status["associations"]["outbound"][0]) >= OUTBOUND
    assert status["associations"]["outbound"][0]["destination"] == "end"


def test_status_as_text_and_after_a_stop(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    router = simple(make_router, receivers.receiver()).start()
    send_all(router.caller(), [synthetic.image("t", 0)])
    before = router.wait_drained()
    running = run_cli("status", "-c", router.config_file)
    assert running.returncode == 0
    assert "end" in running.stdout
    router.stop()
    after = router.status()
    assert after["running"] is False
    assert after["totals"] == before["totals"]
    assert after["channels"][0]["delivered"] == 1
    stopped = run_cli("status", "-c", router.config_file)
    assert stopped.returncode in {0, 1}
    assert "end" in stopped.stdout


def test_totals_survive_restarts(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    router = simple(make_router, receivers.receiver())
    for turn in range(3):
        router.start()
        send_all(router.caller(), [synthetic.image("restart", turn)])
        router.wait_delivered(turn + 1)
        router.stop()
    assert router.status()["totals"] == {"received": 3, "delivered": 3, "waiting": 0, "held": 0, "failed": 0}


def test_status_that_cannot_tell(tmp_path: Path) -> None:
    assert run_cli("status", "-c", tmp_path / "missing.toml").returncode == 2


# --- queue ------------------------------------------------------------------------------------------------------------


def rows(router: Router) -> list[dict[str, Any]]:
    """What ``queue list --json`` lists, whether bare or below one key."""
    done = run_cli("queue", "list", "-c", router.config_file, "--json")
    assert done.returncode == 0, done.stderr
    parsed = json.loads(done.stdout)
    if isinstance(parsed, dict):
        parsed = next(value for value in parsed.values() if isinstance(value, list))
    listed: list[dict[str, Any]] = parsed
    return listed


def with_dead_letters(make_router: MakeRouter, end: ExactReceiver) -> Router:
    router = simple(make_router, end).start()
    send_all(router.caller(), synthetic.series("dead", 3))
    router.wait_failed(3)
    return router


def test_queue_list_and_retry(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    end = receivers.receiver(Behaviour(status=0x0122))
    router = with_dead_letters(make_router, end)
    listed = rows(router)
    assert {row["sop_instance_uid"] for row in listed} == {image.sop_instance for image in synthetic.series("dead", 3)}
    assert {(row["state"], row["destination"]) for row in listed} == {("failed", "end")}
    assert all("0x0122" in row["last_error"] for row in listed)
    table = run_cli("queue", "list", "-c", router.config_file)
    assert table.returncode == 0
    assert table.stdout.count("0x0122") == 3
    end.set(Behaviour())
    done = run_cli("queue", "retry", "-c", router.config_file, "--to", "end")
    assert done.returncode == 0, done.stderr
    router.wait_delivered(3)
    assert rows(router) == []
    assert run_cli("status", "-c", router.config_file).returncode == 0


def test_queue_discard(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    router = with_dead_letters(make_router, receivers.receiver(Behaviour(status=0x0122)))
    done = run_cli("queue", "discard", "-c", router.config_file, "--to", "end", "--yes")
    assert done.returncode == 0, done.stderr
    status = router.wait_drained()
    assert (status["totals"]["failed"], status["totals"]["delivered"]) == (0, 0)
    assert rows(router) == []


def test_queue_reroute(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    refuses, takes = receivers.receiver(Behaviour(status=0x0122)), receivers.receiver()
    ends = {"end": refuses, "other": takes}
    destinations = [settings.dicom(name, end.port) for name, end in ends.items()]
    router = make_router(destination=destinations, route=[settings.route("all", ["end"])]).start()
    images = synthetic.series("elsewhere", 3)
    send_all(router.caller(), images)
    router.wait_failed(3)
    done = run_cli("queue", "reroute", "other", "-c", router.config_file, "--to", "end", "--error", "0x0122")
    assert (done.returncode, done.stdout) == (0, "3 deliveries, 0 held images: on their way to other\n")
    router.wait_delivered(3)
    assert {it.sop_instance for it in takes.take()} == {image.sop_instance for image in images}
    assert run_cli("status", "-c", router.config_file).returncode == 0
    story = run_cli("why", images[0].sop_instance, "-c", router.config_file).stdout
    assert "goes to other instead, at a person's word" in story


def test_queue_list_after_a_stop(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    router = with_dead_letters(make_router, receivers.receiver(Behaviour(status=0x0122)))
    router.stop()
    assert len(rows(router)) == 3


# --- echo, send -------------------------------------------------------------------------------------------------------


def test_echo(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    end = receivers.receiver(Behaviour(called="END"))
    router = simple(make_router, end)
    assert run_cli("echo", "end", "-c", router.config_file).returncode == 0
    assert run_cli("echo", f"END@127.0.0.1:{end.port}", "--calling", "ME").returncode == 0
    assert end.events("open")[-1].detail == "ME"
    assert "1/1/7" in failed(run_cli("echo", f"OTHER@127.0.0.1:{end.port}"))
    assert "refused" in failed(run_cli("echo", f"END@127.0.0.1:{free_port()}"))
    one_line(run_cli("echo", "no-such-name", "-c", router.config_file))


def test_send_files_and_folders(receivers: ReceiverHost, tmp_path: Path) -> None:
    end = receivers.receiver()
    images = [*synthetic.mixed("send", 12), *corpus.named("JPEG2000.dcm", "image_dfl.dcm")]
    folders = [tmp_path / "a", tmp_path / "a" / "b"]
    for folder in folders:
        folder.mkdir()
    files = [write_part10(image, folders[n % 2]) for n, image in enumerate(images)]
    (tmp_path / "a" / "notes.txt").write_text("not DICOM")
    done = run_cli("send", tmp_path / "a", "--to", f"END@127.0.0.1:{end.port}", "--calling", "SENDER")
    assert done.returncode == 0, done.stderr
    assert_exactly(end, images)
    assert {stored.calling for stored in end.stored()} == {"SENDER"}
    done = run_cli("send", files[0], "--to", f"END@127.0.0.1:{end.port}")
    assert done.returncode == 0
    assert end.tally().stored == len(images) + 1


def test_send_says_what_was_refused(receivers: ReceiverHost, tmp_path: Path) -> None:
    end = receivers.receiver(Behaviour(status=0xA700))
    file = write_part10(synthetic.image("refused", 0), tmp_path)
    failed(run_cli("send", file, "--to", f"END@127.0.0.1:{end.port}"))
    one_line(run_cli("send", tmp_path / "missing.dcm", "--to", f"END@127.0.0.1:{end.port}"))


# --- check, init, serve, demo -----------------------------------------------------------------------------------------


def test_check_and_check_connect(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    end = receivers.receiver(Behaviour(called="END"))
    router = simple(make_router, end)
    assert run_cli("check", "-c", router.config_file).returncode == 0
    good = run_cli("check", "-c", router.config_file, "--connect")
    assert good.returncode == 0, good.stdout + good.stderr
    assert end.tally().echoes >= 1
    end.stop()
    assert "end" in failed(run_cli("check", "-c", router.config_file, "--connect"))


def test_check_points_at_the_line(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    router = simple(make_router, receivers.receiver(), ae_titel="X")
    line = router.config_file.read_text().splitlines().index('ae_titel = "X"') + 1
    error = one_line(run_cli("check", "-c", router.config_file))
    assert f"{router.config_file.name}:{line}" in error
    assert "ae_title" in error
    assert one_line(run_cli("serve", "-c", router.config_file)) == error


def test_init_writes_a_configuration_that_is_good(tmp_path: Path) -> None:
    done = run_cli("init", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (written,) = list(tmp_path.glob("*.toml"))
    assert run_cli("check", "-c", written, cwd=tmp_path).returncode == 0
    before = written.read_text()
    assert run_cli("init", cwd=tmp_path).returncode != 0
    assert written.read_text() == before


def test_serve_prints_a_line_for_each_listener_and_destination(
    receivers: ReceiverHost, make_router: MakeRouter, tmp_path: Path
) -> None:
    end = receivers.receiver()
    router = make_router(
        listener=[settings.listener(), settings.listener(ae_title="SECOND")],
        destination=[settings.dicom("end", end.port), settings.folder("shelf", tmp_path / "shelf")],
        route=[settings.route("all", ["end", "shelf"])],
    ).start()
    # It says so once it listens; whoever calls may be there sooner.
    wait_until(lambda: "shelf (" in router.log_tail(), 30, "its lines", router.log_tail)
    output = router.log_tail()
    for expected in (router.port, router.config["listener"][1]["port"], "SECOND", "end", "shelf", end.port):
        assert str(expected) in output, output


def test_a_port_in_use_is_a_clear_error(receivers: ReceiverHost, make_router: MakeRouter) -> None:
    end = receivers.receiver()
    router = make_router(
        listener=[settings.listener(port=end.port)],
        destination=[settings.dicom("end", end.port)],
        route=[settings.route("all", ["end"])],
    )
    router.start(wait=False)
    assert router.wait_exit() != 0
    assert str(end.port) in router.log_tail()
    assert "Traceback" not in router.log_tail()


@pytest.mark.timeout(180)
def test_demo(tmp_path: Path) -> None:
    done = run_cli("demo", timeout=170, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command",
    ["serve", "status", "check", "init", "echo", "send", "demo", "queue list", "queue retry", "queue discard"],
)
def test_help_with_an_example(command: str) -> None:
    done = run_cli(*command.split(), "--help")
    assert done.returncode == 0
    assert f"asyncroute {command}" in " ".join(done.stdout.split())
