"""``demo``: that it works, and that it could fail."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncroute.cli import demo_parts
from asyncroute.cli.demo import Scene
from asyncroute.cli.demo_parts import Peer, configuration, samples
from asyncroute.cli.sending import Sending, Tally
from asyncroute.config import loads
from asyncroute.core.errors import OurFault
from tests.support import corpus, ul
from tests.support.exact_sender import Caller
from tests.support.images import pairs
from tests.support.router import command, environment
from tests.support.synthetic import Kind, image, mixed


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it with its temporary folder in ``folder``."""
    return subprocess.run(
        command("demo", *arguments),
        capture_output=True,
        text=True,
        env=environment(TMPDIR=str(folder)),
        cwd=folder,
        timeout=60,
        check=False,
    )


def test_every_byte_arrives(tmp_path: Path) -> None:
    done = demo(tmp_path, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads(done.stdout)
    archive, research = facts["destinations"]
    assert facts["ok"] is True
    assert facts["router_exit_status"] == 0
    assert facts["images"] == archive["expected"] == archive["arrived"] == archive["identical"] > 100
    assert 50 < research["identical"] == research["expected"] < archive["expected"]
    assert archive["bytes"] == facts["bytes"]
    assert archive["calling_aets"] == ["SITE_A", "SITE_B", "SITE_C", "SITE_D"]
    assert archive["transfer_syntaxes"] >= 10
    assert list(tmp_path.iterdir()) == []


def test_for_people(tmp_path: Path) -> None:
    done = demo(tmp_path, "--keep")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every byte arrived" in done.stdout.splitlines()[-1]
    assert any(line.startswith("  archive ") for line in done.stdout.splitlines())
    (kept,) = tmp_path.iterdir()
    assert done.stderr == f"kept: {kept}\n"
    assert (kept / "router.log").exists()
    assert (kept / "data" / "journal.db").exists()


def test_what_lies_in_the_current_folder_is_not_in_the_way(tmp_path: Path) -> None:
    """Its processes do not import from there."""
    (tmp_path / "asyncroute").mkdir()
    (tmp_path / "asyncroute" / "__init__.py").write_text("raise RuntimeError", encoding="utf-8")
    (tmp_path / "json.py").write_text("raise RuntimeError", encoding="utf-8")
    program = [sys.executable, "-P", "-m", "asyncroute", "demo", "--json"]
    done = subprocess.run(
        program, capture_output=True, text=True, env=environment(), cwd=tmp_path, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_router_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_parts, "configuration", lambda _: "[[listener]]\nport = -1\n")
    with pytest.raises(OurFault, match=r"did not start: .*asyncroute.toml:2: listener.0..port"):
        asyncio.run(demo_parts.Router(tmp_path).start([]))


# --- the proof --------------------------------------------------------------------------------------------------------


class Arrived(Peer):
    """A peer at which these have arrived."""

    def __init__(self, name: str, arrived: list[dict[str, Any]]) -> None:
        super().__init__(name)
        self.arrived = arrived


def fact(identity: tuple[str, str, str, str], size: int) -> dict[str, Any]:
    keys = ("sop_class", "sop_instance", "transfer_syntax", "sha256")
    return {**dict(zip(keys, identity, strict=True)), "size": size, "association": 1, "calling": "SITE_A"}


@pytest.fixture
def scene() -> Scene:
    """All went well."""
    chosen = samples()[:10]
    facts = [fact(sample.identity, sample.file.size) for sample in chosen]
    research = [f for f, sample in zip(facts, chosen, strict=True) if sample.modality in ("CT", "MR")]
    assert 0 < len(research) < len(chosen)
    made = Scene(chosen, [Arrived("archive", facts), Arrived("research", research)], exit_status=0)
    sending = Sending.__new__(Sending)
    sending.tally = Tally(sent=len(chosen))
    made.sendings = {"SITE_A": sending}
    return made


def test_all_well(scene: Scene) -> None:
    assert scene.ok
    assert scene.facts()["destinations"][0]["identical"] == 10


def test_a_changed_byte_is_noticed(scene: Scene) -> None:
    scene.peers[0].arrived[3]["sha256"] = hashlib.sha256(b"other").hexdigest()
    assert not scene.ok
    archive = scene.facts()["destinations"][0]
    assert (archive["identical"], archive["missing"], archive["unexpected"]) == (9, 1, 1)


def test_a_missing_image_is_noticed(scene: Scene) -> None:
    scene.peers[1].arrived.pop()
    assert not scene.ok
    assert not scene.all_there


def test_a_repeat_is_noticed(scene: Scene) -> None:
    scene.peers[1].arrived.append(scene.peers[1].arrived[0])
    assert not scene.ok


def test_an_image_at_the_wrong_place_is_noticed(scene: Scene) -> None:
    everywhere = scene.peers[0].arrived
    elsewhere = next(f for f in everywhere if f not in scene.peers[1].arrived)
    scene.peers[1].arrived.append(elsewhere)
    assert not scene.ok
    assert scene.facts()["destinations"][1]["unexpected"] == 1


@pytest.mark.parametrize("status", [None, 1, -9])
def test_a_router_that_ends_badly_is_noticed(scene: Scene, status: int | None) -> None:
    scene.exit_status = status
    assert not scene.ok


def test_an_image_that_was_not_sent_is_noticed(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    tally = scene.tallies["SITE_A"]
    tally.sent -= 1
    tally.failed.append((Path("x.dcm"), "refused\x1b[2J"))
    assert not scene.ok
    scene.show()
    out = capsys.readouterr().out
    assert "SITE_A: not sent: x.dcm: refused\\x1b[2J" in out
    assert "every byte arrived" not in out


# --- its parts --------------------------------------------------------------------------------------------------------


def test_the_samples_are_what_pydicom_brings() -> None:
    """Compared with what the bench reads in the same folder."""
    theirs = {corpus.path_of(real): real for real in corpus.storable()}
    ours = {sample.file.path: sample for sample in samples()}
    assert len(ours) > 100
    for path, sample in ours.items():
        assert sample.identity == theirs[path].identity, path.name
        assert sample.modality == theirs[path].modality, path.name


def test_its_configuration_is_right() -> None:
    peers = [Peer("archive"), Peer("research")]
    for n, peer in enumerate(peers):
        peer.port = 1000 + n
    config = loads(configuration(peers))
    assert [route.to for route in config.routes] == [("archive",), ("research",)]
    assert [destination.name for destination in config.destinations] == ["archive", "research"]


class Process:
    """A receiving peer's process, line by line."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "asyncroute.cli.demo_peer", "PEER"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )
        self.port = int(self.line()["port"])

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        assert self.process.wait(10) == 0
        assert self.process.stdout.read() == b""
        self.process.stdout.close()


@pytest.fixture
def peer() -> Iterator[Process]:
    made = Process()
    yield made
    made.close()


def test_a_peer_tells_what_it_got(peer: Process) -> None:
    images = [*mixed("peer", 6), image("peer", 99, Kind(size=1 << 20))]
    caller = Caller(peer.port, "SITE_A", "PEER", send_pdu=5000)
    with caller.associate(images) as association:
        assert association.echo() == 0
        for each in images:
            assert association.store(each).status == 0
            told = peer.line()
            assert (told["sop_class"], told["sop_instance"], told["transfer_syntax"], told["sha256"]) == each.identity
            assert (told["size"], told["calling"]) == (each.size, "SITE_A")
        association.release()
    assert len(pairs(images)) > 1


def test_a_peer_survives_nonsense(peer: Process) -> None:
    caller = Caller(peer.port, called="PEER")
    for nonsense in (b"\x09\0\0\0\0\x01x", ul.pdv(1, ul.LAST, b"data"), b"GET / HTTP/1.0\r\n\r\n"):
        with caller.connect() as sock:
            sock.sendall(nonsense)
            while sock.recv(4096):
                pass
    with caller.associate() as association:
        assert association.echo() == 0
