"""What would happen to an image, before it happens: for ``explain``, ``check`` and ``plan``.

Guarantees: decides with the very parts that a running router decides with (`Router`, calling titles); changes nothing,
connects to nothing.
Failures: ``OurFault`` for a file that is no image.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from asyncroute.cli.workshop import Workshop
from asyncroute.config import Config, DicomDestination, compile_routes
from asyncroute.config.titles import titles_of
from asyncroute.core.coercion import Coercion
from asyncroute.core.errors import OurFault
from asyncroute.core.model import WATCH, Delivery, Instance, RouteHit, Source, watch_of
from asyncroute.core.priority import PRIORITIES
from asyncroute.core.rules import RouteTable
from asyncroute.core.titles import WrongTitle
from asyncroute.core.trace import Verdict, trace
from asyncroute.route import FULL_HEADER, UNROUTED, Router
from asyncroute.transform.base import Change, Facts, Header, Refused
from asyncroute.transform.compiled import Compiled, compiled
from asyncroute.wire.header import header_end, inflate_header
from asyncroute.wire.part10 import Meta, NotPart10, parse_meta
from asyncroute.wire.syntax import EXPLICIT_LITTLE, is_deflated

_META = 1 << 20
_PRIORITY_WORDS = {number: word for word, number in PRIORITIES.items()}
SOMEBODY = "ANY-SCU"
"""The sender, where none is given."""


@dataclass(slots=True)
class Subject:
    """An image to look at: where it came from, and the beginning of its data set."""

    instance: Instance
    head: bytes
    whole: bool
    name: str = ""


@dataclass(slots=True)
class Outcome:
    """What a route's transforms make of an image. ``name`` empty: there are none. ``refused``: why it is not sent."""

    name: str
    subject: Subject
    changes: tuple[Change, ...] = ()
    refused: str = ""
    dropped: bool = False
    """A user's function wants it discarded, not held."""

    @property
    def held(self) -> str:
        """Why it is held; empty: it is not."""
        return "" if self.dropped else self.refused


@dataclass(slots=True)
class Preview:
    """What would happen to one image."""

    subject: Subject
    verdicts: list[Verdict]
    hits: tuple[RouteHit, ...]
    held: str = ""
    """Why it would be held; empty: it would not."""
    notes: list[str] = field(default_factory=list)


