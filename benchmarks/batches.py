"""How long the commands take while many batches are queued: ``python -m benchmarks.batches [BATCHES [FILES]]``.

Makes so many folders (1,000) of so many small files (10) in a temporary folder, starts a router whose watch is stopped,
queues them all, and runs each command several times: first beside the running router, then after it stopped. Prints the
median of processor and wall time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.commands import measure, run

PATIENCE = 60.0
CONFIG = """\
[node]
data_dir = "{folder}/data"
[[listener]]
host = "127.0.0.1"
port = 0
[[destination]]
name = "out"
kind = "folder"
path = "{folder}/out"
[[watch]]
name = "trial"
mode = "batch"
paths = ["{folder}/base"]
[[route]]
name = "all"
to = ["out"]
"""
COMMANDS = (
    ["batch", "list"],
    ["batch", "list", "--state", "queued", "--limit", "1000"],
    ["batch", "show", "study-1"],
    ["batch", "export"],
    ["batch", "export", "--per", "day"],
    ["queue", "list"],
    ["status"],
)
RUNNING = (["watch", "status"], ["batch", "start", "trial"])


def fill(base: Path, batches: int, files: int) -> None:
    """Folders of files that are no images."""
    for number in range(batches):
        (base / f"study-{number}").mkdir(parents=True)
        for n in range(files):
            (base / f"study-{number}" / f"{n}.txt").write_text("no image", encoding="utf-8")


def ask(config: Path, *words: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "asyncroute", *words, "-c", str(config)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def wait_until_it_listens(config: Path, router: subprocess.Popen[bytes]) -> None:
    """Until commands are answered."""
    deadline = time.monotonic() + PATIENCE
    while not ask(config, "watch", "status"):
        if router.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the router does not start")


def main(batches: int = 1000, files: int = 10) -> None:
    """See module."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "asyncroute.toml"
        config.write_text(CONFIG.format(folder=folder), encoding="utf-8")
        fill(folder / "base", batches, files)
        with (folder / "log").open("wb") as log:
            router = subprocess.Popen(
                [sys.executable, "-m", "asyncroute", "serve", "-c", config], stdout=log, stderr=log
            )
        try:
            wait_until_it_listens(config, router)
            ask(config, "watch", "stop", "trial")
            taken = run(config, ["batch", "start", "trial"])
            print(f"{batches} batches of {files} files; to queue them took {taken[1]:.2f} s\nbeside a running router:")
            measure(config, [*RUNNING, *COMMANDS])
        finally:
            router.send_signal(signal.SIGTERM)
            router.wait()
        print("after it stopped:")
        measure(config, COMMANDS)


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    main(*map(int, sys.argv[1:]))
