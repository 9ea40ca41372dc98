"""Transforms at sending: what becomes of an image on its way to one destination, under the configuration of now.

The route that an image was received by says which transform; routes were chosen at admission, transforms are looked up
when it is sent. A route that is gone from the configuration, but had a transform once, refuses its images: what was to
be changed never leaves unchanged because a route was renamed.

Quick transforms of usual headers run on the loop, those of long ones in a reading thread, others in worker processes.
Guarantees: an image is sent as its transform makes it, or not at all. Failures are ``Outcome``s: held (a dead letter
with the transform's reason), dropped at a user's word, tried again where this machine is short of something.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache, partial
from threading import Lock
from traceback import format_tb
from typing import Any, Protocol

from asyncroute.core import outcomes
from asyncroute.core.errors import AsyncrouteError, StorageFault
from asyncroute.core.model import Delivery, Sent, watch_of
from asyncroute.core.outcomes import Kind, Outcome
from asyncroute.forward.heads import Head, head_of, stored_head
from asyncroute.forward.reading import Readers, unreadable
from asyncroute.forward.rewritten import RewrittenReading, Writing, measured, writing
from asyncroute.forward.sent import sent_as
from asyncroute.link.processes import Call, Failed, NotStarted, Processes, Raised
from asyncroute.transform.base import Edited, Facts, Header, Link, Refused, Tail, Transform
from asyncroute.wire.syntax import is_deflated

log = logging.getLogger(__name__)

USUAL = 256 << 10
"""Bytes of a header that a quick transform changes on the loop."""

AGAIN = 30.0
"""Seconds until another try where no worker process can be started."""

Wrong = Refused | AsyncrouteError


class Remote(Protocol):
    """A transform for worker processes (``transform.remote``)."""

    def call(self, header: Header, facts: Facts) -> Call: ...


class Outgoing:
    """What goes out instead of what was received; ``size``: bytes of the data set; ``parts`` None: it is read."""

    __slots__ = ("_write", "parts", "sent", "size", "sop_class_uid", "sop_instance_uid", "transfer_syntax")

    def __init__(
        self, syntax: str, sent: Sent, size: int, parts: Sequence[memoryview] | None, write: Writing | None = None
    ) -> None:
        self.sop_class_uid = sent.sop_class_uid
        self.sop_instance_uid = sent.sop_instance_uid
        self.transfer_syntax = syntax
        self.size = size
        self.parts = parts
        self.sent = sent
        self._write = write

    def reading(self, readers: Readers) -> RewrittenReading:
        """It, from its beginning; once."""
        assert self._write is not None
        return RewrittenReading(readers, self._write, self.size)


class Crosswalk(Protocol):
    """The way back from pseudonyms (``journal.crosswalk``)."""

    def knows(self, links: Sequence[Link]) -> bool:
        """Whether all are kept already; at once."""
        ...

    def keep(self, links: Sequence[Link]) -> None:
        """They are durable when it returns. Blocks. Raises ``StorageFault``, ``OurFault``."""
        ...


class NoCrosswalk:
    """Where nothing is de-identified."""

    def knows(self, links: Sequence[Link]) -> bool:
        """See ``Crosswalk``."""
        return not links

    def keep(self, links: Sequence[Link]) -> None:
        """See ``Crosswalk``."""
        raise StorageFault("there is none")


class Unkept(AsyncrouteError):
    """The way back from an image's pseudonyms cannot be kept now, so the image waits."""


Done = Callable[[Outgoing | Outcome], None]


class Gone:
    """The transform of a route that is no longer there and had one: refuses everything."""

    quick, edits_tail = True, False

    def __init__(self, route: str) -> None:
        self.name = f"of route {route}"
        self.refusal = Refused(
            f"{self.name}: the configuration has no route {route} any more, whose transform this image needs; "
            "give a route this name again, then retry"
        )

    def apply(self, header: Header, facts: Facts) -> Edited:
        """See ``transform.base.Transform``."""
        raise self.refusal

    def tail(self, header: Header) -> Tail:
        """See ``transform.base.Transform``; never asked."""
        raise self.refusal

    def deflated(self, header: Header, edited: Edited) -> Tail:
        """See ``transform.base.Transform``; never asked."""
        raise self.refusal


