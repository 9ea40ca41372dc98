"""A process that does with journal and spool what the router does, for tests that kill it.

``python -m tests.contract.storage_worker FOLDER ROUNDS``: recovers, then per round writes a group of images (one of
them streamed), commits it, settles and releases the group before. Says on standard output, before the next step, what
is durable: ``stored ID`` and ``settled ID``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from asyncroute.core.model import Instance
from asyncroute.journal.base import Committed, Group
from asyncroute.journal.sqlite import SqliteJournal
from asyncroute.recover import recover
from asyncroute.spool.local import LocalSpool
from tests.contract.made import delivered, image

GROUP = 3


def content(instance_id: int) -> bytes:
    """The data set of an image; mostly a little shorter than that before, at times longer."""
    return b"%d," % instance_id * (1000 - instance_id % 250)


def say(word: str, ids: list[int]) -> None:
    """One line for each id, at once."""
    os.write(1, b"".join(b"%s %d\n" % (word.encode(), instance_id) for instance_id in ids))


def fresh(spool: LocalSpool) -> Instance:
    """A new image for two destinations."""
    instance_id, path = spool.allocate()
    return image(instance_id, "a", "b", path=path, data_offset=0)


def store(spool: LocalSpool, journal: SqliteJournal) -> list[int]:
    """Receive a group; its ids."""
    large = fresh(spool)
    incoming = spool.incoming(large)
    data = content(large.id)
    incoming.append([data[:700]])
    incoming.append([data[700:]])
    incoming.finish()
    group = [(large, ()), *((it, (content(it.id),)) for it in (fresh(spool) for _ in range(GROUP - 1)))]
    assert spool.write(group) == {}
    done = journal.commit(Group([it for it, _ in group]))
    assert not done.refused
    ids = [it.id for it, _ in group]
    say("stored", ids)
    return ids


def settle(journal: SqliteJournal, ids: list[int]) -> Committed:
    """Deliver a group to both destinations."""
    done = journal.commit(Group(settlements=[delivered(number, name) for number in ids for name in ("a", "b")]))
    say("settled", ids)
    return done


def release(spool: LocalSpool, journal: SqliteJournal, images: list[tuple[int, str]]) -> None:
    """Release the files and say so in the journal; then the next images may overwrite them."""
    spare = [path for instance_id, path in images if spool.release(path, instance_id)]
    journal.commit(Group(released=[instance_id for instance_id, _ in images]))
    spool.spare(spare)


def main(folder: Path, rounds: int) -> None:
    """See module."""
    journal, spool = SqliteJournal.open(folder), LocalSpool(folder / "spool")
    done = recover(journal, spool).releasable
    say("settled", [instance_id for instance_id, _ in done])
    release(spool, journal, done)
    before: list[int] = []
    for _ in range(rounds):
        now = store(spool, journal)
        if before:
            release(spool, journal, settle(journal, before).releasable)
        before = now
    journal.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
