"""The archive of a running router, whatever its configuration is at the moment: its tiers, and who works on them.

``keep`` is what release asks before an image may leave the spool. A tier whose folder is not there, or not its own, is
left alone and told; images stay in the spool, or in the tier before it. A thread of its own looks after the rest.
Guarantees: the loop's thread touches no file of a tier and waits for nobody; another configuration is taken over
between two groups of images; ``close`` ends all work within a file's piece. Failures: none; ``trouble`` tells.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Any

from asyncroute.archive.base import Index
from asyncroute.archive.described import described, problems
from asyncroute.archive.intake import Intake, Releasable
from asyncroute.archive.mover import Mover
from asyncroute.archive.shelves import Shelves
from asyncroute.archive.throttle import Halted
from asyncroute.archive.tier import Folder
from asyncroute.core.archiving import Terms
from asyncroute.core.errors import AsyncrouteError
from asyncroute.spool.base import Spool

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two looks at the tiers."""


class Archive:
    """See module. ``keep`` in the thread that releases; the rest on the loop's."""

    def __init__(self, index: Index, spool: Spool, terms: Terms, durability: str) -> None:
        self.index = index
        self.halt = threading.Event()
        self.turn = threading.Lock()
        """Who holds it may change files of tiers; never the loop's thread."""
        self._durability = durability
        self._shelves = Shelves(terms, index, durability)
        self._intake = Intake(index, spool, self.halt, self.turn, self.folder_of)
        self._mover = Mover(index, self.halt, self.turn, spool.facts_of)
        self._mover.between = self._tell
        self._told = 0.0
        self._waiting = 0
        self._report: dict[str, Any] = {"waiting": 0, "tiers": []}
        self._problems: list[str] = []
        self._broken = ""
        self._thread = threading.Thread(target=self._look_after, name="archive", daemon=True)

    def start(self) -> None:
        """Begin to look after the tiers."""
        self._thread.start()

    def change(self, terms: Terms) -> None:
        """Go by ``terms`` from now on."""
        self._shelves = Shelves(terms, self.index, self._durability)

    def folder_of(self, number: int) -> Folder | None:
        """A tier that is there, by its number in the index."""
        return self._shelves.by_number(number)

    # ---- release asks

    def keep(self, batch: Sequence[Releasable]) -> list[Releasable]:
        """Archive these; those that may leave the spool now. Blocks."""
        safe: list[Releasable] = []
        try:
            safe = self._keep(batch, self._shelves)
        except AsyncrouteError as error:
            self._intake.say(str(error))
        except Exception as error:
            log.exception("unexpected error while images are archived")
            self._intake.say(f"unexpected error, see the log: {error!r}")
        self._waiting = len(batch) - len(safe)
        return safe

    def _keep(self, batch: Sequence[Releasable], shelves: Shelves) -> list[Releasable]:
        with self.turn:
            shelves.open()
        first = shelves.all[0]
        if first.folder is not None:
            return self._intake.keep(batch, first.folder, shelves.headers)
        self._intake.say(first.why)
        return []

    # ---- in a thread of its own

    def _look_after(self) -> None:
        while not self.halt.is_set():
            try:
                with self.turn:
                    self._shelves.open()
                self._tell(now=True)
                self._mover.work(self._shelves)
                self._broken = ""
            except Halted:
                return
            except AsyncrouteError as error:
                self._broken = str(error)
            except Exception as error:
                log.exception("unexpected error in the archive")
                self._broken = f"unexpected error, see the log: {error!r}"
            self.halt.wait(EVERY)

    def _tell(self, now: bool = False) -> None:
        """See how everything is, for ``status``; at most once a second."""
        if not now and monotonic() - self._told < EVERY:
            return
        self._told = monotonic()
        shelves, states = self._shelves, self._mover.states
        totals = {total.tier: total for total in self.index.totals()}
        told = [described(shelf, totals, states) for shelf in shelves.all]
        self._report = {"waiting": self._waiting, "tiers": told}
        self._problems = list(self._found(told))

    def _found(self, told: Sequence[dict[str, Any]]) -> Iterator[str]:
        if self._broken:
            yield f"archive: {self._broken}"
        if self._intake.trouble:
            yield f"archive: nothing is taken in, images stay in the spool: {self._intake.trouble}"
        yield from problems(told, self._intake.trouble)

    # ---- for people

    def trouble(self) -> list[str]:
        """What a person should know, one line each."""
        return self._problems

    def describe(self) -> dict[str, Any]:
        """For ``status``; some seconds old. Sizes are bytes."""
        return self._report

    def close(self, wait: bool = True) -> None:
        """End all work. Idempotent."""
        self.halt.set()
        if wait and self._thread.is_alive():
            self._thread.join(5)
