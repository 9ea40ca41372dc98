"""The backends of the spool."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from asyncroute.spool.base import Spool
from asyncroute.spool.local import LocalSpool

BACKENDS: dict[str, Callable[[Path], Spool]] = {
    "local": lambda folder: LocalSpool(folder / "spool", "power-loss"),
    "local-process-crash": lambda folder: LocalSpool(folder / "spool", "process-crash"),
}
