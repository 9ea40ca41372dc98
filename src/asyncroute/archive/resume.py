"""What a crash left under way in a tier: files at places that were written down before they were used.

Guarantees: a whole file that is found there is known afterwards, whatever else there is of its image; nothing is
removed but what was never finished. Failures: ``StorageFault`` from the index, ``OSError`` from the tier.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from asyncroute.archive.base import Arrival, Index, Intent
from asyncroute.archive.header import Headers
from asyncroute.archive.tier import HEAD, Digest, FactsOf, Folder, pieces_of
from asyncroute.core.errors import StorageFault

log = logging.getLogger(__name__)


def resume(index: Index, folder: Folder, headers: Headers, facts_of: FactsOf, from_spool: bool) -> None:
    """Finish moves into ``folder``; ``from_spool``: also ``settle`` it, because the intake does not."""
    if from_spool:
        settle(index, folder, headers, facts_of)
    for intent in index.intents(folder.id):
        if intent.image is not None:
            _finish_move(index, intent, folder, headers, facts_of)


def settle(index: Index, folder: Folder, headers: Headers, facts_of: FactsOf) -> None:
    """Before the first file is written to ``folder``: half-written ones go, arrivals from the spool are finished."""
    folder.clear_parts()
    for intent in index.intents(folder.id):
        if intent.image is None:
            _finish_arrival(index, intent, folder, headers, facts_of)


def _finish_arrival(index: Index, intent: Intent, folder: Folder, headers: Headers, facts_of: FactsOf) -> None:
    """A file that came from the spool, perhaps."""
    arrival = adopted(folder, intent.path, headers, facts_of)
    if arrival is None:
        index.withdraw([intent.id])
        return
    folder.sync([intent.path])
    index.arrived([(intent.id, arrival)])


def _finish_move(index: Index, intent: Intent, folder: Folder, headers: Headers, facts_of: FactsOf) -> None:
    image = index.image(intent.image or 0)
    arrival = adopted(folder, intent.path, headers, facts_of)
    if image is None or arrival is None or (arrival.facts.size, arrival.facts.checksum) != (image.size, image.checksum):
        index.withdraw([intent.id])  # the image is where it was
        return
    folder.sync([intent.path])
    index.moved([(intent.id, image.id)])


def adopted(folder: Folder, name: str, headers: Headers, facts_of: FactsOf) -> Arrival | None:
    """The image that the file at a place is, by its own word; None: it is none, or not whole. Reads all of it."""
    facts = folder.facts(name, facts_of)
    if facts is None:
        return None
    digest, head = Digest(facts), b""
    for piece in pieces_of(folder.path / name):
        head = head or piece[facts.data_offset : facts.data_offset + HEAD]
        digest.update(piece)
    try:
        digest.check("it")
    except StorageFault as fault:
        log.error("not taken into the archive's index: %s: %s", folder.path / name, fault)
        return None
    return replace(headers.read(facts, head)[1], tier=folder.id, path=name, kept_at=facts.received_at)
