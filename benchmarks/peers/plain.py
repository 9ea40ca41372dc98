"""The router that is written in an afternoon with pynetdicom; ``plain_router.py`` is the program."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.peers.base import AE_TITLE, Peer, Place

WORKERS = 4


class Plain(Peer):
    """See module."""

    name = "pynetdicom"
    about = f"a plain store-and-forward script: each file synced, queue in memory, {WORKERS} threads per destination"

    def command(self, place: Place) -> list[str]:
        """See ``Peer``."""
        spool = place.folder / "spool"
        spool.mkdir()
        program = Path(__file__).with_name("plain_router.py")
        destinations = [f"{each.name}:{each.port}" for each in place.destinations]
        return [sys.executable, str(program), AE_TITLE, str(place.port), str(spool), str(WORKERS), *destinations]