class Coercions:
    """See module. One for all destinations; on the loop's thread, but for ``now``."""

    def __init__(
        self,
        readers: Readers,
        processes: Processes,
        edited_of: Callable[[Any], Edited],
        crosswalk: Crosswalk | None = None,
    ) -> None:
        """``edited_of``: reads what a worker process says (``transform.remote``)."""
        self.crosswalk: Crosswalk = crosswalk or NoCrosswalk()
        self.by_route: Mapping[str, Transform] = {}
        """Empty where nothing is transformed: then nothing here is asked."""
        self.refused: Counter[str] = Counter()
        """Deliveries that were not made because of a transform, by destination, since the start."""
        self._counting = Lock()
        self.readers = readers
        self._processes = processes
        self._edited_of = edited_of
        self._remotes: Mapping[str, Remote] = {}
        self._simple: Collection[str] = ()
        """Routes whose transforms are quick and leave alone what stands behind the pixel data."""
        self._loop = asyncio.get_running_loop()

    def change(self, by_route: Mapping[str, Transform], remotes: Mapping[str, Remote], gone: frozenset[str]) -> None:
        """From now on these. ``remotes``: by route, of those that are not quick. ``gone``: routes no longer there."""
        self._remotes = remotes
        self._simple = {name for name, each in by_route.items() if name not in remotes and not each.edits_tail}
        self.by_route = {name: Gone(name) for name in gone} | dict(by_route)

    def begin(
        self, delivery: Delivery, transform: Transform, parts: Sequence[memoryview] | None, done: Done
    ) -> Outgoing | Outcome | Preparing:
        """Make what goes out. ``parts``: the data set, where it is in memory, until the end; else it is read.

        The answer, where that is possible at once; else it comes to ``done`` later.
        """
        known = delivery.header_length
        if parts and 0 < known <= len(parts[0]) and known <= USUAL and delivery.route in self._simple:
            return self._made(delivery, transform, parts) or Preparing(self, delivery, transform, done).begin(parts)
        return Preparing(self, delivery, transform, done).begin(parts)

    def _made(self, delivery: Delivery, transform: Transform, parts: Sequence[memoryview]) -> Outgoing | Outcome | None:
        """What goes out of an image in memory whose header is known; None: that takes more than a moment."""
        syntax, first, end = delivery.transfer_syntax, parts[0], delivery.header_length
        if is_deflated(syntax):
            return None
        whole = end == len(first) and len(parts) == 1
        header = Header(first[:end], syntax, delivery.sop_class_uid, delivery.sop_instance_uid, whole)
        try:
            edited = _applied(transform, header, facts_of(delivery))
        except Refused as refused:
            return self.outcome(delivery, transform, refused)
        if edited.links:
            return None
        rest = parts[1:] if end == len(first) else (first[end:], *parts[1:])
        new = (memoryview(edited.data), *rest) if len(edited.data) else rest
        sent = sent_as(delivery, transform.name, edited)
        return Outgoing(syntax, sent, delivery.size - end + len(edited.data), new)

    def now(self, delivery: Delivery) -> Rewrite | Outcome | None:
        """The same, blocking, in a thread that is not the loop's: what a file is made of; None: of what came."""
        transform = self.by_route.get(delivery.route)
        if transform is None:
            return None
        if isinstance(transform, Gone):
            return self.outcome(delivery, transform, transform.refusal)
        try:
            head = stored_head(self.readers.spool, delivery)
            header, facts = header_of(delivery, head), facts_of(delivery)
            remote = self._remotes.get(delivery.route)
            edited = _applied(transform, header, facts) if remote is None else self._wait(remote.call(header, facts))
            return Rewrite(self, delivery, transform, head, header, self.kept(edited))
        except (Refused, AsyncrouteError) as wrong:
            return self.outcome(delivery, transform, wrong)

    def _wait(self, call: Call) -> Edited:
        return self._edited_of(asyncio.run_coroutine_threadsafe(self._processes.run(call), self._loop).result())

    def kept(self, edited: Edited) -> Edited:
        """The same, when the way back from its pseudonyms is durable. Blocks; raises ``Unkept``."""
        if not self.crosswalk.knows(edited.links):
            try:
                self.crosswalk.keep(edited.links)
            except AsyncrouteError as fault:
                raise Unkept(f"the crosswalk cannot be written: {fault}") from fault
        return edited

    def remote(self, route: str) -> Remote | None:
        """For worker processes, if the route's transform is not quick."""
        return self._remotes.get(route)

    def submit(self, call: Call, done: Callable[[Edited | Wrong], None]) -> None:
        """Ask a worker process."""

        def came(value: Any, failed: Failed | None) -> None:
            try:
                done(failed if failed is not None else self._edited_of(value))
            except (Refused, Failed) as wrong:
                done(wrong)

        self._processes.submit(call, came)

    def outcome(self, delivery: Delivery, transform: Transform, wrong: Wrong) -> Outcome:
        """What follows for the delivery."""
        if isinstance(wrong, StorageFault):
            return unreadable(wrong)
        if isinstance(wrong, NotStarted | Unkept):
            return Outcome(Kind.IMAGE_RETRY, str(wrong), delay=AGAIN, loud=True, ours=True)
        text = wrong.reason if isinstance(wrong, Refused) else str(wrong)
        if not text.startswith(tuple(transform.name.split(" + "))):
            text = f"{transform.name}: {text}"
        quotes = isinstance(wrong, Refused | Raised)
        logged = f"transform {text.partition(': ')[0]}; asyncroute why tells the reason" if quotes else ""
        if isinstance(wrong, Refused) and wrong.drop:
            return outcomes.dropped(f"transform {text}", logged)
        with self._counting:
            self.refused[delivery.destination] += 1
        return outcomes.held(f"transform {text}", logged)


