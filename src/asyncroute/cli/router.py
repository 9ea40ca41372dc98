"""Asks a router: the running one through its control socket, else what it left in its journal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from asyncroute.cli import settings
from asyncroute.status.client import Client, NotRunning

if TYPE_CHECKING:
    from asyncroute.config import Config

Answer = TypeVar("Answer")


def ask(path: Path | None, running: Callable[[Client], Answer], stopped: Callable[[Config], Answer]) -> Answer:
    """The running router's answer, else that of ``stopped``. ``path``: the configuration as given.

    A running router is asked without loading the configuration: this takes a third of the time, and works while
    somebody edits the file. Raises AsyncrouteError.
    """
    folder = settings.data_dir(path)
    if folder is not None:
        try:
            return running(Client(folder))
        except NotRunning:
            pass
    config = settings.load(path)
    if config.node.data_dir != folder:
        try:
            return running(Client(config.node.data_dir))
        except NotRunning:
            pass
    return stopped(config)
