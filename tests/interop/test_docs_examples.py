"""What the documentation tells people to do is done here, with the commands and files that it shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support import peers, settings, synthetic
from tests.support.exact_receiver import ReceiverHost, assert_exactly
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.images import write_part10
from tests.support.ports import HOST
from tests.support.router import Router, environment, run_cli
from tests.support.router import command as program
from tests.support.settings import Table
from tests.support.waiting import wait_until

DOCS = Path(__file__).parents[2] / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


# --- commands.md ------------------------------------------------------------------------------------------------------


def documented_status() -> dict[str, list[str]]:
    """Each key of ``status --json`` with the keys that its row names."""
    table = page("commands.md").split("`--json` has:", 1)[1].split("\n\n")[1]
    lines = [line.strip("|").split("|") for line in table.splitlines()[2:]]
    return {key.strip(" `"): re.findall(r"`([a-z_]+)`", words) for key, words in lines}


def keys(value: Any) -> list[str]:
    """The keys of a table, of the tables in a list, and (for associations) of those in lists below it."""
    if isinstance(value, list):
        return keys(value[0]) if value else []
    if not isinstance(value, dict):
        return []
    return [name for key, inner in value.items() for name in (key, *(keys(inner) if isinstance(inner, list) else []))]


def test_status_json_is_as_documented(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    end = receivers.receiver()
    destination = settings.dicom("end", end.port, association={"idle_close": "never"})
    studies = settings.route("studies", ["whole"], when="complete", quiet="10m")
    router = make_router(
        destination=[destination, settings.folder("whole", tmp_path / "whole")],
        route=[settings.route("all", ["end"]), studies],
    ).start()
    images = synthetic.series("status", 2)
    with router.caller().associate(images) as association:
        assert all(association.store(image).status == 0 for image in images)
        router.wait_delivered(2)
        status = router.cli_status()
        association.release()
    documented = documented_status()
    assert sorted(documented) == sorted(status)
    tables = {key for key, value in status.items() if isinstance(value, (dict, list)) and keys(value)}
    assert {key: sorted(documented[key]) for key in tables} == {key: sorted(keys(status[key])) for key in tables}
    stopped = {
        key for key in documented if "only while it runs" not in page("commands.md").split(f"| `{key}` |")[1][:90]
    }
    router.stop()
    assert set(router.cli_status()) == stopped


# --- operations.md, routing.md ----------------------------------------------------------------------------------------


def test_a_lost_journal(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    """As "Backup" and "Orphans" say."""
    end = receivers.receiver(start=False)
    router = make_router(destination=[settings.dicom("end", end.port)], route=[settings.route("all", ["end"])]).start()
    images = synthetic.series("lost", 5)
    send_all(router.caller(), images)
    router.stop()
    for path in router.data_dir.glob("journal.db*"):
        path.rename(router.folder / path.name)
    end.start()
    router.start()
    status = router.cli_status()
    assert (status["orphans"], len(status["needs_person"])) == (len(images), 1)
    router.stop()
    assert router.cli_status()["orphans"] == len(images)
    done = run_cli("rebuild", "-c", router.config_file)
    assert done.returncode == 0, done.stderr
    router.start()
    router.wait_delivered(len(images))
    assert_exactly(end, images)
    assert run_cli("status", "-c", router.config_file).returncode == 0


def test_held_images_are_got_out(make_router: MakeRouter, receivers: ReceiverHost) -> None:
    """As "Held images and how to get them out" says."""
    end = receivers.receiver()
    none = [settings.route("none", ["end"], match={"Modality": "NONE"})]
    router = make_router(destination=[settings.dicom("end", end.port)], route=none).start()
    images = synthetic.series("held", 3)
    send_all(router.caller(), images)
    router.wait_status(lambda s: s["totals"]["held"] == 3, 20, "three held images")
    assert len(json.loads(run_cli("queue", "list", "--held", "--json", "-c", router.config_file).stdout)) == 3
    router.config["route"].append(settings.route("all", ["end"]))
    router.write_config()
    for command in (["check"], ["reload"], ["queue", "retry", "--held"]):
        done = run_cli(*command, "-c", router.config_file)
        assert done.returncode == 0, done.stderr
    router.wait_delivered(3)
    assert_exactly(end, images)
    assert run_cli("status", "-c", router.config_file).returncode == 0


def test_a_destination_that_is_gone(make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path) -> None:
    """As the state "removed" says: its images wait, and can be discarded."""
    end = receivers.receiver(start=False)
    router = make_router(destination=[settings.dicom("old", end.port)], route=[settings.route("all", ["old"])]).start()
    send_all(router.caller(), synthetic.series("gone", 3))
    router.stop()
    router.config["destination"] = [settings.folder("new", tmp_path / "new")]
    router.config["route"] = [settings.route("all", ["new"])]
    router.write_config()
    router.start()
    assert router.channel("old")["state"] == "removed"
    assert run_cli("status", "-c", router.config_file).returncode == 1
    done = run_cli("queue", "discard", "--to", "old", "--state", "ready", "--yes", "-c", router.config_file)
    assert (done.returncode, done.stdout) == (0, "3 deliveries, 0 held images: discarded\n")
    router.wait_drained()
    assert run_cli("status", "-c", router.config_file).returncode == 0


# --- tls.md -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands of the page make; in ``other`` once more, by another authority."""
    folder = tmp_path_factory.mktemp("tls")
    script = "".join(re.findall(r"^```sh\n(.*?)^```$", page("tls.md"), re.MULTILINE | re.DOTALL))
    assert script.count("openssl x509") == 2
    (folder / "other").mkdir()
    for place in (folder, folder / "other"):
        done = subprocess.run(["sh", "-e"], input=script, cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def server(certificates: Path, make_router: MakeRouter, tmp_path: Path) -> Router:
    """A router with the page's certificate: plain TLS, mutual TLS, and no TLS."""
    own = {"certificate": str(certificates / "router.pem"), "key": str(certificates / "router.key")}
    tls: list[Table] = [own, {**own, "client_ca": str(certificates / "ca.pem")}]
    return make_router(
        listener=[*(settings.listener(ae_title="ROUTER", tls=table) for table in tls), settings.listener()],
        destination=[settings.folder("files", tmp_path / "files")],
        route=[settings.route("all", ["files"])],
    ).start()


def test_certificates_of_the_page_work_with_dcmtk(certificates: Path, server: Router) -> None:
    """With the options that the page gives to echoscu."""
    (line,) = re.findall(r"^    echoscu (.*)$", page("tls.md"), re.MULTILINE)
    for table in server.config["listener"][:2]:
        options = line.replace("2762", str(table["port"])).split()
        done = subprocess.run(
            [peers.program("echoscu"), *options],
            cwd=certificates,
            env=dict(os.environ),
            timeout=30,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_users_and_bound_titles_of_the_page_work(certificates: Path, make_router: MakeRouter, tmp_path: Path) -> None:
    """The listeners that the page shows, one with users and one with bound titles, with its own commands."""
    shown = re.findall(r"^```toml\n(.*?)^```$", page("tls.md"), re.MULTILINE | re.DOTALL)
    listeners = [table for block in shown for table in tomllib.loads(block).get("listener", [])]
    (bound,) = [table for table in listeners if "bind_ae" in table["tls"]]
    (named,) = [table for table in listeners if "user_identity" in table]
    for table in (bound, named):
        files = {key: str(certificates / table["tls"][key]) for key in table["tls"] if key != "bind_ae"}
        table |= {"port": settings.listener()["port"], "host": HOST, "tls": {**table["tls"], **files}}
    named["user_identity"] = {"users_file": str(tmp_path / "users")}
    (add,) = set(re.findall(r"^    asyncroute (user add .*)$", page("tls.md"), re.MULTILINE))
    with_input = program(*add.split(), "--stdin")
    subprocess.run(with_input, input="secret\n", cwd=tmp_path, text=True, env=environment(), check=True)
    destination = settings.folder("files", tmp_path / "files")
    router = make_router(listener=[bound, named], destination=[destination], route=[settings.route("all", ["files"])])
    router.start()
    (line,) = re.findall(r"^    storescu (.*)$", page("tls.md"), re.MULTILINE)
    write_part10(synthetic.image("page", 0), certificates).rename(certificates / "image.dcm")
    for text, code in ((line, 0), (line.replace("secret", "Secret"), 1)):
        options = [*text.replace("2762", str(named["port"])).split(), "-xe"]
        tried = subprocess.run(
            [peers.program("storescu"), *options], cwd=certificates, timeout=30, capture_output=True, check=False
        )
        assert bool(tried.returncode) == bool(code), tried.stderr
    router.wait_delivered(1)
    site = ["+tls", certificates / "site.key", certificates / "site.pem", "+cf", certificates / "ca.pem"]
    assert peers.echoscu(router.caller("ANY"), *site).returncode == 0  # "*" is the site's certificate
    assert peers.echoscu(router.caller("CT_1"), *site).returncode != 0
    (row,) = re.findall(r"^    (calling AE title '.*)$", page("tls.md"), re.MULTILINE)
    pattern = re.escape(row).replace("…", ".*").replace("mr\\-gateway", "site")
    wait_until(lambda: re.search(pattern, router.log_tail()), 10, "the line of the page", router.log_tail)


def client(certificates: Path, **tls: str) -> dict[str, str]:
    return {key: value if key == "server_name" else str(certificates / value) for key, value in tls.items()}


FAILING: list[tuple[str, int, Mapping[str, str], str]] = [
    ("strange authority", 0, {"ca": "other/ca.pem"}, "unable to get local issuer certificate"),
    ("not this name", 0, {"ca": "ca.pem", "server_name": "pacs.example.org"}, "Hostname mismatch"),
    ("not this address", 0, {"ca": "ca.pem", "server_name": "10.0.0.5"}, "IP address mismatch"),
    ("no certificate", 1, {"ca": "ca.pem"}, "refused by the destination"),
    (
        "strange certificate",
        1,
        {"ca": "ca.pem", "certificate": "other/site.pem", "key": "other/site.key"},
        "refused by the destination",
    ),
    ("no TLS there", 2, {"ca": "ca.pem"}, "the destination does not speak TLS (wrong version number)"),
]


@pytest.mark.parametrize(
    ("listener", "tls", "words"), [case[1:] for case in FAILING], ids=[case[0] for case in FAILING]
)
def test_what_does_not_fit_is_told_in_the_words_of_the_page(
    certificates: Path, server: Router, tmp_path: Path, listener: int, tls: Mapping[str, str], words: str
) -> None:
    port = server.config["listener"][listener]["port"]
    destination = settings.dicom("d", port, calling_ae_title="SITE", tls=client(certificates, **tls))
    tables = {"node": {"data_dir": "d"}, "listener": [settings.listener()], "destination": [destination]}
    file = tmp_path / "client.toml"
    file.write_text(settings.to_toml(tables), encoding="utf-8")
    done = run_cli("check", "-c", file, "--connect", "--json")
    assert done.returncode == 1
    (trial,) = json.loads(done.stdout)["destinations"]
    text = next(step["text"] for step in trial["steps"] if not step["ok"])
    assert words in text
    rows = documented("When we call a destination")
    assert any(row.fullmatch(text) for row in rows), f"not in tls.md: {text}"
    wait_until(lambda: warnings_of(server), 30, "a line in the log", server.log_tail)
    other = re.escape("aborting: unknown PDU type 16H (the other side speaks TLS)")
    known = [*documented("When senders call us"), re.compile(other)]
    for line in warnings_of(server):
        told = line.partition(": ")[2].removeprefix("TLS handshake failed: ")
        assert any(row.fullmatch(told) for row in known), f"not in tls.md: {told}"


def warnings_of(router: Router) -> list[str]:
    return re.findall(r" WARNING (.*)$", router.log_tail(), re.MULTILINE)


def documented(title: str) -> list[re.Pattern[str]]:
    """The messages in the first column of a table; … stands for anything."""
    table = page("tls.md").split(f"### {title}\n", 1)[1].split("\n#", 1)[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [re.compile(re.escape(m).replace("…", ".+")) for cell in cells for m in re.findall(r"`([^`]+)`", cell)]


def test_a_caller_without_tls_is_told_in_the_log(server: Router) -> None:
    assert peers.echoscu(server.caller()).returncode != 0
    wait_until(
        lambda: "TLS handshake failed: the caller does not speak TLS (wrong version number)" in server.log_tail(),
        10,
        "a line in the log",
        server.log_tail,
    )


def test_a_router_that_a_watcher_finds_healthy(server: Router) -> None:
    """Exit status 0 of ``status`` is what monitoring is told to look at."""
    assert run_cli("status", "-c", server.config_file).returncode == 0
    server.stop()
    assert run_cli("status", "-c", server.config_file).returncode == 0
