"""A router under test: how to configure and start it. Everything else is the same for all and lies in ``run.py``.

To add a router: a subclass of ``Peer`` in a file of its own, named in ``peers/__init__.py``.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

AE_TITLE = "ROUTER"
"""Every router's own title."""


@dataclass(frozen=True)
class Destination:
    """Where a router forwards everything to."""

    name: str
    port: int


@dataclass(frozen=True)
class Place:
    """What a router gets for one run: a fresh folder on a real disk, one in memory, ports, destinations, its senders.

    ``options``: what a scenario asks of a router beyond that; each takes what it knows.
    """

    folder: Path
    memory: Path
    port: int
    spare_port: int
    destinations: Sequence[Destination]
    calling: Sequence[str]
    options: Mapping[str, str] = field(default_factory=dict)


class Peer(ABC):
    """See module. ``about`` is one line for the report; ``durable``: what it has acknowledged survives a power cut."""

    name: ClassVar[str]
    about: ClassVar[str]
    durable: ClassVar[bool] = False
    one_at_a_time: ClassVar[bool] = False
    """Whether it serves one association after the other: senders must not wait for each other."""

    def missing(self) -> str | None:
        """Why it cannot run here, or None."""
        return None

    @abstractmethod
    def command(self, place: Place) -> list[str]:
        """Write its configuration; its command line."""

    def environment(self) -> dict[str, str]:
        """Environment variables that it needs besides ours."""
        return {}

    def ready(self, place: Place) -> bool:
        """Whether it takes associations now."""
        try:
            socket.create_connection(("127.0.0.1", place.port), 1).close()
        except OSError:
            return False
        return True
