"""Make a journal out of the spool: ``asyncroute rebuild``, on a ``data_dir`` that no router has.

A sound journal stays, and only orphans (whole files that it does not know) are taken in. One that is damaged, missing
or not wanted is set aside with its log, and a new one gets every whole file of the spool by the file's own facts: where
it came from, when, how long, which checksum. Its destinations are those of the configuration's routes and those that
the old journal still names; what that one shows to be delivered, discarded or failed stays so.
The index of an archive that is damaged, missing or not wanted is made from the archive's files, which tell themselves
what they are.
Guarantees: nothing is deleted: the old journal and what is not a whole image go to ``damaged-<time>`` (UTC). A crash at
any point loses nothing: until the new journal is in its place ``data_dir`` refuses to be opened, and the same command
goes on. What cannot be told is sent again. In memory: a group of images at a time, and the names of orphans.
Failures: ``StorageFault``: a router runs, a newer journal, the disk. ``OurFault``: there is no ``data_dir``.
"""

from __future__ import annotations

import errno
from pathlib import Path

from asyncroute.config import Config, compile_routes
from asyncroute.config.groups import choosing
from asyncroute.core.errors import OurFault, StorageFault
from asyncroute.journal import place
from asyncroute.journal.examine import REBUILDING_MARK
from asyncroute.journal.sqlite import FILE, SqliteJournal
from asyncroute.queue.group import Groups
from asyncroute.rebuild.index import make_index
from asyncroute.rebuild.orphans import Orphans
from asyncroute.rebuild.renewal import Renewal
from asyncroute.rebuild.report import SPOOL, Evidence, Report
from asyncroute.recover import recover
from asyncroute.route import Router
from asyncroute.spool.local import LocalSpool


def rebuild(config: Config, anew: bool = False) -> Report:
    """See module. ``anew``: make a new journal although the old one looks sound. Blocks.

    Raises:
        StorageFault, OurFault: nothing was lost; what was begun is finished by another call.
    """
    folder = config.node.data_dir
    if not folder.is_dir():
        raise OurFault(f"{folder}: there is no such folder, so there is nothing to rebuild from")
    place.refuse_network(folder)
    report = Report()
    journal, spool = _open(config, anew, report)
    try:
        Orphans(journal, spool, _router(config), report).take_in()
        _look_at_archive(config, anew, report)
    finally:
        spool.close()
        journal.close()
    return report


def _look_at_archive(config: Config, anew: bool, report: Report) -> None:
    try:
        made = make_index(config, anew, Evidence(config.node.data_dir, report))
    except OSError as error:
        raise StorageFault(f"{error.filename}: {error.strerror}", error.errno or 0) from error
    if made is not None:
        report.archived, report.strange = made.images, made.strange


def _router(config: Config) -> Router:
    """Where images would go today, if every member of a group were well."""
    groups = Groups(choosing(config.groups))
    return Router(compile_routes(config), groups.addressed)


def _open(config: Config, anew: bool, report: Report) -> tuple[SqliteJournal, LocalSpool]:
    """Journal and spool, in agreement; a new journal where the old one is no good."""
    node = config.node
    reason = _no_good(node.data_dir, anew)
    if not reason:
        try:
            return _agreeing(node.data_dir, node.durability)
        except StorageFault as fault:
            if fault.errno != errno.EUCLEAN:
                raise
            reason = str(fault)
    lock = place.Lock(node.data_dir)
    try:
        Renewal(node.data_dir, _router(config), report).run(reason)
    finally:
        lock.close()
    return _agreeing(node.data_dir, node.durability)


def _no_good(folder: Path, anew: bool) -> str:
    """Why the journal needs not even be looked at; empty: it does."""
    if (folder / REBUILDING_MARK).exists():
        return "an earlier rebuild was interrupted"
    if anew:
        return "asked for"
    if not (folder / FILE).exists() or not (folder / FILE).stat().st_size:
        return "there is no journal"
    return ""


def _agreeing(folder: Path, durability: str) -> tuple[SqliteJournal, LocalSpool]:
    journal = SqliteJournal.open(folder, durability)
    try:
        spool = LocalSpool(folder / SPOOL, durability)
        try:
            recover(journal, spool)
        except BaseException:
            spool.close()
            raise
    except BaseException:
        journal.close()
        raise
    return journal, spool
