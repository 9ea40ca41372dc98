"""``echo``: each step that can fail, and the advice for it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.support import settings
from tests.support.behaviour import Behaviour
from tests.support.exact_receiver import ReceiverHost
from tests.support.ports import BlackHole, free_port
from tests.unit.cli.running import Cli

VERIFICATION = "1.2.840.10008.1.1"


def test_a_peer_that_answers(cli: Cli, receivers: ReceiverHost) -> None:
    receiver = receivers.receiver(Behaviour(called="PACS"))
    done = cli("echo", f"PACS@127.0.0.1:{receiver.port}", "--calling", "CT_A")
    assert (done.status, done.err) == (0, "")
    assert [line.split()[:2] for line in done.out.splitlines()[1:4]] == [
        ["TCP", "ok"],
        ["association", "ok"],
        ["C-ECHO", "ok"],
    ]
    assert receiver.events("echo")[0].detail == "CT_A"
    receiver.wait_events("released")


def test_facts(cli: Cli, receivers: ReceiverHost) -> None:
    receiver = receivers.receiver()
    facts = cli("echo", f"PACS@localhost:{receiver.port}", "--json").facts
    assert facts["ok"] is True
    (trial,) = facts["trials"]
    assert [step["step"] for step in trial["steps"]] == ["address", "TCP", "association", "C-ECHO"]
    assert trial["steps"][-1]["seconds"] > 0


TROUBLES = [
    (Behaviour(reject=(1, 1, 3)), "association", "calling AE title not recognized", "does not know the AE title"),
    (Behaviour(called="OTHER"), "association", "called AE title not recognized", "is its AE title really PACS?"),
    (Behaviour(reject=(2, 3, 2)), "association", "local limit exceeded", "no free place"),
    (Behaviour(close_at_connect=True), "association", "connection", "callers whose AE title (ASYNCROUTE) or address"),
    (Behaviour(refuse_classes=[VERIFICATION]), "C-ECHO", "Verification is not accepted", "images may work"),
    (Behaviour(echo_status=0x0122), "C-ECHO", "0x0122", "its log tells why it answers so"),
]


@pytest.mark.parametrize(("behaviour", "step", "text", "advice"), TROUBLES)
def test_each_failure_names_its_step_and_the_side(
    cli: Cli, receivers: ReceiverHost, behaviour: Behaviour, step: str, text: str, advice: str
) -> None:
    receiver = receivers.receiver(behaviour)
    done = cli("echo", f"PACS@127.0.0.1:{receiver.port}", "--json")
    assert done.status == 1
    failed = [s for s in done.facts["trials"][0]["steps"] if not s["ok"]]
    assert [failure["step"] for failure in failed] == [step]
    assert text in failed[0]["text"]
    assert advice in failed[0]["advice"]


@pytest.mark.parametrize("with_ac", ["abort", "release"])
def test_an_association_that_ends_as_soon_as_it_begins(cli: Cli, receivers: ReceiverHost, with_ac: str) -> None:
    receiver = receivers.receiver(Behaviour(with_ac=with_ac))
    done = cli("echo", f"PACS@127.0.0.1:{receiver.port}")
    assert done.status == 1
    assert "FAILED" in done.out
    assert "the other side" in done.out


def test_nobody_listens(cli: Cli) -> None:
    done = cli("echo", f"PACS@127.0.0.1:{free_port()}")
    assert done.status == 1
    assert "connection refused" in done.out
    assert "nothing listens on port" in done.out


def test_a_host_without_address(cli: Cli) -> None:
    done = cli("echo", "PACS@no-such-host.invalid:104")
    assert done.status == 1
    assert "address      FAILED" in done.out
    assert "this side: check host" in done.out


def test_packets_that_vanish(cli: Cli, tmp_path: Path) -> None:
    with BlackHole() as hole:
        table = settings.dicom("pacs", hole.port, connect_timeout="300ms", calling_ae_title="ME")
        config = {"node": {"data_dir": "d"}, "listener": [settings.listener()], "destination": [table]}
        (tmp_path / "asyncroute.toml").write_text(settings.to_toml(config), encoding="utf-8")
        done = cli("echo", "pacs")
    assert done.status == 1
    assert "no answer from 127.0.0.1" in done.out
    assert "a firewall on the way" in done.out


def test_a_tls_handshake_that_nobody_answers_is_no_tcp_trouble(cli: Cli, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        table = settings.dicom("pacs", port, connect_timeout="300ms", calling_ae_title="ME", tls={})
        config = {"node": {"data_dir": "d"}, "listener": [settings.listener()], "destination": [table]}
        (tmp_path / "asyncroute.toml").write_text(settings.to_toml(config), encoding="utf-8")
        done = cli("echo", "pacs")
    assert done.status == 1
    assert "TCP          ok" in done.out
    assert "TLS          FAILED" in done.out
    assert "does the other side speak TLS on this port?" in done.out
