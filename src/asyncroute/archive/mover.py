"""From one tier to the next: whole studies, the oldest first; and the end of those that were kept long enough.

An image's move: its new place is written down, the file gets there (another name on the same file system, else a copy
that is synced, read back and compared), the folder is synced, the index says that it is there now; then the old file
goes, and that is written down, too. So a crash between any two steps leaves an image whole in one place, and the next
start goes on.
Guarantees: nothing is removed that is not known to be whole elsewhere, but for studies that ``keep`` ends. A file that
is not what was received is not moved: it is told, and stays. Failures: none; ``states`` says why a tier takes nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from errno import ENOSPC
from math import inf
from time import monotonic, time

from asyncroute.archive.base import Holding, Index, Kept
from asyncroute.archive.resume import resume
from asyncroute.archive.shelves import Shelf, Shelves
from asyncroute.archive.throttle import Halted, Throttle
from asyncroute.archive.tier import FULL, FactsOf, Folder, pieces_of
from asyncroute.core.archiving import MoveIn, last_moment, next_moment
from asyncroute.core.calendar import Calendar
from asyncroute.core.errors import StorageFault
from asyncroute.crashpoints import crash_point
from asyncroute.spool.base import Facts

log = logging.getLogger(__name__)

TOGETHER = 64
"""Images of one group."""

SPARE_ROOM = 32 << 20
"""Bytes that a move leaves free on its target."""

ENDINGS = 100
"""Studies that are ended in one go."""


class Mover:
    """See module. ``turn``: held while files of a tier are removed. For one thread."""

    def __init__(self, index: Index, halt: threading.Event, turn: threading.Lock, facts_of: FactsOf) -> None:
        self.states: dict[int, dict[str, object]] = {}
        """What tiers are doing, by their numbers in the index; for ``status``."""
        self.between: Callable[[], None] = lambda: None
        """Called now and then while it works."""
        self._index = index
        self._halt = halt
        self._turn = turn
        self._facts_of = facts_of
        self._throttle = Throttle(halt)
        self._resumed: set[int] = set()
        self._said: dict[int, str] = {}
        self._calendar = Calendar(time(), monotonic(), index.newest())

    def work(self, shelves: Shelves) -> None:
        """Do what is due now. Blocks for as long as there is something; raises ``Halted`` when the program stops."""
        for shelf in shelves.all:
            folder = shelf.look()
            if folder is not None:
                self._resume(folder, shelves)
        for number in range(len(shelves.all) - 1, 0, -1):
            self._fill(shelves.all[number - 1], shelves.all[number])
        self._end(shelves)

    def _resume(self, folder: Folder, shelves: Shelves) -> None:
        if folder.id not in self._resumed:
            resume(self._index, folder, shelves.headers, self._facts_of, folder is not shelves.all[0].folder)
            self._resumed.add(folder.id)
        self._clear(folder)

    # ---- what is due

    def _fill(self, before: Shelf, after: Shelf) -> None:
        """Move into the tier ``after`` what fits its ``move_in``."""
        source, target, terms = before.look(), after.look(), after.move_in
        if source is None or target is None or terms is None:
            return
        self._throttle.rates = terms.rates
        state: dict[str, object] = {"state": "ok", "why": "", "until": None, "moving": None}
        self.states[target.id] = state
        try:
            for study, why in self._due(source, target, terms, state):
                state.update(moving=study.study_uid, state="moving", why=why)
                self._move(study, source, target, terms)
                self.between()
            state.update(moving=None)
            if state["state"] == "moving":
                state.update(state="ok", why="")
        except StorageFault as fault:
            self._failed(target, state, fault.errno, str(fault))
        except OSError as error:
            words = f"{error.filename or target.path}: {error.strerror or error}"
            self._failed(target, state, error.errno or 0, words)

    def _failed(self, target: Folder, state: dict[str, object], number: int, words: str) -> None:
        told = f"full: {words}" if number in FULL else words
        if self._said.get(target.id) != told:
            log.error("nothing moves to %s, images stay where they are: %s", target.path, told)
            self._said[target.id] = told
        state.update(state="full" if number in FULL else "failed", why=told, moving=None)
        self._resumed.discard(target.id)

    def _due(
        self, source: Folder, target: Folder, terms: MoveIn, state: dict[str, object]
    ) -> Iterator[tuple[Holding, str]]:
        """The next study that has to move, and why, until there is none."""
        while not self._halt.is_set():
            now = time()
            due = self._next(source, target, terms, now, state)
            opened, until = terms.hours.at(now) if terms.hours is not None else (True, inf)
            if due is None:
                return
            if not opened:
                state.update(state="closed", why="outside its hours", until=until)
                return
            yield due

    def _next(
        self, source: Folder, target: Folder, terms: MoveIn, now: float, state: dict[str, object]
    ) -> tuple[Holding, str] | None:
        for study in self._index.moving(target.id):
            begun = self._index.holding(study, source.id)
            if begun is not None:
                return begun, "its move had begun"
            self._index.end_move(study, target.id)
        return (
            self._at_time(source, target, terms, now, state)
            or self._low(source, target, terms, state)
            or self._old(source, terms, now)
        )

    def _at_time(
        self, source: Folder, target: Folder, terms: MoveIn, now: float, state: dict[str, object]
    ) -> tuple[Holding, str] | None:
        """Everything that was there at a time of day, or when a person said so."""
        order = self._index.setting(f"move {target.id}") or 0.0
        if order and (study := self._oldest(source, order)) is not None:
            return study, "a person's word"
        if order:
            self._index.note(f"move {target.id}", 0.0)
        if not terms.at:
            return None
        state["next"] = next_moment(terms.at, now)
        key, moment = f"swept {target.id}", last_moment(terms.at, now)
        swept = self._index.setting(key)
        if swept is None or swept > now:  # the first time, or the clock was set back
            self._index.note(key, now)
            return None
        if moment is None or moment <= swept:
            return None
        study = self._oldest(source, moment)
        if study is None:
            self._index.note(key, moment)
            return None
        return study, "its time has come"

    def _low(
        self, source: Folder, target: Folder, terms: MoveIn, state: dict[str, object]
    ) -> tuple[Holding, str] | None:
        if terms.below_free is None or source.free() >= terms.below_free:
            return None
        if source.device() == target.device():
            state.update(why="below_free does nothing: both tiers are on the same file system")
            return None
        study = self._oldest(source, inf)
        return (study, f"{source.path} has little free space") if study is not None else None

    def _old(self, source: Folder, terms: MoveIn, now: float) -> tuple[Holding, str] | None:
        if terms.older_than is None:
            return None
        study = self._oldest(source, now - terms.older_than)
        return (study, "it is old enough") if study is not None else None

    def _oldest(self, source: Folder, before: float) -> Holding | None:
        return next(iter(self._index.oldest(source.id, 1, before)), None)

    # ---- one study

    def _move(self, study: Holding, source: Folder, target: Folder, terms: MoveIn) -> None:
        if source.device() != target.device() and target.free() < study.bytes + SPARE_ROOM:
            raise StorageFault(f"{target.path} has no room for the {study.bytes} bytes of a study", ENOSPC)
        self._index.begin_move(study.study, target.id)
        moved = 0
        while images := self._index.images(study.study, source.id, TOGETHER):
            if self._halt.is_set():
                raise Halted("stopping")
            if terms.hours is not None and not terms.hours.at(time())[0]:
                return  # the rest goes first when they open again
            target.check()
            moved += self._group(images, source, target)
            self.between()
        self._index.end_move(study.study, target.id)
        log.info("study %s: %d images moved from %s to %s", study.study_uid, moved, source.path, target.path)

    def _group(self, images: Sequence[Kept], source: Folder, target: Folder) -> int:
        """Some images of a study; how many were moved."""
        names: dict[str, Kept] = {}
        for image in images:
            names[target.names(image.path, lambda tier, name: name in names or self._index.taken(tier, name))] = image
        intents = self._index.intend([(target.id, name, image.id) for name, image in names.items()])
        crash_point("tier-intended")
        done: list[tuple[int, int]] = []
        gone: list[int] = []
        for (name, image), intent in zip(names.items(), intents, strict=True):
            wrong = self._copy(image, name, source, target)
            if wrong:
                log.error("not moved: %s: %s", source.path / image.path, wrong)
                self._index.blame(image.id, wrong)
                gone.append(intent)
            else:
                done.append((intent, image.id))
        there = {number for _, number in done}
        target.sync(name for name, image in names.items() if image.id in there)
        self._index.withdraw(gone)
        self._index.moved(done)
        crash_point("tier-moved")
        self._clear(source)
        return len(done)

    def _copy(self, image: Kept, name: str, source: Folder, target: Folder) -> str:
        """What is wrong with an image's file; empty: it is at its new place."""
        facts = source.facts(image.path, self._facts_of)
        wrong = wrong_with(image, facts, source)
        if wrong or facts is None:
            return wrong
        path = source.path / image.path
        if target.link_from(path, name):
            return ""
        try:
            target.write(name, pieces_of(path), facts, self._throttle.spend)
        except StorageFault as fault:
            if fault.errno:
                raise
            return f"damaged: {fault}"
        return ""

    def _clear(self, folder: Folder) -> None:
        """Remove files that are known to be elsewhere, or whose study has ended."""
        while leftovers := self._index.leftovers(folder.id, 1000):
            with self._turn:
                folder.remove_all(left.path for left in leftovers)
            crash_point("tier-removed")
            self._index.cleared([left.id for left in leftovers])

    # ---- the end

    def _end(self, shelves: Shelves) -> None:
        """Studies whose last image came in too long ago are deleted, wherever they are."""
        if shelves.terms.keep == inf:
            return
        before = self._calendar.now(time(), monotonic()) - shelves.terms.keep
        while studies := self._index.ending(before, ENDINGS):
            for study in studies:
                if self._halt.is_set():
                    raise Halted("stopping")
                images = self._index.end(study.study)
                crash_point("tier-ended")
                log.info("study %s: its %d images were kept long enough and are deleted", study.study_uid, images)
            for shelf in shelves.all:
                folder = shelf.look()
                if folder is not None:
                    self._clear(folder)
            self.between()


def wrong_with(image: Kept, facts: Facts | None, folder: Folder) -> str:
    """What is wrong with an image's file, by what that says about itself; empty: nothing that can be seen there."""
    if facts is None:
        return "changed: it is no whole image" if (folder.path / image.path).exists() else "missing"
    same = (facts.sop_instance_uid, facts.size, facts.checksum, facts.data_offset)
    if same != (image.sop_instance_uid, image.size, image.checksum, image.data_offset):
        return "changed: it is another image's file"
    return ""
