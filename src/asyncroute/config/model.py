"""The configuration, as the rest of the program sees it.

Purpose: one frozen object per table of the TOML file, with the file's names; durations are seconds (float, inf for
``never``), sizes are bytes (int), paths are absolute.
Guarantees: an object that exists is valid by itself, and no key is silently ignored. What depends on several tables
(names that must exist, ports that clash) is checked by `asyncroute.config.check` when a file is loaded.
Failures: pydantic's ValidationError, which `asyncroute.config.load` turns into lines for an administrator.

Keys whose part is not built yet are listed here, too: `LATER_KEYS` and `LATER_TABLES` are refused whatever their value,
those in `TODAY` have one value that describes what the program does today.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from asyncroute.config.bandwidth import Bandwidth, bandwidth_value, parse_bandwidth
from asyncroute.config.fields import (
    MIMIC,
    AbsolutePath,
    AeTitle,
    Age,
    CallingTitle,
    CertificateNames,
    Duration,
    Factor,
    Flag,
    Host,
    Listed,
    ListenerPort,
    MaxPdu,
    Name,
    Network,
    OutcomeWord,
    Port,
    Size,
    Span,
    StatusPattern,
    Timeout,
    TitlePattern,
    TransferSyntax,
    choice,
    conditions,
    size,
    whole,
)
from asyncroute.config.groups import Group
from asyncroute.config.hours import hours_texts, parse_hours
from asyncroute.config.peers import Peer
from asyncroute.config.table import ONLY, Table
from asyncroute.config.template import DEFAULT_LAYOUT, SOP_INSTANCE_UID, Layout, parse_layout
from asyncroute.config.units import format_duration
from asyncroute.config.words import Invalid
from asyncroute.core.hours import Hours
from asyncroute.core.model import Wait
from asyncroute.core.outcomes import Action
from asyncroute.core.rates import Rates
from asyncroute.core.retry import Backoff
from asyncroute.core.rules import Test, network_test, text_test

CLEAR_TEXT = "user_identity without tls: user names and passcodes cross the network in clear text"
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
DAY = 86400.0

COMPRESSIONS = (
    "keep",
    "none",
    "rle",
    "jpeg-ls",
    "jpeg-ls-near",
    "jpeg-lossless",
    "j2k-lossless",
    "j2k",
    "htj2k-lossless",
)
SCOPES = ("image", "series", "study", "patient", "source", "any")


class Node(Table):
    """``[node]``: this router as a whole."""

    name: Name = "asyncroute"
    data_dir: AbsolutePath = Path("/var/lib/asyncroute")
    durability: Annotated[Literal["power-loss", "process-crash"], choice("power-loss", "process-crash")] = "power-loss"
    unrouted: Annotated[Literal["hold", "reject", "discard"], choice("hold", "reject", "discard")] = "hold"
    max_outbound: Annotated[int, whole(1, 10_000)] = 200
    memory: Annotated[int, size(64 * MIB)] = 256 * MIB
    min_free: Size = GIB
    history: Age = 30 * DAY
    drain: Duration = 30.0


class TlsServer(Table):
    """TLS for callers. Without `client_ca` they need no certificate; with it they need one unless told otherwise."""

    certificate: AbsolutePath
    key: AbsolutePath
    client_ca: AbsolutePath | None = None
    require_client: Flag = True
    profile: Annotated[Literal["bcp195"], choice("bcp195")] = "bcp195"
    bind_ae: dict[TitlePattern, CertificateNames] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _default_require_client(cls, data: Any) -> Any:
        if isinstance(data, dict) and "require_client" not in data:
            return {**data, "require_client": "client_ca" in data}
        return data

    @field_validator("require_client")
    @classmethod
    def _needs_client_ca(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("client_ca", "") is None:
            raise Invalid('needs "client_ca": the certificate authority of the clients')
        return value

    @field_validator("bind_ae")
    @classmethod
    def _shown_by_callers(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if value and info.data.get("client_ca", "") is None:
            raise Invalid('needs "client_ca": without it callers show no certificate')
        return value

    @cached_property
    def bindings(self) -> Sequence[tuple[Test, tuple[str, ...]]]:
        """`bind_ae`, the most exact first: whole titles, then patterns in the order of the file, then "*"."""
        keys = sorted(self.bind_ae, key=lambda key: 2 if key == "*" else any(c in key for c in "*?["))
        return [(text_test((key,)), self.bind_ae[key]) for key in keys]

    def bound(self, calling_aet: str) -> tuple[str, ...]:
        """The certificates that this calling AE title is bound to; empty: it is free."""
        return next((names for test, names in self.bindings if test(calling_aet)), ())


class UserIdentity(Table):
    """Who must name themselves, with a passcode (PS3.7 D.3.3.7). Not `required`: only who is named is verified."""

    users_file: AbsolutePath
    required: Flag = True


class Listener(Table):
    """``[[listener]]``: an address where images are received."""

    ae_title: AeTitle = "ASYNCROUTE"
    accept_called: Annotated[tuple[TitlePattern, ...], Listed] = ()
    accept_calling: Annotated[tuple[TitlePattern, ...], Listed] = ("*",)
    accept_from: Annotated[tuple[Network, ...], Listed] = ("*",)
    host: Host = "0.0.0.0"
    port: ListenerPort = 11112
    prefer: Annotated[tuple[TransferSyntax, ...], Listed] = ()
    max_pdu: MaxPdu = 128 * KIB
    max_image: Annotated[int, size(MIB)] = 8 * GIB
    max_associations: Annotated[int, whole(1, 100_000)] = 300
    max_associations_per_peer: Annotated[int, whole(0, 100_000)] = 0
    association_timeout: Timeout = 30.0
    pdu_timeout: Timeout = 30.0
    idle_timeout: Age = 600.0
    commit_wait: Age = DAY
    tls: TlsServer | None = None
    user_identity: UserIdentity | None = None

    @field_validator("accept_calling", "accept_from")
    @classmethod
    def _not_nobody(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise Invalid('must not be empty, nobody could send; leave the key out, or write ["*"], for anybody')
        return value

    @property
    def label(self) -> str:
        """This listener's name in rules and status: ``ASYNCROUTE@0.0.0.0:11112``, as configured."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.ae_title}@{host}:{self.port}"

    @cached_property
    def accepts_called(self) -> Test:
        """Whether a called AE title (without padding) is ours: `ae_title` itself, or any of `accept_called`."""
        return text_test((literal(self.ae_title), *self.accept_called))

    @cached_property
    def accepts_calling(self) -> Test:
        """Whether a caller with this AE title (without padding) may send."""
        return text_test(self.accept_calling)

    @cached_property
    def accepts_from(self) -> Test:
        """Whether a caller with this IP address may send."""
        return network_test(self.accept_from)


