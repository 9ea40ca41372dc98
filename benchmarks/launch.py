"""The router with an instrument: ``python -m benchmarks.launch stages|profile FILE serve -c ...``.

The instrument is put on from outside before the command line runs, so that the program itself carries none. What it saw
is written to FILE when the process ends, which the program does by ``os._exit``.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol


class Instrument(Protocol):
    """What is put on."""

    def install(self) -> None:
        """Before the command line runs."""
        ...

    def report(self) -> dict[str, Any]:
        """At the end: plain data."""
        ...


def wrap(place: str, around: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace a method of the program, named ``module:Class.method``, by what ``around`` makes of it.

    Raises:
        SystemExit: the program has no such method any more.
    """
    module, _, name = place.partition(":")
    owner, _, method = name.partition(".")
    try:
        found = getattr(importlib.import_module(module), owner)
        plain = getattr(found, method)
    except (ImportError, AttributeError) as error:
        sys.exit(f"benchmarks: {place} is gone ({error}); benchmarks/probes.py has to follow the program")
    setattr(found, method, around(plain))


def _instrument(name: str) -> Instrument:
    if name == "stages":
        from benchmarks.probes import Stopwatch

        return Stopwatch()
    if name == "profile":
        from benchmarks.sampler import Sampler

        return Sampler()
    sys.exit(f"benchmarks: no instrument {name}")


def main(name: str, file: str, *arguments: str) -> None:
    """Put it on, run the command line."""
    instrument = _instrument(name)
    leave = os._exit
    written = False

    def write() -> None:
        nonlocal written
        if not written:
            written = True
            Path(file).write_text(json.dumps(instrument.report()))

    def leaving(status: int) -> None:
        write()
        leave(status)

    atexit.register(write)
    os._exit = leaving  # type: ignore[assignment]
    instrument.install()
    from asyncroute import cli

    sys.argv = ["asyncroute", *arguments]
    cli.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
