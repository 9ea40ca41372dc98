"""Start-up: make journal and spool agree, before the first listener opens.

Which image is in which file, its row says and the file itself; the file's name does not. First it is seen which files
have a row; then, when nothing speaks against the journal, what is odd is judged.

Guarantees: no delivery that was owed is lost silently, and no whole file is removed unless the journal knows that its
image is done. In memory: 17 bytes for each file, 8 for each odd row, a thousand rows at a time.
- A file without a journal row was never acknowledged: half-written ones are removed, whole ones set aside (the journal
  may be another one) until a person acts: status counts them, ``asyncroute rebuild`` takes them in. A file that was
  being written over that of a released image may have the length of a whole one: its checksum tells. A file whose image
  was released was spare, or came back with a power cut: removed.
- A row whose file is missing, or not of its length: its pending deliveries become failed, with the reason and an event.
- An image that is settled but not released: its file is to be removed and the release committed (``releasable``).
- A row in whose file there is another image, because the journal has lost what it knew: that image is judged as if it
  had no row, which it has not; the row's own is missing.
Failures: ``StorageFault`` ends the start; also where a whole file shows that it is the journal which is damaged.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from errno import EUCLEAN
from itertools import islice
from time import time

from asyncroute.core.errors import StorageFault
from asyncroute.core.numbered import SHARD, file_path, number_of
from asyncroute.journal.base import FileLost, Group, Unreleased, Writer
from asyncroute.spool.base import Facts, Found, Spool

log = logging.getLogger(__name__)

ROWS = 1000
LOST_IN_ONE_GROUP = 200
MARGIN = 1.0
"""Seconds before the last image that the journal knows of from which on files are read: those that it may not know of
any more were written later. Of all others of a backlog, which may be large, none is."""

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
    files = _Files(spool.sweep())
    odd = _claimed(journal, files, done)
    for file in files.strangers():
        _judge_stranger(file, files, journal, spool, done)
    lost: list[FileLost] = []
    for number in odd:
        _judge_odd(number, files, journal, spool, done, lost)
        if len(lost) >= LOST_IN_ONE_GROUP:
            done.lost += _write_lost(journal, lost)
    done.lost += _write_lost(journal, lost)
    spool.start_at(max(files.highest, journal.last_id(), spool.last_orphan()) + 1)
    return done


def _claimed(journal: Writer, files: _Files, done: Recovered) -> array[int]:
    """Count what is as it should be; the ids of images that have to be looked at when it is known which files have no
    row: then nothing has been changed yet if it is the journal that is damaged."""
    odd = array("q")
    known_until = (journal.newest() or 0.0) - MARGIN
    for row in _rows(journal):
        length, written_at = files.claim(row)
        needed = _needed(row)
        if not needed:
            done.releasable.append((row.id, row.path))
        if written_at >= known_until or (needed and length != row.length):
            odd.append(row.id)
        elif needed:
            done.unsettled += row.pending
            done.held += row.held
    return odd


class _Files:
    """The files of the spool, and which of them have a row."""

    def __init__(self, found: Iterable[Found]) -> None:
        self.highest = 0
        """The highest number of an image or a file that was met."""
        self._folders: dict[int, tuple[array[int], array[float], bytearray]] = {}
        """By folder: lengths + 1 (0: no such file), times of writing, and whether a row names the file."""
        for file in found:
            self.highest = max(self.highest, file.number)
            shard, place = divmod(file.number, SHARD)
            if shard not in self._folders:
                self._folders[shard] = array("Q", bytes(8 * SHARD)), array("d", bytes(8 * SHARD)), bytearray(SHARD)
            lengths, times, _ = self._folders[shard]
            lengths[place], times[place] = file.length + 1, file.written_at

    def claim(self, row: Unreleased) -> tuple[int, float]:
        """``row`` is of an image that should be here: length in bytes and time of writing of its file; (-1, 0): there
        is none.

        Raises:
            StorageFault: its path is none, or another image's: the journal is damaged.
        """
        number = number_of(row.path)
        if number is None:
            raise _journal_damaged(f"image {row.id} is said to be in {row.path!r}")
        shard, place = divmod(number, SHARD)
        if shard not in self._folders:
            return -1, 0.0
        lengths, times, claimed = self._folders[shard]
        if claimed[place]:
            raise _journal_damaged(f"two images, one of them {row.id}, are said to be in {row.path!r}")
        claimed[place] = 1
        return lengths[place] - 1, times[place]

    def of(self, path: str) -> Found | None:
        """That file; None: there is none."""
        number = number_of(path)
        if number is None:
            return None
        shard, place = divmod(number, SHARD)
        if shard not in self._folders or not self._folders[shard][0][place]:
            return None
        lengths, times, _ = self._folders[shard]
        return Found(path, number, lengths[place] - 1, times[place])

    def strangers(self) -> Iterator[Found]:
        """Those that no row names."""
        for shard, (lengths, times, claimed) in self._folders.items():
            for place, length in enumerate(lengths):
                if length and not claimed[place]:
                    number = shard * SHARD + place
                    yield Found(file_path(number), number, length - 1, times[place])


def _rows(journal: Writer) -> Iterator[Unreleased]:
    """Every image whose file should be there, by id."""
    after = 0
    while rows := journal.unreleased(after, ROWS):
        yield from rows
        after = rows[-1].id


def unreleased(journal: Writer, instance_id: int) -> Unreleased | None:
    """The row of one image; None: it is not among those that have not been released."""
    return next((row for row in journal.unreleased(instance_id - 1, 1) if row.id == instance_id), None)


def done_with(journal: Writer, most: int) -> list[tuple[int, str]]:
    """Up to ``most`` images that are settled and whose files are still in the spool: (instance id, path)."""
    found = (row for row in _rows(journal) if not _needed(row))
    return [(row.id, row.path) for row in islice(found, most)]


def _needed(row: Unreleased) -> bool:
    return row.pending or row.held or row.failed or row.kept


def _judge_odd(
    number: int, files: _Files, journal: Writer, spool: Spool, done: Recovered, lost: list[FileLost]
) -> None:
    """An image that the journal has not released and whose file is missing, of another length, or so new that another
    image may be in it."""
    row, wrong = unreleased(journal, number), ""
    assert row is not None
    file = files.of(row.path)
    facts = spool.facts(row.path) if file is not None else None
    if file is not None and facts is not None and _is_a_strangers(row, facts, journal):
        _judge_stranger(file, files, journal, spool, done)
        wrong = f"spool file damaged: another image was in {row.path}"
    if not _needed(row):
        return
    wrong = wrong or _what_is_wrong(row, file, facts)
    if wrong:
        lost.append(FileLost(row.id, wrong, time()))
    else:
        done.unsettled += row.pending
        done.held += row.held


def _what_is_wrong(row: Unreleased, file: Found | None, facts: Facts | None) -> str:
    if file is None:
        return f"spool file missing: {row.path}"
    if file.length != row.length:
        if facts is not None and facts.instance_id == row.id:
            raise _journal_damaged(f"image {row.id} is said to have {row.length} bytes, its file has {file.length}")
        return f"spool file damaged: {row.path} has {file.length} bytes, {row.length} expected"
    return ""


def _is_a_strangers(row: Unreleased, facts: Facts, journal: Writer) -> bool:
    """Whether an image that the journal does not know was written into the file of this one: if it has lost its end, or
    is older than the spool, it does not know either that this one has left."""
    return facts.instance_id != row.id and not journal.was_admitted(facts.instance_id, facts.checksum)


def _judge_stranger(file: Found, files: _Files, journal: Writer, spool: Spool, done: Recovered) -> None:
    """A file with an image that the journal does not expect there."""
    facts = spool.facts(file.path)
    number = facts.instance_id if facts is not None else 0
    files.highest = max(files.highest, number)
    if journal.fresh:  # whatever is there was another journal's: nothing tells what it was
        spool.set_aside(file.path, number or None)
        done.orphans += 1
        return
    _refuse_owed(file, number, files, journal)
    if facts is None or journal.was_admitted(number, facts.checksum) or _torn(file, facts, spool, done):
        spool.remove(file.path)
        done.cleaned += 1
    else:
        spool.set_aside(file.path, number)
        done.orphans += 1


def _refuse_owed(file: Found, number: int, files: _Files, journal: Writer) -> None:
    """Neither the image in this file nor the one it was made for may be needed, unless it has a file elsewhere."""
    for each in {number, file.number} - {0}:
        if not journal.is_owed(each):
            continue
        row = unreleased(journal, each)
        if row is None:
            raise _journal_damaged(f"image {each} is not listed with those that are owed")
        if row.path != file.path and files.of(row.path) is None and _needed(row):
            raise _journal_damaged(f"image {each} is said to be in {row.path!r}, but is in {file.path!r}")


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
