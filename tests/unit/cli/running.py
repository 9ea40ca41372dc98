"""Runs command lines in this process, as ``asyncroute`` would, and keeps what they say."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.support.images import Image, write_part10
from tests.support.synthetic import Kind, series


@dataclass(frozen=True)
class Done:
    """What a command line came to."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line on standard error."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]

    @property
    def facts(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


class Cli(Protocol):
    """Run a command line in the test's folder."""

    def __call__(self, *arguments: object) -> Done:
        """``asyncroute ARGUMENTS``."""
        ...


def part10_files(folder: Path, count: int, kind: Kind | None = None, seed: str = "cli") -> list[Image]:
    """Write ``count`` made images to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    images = series(seed, count, kind)
    for image in images:
        write_part10(image, folder)
    return images


def heeding_ctrl_c(*arguments: object) -> list[str]:
    """The command line of ``asyncroute ARGUMENTS``, also where SIGINT is ignored, which children inherit."""
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from asyncroute.cli import main; main()"
    )
    return [sys.executable, "-c", program, *map(str, arguments)]
