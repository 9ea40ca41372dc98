"""Small disks: a file system of a few megabytes, mounted for one program in a namespace of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_on_small_disk(folder: Path, size: str, module: str, *arguments: str) -> None:
    """Run ``python -m module folder arguments`` with a fresh tmpfs of ``size`` mounted on ``folder``.

    Needs user namespaces (or root); where there are none this fails, because a skipped test shows nothing.

    Raises:
        AssertionError: the program failed; with its output.
    """
    folder.mkdir(exist_ok=True)
    script = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && shift && exec "$0" -m "$2" "$1" "${@:3}"'
    namespace = ("unshare", "--user", "--map-root-user", "--mount", "bash", "-c", script)
    done = subprocess.run(
        [*namespace, sys.executable, size, str(folder), module, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT}/src:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
