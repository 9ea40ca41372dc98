"""``[[destination]]``: where images go, and what is allowed on the way.

Guarantees and failures: as of `asyncroute.config.model`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from asyncroute.config.bandwidth import Bandwidth, bandwidth_value, parse_bandwidth
from asyncroute.config.fields import (
    MIMIC,
    AbsolutePath,
    AeTitle,
    Age,
    CallingTitle,
    Duration,
    Factor,
    Flag,
    Host,
    MaxPdu,
    Name,
    OutcomeWord,
    Port,
    Size,
    Span,
    StatusPattern,
    Timeout,
    choice,
    whole,
)
from asyncroute.config.hours import hours_texts, parse_hours
from asyncroute.config.table import Table
from asyncroute.config.template import DEFAULT_LAYOUT, SOP_INSTANCE_UID, Layout, parse_layout
from asyncroute.config.units import GIB, KIB, format_duration
from asyncroute.config.words import Invalid, quote
from asyncroute.core.hours import Hours
from asyncroute.core.outcomes import Action
from asyncroute.core.rates import Rates
from asyncroute.core.retry import Backoff
from asyncroute.core.syntaxes import Wish

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
_COMPRESSION_OF = {
    "error": ("jpeg-ls-near",),
    "ratio": ("j2k",),
    "keep_uid": ("jpeg-ls-near", "j2k"),
    "verify": ("rle", "jpeg-ls", "jpeg-lossless", "j2k-lossless", "htj2k-lossless"),
}
SCOPES = ("image", "series", "study", "patient", "source", "any")


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


class Compression(Table):
    """How `compress` compresses; see `core.syntaxes.Wish`."""

    error: Annotated[int, whole(1, 255)] = 2
    ratio: Annotated[int, whole(2, 1000)] = 10
    keep_uid: Flag = False
    verify: Flag = True


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
    compression: Compression = Compression()
    retry: Retry = Retry()
    max_backlog: Backlog = Backlog()
    hours: Annotated[tuple[str, ...], BeforeValidator(hours_texts)] = ()
    bandwidth: Annotated[Bandwidth | None, BeforeValidator(bandwidth_value)] = None

    @field_validator("compression")
    @classmethod
    def _of_its_codec(cls, value: Compression, info: ValidationInfo) -> Compression:
        compress = info.data.get("compress")
        for key, words in _COMPRESSION_OF.items():
            if key in value.model_fields_set and compress not in words:
                raise Invalid(f'"{key}" is only for compress = {" or ".join(map(quote, words))}')
        return value

    @cached_property
    def wish(self) -> Wish:
        """What `compress` and what belongs to it mean for sending."""
        c = self.compression
        return Wish(self.compress, self.may_transcode, c.error, c.ratio, c.keep_uid, c.verify)

    @property
    def may_transcode(self) -> bool:
        """Whether what is not accepted may be converted."""
        return False

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

    @field_validator("transcode")
    @classmethod
    def _not_against_compress(cls, value: bool, info: ValidationInfo) -> bool:
        compress = info.data.get("compress", "keep")
        if not value and compress != "keep":
            raise Invalid(f"cannot be false with compress = {quote(compress)}, which converts")
        return value

    @property
    def may_transcode(self) -> bool:
        """Whether what is not accepted may be converted; to compress is to convert."""
        return self.transcode or self.compress != "keep"

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

DESTINATION_KINDS: Mapping[str, type[DicomDestination] | type[FolderDestination]] = {
    "dicom": DicomDestination,
    "folder": FolderDestination,
}
LATER_KINDS = ("stow", "s3", "sftp")


def _statuses(pattern: str) -> range:
    """The statuses that ``A7XX`` stands for."""
    return range(int(pattern.replace("X", "0"), 16), int(pattern.replace("X", "F"), 16) + 1)
