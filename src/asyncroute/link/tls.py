"""TLS contexts by PS3.15 B.12 (BCP 195, RFC 9325): TLS 1.2 with forward secrecy and AEAD, and TLS 1.3.

Failures are ``OurFault``s that name the file.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from asyncroute.core.errors import OurFault

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"


def server_context(certificate: Path, key: Path, client_ca: Path | None, require_client: bool) -> ssl.SSLContext:
    """For a listener.

    Raises:
        OurFault: a file cannot be read, or certificate and key do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _bcp195(context)
    _load_chain(context, certificate, key)
    if client_ca is not None:
        _load_ca(context, client_ca)
        context.verify_mode = ssl.CERT_REQUIRED if require_client else ssl.CERT_OPTIONAL
    return context


def client_context(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """For a destination; without ``ca`` the system's authorities.

    Raises:
        OurFault: see ``server_context``.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _bcp195(context)
    if ca is not None:
        _load_ca(context, ca)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if certificate is not None and key is not None:
        _load_chain(context, certificate, key)
    return context


def _bcp195(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _load_chain(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        raise OurFault(f"tls: {certificate} and {key} cannot be used: {error.reason or error}") from None
    except OSError as error:
        raise OurFault(f"tls: cannot read {certificate} or {key}: {error.strerror or error}") from None
    except ValueError as error:
        raise OurFault(f"tls: {key}: {error}") from None


def _no_password() -> str:
    raise ValueError("the key is encrypted; asyncroute needs one without a password")


def _load_ca(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise OurFault(f"tls: no certificates in {ca}: {error.reason or error}") from None
    except OSError as error:
        raise OurFault(f"tls: cannot read {ca}: {error.strerror or error}") from None