class Retry(Table):
    """When a delivery that failed is tried again; `attempts` = 0 is without limit."""

    first: Timeout = 5.0
    factor: Factor = 2.0
    max: Timeout = 600.0
    attempts: Annotated[int, whole(0)] = 0
    give_up: Age = float("inf")

    @field_validator("max")
    @classmethod
    def _at_least_first(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("first", 0):
            raise Invalid('must not be shorter than "first"')
        return value

    @model_validator(mode="after")
    def _first_within_max(self) -> Retry:
        if self.max < self.first:  # only one of the two was written
            raise Invalid(f'"first" must not be longer than "max", which is {format_duration(self.max)}')
        return self

    @property
    def backoff(self) -> Backoff:
        """The same, able to compute waits."""
        return Backoff(self.first, self.factor, self.max, self.attempts, self.give_up)


class Backlog(Table):
    """How much may wait for one destination before images routed to it are refused; 0 is without limit."""

    images: Annotated[int, whole(0)] = 500_000
    bytes: Size = 200 * GIB


class Association(Table):
    """What ends an outbound association."""

    scope: Annotated[Literal["image", "series", "study", "patient", "source", "any"], choice(*SCOPES)] = "any"
    idle_close: Span = 5.0
    max_age: Age = 3600.0


class TlsClient(Table):
    """TLS to a destination: `ca` instead of the system's authorities, our own certificate, the name to expect."""

    ca: AbsolutePath | None = None
    certificate: AbsolutePath | None = None
    key: AbsolutePath | None = None
    server_name: Host | None = None

    @model_validator(mode="after")
    def _certificate_with_key(self) -> TlsClient:
        if (self.certificate is None) != (self.key is None):
            raise Invalid('needs both "certificate" and "key", or neither')
        return self


class _AnyDestination(Table):
    name: Name
    compress: Annotated[str, choice(*COMPRESSIONS)] = "keep"
    retry: Retry = Retry()
    max_backlog: Backlog = Backlog()
    hours: Annotated[tuple[str, ...], BeforeValidator(hours_texts)] = ()
    bandwidth: Annotated[Bandwidth | None, BeforeValidator(bandwidth_value)] = None

    @cached_property
    def open_hours(self) -> Hours | None:
        """`hours`, able to tell the time; None: always."""
        return parse_hours(self.hours)

    @cached_property
    def rates(self) -> Rates | None:
        """`bandwidth`, able to tell the time; None: without limit."""
        return parse_bandwidth(self.bandwidth) if self.bandwidth is not None else None


class DicomDestination(_AnyDestination):
    """``[[destination]]`` of kind ``dicom``: a peer that is sent images by C-STORE."""

    kind: Literal["dicom"] = "dicom"
    host: Host
    port: Port
    ae_title: AeTitle
    calling_ae_title: CallingTitle = MIMIC
    max_associations: Annotated[int, whole(1, 1000)] = 10
    max_per_study: Annotated[int, whole(0, 1000)] = 0
    adaptive: Flag = True
    association: Association = Association()
    connect_timeout: Timeout = 10.0
    response_timeout: Timeout = 60.0
    max_pdu: MaxPdu = 128 * KIB
    max_contexts: Annotated[int, whole(1, 128)] = 128
    min_gap: Duration = 0.0
    transcode: Flag = False
    outcomes: dict[StatusPattern, OutcomeWord] = Field(default_factory=dict)
    verify: Annotated[Literal["no", "commit", "query"], choice("no", "commit", "query")] = "no"
    verify_wait: Timeout = 3600.0
    tls: TlsClient | None = None

    @cached_property
    def overrides(self) -> Mapping[int, Action]:
        """`outcomes` by status, wildcards expanded; the most exact pattern wins."""
        by_width = sorted(self.outcomes.items(), key=lambda item: item[0].count("X"), reverse=True)
        return {status: Action(word) for pattern, word in by_width for status in _statuses(pattern)}


class FolderDestination(_AnyDestination):
    """``[[destination]]`` of kind ``folder``: files below `path`, named by `layout`."""

    kind: Literal["folder"] = "folder"
    path: AbsolutePath
    layout: str = DEFAULT_LAYOUT
    duplicates: Annotated[Literal["keep-both", "replace", "skip"], choice("keep-both", "replace", "skip")] = "keep-both"

    @field_validator("layout", mode="before")
    @classmethod
    def _parseable(cls, value: Any) -> Any:
        if isinstance(value, str):
            parse_layout(value)
        return value

    @field_validator("duplicates")
    @classmethod
    def _one_file_per_image(cls, value: str, info: ValidationInfo) -> str:
        layout = info.data.get("layout")
        if value != "keep-both" and layout and SOP_INSTANCE_UID not in parse_layout(layout).tags:
            raise Invalid(f'cannot be "{value}" unless "layout" contains {{SOPInstanceUID}}: images would be lost')
        return value

    @cached_property
    def template(self) -> Layout:
        """`layout`, able to name files."""
        return parse_layout(self.layout)


Destination = DicomDestination | FolderDestination


class Route(Table):
    """``[[route]]``: which images go to which destinations.

    `match` and `unless` are as written; `asyncroute.config.conditions` compiles them.
    """

    name: Name
    match: Annotated[dict[str, Any], BeforeValidator(conditions)] = Field(default_factory=dict)
    unless: Annotated[dict[str, Any], BeforeValidator(conditions)] = Field(default_factory=dict)
    to: Annotated[tuple[str, ...], Listed]
    final: Flag = False
    calling_ae_title: CallingTitle | None = None
    when: Annotated[Literal["now", "complete"], choice("now", "complete")] = "now"
    complete: Annotated[Literal["study", "series"], choice("study", "series")] = "study"
    quiet: Timeout = 60.0
    at_latest: Age = 1800.0
    late: Annotated[Literal["send", "hold"], choice("send", "hold")] = "send"
    priority: Annotated[str, choice("stat", "high", "normal", "low")] = "normal"

    @field_validator("to")
    @classmethod
    def _somewhere(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise Invalid("must name at least one destination")
        return value

    @field_validator("complete", "quiet", "at_latest", "late")
    @classmethod
    def _only_when_complete(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("when") == "now":
            raise Invalid('only with when = "complete"')
        return value

    @field_validator("at_latest")
    @classmethod
    def _at_least_quiet(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("quiet", 0):
            raise Invalid(f'must not be shorter than "quiet", which is {format_duration(info.data["quiet"])}')
        return value

    @model_validator(mode="after")
    def _quiet_within_at_latest(self) -> Route:
        if self.at_latest < self.quiet:  # only "quiet" was written
            raise Invalid(f'"quiet" must not be longer than "at_latest", which is {format_duration(self.at_latest)}')
        return self

    @property
    def wait(self) -> Wait | None:
        """What its images wait for; None: nothing."""
        return Wait(self.complete, self.late == "hold") if self.when == "complete" else None


class Config(Table):
    """One whole configuration; `path` is the file it was read from, None for the embedded default."""

    node: Node = Node()
    listeners: tuple[Listener, ...] = Field(alias="listener")
    destinations: tuple[Annotated[Destination, Field(discriminator="kind")], ...] = Field(alias="destination")
    groups: tuple[Group, ...] = Field(alias="group", default=())
    routes: tuple[Route, ...] = Field(alias="route", default=())
    peers: tuple[Peer, ...] = Field(alias="peer", default=())
    path: Path | None = None

    @property
    def secrets(self) -> Iterator[tuple[str, Table]]:
        """The tables whose files may change without them, with the place for people: ``listener A@0.0.0.0:2762``."""
        for listener in self.listeners:
            yield from ((f"listener {listener.label}", t) for t in (listener.tls, listener.user_identity) if t)
        for each in self.destinations:
            if isinstance(each, DicomDestination) and each.tls:
                yield f"destination {each.name}", each.tls

    @property
    def certificates(self) -> Iterator[tuple[str, Path]]:
        """The files of the certificates that we show, with their places for people."""
        for place, table in self.secrets:
            path = table.certificate if isinstance(table, TlsServer | TlsClient) else None
            if path is not None:
                yield f"{place}: our certificate {path.name}", path

    def titles_of_routes(self, destination: str) -> dict[str, str]:
        """By name, the `calling_ae_title` of the routes that lead there and have one."""
        leading = [route for route in self.routes if destination in self.reached(route)]
        return {route.name: route.calling_ae_title for route in leading if route.calling_ae_title is not None}

    def addressed(self, route: Route) -> tuple[str, ...]:
        """Destinations, and groups of which one member is chosen for each image."""
        every = {group.name: group.members for group in self.groups if group.one_of is None}
        return tuple(dict.fromkeys(name for each in route.to for name in every.get(each, (each,))))

    def reached(self, route: Route) -> tuple[str, ...]:
        """All destinations to which images of this route may go."""
        members = {group.name: group.members for group in self.groups}
        return tuple(dict.fromkeys(name for each in route.to for name in members.get(each, (each,))))

    def destination(self, name: str) -> Destination | None:
        """The destination of this name."""
        return next((each for each in self.destinations if each.name == name), None)


def literal(title: str) -> str:
    """A pattern that matches exactly this text."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in title)


def _statuses(pattern: str) -> range:
    """The statuses that ``A7XX`` stands for."""
    return range(int(pattern.replace("X", "0"), 16), int(pattern.replace("X", "F"), 16) + 1)


# --- What is known of keys besides their values ----------------------------------------------------------------------

DESTINATION_KINDS: Mapping[str, type[DicomDestination] | type[FolderDestination]] = {
    "dicom": DicomDestination,
    "folder": FolderDestination,
}
LATER_KINDS = ("stow", "s3", "sftp")

LATER_TABLES = frozenset({"transform", "archive", "watch", "http", "test"})
"""Top-level tables whose part is not built yet."""

LATER_KEYS: Mapping[type[Table], frozenset[str]] = {
    Route: frozenset({"transform"}),
}
"""Keys whose part is not built yet."""

TODAY: Mapping[type[Table], Mapping[str, object]] = {
    DicomDestination: {
        "compress": "keep",
        "transcode": False,
    },
    FolderDestination: {"compress": "keep"},
}
"""Keys whose part is not built yet, with the one value that describes what happens without it."""

ONLY.update(TODAY)

_PLACES: Mapping[type[Table], str] = {
    Node: "[node]",
    Listener: "[[listener]]",
    DicomDestination: 'a destination of kind "dicom"',
    FolderDestination: 'a destination of kind "folder"',
    Route: "[[route]]",
    Group: "[[group]]",
    Peer: "[[peer]]",
}


def tables_of(table: type[Table]) -> dict[str, type[Table]]:
    """The keys of a table whose values are tables themselves."""
    found = {}
    for key, field in table.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Table):
                found[key] = kind
    return found


def keys_elsewhere(table: type[Table]) -> dict[str, str]:
    """Keys that are unknown in this table, but known in others, and where that is."""
    places: dict[str, list[str]] = {}
    for other, place in _PLACES.items():
        for key in other.model_fields.keys() - table.model_fields.keys():
            places.setdefault(key, []).append(place)
    return {key: " or ".join(found) for key, found in places.items()}
