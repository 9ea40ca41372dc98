"""What commands do with an archive: look, find, order, verify.

The index is read and written beside a running router; orders are rows that it finds. So all of this works whether a
router runs or not, and what is ordered meanwhile is done when one does.
Failures: ``OurFault`` (no archive, a name that is not known), ``StorageFault``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import time
from typing import TYPE_CHECKING, Any

from asyncroute.archive.base import FoundStudy, Request, Wanted
from asyncroute.archive.described import described
from asyncroute.archive.shelves import Shelf, recognized
from asyncroute.config.outline import Outline
from asyncroute.core.errors import OurFault
from asyncroute.journal.archive import FILE, ArchiveIndex

if TYPE_CHECKING:
    from asyncroute.archive.verify import Verified

SLACK = 0.001


def need(outline: Outline) -> None:
    """Raise OurFault if there is no archive in this configuration."""
    if not outline.tiers:
        raise OurFault(f"{outline.file or 'the embedded default'}: there is no [archive]")


@contextmanager
def _open(outline: Outline, only_look: bool = False) -> Iterator[tuple[ArchiveIndex, list[Shelf]]]:
    """The index, and the tiers as far as they are known."""
    need(outline)
    folder, durability = outline.data_dir, outline.durability
    index = ArchiveIndex.looking(folder) if only_look else ArchiveIndex.existing(folder, durability)
    try:
        yield index, recognized(outline.tiers, index, durability)
    finally:
        index.close()


def exists(outline: Outline) -> bool:
    """Whether a router has run with an archive."""
    return (outline.data_dir / FILE).exists()


def status(outline: Outline) -> dict[str, Any]:
    """What a router that does not run has left; see ``archive.room.Archive.describe``.

    How many images wait in the spool to be archived is not known.
    """
    with _open(outline, only_look=True) as (index, shelves):
        totals = {total.tier: total for total in index.totals()}
        return {"waiting": None, "tiers": [described(shelf, totals, {}) for shelf in shelves]}


def replays(outline: Outline) -> list[Request]:
    """The last orders to send images again."""
    with _open(outline, only_look=True) as (index, _):
        return index.requests()


def find(outline: Outline, wanted: Wanted, limit: int) -> list[FoundStudy]:
    """Studies, the last archived first."""
    with _open(outline, only_look=True) as (index, _):
        return index.find(wanted, limit)


def order_move(outline: Outline, tier: int | None) -> list[str]:
    """Everything that is there now moves to the tier of this number (2 or above; None: of each); where to."""
    with _open(outline) as (index, shelves):
        later = shelves[1:] if tier is None else shelves[tier - 1 : tier] if tier > 1 else []
        if not later:
            raise OurFault(f"tiers to which something can move are numbered from 2 to {len(shelves)}")
        for shelf in later:
            if shelf.folder is None:
                raise OurFault(f"{shelf.path}: {shelf.why or 'no router has run with this tier yet'}")
            index.note(f"move {shelf.folder.id}", time() + SLACK)
        return [str(shelf.path) for shelf in later]


def order_replay(
    outline: Outline, names: list[str], target: str, since: float | None, until: float | None, words: str
) -> Request:
    """These studies' images, received in this time, are sent again (``target``: only there)."""
    known = [*outline.destinations, *outline.groups]
    if target and target not in known:
        raise OurFault(f'no destination or group is called "{target}"; there is {", ".join(known)}')
    with _open(outline) as (index, _):
        return index.ask(words, target, names, since, until)


def verify(outline: Outline, tier: int | None, rate: int | None, quick: bool) -> Iterator[Verified]:
    """Read every file (of one tier, by its number), ``rate`` bytes a second at most; yields as it goes on."""
    from asyncroute.archive.throttle import Throttle
    from asyncroute.archive.verify import Verifier
    from asyncroute.core.rates import Rates
    from asyncroute.spool.local import LocalSpool

    with _open(outline) as (index, shelves):
        if tier is not None and not 1 <= tier <= len(shelves):
            raise OurFault(f"tiers are numbered from 1 to {len(shelves)}")
        chosen = shelves if tier is None else shelves[tier - 1 : tier]
        folders = {f.id: f for shelf in shelves if (f := shelf.look()) is not None}
        throttle = Throttle(threading.Event())
        throttle.rates = Rates((), rate) if rate is not None else None
        verifier = Verifier(index, folders, LocalSpool.facts_of, throttle.spend)
        looked = [f for shelf in chosen if (f := shelf.folder) is not None and f.id in folders]
        verifier.report.absent += [f"{s.path}: {s.why}" for s in chosen if s.folder not in looked]
        yield verifier.report
        for folder in [None] if tier is None else looked:
            yield from verifier.images(folder.id if folder is not None else None, quick)
        for folder in looked:
            yield from verifier.strangers(folder)
