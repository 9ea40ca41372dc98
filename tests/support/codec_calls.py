"""Conversions whose codec misbehaves inside the worker process, for tests: all but the codec is as it is."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asyncroute.transform.pixels import codecs
from asyncroute.transform.pixels.convert import convert


def hanging(source: Sequence[Any], target: str, wanted: str, *rest: Any) -> dict[str, Any]:
    """Images of which a file ``hang`` names the path: the codec never comes back from the first frame."""
    if _named("hang", source, target):
        codecs._ENCODERS[wanted] = _never
    return convert(source, target, wanted, *rest)


def crashing(source: Sequence[Any], target: str, wanted: str, *rest: Any) -> dict[str, Any]:
    """Likewise ``crash``: the codec ends its process."""
    if _named("crash", source, target):
        codecs._ENCODERS[wanted] = _end
    return convert(source, target, wanted, *rest)


def counted(source: Sequence[Any], target: str, *rest: Any) -> dict[str, Any]:
    """Each conversion leaves a line in the file ``calls``."""
    with (Path(target).parent.parent / "calls").open("a") as file:
        file.write(f"{source[0]}\n")
    return convert(source, target, *rest)


def held_back(source: Sequence[Any], target: str, *rest: Any) -> dict[str, Any]:
    """Not before there is a file ``go``; a file ``began`` tells that it waits for that."""
    (Path(target).parent.parent / "began").touch()
    while not (Path(target).parent.parent / "go").exists():
        time.sleep(0.005)
    return convert(source, target, *rest)


def _named(mark: str, source: Sequence[Any], target: str) -> bool:
    file = Path(target).parent.parent / mark
    return file.exists() and file.read_text() == source[0]


def _never(*_: Any) -> bytes:
    while True:
        time.sleep(1)


def _end(*_: Any) -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b""
