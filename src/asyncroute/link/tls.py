"""TLS contexts by PS3.15 B.12 (BCP 195, RFC 9325): TLS 1.2 with forward secrecy and AEAD, and TLS 1.3; and the words
for handshakes that fail.

Failures of files are ``OurFault``s that name the file. ``words`` says of a failed handshake whose certificate or
setting is wrong, and what about it; it has an answer to every error.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from asyncroute.core.errors import OurFault
from asyncroute.link.certificates import Certificate, day, shorten

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
        # A resumed session would pass off a certificate that has expired since: no tickets, of 1.3 nor of 1.2.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
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


# --- files ------------------------------------------------------------------------------------------------------------


def _load_chain(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        raise OurFault(f"tls: {_unusable(certificate, key, error)}") from None
    except OSError as error:
        raise OurFault(f"tls: cannot read {_culprit(certificate, key)}: {error.strerror or error}") from None
    except ValueError as error:
        raise OurFault(f"tls: {key}: {error}") from None


def _unusable(certificate: Path, key: Path, error: ssl.SSLError) -> str:
    """Which of two readable files is no good, and why."""
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{key} is not the key of {certificate}"
    if error.reason in _WEAK:
        return f"{certificate}: the certificate's key or signature is too weak ({_plain(error)})"
    if not _holds(certificate, "CERTIFICATE-----"):
        return f"{certificate} holds no certificate (PEM)"
    if not _holds(key, "PRIVATE KEY-----"):
        return f"{key} holds no private key (PEM)"
    return f"{certificate} and {key} cannot be used: one of them is damaged ({_plain(error)})"


_WEAK: Final = frozenset({"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "DH_KEY_TOO_SMALL"})


def _holds(path: Path, marker: str) -> bool:
    try:
        return marker.encode() in path.read_bytes()
    except OSError:
        return True


def _culprit(certificate: Path, key: Path) -> Path:
    """Which of the two files cannot be read."""
    try:
        certificate.read_bytes()
    except OSError:
        return certificate
    return key


def _no_password() -> str:
    raise ValueError("the key is encrypted; asyncroute needs one without a password")


def _load_ca(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        damaged = f"damaged ({_plain(error)})" if _holds(ca, "CERTIFICATE-----") else "it is not a PEM file of them"
        raise OurFault(f"tls: no certificates in {ca}: {damaged}") from None
    except OSError as error:
        raise OurFault(f"tls: cannot read {ca}: {error.strerror or error}") from None


# --- handshakes -------------------------------------------------------------------------------------------------------

_EOF: Final = "unexpected eof while reading"  # worded otherwise by each build of OpenSSL

_REASONS: Final = {
    "WRONG_VERSION_NUMBER": "{peer} does not speak TLS (wrong version number)",
    "HTTP_REQUEST": "{peer} speaks HTTP, not DICOM over TLS",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "{peer} shows no certificate, and client_ca asks for one",
    "UNSUPPORTED_PROTOCOL": "{peer} knows only TLS versions before 1.2 (unsupported protocol)",
    "NO_SHARED_CIPHER": "{peer} knows no cipher suite with forward secrecy that we use (no shared cipher)",
    "EXCESSIVE_MESSAGE_SIZE": "{peer} shows a chain of certificates that is too long (excessive message size)",
    "NO_RENEGOTIATION": "{peer} asks for renegotiation, which is not allowed",
    "TLSV1_ALERT_UNKNOWN_CA": "{peer} does not trust our certificate: it does not know our authority",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "{peer} says that our certificate has expired",
    "SSLV3_ALERT_BAD_CERTIFICATE": "{peer} does not accept our certificate (bad certificate)",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "{peer} does not accept our certificate (certificate unknown)",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "{peer} says that our certificate was revoked",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "{peer} cannot use our certificate (unsupported certificate)",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "{peer} asks for a certificate of ours",
    "TLSV1_ALERT_PROTOCOL_VERSION": "{peer} has no version of TLS in common with us: 1.2 is the least",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "{peer} refuses (handshake failure): it asks for a certificate of ours, or "
    "there is no cipher suite in common",
    "TLSV1_ALERT_ACCESS_DENIED": "{peer} refuses our certificate (access denied)",
    "TLSV1_ALERT_INTERNAL_ERROR": "{peer} gave up: internal error there",
}


def kind(error: Exception) -> str:
    """What errors of the same cause have in common."""
    code = getattr(error, "verify_code", None)
    return f"{type(error).__name__} {getattr(error, 'reason', None)} {code}"


def words(error: Exception, peer: str = "", chain: Sequence[Certificate] = ()) -> str:
    """Why TLS failed with the ``peer`` ("caller", "destination"; without it: "it"); ``chain``: what it showed, where
    that was refused."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_words(error, peer, chain)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or "EOF" in str(error):
        return _EOF
    if isinstance(error, ssl.SSLError):
        known = _REASONS.get(getattr(error, "reason", None) or "")
        return known.format(peer=f"the {peer}" if peer else "it") if known else _plain(error)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _plain(error: ssl.SSLError) -> str:
    """OpenSSL's own words."""
    reason: str | None = getattr(error, "reason", None)  # what Python raises by itself has none
    return reason.replace("_", " ").lower() if reason else " ".join(str(error).split())


_NOT_YET_VALID, _EXPIRED = 9, 10  # X509_V_ERR_...
_SELF_SIGNED: Final = 18
_UNKNOWN_ISSUER: Final = frozenset({2, 19, 20, 21})
_OTHER_NAME: Final = frozenset({62, 64})


def _certificate_words(error: ssl.SSLCertVerificationError, peer: str, chain: Sequence[Certificate]) -> str:
    whose, told = f"the {peer}'s certificate", str(error.verify_message)
    if not chain:
        return f"{whose} is not trusted: {told}"
    shown, now = chain[0], time.time()
    if error.verify_code == _EXPIRED:
        old = next((each for each in chain if each.ends < now), shown)
        return f"{whose} {_above(old, shown)}has expired: {old.title}, valid until {day(old.ends)}"
    if error.verify_code == _NOT_YET_VALID:
        early = next((each for each in chain if each.begins > now), shown)
        return f"{whose} {_above(early, shown)}is not valid yet: {early.title}, valid from {day(early.begins)}"
    if error.verify_code == _SELF_SIGNED:
        return f"{whose} is not trusted: {told}: {shown.title}"
    if error.verify_code in _UNKNOWN_ISSUER:
        return f"{whose} is not trusted: {told}: {shown.title}, issued by {shorten(chain[-1].issuer)!r}"
    if error.verify_code in _OTHER_NAME:
        return f"{whose} is not trusted: {told} It has {', '.join(map(shorten, shown.dns)) or shown.title}"
    return f"{whose} is not trusted: {told}: {shown.title}"


def _above(found: Certificate, shown: Certificate) -> str:
    """Said of a certificate that is an authority's."""
    return "" if found is shown else "cannot be used, that of its authority "
