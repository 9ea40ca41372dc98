"""What is sent, how, and to whom: one load, the same for every router that is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.corpus import SIZES
from benchmarks.wire import KIND, Tcp


@dataclass(frozen=True)
class Load:
    """``delays``: seconds before each answer, by destination, the last one for all further ones.

    ``per_association`` 0: an association for as long as there are images. ``options``: see ``peers.base.Place``.
    ``stall``: seconds without progress after which a run is given up.
    """

    kind: str = "small"
    count: int = 600
    associations: int = 10
    destinations: int = 1
    per_study: int = 0
    per_association: int = 0
    max_pdu: int = 128 << 10
    senders: Tcp = KIND
    sinks: Tcp = KIND
    delays: tuple[float, ...] = (0.0,)
    options: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 300.0
    stall: float = 20.0

    @property
    def study(self) -> int:
        """Images per study: so few that every association has some."""
        return self.per_study or max(1, min(20, self.count // self.associations))

    def delay(self, destination: int) -> float:
        """Of one destination."""
        return self.delays[min(destination, len(self.delays) - 1)]

    def __str__(self) -> str:
        size = SIZES[self.kind]
        text = f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"
        return f"{self.count} images of {text}, {self.associations} -> {self.destinations}"
