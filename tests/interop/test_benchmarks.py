"""The benchmark runs from its command line, and notices what a router does to images."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import sender, sink
from benchmarks.corpus import Corpus
from benchmarks.evaluate import Evidence, Proof
from tests.support.ports import free_port
from tests.support.router import ROOT, environment
from tests.support.waiting import wait_until

COUNT = 12
SIZE = Corpus("small", 1)[0].size


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=100, check=False
    )


def test_a_tiny_run_gives_a_table_a_file_and_pictures(tmp_path: Path) -> None:
    done = run("--tiny", "--only", "calls", "--only", "stages", "--peers", "asyncroute", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    (row,) = found["scenarios"]["calls"]["rows"]
    assert row["figures"]["images"] == 10
    assert not any(row["proof"].values())
    assert row["figures"]["cpu_ms_per_image"] > 0
    (load,) = found["stages"].values()
    assert 0.5 < load["explained_settled"] <= 1.001  # the stages do not overlap
    pictures = sorted(tmp_path.glob("*.svg"))
    assert [path.name for path in pictures] == ["calls-cpu.svg", "stages.svg"]
    for path in pictures:
        ET.fromstring(path.read_text("utf-8"))
    assert "CPU ms/image" in done.stdout


def test_an_unknown_router_is_named() -> None:
    done = run("--peers", "conquest")
    assert done.returncode == 1
    assert "no router 'conquest'" in done.stderr


def start_sink(folder: Path) -> tuple[subprocess.Popen[bytes], sink.Settings]:
    settings = sink.Settings(free_port(), str(folder / "sink.json"), str(folder / "progress"))
    command = [sys.executable, "-m", "benchmarks.sink", json.dumps(asdict(settings))]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process, settings


async def relay(port: int, to: int, change: Callable[[bytes], bytes], work: Callable[[], None]) -> None:
    """Pass connections on while ``work`` runs in a thread; what goes to the sink passes ``change``."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, forth: bool) -> None:
        while data := await reader.read(65536):
            writer.write(change(data) if forth else data)
            await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(pump(reader, back, True), pump(there, writer, False))

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    async with server:
        await asyncio.to_thread(work)


def through(folder: Path, change: Callable[[bytes], bytes]) -> Evidence:
    """Send ``COUNT`` images over one association through a relay to a sink."""
    process, at = start_sink(folder)
    port = free_port()
    settings = sender.Settings(port, str(folder / "sender.json"), count=COUNT, called="SINK")
    command = [sys.executable, "-m", "benchmarks.sender", json.dumps(asdict(settings))]

    def send() -> None:
        subprocess.run(command, cwd=ROOT, env=environment(), timeout=60, check=True)

    try:
        asyncio.run(relay(port, at.port, change, send))
        progress = sink.Progress(at.progress)
        wait_until(lambda: progress.get()[1] >= COUNT, 20, "all images at the sink")
    finally:
        process.terminate()
        process.communicate(timeout=20)
    return Evidence.read(Corpus("small", COUNT), Path(settings.report), [Path(at.report)])


def test_a_relay_that_changes_nothing_is_clean(tmp_path: Path) -> None:
    assert through(tmp_path, lambda data: data).proof() == Proof()


class Flip:
    """Turns one bit of the byte in the middle of what passes."""

    def __init__(self) -> None:
        self.at = COUNT * SIZE // 2

    def __call__(self, data: bytes) -> bytes:
        at, self.at = self.at, self.at - len(data)
        if not 0 <= at < len(data):
            return data
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_one_bit_on_the_way_is_noticed(tmp_path: Path) -> None:
    assert through(tmp_path, Flip()).proof() == Proof(changed=1)


def test_an_image_that_the_sink_never_got_is_noticed(tmp_path: Path) -> None:
    found = through(tmp_path, lambda data: data)
    (stored,) = found.sinks
    assert Evidence(found.corpus, found.report, [stored[1:]]).proof() == Proof(lost=1)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_what_conversions_cost_others_is_printed() -> None:
    command = [sys.executable, "-m", "benchmarks.beside", "--rounds", "1", "--images", "60"]
    env = environment(PYTHONPATH=os.pathsep.join(filter(None, sys.path)))  # with the codecs
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=True)
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()]
    assert [line[0] for line in lines[2:]] == ["nothing beside", "conversions beside"]
    assert lines[2][3] == lines[2][5] == lines[2][7] == "1.00"
    assert all(float(line[6]) > 0 for line in lines[2:])
