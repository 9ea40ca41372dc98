"""``check`` and ``check --connect``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asyncroute.cli.check import folder_trouble
from tests.support import settings
from tests.support.behaviour import Behaviour
from tests.support.certs import Authority
from tests.support.exact_receiver import ReceiverHost
from tests.support.ports import free_port
from tests.unit.cli.running import Cli


def write(folder: Path, **tables: Any) -> Path:
    """A configuration in ``folder``."""
    file = folder / "asyncroute.toml"
    config = {"node": {"data_dir": "data"}, "listener": [settings.listener()], **tables}
    file.write_text(settings.to_toml(config), encoding="utf-8")
    return file


def test_a_good_one(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, destination=[settings.folder("out", "out")], route=[settings.route("all", ["out"])])
    done = cli("check")
    assert (done.status, done.err) == (0, "")
    assert "asyncroute.toml: ok" in done.out
    facts = cli("check", "--json").facts
    assert facts["ok"] is True
    assert facts["notes"] == []
    assert facts["summary"]["destinations"] == ["out"]


def test_the_embedded_default_is_good(cli: Cli) -> None:
    assert cli("check").out.startswith("the embedded default: ok")


def test_what_is_allowed_but_odd(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, destination=[settings.folder("out", "out"), settings.folder("other", "other")])
    facts = cli("check", "--json").facts
    assert "out: no route leads" in facts["notes"][0]
    assert "there is no [[route]]" in facts["notes"][-1]


def test_mistakes_come_with_line_and_key(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[node]\ndata_dir = "d"\n[[listener]]\nport = 70000\n[[destination]]\nkind = "pigeon"\n', "utf-8")
    done = cli("check", "-c", file)
    assert (done.status, done.out) == (1, "")
    first, second = done.err.splitlines()
    assert first.startswith(f"{file}:4: listener[0].port: must be 0..65535")
    assert second.startswith(f"{file}:6: destination[0].kind: ")
    problems = cli("check", "-c", file, "--json").facts
    assert problems["ok"] is False
    places = [(problem["line"], problem["key"]) for problem in problems["problems"]]
    assert places == [(4, "listener[0].port"), (6, "destination[0].kind")]


def test_tls_files_that_cannot_be_used(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("no certificate", encoding="utf-8")
    write(
        tmp_path,
        listener=[settings.listener(tls={"certificate": "x.pem", "key": "x.pem"})],
        destination=[settings.folder("out", "out")],
    )
    done = cli("check")
    assert done.status == 1
    assert "x.pem" in done.error


# --- folders ----------------------------------------------------------------------------------------------------------


def test_folders(tmp_path: Path) -> None:
    assert folder_trouble(tmp_path) == ""
    assert folder_trouble(tmp_path / "a" / "b") == ""
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    assert "is not a folder" in folder_trouble(tmp_path / "file" / "below")
    assert "cannot write in /proc" in folder_trouble(Path("/proc/nothing"))  # not even root may


def test_connect_tries_folders(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path, destination=[settings.folder("good", "good"), settings.folder("bad", "/proc/bad")])
    done = cli("check", "--connect")
    assert done.status == 1
    assert "good: folder" in done.out
    assert "bad: folder /proc/bad: cannot write in /proc" in done.out
    tried = cli("check", "--connect", "--json").facts["destinations"]
    assert [each["ok"] for each in tried] == [True, False]


# --- peers ------------------------------------------------------------------------------------------------------------


def test_connect_tries_every_calling_title(cli: Cli, tmp_path: Path, receivers: ReceiverHost) -> None:
    receiver = receivers.receiver(Behaviour(reject=(1, 1, 3), reject_calling=["CT_B"]))
    write(
        tmp_path,
        listener=[settings.listener(accept_calling=["CT_A", "X*"])],
        destination=[
            settings.dicom("pacs", receiver.port),
            settings.dicom("fixed", receiver.port, calling_ae_title="F"),
        ],
        route=[
            settings.route("b", ["pacs"], match={"calling_aet": ["CT_B"]}),
            settings.route("f", ["fixed", "pacs"]),
            settings.route("t", ["fixed"], calling_ae_title="RT_{calling_aet}"),
        ],
    )
    done = cli("check", "--connect", "--json")
    assert done.status == 1
    tried = {(t["name"], t["calling_aet"]): t["ok"] for t in done.facts["destinations"]}
    assert tried == {
        ("pacs", "CT_A"): True,
        ("pacs", "CT_B"): False,
        ("fixed", "F"): True,
        ("fixed", "RT_CT_A"): True,
    }
    assert sorted(event.detail for event in receiver.events("echo")) == ["CT_A", "F", "RT_CT_A"]
    receiver.wait_quiet()
    assert len(receiver.events("released")) == 3


def test_titles_that_cannot_be_made_are_told(cli: Cli, tmp_path: Path) -> None:
    write(
        tmp_path,
        listener=[settings.listener(accept_calling=["CT_A", "CT_IN_THE_BASEME", "XRAY_IN_ROOM_02"])],
        destination=[settings.dicom("pacs", 104, calling_ae_title="RT_{calling_aet}"), settings.folder("out", "out")],
        route=[settings.route("all", ["pacs"]), settings.route("written", ["out"], calling_ae_title="RT")],
    )
    done = cli("check", "--json")
    assert done.status == 0
    assert done.facts["notes"] == [
        "pacs: images will be dead letters: calling AE title 'RT_CT_IN_THE_BASEME' "
        "(from calling_ae_title 'RT_{calling_aet}') has 19 characters; an AE title has 1 to 16 printable ASCII "
        "characters, no backslash (PS3.5 6.2) (and 1 more such titles)",
        "route written: calling_ae_title changes nothing for folders",
    ]


def test_connect_says_when_it_depends_on_the_senders(cli: Cli, tmp_path: Path, receivers: ReceiverHost) -> None:
    receiver = receivers.receiver()
    write(tmp_path, destination=[settings.dicom("pacs", receiver.port)], route=[settings.route("all", ["pacs"])])
    done = cli("check", "--connect")
    assert done.status == 0
    assert "the calling AE title depends on the sender; this was tried as ASYNCROUTE" in done.out


def test_connect_goes_on_after_a_failure(cli: Cli, tmp_path: Path, receivers: ReceiverHost) -> None:
    receiver = receivers.receiver()
    write(
        tmp_path,
        destination=[settings.dicom("down", free_port()), settings.dicom("up", receiver.port)],
        route=[settings.route("all", ["down", "up"])],
    )
    done = cli("check", "--connect")
    assert done.status == 1
    assert "TCP          FAILED" in done.out
    assert "nothing listens on port" in done.out
    assert "C-ECHO       ok" in done.out


@pytest.mark.parametrize("known", [True, False])
def test_connect_over_tls(cli: Cli, tmp_path: Path, receivers: ReceiverHost, authority: Authority, known: bool) -> None:
    server = authority.issue("server")
    receiver = receivers.receiver(Behaviour(tls={"certificate": str(server.certificate), "key": str(server.key)}))
    trusted = authority if known else Authority(tmp_path / "other", "Another CA")
    write(
        tmp_path,
        destination=[settings.dicom("pacs", receiver.port, tls={"ca": str(trusted.ca)})],
        route=[settings.route("all", ["pacs"])],
    )
    done = cli("check", "--connect")
    assert done.status == (0 if known else 1)
    assert "TCP          ok" in done.out
    assert f"TLS          {'ok' if known else 'FAILED'}" in done.out
    assert known or "certificate is not trusted" in done.out
