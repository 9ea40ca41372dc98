"""The tiers of one configuration, and which folders they are.

Guarantees: a folder becomes a tier only where there was none; where one was, it has to be the same one. Failures:
``StorageFault`` from the index; what is wrong with a tier is said by its shelf.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from asyncroute.archive import tier
from asyncroute.archive.base import Index
from asyncroute.archive.tier import Folder
from asyncroute.core.errors import StorageFault

if TYPE_CHECKING:
    from asyncroute.core.archiving import MoveIn, Terms


class Shelf:
    """One configured tier. ``folder`` None: it is not known which one it is; ``why``: why nothing can be done there."""

    def __init__(self, path: Path, move_in: MoveIn | None = None) -> None:
        self.path = path
        self.move_in = move_in
        self.folder: Folder | None = None
        self.why = ""
        self.unindexed = False
        """Whether it had files before the index knew it."""

    def look(self) -> Folder | None:
        """The folder, if it can be used now."""
        if self.folder is None:
            return None
        try:
            self.folder.check()
        except StorageFault as fault:
            self.why = str(fault)
            return None
        self.why = ""
        return self.folder


class Shelves:
    """The tiers of one configuration. In threads that work on them, under the archive's ``turn``."""

    def __init__(self, terms: Terms, index: Index, durability: str) -> None:
        from asyncroute.archive.header import Headers  # who only looks at tiers needs no headers

        self.terms = terms
        self.headers = Headers(terms.layout)
        self.all = [Shelf(each.path, each.move_in) for each in terms.tiers]
        self._index = index
        self._durability = durability

    def open(self) -> None:
        """Find out which tiers the folders are; new ones become tiers.

        Raises:
            StorageFault: the index cannot tell.
        """
        for shelf in self.all:
            if shelf.folder is None:
                try:
                    shelf.folder = self._open(shelf)
                except OSError as error:
                    shelf.why = f"missing: {shelf.path} cannot be used: {error.strerror or error}"

    def _open(self, shelf: Shelf) -> Folder | None:
        known = {row.uid: row for row in self._index.tiers()}
        path, uid = shelf.path, tier.marker(shelf.path)
        before = next((row for row in known.values() if row.path == str(path)), None)
        if uid is None and before is not None:  # it was a tier, and its folder is not there
            shelf.unindexed = before.unindexed
            return Folder(before.id, path, before.uid, self._durability)
        twin = next((s for s in self.all if s.folder is not None and s.folder.uid == uid), None)
        if twin is not None:
            shelf.why = f"it has the same {tier.OWN}/tier as {twin.path}: one is a copy of the other"
            return None
        new = uid is None
        uid = uid or tier.found(path, self._durability)
        row = self._index.add_tier(uid, str(path), not new and uid not in known and tier.has_files(path))
        shelf.unindexed = row.unindexed
        return Folder(row.id, path, row.uid, self._durability)

    def by_number(self, number: int) -> Folder | None:
        """A tier that is there, by its number in the index."""
        shelf = next((s for s in self.all if s.folder is not None and s.folder.id == number), None)
        return shelf.look() if shelf is not None else None


def recognized(paths: Iterable[Path], index: Index, durability: str) -> list[Shelf]:
    """The tiers of these paths, as far as the index knows them, for whoever only looks: nothing becomes a tier.

    Raises:
        StorageFault: the index cannot tell.
    """
    known, found = index.tiers(), []
    for path in paths:
        shelf, uid = Shelf(path), tier.marker(path)
        row = next((r for r in known if r.uid == uid), None) or next((r for r in known if r.path == str(path)), None)
        if row is None:
            shelf.why = "no router has run with this tier yet"
        else:
            shelf.folder, shelf.unindexed = Folder(row.id, path, row.uid, durability), row.unindexed
        found.append(shelf)
    return found
