"""Into the first tier: images that are done with leave the spool for the archive.

A group at a time, in the thread that releases files: places are chosen and written down, files get there (another name
of the same file, or a copy that is synced and read back), their folders are synced, the index knows them; only then
may the spool let go. What comes twice with the same bytes is one file.
Guarantees: nothing leaves the spool that is not in the archive, whatever fails and wherever a crash comes; a file whose
bytes are not what was received is set aside with the orphans and told. While the tier cannot take anything, images stay
in the spool. Failures: none; ``trouble`` says why nothing is taken.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from time import time
from typing import Final

from asyncroute.archive.base import Arrival, Index
from asyncroute.archive.header import Headers
from asyncroute.archive.resume import settle
from asyncroute.archive.tier import FULL, HEAD, PIECE, Folder
from asyncroute.core.errors import AsyncrouteError, StorageFault
from asyncroute.crashpoints import crash_point
from asyncroute.spool.base import Facts, Spool

log = logging.getLogger(__name__)

TOGETHER: Final = 64
"""Images of one group."""

Releasable = tuple[int, str]


class Intake:
    """See module. ``halt``: stop as soon as possible; ``turn``: held while files of a tier change.

    ``known``: tiers that are there, by number.
    """

    def __init__(
        self,
        index: Index,
        spool: Spool,
        halt: threading.Event,
        turn: threading.Lock,
        known: Callable[[int], Folder | None],
    ) -> None:
        self.trouble = ""
        self.kept = 0
        self._index = index
        self._spool = spool
        self._halt = halt
        self._turn = turn
        self._known = known
        self._settled: set[int] = set()

    def keep(self, batch: Sequence[Releasable], folder: Folder, headers: Headers) -> list[Releasable]:
        """Archive these; those that may leave the spool. Blocks."""
        safe: list[Releasable] = []
        try:
            folder.check()
            self._settle(folder, headers)
            for at in range(0, len(batch), TOGETHER):
                if self._halt.is_set():
                    return safe
                with self._turn:
                    safe += self._keep(batch[at : at + TOGETHER], folder, headers)
            self.say("")
        except OSError as error:
            full = "full: " if error.errno in FULL else ""
            self._settled.discard(folder.id)
            self.say(f"{full}cannot write to {folder.path}: {error.strerror or error}")
        except AsyncrouteError as error:
            self._settled.discard(folder.id)
            self.say(str(error))
        return safe

    def say(self, trouble: str) -> None:
        """Why nothing can be taken; empty: it can."""
        if trouble and trouble != self.trouble:
            log.error("the archive takes nothing, what was delivered stays in the spool: %s", trouble)
        elif self.trouble and not trouble:
            log.warning("the archive takes images again")
        self.trouble = trouble

    def _keep(self, group: Sequence[Releasable], folder: Folder, headers: Headers) -> list[Releasable]:
        safe: list[Releasable] = []
        again: list[Releasable] = []
        coming: list[tuple[Releasable, Arrival]] = []
        places: set[str] = set()
        contents: set[tuple[str, str, int, int]] = set()

        def taken(tier: int, name: str) -> bool:
            return name in places or self._index.taken(tier, name)

        for each in group:
            wanted = self._describe(each[1], headers)
            if wanted is None or self._has(wanted[1].facts):
                safe.append(each)
                continue
            facts = wanted[1].facts
            content = (facts.sop_instance_uid, facts.transfer_syntax, facts.size, facts.checksum)
            if content in contents:
                again.append(each)
                continue
            contents.add(content)
            name = folder.names(wanted[0], taken)
            places.add(name)
            coming.append((each, replace(wanted[1], tier=folder.id, path=name, kept_at=time())))
        safe += self._bring(coming, folder)
        return safe + self._keep(again, folder, headers) if again else safe

    def _bring(self, coming: Sequence[tuple[Releasable, Arrival]], folder: Folder) -> list[Releasable]:
        """Files to their places; those that are known to be there."""
        if not coming:
            return []
        intents = self._index.intend([(folder.id, arrival.path, None) for _, arrival in coming])
        crash_point("archive-intended")
        safe: list[Releasable] = []
        there: list[tuple[int | None, Arrival]] = []
        gone: list[int] = []
        for (each, arrival), intent in zip(coming, intents, strict=True):
            if self._put(each, arrival, folder):
                there.append((intent, arrival))
            else:
                gone.append(intent)
            safe.append(each)
        folder.sync(arrival.path for _, arrival in there)
        self._index.arrived(there)
        self._index.withdraw(gone)
        self.kept += len(there)
        crash_point("archive-known")
        return safe

    def _put(self, each: Releasable, arrival: Arrival, folder: Folder) -> bool:
        """One file to its place; False: it is no good and was set aside."""
        path, facts = each[1], arrival.facts
        if folder.link(arrival.path, lambda place: self._spool.link(path, place)):
            return True
        try:
            folder.write(arrival.path, self._pieces(path, facts), facts, lambda _: None)
        except StorageFault as fault:
            if fault.errno:
                raise
            self._set_aside(path, str(fault))
            return False
        return True

    def _pieces(self, path: str, facts: Facts) -> Iterator[bytes]:
        length = facts.data_offset + facts.size
        for offset in range(0, length, PIECE):
            yield self._spool.read(path, offset, min(PIECE, length - offset))

    def _describe(self, path: str, headers: Headers) -> tuple[str, Arrival] | None:
        """The place that an image wants; None: there is nothing to keep (any more)."""
        try:
            facts = self._spool.facts(path)
        except StorageFault as fault:
            if isinstance(fault.__cause__, FileNotFoundError):
                return None  # a crash came between its removal and the journal's row
            raise
        if facts is None:
            self._set_aside(path, "it is no whole image any more")
            return None
        head = self._spool.read(path, facts.data_offset, min(HEAD, facts.size))
        return headers.read(facts, head)

    def _set_aside(self, path: str, why: str) -> None:
        """It was delivered from memory, and its file has been damaged since."""
        log.error("not archived, set aside in the folder orphans: spool file %s: %s", path, why)
        self._spool.set_aside(path)

    def _has(self, facts: Facts) -> bool:
        """Whether these bytes are in the archive already: sent again, or left by a crash."""
        for kept in self._index.alike(facts):
            folder = self._known(kept.tier)
            found = folder.facts(kept.path, self._spool.facts_of) if folder is not None else None
            if found is not None and (found.size, found.checksum) == (facts.size, facts.checksum):
                return True
        return False

    def _settle(self, folder: Folder, headers: Headers) -> None:
        """What a crash left under way: files that got their names are known from now on."""
        if folder.id in self._settled:
            return
        settle(self._index, folder, headers, self._spool.facts_of)
        self._settled.add(folder.id)
