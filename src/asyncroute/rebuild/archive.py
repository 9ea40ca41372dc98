"""What commands do with an archive: look, find, order, verify, and make its index anew.

The index is read and written beside a running router; orders are rows that it finds. So all of this works whether a
router runs or not, and what is ordered meanwhile is done when one does.
Failures: ``OurFault`` (no archive, a name that is not known), ``StorageFault``.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time
from typing import Any

from asyncroute.archive.base import FoundStudy, Request, Wanted
from asyncroute.archive.header import Headers
from asyncroute.archive.reindex import Reindexed, reindex
from asyncroute.archive.room import described
from asyncroute.archive.shelves import Shelves
from asyncroute.archive.throttle import Throttle
from asyncroute.archive.verify import Verified, Verifier
from asyncroute.config import Config
from asyncroute.core.archiving import Terms
from asyncroute.core.errors import OurFault, StorageFault
from asyncroute.core.rates import Rates
from asyncroute.durable import sync_folder
from asyncroute.journal.archive import FILE, ArchiveIndex
from asyncroute.rebuild.report import Evidence
from asyncroute.spool.local import LocalSpool

SLACK = 0.001


def terms_of(config: Config) -> Terms:
    """What the archive of ``config`` is to do.

    Raises:
        OurFault: it has none.
    """
    if config.archive is None:
        raise OurFault(f"{config.path or 'the embedded default'}: there is no [archive]")
    return config.archive.terms


@contextmanager
def _open(config: Config) -> Iterator[tuple[ArchiveIndex, Shelves]]:
    """The index, and the tiers as far as they are known."""
    terms = terms_of(config)
    index = ArchiveIndex.existing(config.node.data_dir, config.node.durability)
    try:
        shelves = Shelves(terms, index, config.node.durability)
        shelves.recognize()
        yield index, shelves
    finally:
        index.close()


def status(config: Config) -> dict[str, Any]:
    """What a router that does not run has left; see ``archive.room.Archive.describe``."""
    with _open(config) as (index, shelves):
        totals = {total.tier: total for total in index.totals()}
        return {"waiting": 0, "tiers": [described(shelf, totals, {}) for shelf in shelves.all]}


def replays(config: Config) -> list[Request]:
    """The last orders to send images again."""
    with _open(config) as (index, _):
        return index.requests()


def find(config: Config, wanted: Wanted, limit: int) -> list[FoundStudy]:
    """Studies, the last archived first."""
    with _open(config) as (index, _):
        return index.find(wanted, limit)


def order_move(config: Config, tier: int | None) -> list[str]:
    """Everything that is there now moves to the tier of this number (2 or above; None: of each); where to."""
    with _open(config) as (index, shelves):
        later = shelves.all[1:] if tier is None else shelves.all[tier - 1 : tier] if tier > 1 else []
        if not later:
            raise OurFault(f"tiers to which something can move are numbered from 2 to {len(shelves.all)}")
        for shelf in later:
            if shelf.folder is None:
                raise OurFault(f"{shelf.terms.path}: {shelf.why or 'no router has run with this tier yet'}")
            index.note(f"move {shelf.folder.id}", time() + SLACK)
        return [str(shelf.terms.path) for shelf in later]


def order_replay(
    config: Config, names: list[str], target: str, since: float | None, until: float | None, words: str
) -> Request:
    """These studies' images, received in this time, are sent again (``target``: only there)."""
    known = [d.name for d in config.destinations] + [g.name for g in config.groups]
    if target and target not in known:
        raise OurFault(f'no destination or group is called "{target}"; there is {", ".join(known)}')
    with _open(config) as (index, _):
        return index.ask(words, target, names, since, until)


def verify(config: Config, tier: int | None, rate: int | None, quick: bool) -> Iterator[Verified]:
    """Read every file (of one tier, by its number), ``rate`` bytes a second at most; yields as it goes on."""
    with _open(config) as (index, shelves):
        if tier is not None and not 1 <= tier <= len(shelves.all):
            raise OurFault(f"tiers are numbered from 1 to {len(shelves.all)}")
        chosen = shelves.all if tier is None else shelves.all[tier - 1 : tier]
        folders = {f.id: f for shelf in shelves.all if (f := shelf.look()) is not None}
        throttle = Throttle(threading.Event())
        throttle.rates = Rates((), rate) if rate is not None else None
        verifier = Verifier(index, folders, LocalSpool.facts_of, throttle.spend)
        looked = [f for shelf in chosen if (f := shelf.folder) is not None and f.id in folders]
        verifier.report.absent += [f"{s.terms.path}: {s.why}" for s in chosen if s.folder not in looked]
        yield verifier.report
        for folder in [None] if tier is None else looked:
            yield from verifier.images(folder.id if folder is not None else None, quick)
        for folder in looked:
            yield from verifier.strangers(folder)


def make_index(config: Config, anew: bool, evidence: Evidence) -> Reindexed | None:
    """Make the index out of the tiers' files where it is damaged, missing or not wanted (``anew``), or lacks a tier.

    ``evidence``: gives the folder to which an index goes that is no good. None: there is nothing to do. For a folder
    that no router has.
    """
    if config.archive is None:
        return None
    data_dir, durability = config.node.data_dir, config.node.durability
    lacking = anew or not (data_dir / FILE).exists() or _damaged(data_dir, durability)
    if lacking:
        _set_aside(data_dir, evidence)
    index = ArchiveIndex.open(data_dir, durability)
    try:
        shelves = Shelves(config.archive.terms, index, durability)
        shelves.open()
        report = Reindexed()
        for shelf in shelves.all:
            folder = shelf.look()
            if folder is not None and (lacking or shelf.unindexed):
                reindex(index, folder, Headers(config.archive.terms.layout), LocalSpool.facts_of, report)
                index.indexed(folder.id)
                lacking = lacking or shelf.unindexed
        return report if lacking else None
    finally:
        index.close()


def _damaged(data_dir: Path, durability: str) -> bool:
    try:
        index = ArchiveIndex.open(data_dir, durability)
    except StorageFault as fault:
        if fault.errno != errno.EUCLEAN:
            raise
        return True
    try:
        return index.damaged()
    finally:
        index.close()


def _set_aside(data_dir: Path, evidence: Evidence) -> None:
    for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
        if (data_dir / name).exists():
            target = evidence.folder("archive")
            target.mkdir(exist_ok=True)
            os.rename(data_dir / name, target / name)
    sync_folder(data_dir)
