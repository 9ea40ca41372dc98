"""``[[listener]]``: where images are received, who may send, by TLS and under which names.

Guarantees and failures: as of `asyncroute.config.model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from asyncroute.config.fields import (
    AbsolutePath,
    AeTitle,
    Age,
    CertificateNames,
    Flag,
    Host,
    Listed,
    ListenerPort,
    MaxPdu,
    Network,
    Timeout,
    TitlePattern,
    TransferSyntax,
    choice,
    size,
    whole,
)
from asyncroute.config.table import Table
from asyncroute.config.units import DAY, GIB, KIB, MIB
from asyncroute.config.words import Invalid
from asyncroute.core.patterns import Test, network_test, text_test

CLEAR_TEXT = "user_identity without tls: user names and passcodes cross the network in clear text"


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


def literal(title: str) -> str:
    """A pattern that matches exactly this text."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in title)
