"""An archive's parts without a router, for tests: an index, a spool, tiers in folders."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from math import inf
from pathlib import Path

from asyncroute.archive.intake import Intake
from asyncroute.archive.mover import Mover
from asyncroute.archive.shelves import Shelves
from asyncroute.config.template import parse_layout
from asyncroute.core.archiving import MoveIn, Terms, TierTerms
from asyncroute.core.model import Instance, Source
from asyncroute.journal.archive import ArchiveIndex
from asyncroute.spool.local import LocalSpool
from tests.support import synthetic
from tests.support.images import Image

LAYOUT = "{StudyDate}/{StudyInstanceUID}/{SOPInstanceUID}.dcm"


class Bench:
    """Tiers ``t1``, ``t2`` ... below ``folder``; each later one takes in by ``move_in``."""

    def __init__(
        self, folder: Path, *move_in: MoveIn, keep: float = inf, layout: str = LAYOUT, durability: str = "power-loss"
    ) -> None:
        self.folder = folder
        self.halt, self.turn = threading.Event(), threading.Lock()
        self.index = ArchiveIndex.open(folder / "data", durability)
        self.spool = LocalSpool(folder / "data" / "spool", durability)
        paths = [folder / f"t{n + 1}" for n in range(len(move_in) + 1)]
        terms = [TierTerms(paths[0]), *map(TierTerms, paths[1:], move_in)]
        self.terms = Terms(keep, parse_layout(layout), tuple(terms))
        self.paths = paths
        self.restart()

    def restart(self) -> None:
        """As another process would find it."""
        self.shelves = Shelves(self.terms, self.index, "power-loss")
        self.shelves.open()
        self.intake = Intake(self.index, self.spool, self.halt, self.turn, self.shelves.by_number)
        self.mover = Mover(self.index, self.halt, self.turn, self.spool.facts_of)

    def change(self, keep: float | None = None, move_in: MoveIn | None = None) -> None:
        """Other terms, for all later tiers."""
        tiers = self.terms.tiers
        if move_in is not None:
            tiers = (tiers[0], *(replace(each, move_in=move_in) for each in tiers[1:]))
        self.terms = replace(self.terms, keep=self.terms.keep if keep is None else keep, tiers=tiers)
        self.restart()

    def spooled(self, image: Image) -> tuple[int, str]:
        """An image in the spool, as received."""
        number, path = self.spool.allocate()
        source = Source("CT", "ROUTER", "ROUTER@:1", "127.0.0.1")
        about = (source, image.sop_class, image.sop_instance, image.transfer_syntax, time.time(), path)
        failed = self.spool.write([(Instance(number, *about), [b"".join(image.chunks(1 << 20))])])
        assert not failed
        return number, path

    def keep(self, *images: Image) -> list[int]:
        """Images on their way into the archive, as release does it; those that left the spool."""
        batch = [self.spooled(image) for image in images]
        return self.release(batch)

    def release(self, batch: list[tuple[int, str]]) -> list[int]:
        """The same of what is in the spool."""
        folder = self.shelves.all[0].folder
        assert folder is not None
        safe = self.intake.keep(batch, folder, self.shelves.headers)
        for _, path in safe:
            self.spool.remove(path)
        return [number for number, _ in safe]

    def close(self) -> None:
        """Close."""
        self.halt.set()
        self.spool.close()
        self.index.close()


def study(number: int, images: int = 3, size: int = 2000) -> list[Image]:
    """A small study."""
    kind = synthetic.Kind(size=size)
    return [synthetic.image(f"study{number}", n, kind, number) for n in range(images)]
