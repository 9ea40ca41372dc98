"""A stopwatch on the way of each image through the router: when it passed which point (CLOCK_MONOTONIC seconds).

Wraps as few methods of the program as there are points; a name that is gone ends the process with one line. Meant for
one destination: of several, the last one's times stay.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.launch import wrap

POINTS = ("begun", "whole", "scanning", "scanned", "writing", "synced", "committed", "queued", "sending", "settled")
"""In the order in which an image passes them: its command set is read; it is whole; its header is being scanned, is
scanned; its group begins, its files are synced, the journal has it; the channels have it; a lane begins to send it; the
result is durable."""

Method = Callable[..., Any]


class Stopwatch:
    """See module; a ``launch.Instrument``."""

    def __init__(self) -> None:
        self._times: defaultdict[int, dict[str, float]] = defaultdict(dict)
        self._begun: dict[int, float] = {}
        self._ids: dict[str, int] = {}

    def report(self) -> dict[str, Any]:
        """{SOP Instance UID: {point: when}}."""
        return {uid: self._times[number] for uid, number in self._ids.items()}

    def _mark(self, point: str, numbers: Iterable[int]) -> None:
        now = time.monotonic()
        for number in numbers:
            self._times[number][point] = now

    def install(self) -> None:
        """Put the stopwatch on."""
        wrap("asyncroute.receive.association:Acceptor._commanded", self._commanded)
        wrap("asyncroute.admit:Admission.offer", self._offer)
        wrap("asyncroute.route:Router.route", self._route)
        wrap("asyncroute.commit:Committer._work", self._work)
        wrap("asyncroute.spool.local:LocalSpool.write", self._write)
        wrap("asyncroute.journal.sqlite:SqliteJournal.commit", self._commit)
        wrap("asyncroute.queue.scheduler:Scheduler.admitted", self._admitted)
        wrap("asyncroute.forward.association:Requestor.store", self._store)
        wrap("asyncroute.queue.scheduler:Scheduler.settled", self._settled)

    def _commanded(self, plain: Method) -> Method:
        def commanded(acceptor: Any, *arguments: Any) -> Any:
            self._begun[id(acceptor)] = time.monotonic()
            return plain(acceptor, *arguments)

        return commanded

    def _offer(self, plain: Method) -> Method:
        def offer(admission: Any, received: Any) -> Any:
            number = received.instance.id
            self._ids[received.instance.sop_instance_uid] = number
            self._times[number]["begun"] = self._begun[id(received.owner)]
            self._mark("whole", (number,))
            return plain(admission, received)

        return offer

    def _route(self, plain: Method) -> Method:
        def route(router: Any, instance: Any, *arguments: Any, **named: Any) -> Any:
            self._mark("scanning", (instance.id,))
            hits = plain(router, instance, *arguments, **named)
            self._mark("scanned", (instance.id,))
            return hits

        return route

    def _work(self, plain: Method) -> Method:
        def work(committer: Any, batch: Any, *arguments: Any) -> Any:
            self._mark("writing", [received.instance.id for received in batch.images])
            return plain(committer, batch, *arguments)

        return work

    def _write(self, plain: Method) -> Method:
        def write(spool: Any, images: Any, *arguments: Any) -> Any:
            failed = plain(spool, images, *arguments)
            self._mark("synced", [image[0].id for image in images])
            return failed

        return write

    def _commit(self, plain: Method) -> Method:
        def commit(journal: Any, group: Any, *arguments: Any) -> Any:
            committed = plain(journal, group, *arguments)
            self._mark("committed", [instance.id for instance in group.admits])
            return committed

        return commit

    def _admitted(self, plain: Method) -> Method:
        def admitted(scheduler: Any, instance: Any, *arguments: Any) -> Any:
            self._mark("queued", (instance.id,))
            return plain(scheduler, instance, *arguments)

        return admitted

    def _store(self, plain: Method) -> Method:
        def store(requestor: Any, context: int, sop_class: str, uid: str, *arguments: Any, **named: Any) -> Any:
            if uid in self._ids:
                self._mark("sending", (self._ids[uid],))
            return plain(requestor, context, sop_class, uid, *arguments, **named)

        return store

    def _settled(self, plain: Method) -> Method:
        def settled(scheduler: Any, settlements: Any) -> Any:
            self._mark("settled", [settlement.instance_id for settlement in settlements])
            return plain(scheduler, settlements)

        return settled
