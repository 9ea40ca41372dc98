"""Are the archive's files still what was received? Reads each of them, and looks for files that nobody knows.

May run beside a router: an image that has been moved meanwhile is looked up again.
Guarantees: no file is changed; what is wrong is noted in the index, and so is what is right again. Failures:
``StorageFault`` from the index; ``Halted``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from asyncroute.archive.base import Index, Kept
from asyncroute.archive.mover import wrong_with
from asyncroute.archive.tier import OWN, Digest, FactsOf, Folder, pieces_of
from asyncroute.core.errors import StorageFault

AT_ONCE = 500
TRIES = 3
MOST_TOLD = 1000


@dataclass(slots=True)
class Verified:
    """What was found. ``wrong``: (file, what is wrong with it), the first of them; ``absent``: tiers not there.

    ``unknown``: files that the index does not know, the first of them.
    """

    images: int = 0
    bytes: int = 0
    damaged: int = 0
    missing: int = 0
    mended: int = 0
    unlooked: int = 0
    unknown_files: int = 0
    wrong: list[tuple[str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


class Verifier:
    """See module. ``folders``: tiers that are there, by number; ``spend``: is told how many bytes are read next."""

    def __init__(
        self, index: Index, folders: Mapping[int, Folder], facts_of: FactsOf, spend: Callable[[int], None]
    ) -> None:
        self.report = Verified()
        self._index = index
        self._folders = folders
        self._facts_of = facts_of
        self._spend = spend

    def images(self, tier: int | None, quick: bool) -> Iterator[Verified]:
        """Look at every image (of one tier); ``quick``: at names, lengths and facts only. Yields now and then."""
        after = 0
        while rows := self._index.after(after, tier, AT_ONCE):
            for image in rows:
                self._look(image, tier, quick)
            after = rows[-1].id
            yield self.report

    def _look(self, image: Kept, tier: int | None, quick: bool) -> None:
        place, wrong = image, self._wrong(image, quick)
        for _ in range(TRIES):
            found = self._index.image(image.id) if wrong else place
            if found is None or (tier is not None and found.tier != tier):
                return  # it has ended, or moved away
            if (found.tier, found.path) == (place.tier, place.path):
                break
            place, wrong = found, self._wrong(found, quick)
        if wrong is None:
            self.report.unlooked += 1
            return
        self._note(image, place, wrong, quick)

    def _note(self, image: Kept, place: Kept, wrong: str, quick: bool) -> None:
        report = self.report
        report.images += 1
        report.bytes += place.length
        if wrong:
            report.missing += wrong == "missing"
            report.damaged += wrong != "missing"
            if len(report.wrong) < MOST_TOLD:
                report.wrong.append((str(self._folders[place.tier].path / place.path), wrong))
        elif image.wrong and quick and image.wrong.startswith("damaged"):
            return  # only all of it can tell
        report.mended += bool(image.wrong and not wrong)
        if wrong != image.wrong:
            self._index.blame(image.id, wrong)

    def _wrong(self, image: Kept, quick: bool) -> str | None:
        """What is wrong with its file; None: its tier is not there."""
        folder = self._folders.get(image.tier)
        if folder is None:
            return None
        try:
            facts = folder.facts(image.path, self._facts_of)
            wrong = wrong_with(image, facts, folder)
            if wrong or quick or facts is None:
                return wrong
            digest = Digest(facts)
            for piece in pieces_of(folder.path / image.path):
                self._spend(len(piece))
                digest.update(piece)
            digest.check("it")
        except FileNotFoundError:
            return "missing"
        except OSError as error:
            return f"damaged: it cannot be read: {error.strerror or error}"
        except StorageFault as fault:
            return f"damaged: {fault}"
        return ""

    def strangers(self, folder: Folder) -> Iterator[Verified]:
        """Look for files of a tier that the index does not know. Yields now and then."""
        for name in names_in(folder):
            if not self._index.taken(folder.id, name) and os.path.lexists(folder.path / name):
                self.report.unknown_files += 1
                if len(self.report.unknown) < MOST_TOLD:
                    self.report.unknown.append(str(folder.path / name))
            yield self.report


def names_in(folder: Folder) -> Iterator[str]:
    """The places of all files of a tier, the archive's own left out."""
    for above, folders, files in os.walk(folder.path):
        if OWN in folders:
            folders.remove(OWN)
        for file in files:
            yield os.path.relpath(os.path.join(above, file), folder.path)
