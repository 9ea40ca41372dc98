"""An archive's index, made anew out of the tiers' files.

Guarantees: an index that is no good is set aside, not removed. Failures: ``StorageFault``.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from asyncroute.archive.header import Headers
from asyncroute.archive.reindex import Reindexed, reindex
from asyncroute.archive.shelves import Shelves
from asyncroute.config import Config
from asyncroute.core.errors import StorageFault
from asyncroute.durable import sync_folder
from asyncroute.journal.archive import FILE, ArchiveIndex
from asyncroute.rebuild.report import Evidence
from asyncroute.spool.local import LocalSpool


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