class Previewer:
    """Looks at images under one configuration. ``close`` it, or use it as a context manager."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._transforms: dict[str, Compiled | None] = {}
        self._workshop = Workshop(config.node.worker_deadline, config.node.worker_memory)
        self.table: RouteTable = compile_routes(config)
        self.router = Router(self.table)

    def __enter__(self) -> Previewer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what users' functions ran in."""
        self._workshop.close()

    def hits(self, subject: Subject) -> tuple[RouteHit, ...]:
        """Where it would go (groups by their name); sets ``hold_reason`` where it would be held as undecidable."""
        subject.instance.hold_reason = None
        return self.router.route(subject.instance, None, subject.head, subject.whole)

    def held(self, subject: Subject, hits: tuple[RouteHit, ...]) -> str:
        """Why it would be held."""
        if subject.instance.hold_reason:
            return subject.instance.hold_reason
        return UNROUTED if not hits and self.config.node.unrouted == "hold" else ""

    def look(self, subject: Subject) -> Preview:
        """All that can be said of it."""
        instance = subject.instance
        hits = self.hits(subject)
        attributes, _ = self.router.seen(instance, subject.head, subject.whole)
        verdicts = trace(self.table.rules, instance.source, attributes, instance.received_at)
        return Preview(subject, verdicts, hits, self.held(subject, hits), self.refusals(instance.source))

    def coercions(self, hit: RouteHit) -> tuple[Coercion, ...]:
        """What the transforms on the way that ``hit`` says consist of."""
        transform = self.transform(hit.route)
        return transform.coercions if transform is not None else ()

    def edited(self, subject: Subject, hit: RouteHit) -> Outcome:
        """The image as it would be sent, on the way that ``hit`` says."""
        transform, instance = self.transform(hit.route), subject.instance
        if transform is None:
            return Outcome("", subject)
        header, _ = header_of(subject)
        source = instance.source
        facts = Facts(
            *(source.calling_aet, source.called_aet, source.listener, source.peer, source.watch),
            *(hit.route, hit.destination, instance.received_at),
        )
        try:
            made = self._workshop.apply(transform, header, facts)
        except Refused as refused:
            return Outcome(transform.name, subject, refused=refused.reason, dropped=refused.drop)
        sent = replace(instance, sop_class_uid=made.sop_class_uid, sop_instance_uid=made.sop_instance_uid)
        if is_deflated(instance.transfer_syntax):
            sent.transfer_syntax = EXPLICIT_LITTLE
        return Outcome(transform.name, Subject(sent, bytes(made.data), True, subject.name), tuple(made.changes))

    def transform(self, name: str) -> Compiled | None:
        """What changes the images of the route of this name; None: nothing does."""
        if name not in self._transforms:
            coercions = self.config.coercions(next(each for each in self.config.routes if each.name == name))
            self._transforms[name] = compiled(coercions) if coercions else None
        return self._transforms[name]

    def refusals(self, source: Source) -> list[str]:
        """Why the listener would not even take a call from there."""
        listener = next((each for each in self.config.listeners if each.label == source.listener), None)
        if listener is None:
            return []
        found = []
        if not listener.accepts_called(source.called_aet):
            found.append(f"the listener does not accept the called AE title {source.called_aet}")
        if not listener.accepts_calling(source.calling_aet):
            found.append(f"the listener does not accept the calling AE title {source.calling_aet} (accept_calling)")
        if source.peer and not listener.accepts_from(source.peer):
            found.append(f"the listener does not accept calls from {source.peer} (accept_from)")
        return found

    def ways(self, preview: Preview, outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
        """Of each destination that it would go to, how; ``outcomes``: what is made of it on each of these ways."""
        groups = {group.name: group for group in self.config.groups}
        found = []
        for hit, outcome in zip(preview.hits, outcomes, strict=True):
            group = groups.get(hit.destination)
            members = group.members if group else (hit.destination,)
            found.append(
                {
                    "transform": outcome.name or None,
                    "changes": [change_facts(change) for change in outcome.changes],
                    "held": outcome.held or None,
                    "discarded": outcome.refused if outcome.dropped else None,
                    "to": hit.destination,
                    "group": {"mode": group.mode, "members": list(members)} if group else None,
                    "route": hit.route,
                    "when": f"when its {hit.wait.unit} is complete" if hit.wait else "now",
                    "priority": _PRIORITY_WORDS[hit.priority],
                    "destinations": [self._member(name, hit, preview.subject.instance) for name in members],
                }
            )
        return found

    def _member(self, name: str, hit: RouteHit, instance: Instance) -> dict[str, Any]:
        destination = self.config.destination(name)
        assert destination is not None
        way: dict[str, Any] = {"name": name, "kind": destination.kind, "calling_ae_title": None, "error": None}
        if isinstance(destination, DicomDestination):
            way |= {"ae_title": destination.ae_title, "host": destination.host, "port": destination.port}
            try:
                way["calling_ae_title"] = titles_of(self.config, destination).title(_delivery(instance, name, hit))
            except WrongTitle as wrong:
                way["error"] = str(wrong)
        compress = getattr(destination, "compress", "keep")
        way["transfer_syntax"] = instance.transfer_syntax if compress == "keep" else compress
        return way


def header_of(subject: Subject) -> tuple[Header, bool]:
    """All before the pixel data, inflated where it is deflated; whether its end was found."""
    instance = subject.instance
    syntax = instance.transfer_syntax
    if is_deflated(syntax):
        data, whole = inflate_header(subject.head, subject.whole)
        syntax = EXPLICIT_LITTLE
    else:
        data, whole = subject.head, subject.whole
    end = header_end(data, syntax, whole)
    whole = whole and end in (None, len(data))
    header = Header(data[:end], instance.transfer_syntax, instance.sop_class_uid, instance.sop_instance_uid, whole)
    return header, whole or end is not None


def change_facts(change: Change) -> dict[str, Any]:
    """For ``--json``."""
    return {name: getattr(change, name) for name in ("attribute", "before", "after", "step")}


def _delivery(instance: Instance, destination: str, hit: RouteHit) -> Delivery:
    own = {name: getattr(instance, name) for name in _SHARED}
    return Delivery(
        *(instance.id, destination, hit.route, instance.source.calling_aet, instance.source.called_aet),
        instance.source.listener,
        queued_at=instance.received_at,
        **own,
    )


_SHARED = (
    *("sop_class_uid", "sop_instance_uid", "transfer_syntax", "study_uid", "path", "data_offset", "size", "checksum"),
)


# --- What is known of a source ----------------------------------------------------------------------------------------


def source_of(config: Config, given: Mapping[str, str]) -> Source:
    """Where an image came from, as far as it is ``given`` by name; the rest as it would most likely be."""
    named = given.get("listener", "")
    watch = given.get("watch") or watch_of(named)
    if watch:
        return Source(given.get("calling_aet", ""), "", WATCH + watch, "")
    called = given.get("called_aet", "")
    fitting = [x for x in config.listeners if named in (x.label, x.ae_title, str(x.port))] if named else []
    fitting = fitting or [x for x in config.listeners if not called or x.accepts_called(called)]
    listener = (fitting or config.listeners)[0]
    if named and not any(named in (x.label, x.ae_title, str(x.port)) for x in config.listeners):
        raise OurFault(f"no listener is called {named!r}; there is {', '.join(x.label for x in config.listeners)}")
    calling = given.get("calling_aet", SOMEBODY)
    return Source(calling, called or listener.ae_title, listener.label, given.get("peer", "127.0.0.1"))


def read_file(path: Path) -> tuple[Meta, bytes, bool]:
    """An image's File Meta Information, the beginning of its data set, whether that is all of it. Raises OurFault."""
    try:
        with path.open("rb") as file:
            data = file.read(_META + FULL_HEADER)
            meta = parse_meta(data)
            return meta, data[meta.data_offset :], not file.read(1)
    except NotPart10 as error:
        raise OurFault(f"{path}: {error}") from None
    except OSError as error:
        raise OurFault(f"{path}: {(error.strerror or str(error)).lower()}") from None


def subject_of_file(config: Config, path: Path, given: Mapping[str, str], at: float | None = None) -> Subject:
    """The image in a file as if it was received; what is not given of its sender is taken from the file."""
    meta, head, whole = read_file(path)
    titles = {"calling_aet": meta.source_aet or meta.sending_aet}
    source = source_of(config, {name: value for name, value in titles.items() if value} | dict(given))
    received = time.time() if at is None else at
    instance = Instance(0, source, meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax, received, str(path))
    return Subject(instance, head, whole, str(path))


def source_facts(source: Source) -> dict[str, str]:
    """For ``--json``."""
    return asdict(source) | {"watch": source.watch}