class Rewrite:
    """What a file is made of: the new ``header`` (plain), UIDs (``sent``), and ``write``, which makes the data set.

    ``anonymous``: nothing in the file may say where it is from.
    """

    __slots__ = ("anonymous", "header", "sent", "write")

    def __init__(
        self,
        coercions: Coercions,
        delivery: Delivery,
        transform: Transform,
        head: Head,
        original: Header,
        edited: Edited,
    ) -> None:
        self.header = edited.data
        self.anonymous = edited.anonymous
        self.sent = sent_as(delivery, transform.name, edited)
        self.write = writing(coercions.readers.spool, delivery, head, transform, original, edited)


class Preparing:
    """One delivery whose image is being transformed."""

    __slots__ = ("_call", "_cancelled", "_coercions", "_delivery", "_done", "_head", "_header", "_transform")

    def __init__(self, coercions: Coercions, delivery: Delivery, transform: Transform, done: Done) -> None:
        self._coercions = coercions
        self._delivery = delivery
        self._transform = transform
        self._done = done
        self._cancelled = False
        self._call: Call | None = None
        self._head: Head | None = None
        self._header: Header | None = None

    def cancel(self) -> None:
        """Nobody waits any more."""
        self._cancelled = True
        if self._call is not None:
            self._call.cancel()

    def begin(self, parts: Sequence[memoryview] | None) -> Outgoing | Outcome | Preparing:
        """See ``Coercions.begin``."""
        delivery, readers = self._delivery, self._coercions.readers
        if isinstance(self._transform, Gone):
            return self._outcome(self._transform.refusal)
        if is_deflated(delivery.transfer_syntax):
            parts = None
        elif parts is None and (data := readers.at_once(delivery)) is not None:
            parts = (data,)
        if parts is None:
            self._in_thread(partial(stored_head, readers.spool, delivery), self._found)
            return self
        try:
            return self._with_head(head_of(parts, delivery.transfer_syntax, delivery.header_length)) or self
        except Refused as refused:
            return self._outcome(refused)

    # ---- step by step; None: the next step follows later

    def _with_head(self, head: Head) -> Outgoing | Outcome | None:
        delivery, transform = self._delivery, self._transform
        self._head, self._header = head, header_of(delivery, head)
        remote, facts = self._coercions.remote(delivery.route), facts_of(delivery)
        if remote is not None:
            self._call = remote.call(self._header, facts)
            self._coercions.submit(self._call, self._edited)
        elif len(head.header) <= USUAL:
            return self._with_edited(_applied(transform, self._header, facts))
        else:
            self._in_thread(partial(_applied, transform, self._header, facts), self._edited)
        return None

    def _with_edited(self, edited: Edited) -> Outgoing | Outcome | None:
        if self._coercions.crosswalk.knows(edited.links):
            return self._with_kept(edited)
        self._in_thread(partial(self._coercions.kept, edited), partial(self._go_on, step=self._with_kept))
        return None

    def _with_kept(self, edited: Edited) -> Outgoing | Outcome | None:
        head, delivery = self._head, self._delivery
        assert head is not None
        sent = sent_as(delivery, self._transform.name, edited)
        tail = self._transform.edits_tail and not head.whole
        if is_deflated(delivery.transfer_syntax) or (tail and head.parts is None):
            self._in_thread(lambda: measured(self._writing(edited)), partial(self._measured, edited, sent))
            return None
        syntax = delivery.transfer_syntax
        if head.parts is None:
            size = len(edited.data) + delivery.size - head.skip
            return Outgoing(syntax, sent, size, None, self._writing(edited))
        parts = self._parts(head, head.parts, edited, tail)
        return Outgoing(syntax, sent, sum(map(len, parts)), parts)

    def _parts(self, head: Head, parts: Sequence[memoryview], edited: Edited, tail: bool) -> list[memoryview]:
        header, rest = memoryview(edited.data), [parts[0][head.skip :], *parts[1:]] if parts else []
        if tail:
            assert self._header is not None
            editor = self._transform.tail(self._header)
            rest = [memoryview(it) for part in rest for it in editor.feed(part)]
            rest += map(memoryview, editor.finish())
        return [part for part in (header, *rest) if len(part)]

    def _writing(self, edited: Edited) -> Writing:
        head, header = self._head, self._header
        assert head is not None
        assert header is not None
        return writing(self._coercions.readers.spool, self._delivery, head, self._transform, header, edited)

    def _outcome(self, wrong: Wrong) -> Outcome:
        return self._coercions.outcome(self._delivery, self._transform, wrong)

    # ---- what comes later

    def _in_thread(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        def came(found: Any, error: Exception | None) -> None:
            done(found if error is None else error)

        self._coercions.readers.submit(partial(_or_refused, job), came)

    def _found(self, head: Head | Wrong) -> None:
        self._go_on(head, self._with_head)

    def _edited(self, edited: Edited | Wrong) -> None:
        self._go_on(edited, self._with_edited)

    def _measured(self, edited: Edited, sent: Sent, found: tuple[int, bytes | None] | Wrong) -> None:
        def made(found: tuple[int, bytes | None]) -> Outgoing:
            size, small = found
            parts = (memoryview(small),) if small is not None else None
            syntax = self._delivery.transfer_syntax
            return Outgoing(syntax, sent, size, parts, None if parts else self._writing(edited))

        self._go_on(found, made)

    def _go_on(self, found: Any, step: Callable[[Any], Outgoing | Outcome | None]) -> None:
        if self._cancelled:
            return
        try:
            made = self._outcome(found) if isinstance(found, Refused | AsyncrouteError) else step(found)
        except Refused as refused:
            made = self._outcome(refused)
        if made is not None:
            self._done(made)


def header_of(delivery: Delivery, head: Head) -> Header:
    """What a transform is given."""
    return Header(head.header, delivery.transfer_syntax, delivery.sop_class_uid, delivery.sop_instance_uid, head.whole)


def facts_of(delivery: Delivery) -> Facts:
    """What is known of an image besides; of a listener, known as ``AET@HOST:PORT``, it is the AE title."""
    listener, watch = _listened(delivery.listener)
    return Facts(
        delivery.calling_aet,
        delivery.called_aet,
        listener,
        delivery.peer,
        watch,
        delivery.route,
        delivery.destination,
        delivery.received_at,
    )


@lru_cache(256)
def _listened(listener: str) -> tuple[str, str]:
    return listener.rpartition("@")[0] or listener, watch_of(listener)


def _applied(transform: Transform, header: Header, facts: Facts) -> Edited:
    """What the transform makes of it; an error of ours holds the image, and is told in the log."""
    try:
        return transform.apply(header, facts)
    except Refused:
        raise
    except Exception as error:
        where = "".join(format_tb(error.__traceback__))  # its text may quote values of the image
        log.error("transform %s: unexpected %s\n%s", transform.name, type(error).__name__, where)
        raise Refused(f"{transform.name}: unexpected error: {error!r}") from None


def _or_refused(job: Callable[[], Any]) -> Any:
    """In a reading thread, which knows only faults of the storage's."""
    try:
        return job()
    except Refused as refused:
        return refused
