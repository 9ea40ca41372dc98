"""Start-up: make journal and spool agree, before the first listener opens.

Guarantees: no delivery that was owed is lost silently, and no whole file is removed unless the journal knows that its
image is done. In memory: one folder's names and a thousand rows at a time.
- A file without a journal row was never acknowledged: half-written ones are removed, whole ones set aside (the journal
  may be another one) until a person acts: status counts them, ``asyncroute rebuild`` takes them in. A file that was
  being written over that of a released image may have the length of a whole one: its checksum tells. A file whose image
  was released was spare, or came back with a power cut: removed.
- A row whose file is missing, or not of its length: its pending deliveries become failed, with the reason and an event.
- An image that is settled but not released: its file is to be removed and the release committed (``releasable``).
Failures: ``StorageFault`` ends the start; also where a whole file shows that it is the journal which is damaged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from errno import EUCLEAN
from itertools import islice
from time import time

from asyncroute.core.errors import StorageFault
from asyncroute.journal.base import FileLost, Group, Unreleased, Writer
from asyncroute.spool.base import Facts, Found, Spool

log = logging.getLogger(__name__)

ROWS = 1000
LOST_IN_ONE_GROUP = 200
MOST_VERIFIED = 1000
"""Files without a row whose data sets are read: more than can be under way at a time. The rest is set aside unread."""


@dataclass(slots=True)
class Recovered:
    """What recovery found.

    ``cleaned``: files removed; ``orphans``: files set aside now; ``unsettled``: images with pending deliveries;
    ``held``: images without a route; ``lost``: images whose file is missing or damaged and that were still needed;
    ``releasable``: (instance id, path) of images that are done.
    """

    cleaned: int = 0
    orphans: int = 0
    unsettled: int = 0
    held: int = 0
    lost: int = 0
    releasable: list[tuple[int, str]] = field(default_factory=list)


def recover(journal: Writer, spool: Spool) -> Recovered:
    """See module. Also sets where the spool's instance ids go on. Blocks; nothing else may use the two meanwhile."""
    done = Recovered()
    highest = max(journal.last_id(), spool.last_orphan())
    lost: list[FileLost] = []
    for file, row in _merge(spool.sweep(), _rows(journal)):
        if file is not None:
            highest = max(highest, file.instance_id)
        if row is not None:
            _judge_row(row, file, spool, done, lost)
        elif file is not None:
            _judge_stranger(file, journal, spool, done)
        if len(lost) >= LOST_IN_ONE_GROUP:
            done.lost += _write_lost(journal, lost)
    done.lost += _write_lost(journal, lost)
    spool.start_at(highest + 1)
    return done


def _rows(journal: Writer) -> Iterator[Unreleased]:
    """Every image whose file should be there, by id."""
    after = 0
    while rows := journal.unreleased(after, ROWS):
        yield from rows
        after = rows[-1].id


def done_with(journal: Writer, most: int) -> list[tuple[int, str]]:
    """Up to ``most`` images that are settled and whose files are still in the spool: (instance id, path)."""
    found = (row for row in _rows(journal) if not _needed(row))
    return [(row.id, row.path) for row in islice(found, most)]


def _needed(row: Unreleased) -> bool:
    return row.pending or row.held or row.failed or row.kept


def _merge(files: Iterator[Found], rows: Iterator[Unreleased]) -> Iterator[tuple[Found | None, Unreleased | None]]:
    """Files and rows by id, those of one id together."""
    file, row = next(files, None), next(rows, None)
    while file is not None or row is not None:
        if row is None or (file is not None and file.instance_id < row.id):
            yield file, None
            file = next(files, None)
        elif file is None or row.id < file.instance_id:
            yield None, row
            row = next(rows, None)
        else:
            yield file, row
            file, row = next(files, None), next(rows, None)


def _judge_row(row: Unreleased, file: Found | None, spool: Spool, done: Recovered, lost: list[FileLost]) -> None:
    """An image that the journal has not released."""
    if not _needed(row):
        done.releasable.append((row.id, row.path))
        return
    wrong = _what_is_wrong(row, file, spool)
    if wrong:
        lost.append(FileLost(row.id, wrong, time()))
    else:
        done.unsettled += row.pending
        done.held += row.held


def _what_is_wrong(row: Unreleased, file: Found | None, spool: Spool) -> str:
    if file is None:
        return f"spool file missing: {row.path}"
    if file.path != row.path:
        raise _journal_damaged(f"image {row.id} is said to be in {row.path!r}")
    if file.length != row.length:
        if spool.facts(file.path) is not None:
            raise _journal_damaged(f"image {row.id} is said to have {row.length} bytes, its file has {file.length}")
        return f"spool file damaged: {row.path} has {file.length} bytes, {row.length} expected"
    return ""


def _judge_stranger(file: Found, journal: Writer, spool: Spool, done: Recovered) -> None:
    """A file that the journal does not expect."""
    if journal.fresh:  # whatever is there was another journal's: nothing tells what it was
        spool.set_aside(file.path)
        done.orphans += 1
        return
    if journal.is_owed(file.instance_id):
        raise _journal_damaged(f"image {file.instance_id} is not listed with those that are owed")
    facts = spool.facts(file.path)
    if facts is None or journal.was_admitted(facts.instance_id, facts.checksum) or _torn(file, facts, spool, done):
        spool.remove(file.path)
        done.cleaned += 1
    else:
        spool.set_aside(file.path)
        done.orphans += 1


def _torn(file: Found, facts: Facts, spool: Spool, done: Recovered) -> bool:
    """Whether a file with a whole head has another data set than that says, or but a part of it."""
    if done.orphans >= MOST_VERIFIED:
        return False
    try:
        spool.verify(file.path, facts.data_offset, facts.size, facts.checksum)
    except StorageFault as fault:
        return not fault.errno
    return False


def _journal_damaged(what: str) -> StorageFault:
    return StorageFault(f'the journal is damaged: {what}; "asyncroute rebuild --anew" makes a new one', EUCLEAN)


def _write_lost(journal: Writer, lost: list[FileLost]) -> int:
    """Journal what is missing; the number of images that were still pending or held. Empties ``lost``."""
    if not lost:
        return 0
    touched = journal.commit(Group(actions=tuple(lost))).acted
    lost.clear()
    return sum(1 for number in touched if number)


def tell_of(r: Recovered) -> None:
    """What an earlier run left, in the log."""
    if r.unsettled or r.held or r.cleaned:
        log.info("found %d images to send, %d held; %d half-written files removed", r.unsettled, r.held, r.cleaned)
    if r.orphans:
        log.warning(
            "%d files without a journal entry were set aside in the folder orphans (asyncroute rebuild takes them in)",
            r.orphans,
        )
    if r.lost:
        log.error("%d images whose files are missing or damaged are dead letters now", r.lost)
