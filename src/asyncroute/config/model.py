"""The configuration, as the rest of the program sees it.

Purpose: one frozen object per table of the TOML file, with the file's names; durations are seconds (float, inf for
``never``), sizes are bytes (int), paths are absolute.
Guarantees: an object that exists is valid by itself, and no key is silently ignored. What depends on several tables
(names that must exist, ports that clash) is checked by `asyncroute.config.check` when a file is loaded.
Failures: pydantic's ValidationError, which `asyncroute.config.loading` turns into lines for an administrator.

Keys whose part is not built yet are listed here, too: `LATER_KEYS` and `LATER_TABLES` are refused whatever their value,
those in `TODAY` have one value that describes what the program does today.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from asyncroute.config import secrets
from asyncroute.config.archive import Archive, MoveIn, Tier
from asyncroute.config.cases import Case
from asyncroute.config.deidentify import Deidentify
from asyncroute.config.destinations import Destination, DicomDestination, FolderDestination, TlsClient
from asyncroute.config.fields import (
    AbsolutePath,
    Age,
    CallingTitle,
    Duration,
    Flag,
    Listed,
    Name,
    Size,
    Timeout,
    choice,
    conditions,
    size,
    whole,
)
from asyncroute.config.groups import Group
from asyncroute.config.listeners import Listener, TlsServer
from asyncroute.config.peers import Peer
from asyncroute.config.places import DATA_DIR
from asyncroute.config.table import ONLY, Table
from asyncroute.config.transforms import Transform
from asyncroute.config.units import DAY, GIB, MIB, format_duration
from asyncroute.config.watching import Watch
from asyncroute.config.words import Invalid
from asyncroute.core.coercion import Coercion
from asyncroute.core.model import Wait


class Node(Table):
    """``[node]``: this router as a whole."""

    name: Name = "asyncroute"
    data_dir: AbsolutePath = DATA_DIR
    durability: Annotated[Literal["power-loss", "process-crash"], choice("power-loss", "process-crash")] = "power-loss"
    unrouted: Annotated[Literal["hold", "reject", "discard"], choice("hold", "reject", "discard")] = "hold"
    max_outbound: Annotated[int, whole(1, 10_000)] = 200
    memory: Annotated[int, size(64 * MIB)] = 256 * MIB
    min_free: Size = GIB
    history: Age = 30 * DAY
    drain: Duration = 30.0
    workers: Annotated[int, whole(1, 64)] = 4
    worker_deadline: Timeout = 30.0
    worker_memory: Annotated[int, size(256 * MIB)] = 2 * GIB
    crosswalk_key_file: AbsolutePath | None = None

    @field_validator("crosswalk_key_file")
    @classmethod
    def _private(cls, value: Path | None) -> Path | None:
        if value is not None:
            secrets.read(value, private=True)
        return value

    def crosswalk_key(self) -> bytes | None:
        """What the crosswalk is encrypted with, if it is. Raises ``Invalid``: its file has changed meanwhile."""
        return secrets.read(self.crosswalk_key_file, private=True) if self.crosswalk_key_file is not None else None


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
    transform: Annotated[tuple[str, ...], Listed] = ()

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
    transforms: Mapping[str, Transform] = Field(alias="transform", default_factory=dict)
    cases: tuple[Case, ...] = Field(alias="test", default=())
    archive: Archive | None = None
    watches: tuple[Watch, ...] = Field(alias="watch", default=())
    path: Path | None = None

    @property
    def secrets(self) -> Iterator[tuple[str, Table]]:
        """The tables whose files may change without them, with the place for people: ``listener A@0.0.0.0:2762``."""
        for listener in self.listeners:
            yield from ((f"listener {listener.label}", t) for t in (listener.tls, listener.user_identity) if t)
        for each in self.destinations:
            if isinstance(each, DicomDestination) and each.tls:
                yield f"destination {each.name}", each.tls
        yield from ((f"peer {peer.ae_title}", peer.tls) for peer in self.peers if peer.tls)

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

    def deidentifies(self, route: Route) -> bool:
        """Whether a transform of this route does."""
        found = [self.transforms[name] for name in route.transform if name in self.transforms]
        return any(isinstance(step, Deidentify) for each in found for step in each.steps)

    def coercions(self, route: Route) -> tuple[Coercion, ...]:
        """What is changed in its images, in order; `transform.compiled` makes it run. Reads files of secrets."""
        return tuple(self.transforms[name].coercion(name, self.node.name) for name in route.transform)

    def destination(self, name: str) -> Destination | None:
        """The destination of this name."""
        return next((each for each in self.destinations if each.name == name), None)


# --- What is known of keys besides their values ----------------------------------------------------------------------

LATER_TABLES = frozenset({"http"})
"""Top-level tables whose part is not built yet."""

LATER_KEYS: Mapping[type[Table], frozenset[str]] = {}
"""Keys whose part is not built yet."""

TODAY: Mapping[type[Table], Mapping[str, object]] = {}
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
    Transform: "[transform.NAME]",
    Case: "[[test]]",
    Archive: "[archive]",
    Tier: "a tier of [archive]",
    MoveIn: '"move_in" of a tier',
    Watch: "[[watch]]",
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
