"""The index of a tier out of its files, which say themselves what they are.

Guarantees: no file is changed; what is known already stays as it is known. Data sets are not read: ``verify`` does.
When an image was archived is not known any more; when it was received stands for it. Failures: ``StorageFault`` from
the index, ``OSError`` from the tier.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from asyncroute.archive.base import Arrival, Index
from asyncroute.archive.header import Headers
from asyncroute.archive.tier import HEAD, FactsOf, Folder
from asyncroute.archive.verify import names_in

TOGETHER = 200


@dataclass(slots=True)
class Reindexed:
    """``images``: that were not known; ``known``: that were; ``strange``: files that are no whole images of ours."""

    images: int = 0
    known: int = 0
    strange: int = 0


def reindex(index: Index, folder: Folder, headers: Headers, facts_of: FactsOf, report: Reindexed) -> None:
    """Take every file of a tier into the index."""
    found: list[tuple[int | None, Arrival]] = []
    for name in names_in(folder):
        if index.taken(folder.id, name):
            report.known += 1
            continue
        arrival = _read(folder, name, headers, facts_of)
        if arrival is None:
            report.strange += 1
            continue
        report.images += 1
        found.append((None, arrival))
        if len(found) >= TOGETHER:
            index.arrived(found)
            found.clear()
    index.arrived(found)


def _read(folder: Folder, name: str, headers: Headers, facts_of: FactsOf) -> Arrival | None:
    facts = folder.facts(name, facts_of)
    if facts is None:
        return None
    number = os.open(folder.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        head = os.pread(number, min(HEAD, facts.size), facts.data_offset)
    finally:
        os.close(number)
    return replace(headers.read(facts, head)[1], tier=folder.id, path=name, kept_at=facts.received_at)
