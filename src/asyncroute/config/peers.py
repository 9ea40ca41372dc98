"""``[[peer]]``: what else is known of AE titles. Failures: pydantic's ValidationError."""

from __future__ import annotations

from asyncroute.config.destinations import TlsClient
from asyncroute.config.fields import AeTitle, Host, Port
from asyncroute.config.table import Table


class Peer(Table):
    """``[[peer]]``: what else is known of an AE title: where reports on Storage Commitment go."""

    ae_title: AeTitle
    host: Host
    port: Port
    tls: TlsClient | None = None
