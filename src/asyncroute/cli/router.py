"""Asks a router: the running one through its control socket, else what it left in its journal."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from asyncroute.cli import settings
from asyncroute.status.client import Client, NotRunning

if TYPE_CHECKING:
    from asyncroute.config.outline import Outline

Answer = TypeVar("Answer")


def ask(path: Path | None, running: Callable[[Client], Answer], stopped: Callable[[Outline], Answer]) -> Answer:
    """The running router's answer, else that of ``stopped``. ``path``: the configuration as given.

    Neither needs the whole configuration: this takes a third of the time, and works while somebody edits the file.
    Raises AsyncrouteError.
    """
    folder = settings.data_dir(path)
    if folder is not None:
        try:
            return running(Client(folder))
        except NotRunning:
            pass
    outline = settings.outline(path)
    if outline.data_dir != folder:
        try:
            return running(Client(outline.data_dir))
        except NotRunning:
            pass
    return stopped(outline)


def locked(data_dir: Path) -> bool:
    """Whether a process holds the journal (``journal.place.Lock``)."""
    try:
        number = os.open(data_dir / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(number)
    return False
