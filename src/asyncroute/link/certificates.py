"""Certificates as people name them: what a peer showed, also one that was refused, and how long our own ones last.

Guarantees: what is shown of a peer's certificate is short and printable. Nothing here verifies anything: a certificate
of ``of_peer`` was verified by OpenSSL in the handshake, one of ``refused`` was not, and serves for words only.
Failures: ``own`` raises OurFault for a file without a certificate; the others have None or nothing to say.
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from asyncroute.core.errors import OurFault

FINGERPRINT: Final = "sha256:"
SOON: Final = 30 * 86400.0
"""Seconds before its end from which on a certificate of ours is worth a word; of short-lived ones the last third."""
_LONGEST: Final = 80
_MOST_NAMES: Final = 5


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a peer's certificate says. ``begins`` and ``ends``: POSIX times; ``fingerprint``: ``sha256:`` and hex."""

    subject: str
    dns: tuple[str, ...]
    issuer: str
    begins: float
    ends: float
    fingerprint: str

    def is_one_of(self, wanted: Iterable[str]) -> bool:
        """Whether a wanted name is its common name or one of its DNS names, or a wanted fingerprint is its own."""
        own = {name.lower() for name in (self.subject, *self.dns) if name}
        return any(  # a name that looks like a fingerprint is none
            name == self.fingerprint if name.startswith(FINGERPRINT) else name in own for name in map(str.lower, wanted)
        )

    @property
    def title(self) -> str:
        """Its name for people: the common name, else the first DNS name, else the fingerprint."""
        return repr(shorten(self.subject or next(iter(self.dns), "") or self.fingerprint))

    def __str__(self) -> str:
        """All by which a configuration may name it."""
        names = ", ".join(map(shorten, self.dns[:_MOST_NAMES])) + (", ..." if len(self.dns) > _MOST_NAMES else "")
        alternative = f", DNS names {names}" if self.dns else ""
        return f"{self.title} (issued by {shorten(self.issuer)!r}{alternative}, {self.fingerprint})"


def of_peer(connection: ssl.SSLSocket) -> Certificate | None:
    """The certificate that the peer of a finished handshake was verified with."""
    info, der = connection.getpeercert(), connection.getpeercert(binary_form=True)
    return _certificate(info, der) if info and der else None


def refused(connection: ssl.SSLSocket) -> list[Certificate]:
    """The chain that a handshake just failed to verify, the peer's own certificate first; empty if it is not known."""
    try:
        # Python tells it of failed handshakes only in this way.
        chain: Any = connection._sslobj.get_verified_chain()  # type: ignore[attr-defined]
        return [_certificate(each.get_info(), each.public_bytes(_DER)) for each in chain or ()]
    except (AttributeError, TypeError, ValueError, LookupError):
        return []


_DER: Final = 2  # _ssl.ENCODING_DER


def _certificate(info: Mapping[str, Any], der: bytes) -> Certificate:
    return Certificate(
        _common_name(info.get("subject", ())),
        tuple(value for kind, value in info.get("subjectAltName", ()) if kind == "DNS"),
        _common_name(info.get("issuer", ())),
        ssl.cert_time_to_seconds(info["notBefore"]),
        ssl.cert_time_to_seconds(info["notAfter"]),
        FINGERPRINT + hashlib.sha256(der).hexdigest(),
    )


def _common_name(name: Iterable[Iterable[tuple[str, str]]]) -> str:
    """The common name; without one, all of the name."""
    parts = [pair for group in name for pair in group]
    return next((value for key, value in parts if key == "commonName"), ", ".join(f"{k}={v}" for k, v in parts))


def shorten(text: str) -> str:
    """Text of a peer, printable and not too long."""
    clean = "".join(c if c.isprintable() else "?" for c in text)
    return clean if len(clean) <= _LONGEST else clean[: _LONGEST - 3] + "..."


def day(when: float) -> str:
    """A certificate's time for people: ``2026-11-17 20:23 UTC``."""
    return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%d %H:%M} UTC"


# --- our own ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when (POSIX times) the first certificate of a file is good."""

    begins: float
    ends: float

    def trouble(self, now: float | None = None) -> str:
        """That it has expired, is not good yet or will expire soon; else nothing."""
        now = time.time() if now is None else now
        left = self.ends - now
        if left <= 0:
            return f"has expired: valid until {day(self.ends)}"
        if now < self.begins:
            return f"is not valid yet: valid from {day(self.begins)}"
        if left < min(SOON, (self.ends - self.begins) / 3):
            return f"will expire in {left / 86400:.0f} days: valid until {day(self.ends)}"
        return ""


def validities(files: Iterable[tuple[str, Path]]) -> list[tuple[str, Validity]]:
    """Of several files, each with what it is; those that cannot be read are left out."""
    found = []
    for what, path in files:
        with contextlib.suppress(OurFault):
            found.append((what, own(path)))
    return found


def own(path: Path) -> Validity:
    """Of the first certificate in a PEM file of ours.

    Raises:
        OurFault: there is none.
    """
    try:
        text = path.read_text("ascii", "replace")
        start = text.index(ssl.PEM_HEADER)
        end = text.index(ssl.PEM_FOOTER, start) + len(ssl.PEM_FOOTER)
        return _validity(ssl.PEM_cert_to_DER_cert(text[start:end]))
    except (OSError, ValueError, IndexError):
        raise OurFault(f"tls: no certificate in {path}") from None


def _validity(der: bytes) -> Validity:
    """RFC 5280 4.1: validity is the sequence after version, serial number, signature algorithm and issuer."""
    at, _ = _inside(der, _inside(der, 0)[0])
    skip = 4 if der[at] == 0xA0 else 3  # the version is optional
    for _ in range(skip):
        at = _inside(der, at)[1]
    at, _ = _inside(der, at)
    begins, ends = _inside(der, at), _inside(der, _inside(der, at)[1])
    return Validity(_time(der[slice(*begins)]), _time(der[slice(*ends)]))


def _inside(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the element at ``at`` begins and ends (X.690 8.1.3)."""
    length, start = der[at + 1], at + 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[at + 2 : start], "big")
    if start + length > len(der):
        raise ValueError("cut short")
    return start, start + length


def _time(text: bytes) -> float:
    """UTCTime, whose years are 1950 to 2049, or GeneralizedTime (RFC 5280 4.1.2.5)."""
    digits = text.decode("ascii")
    if len(digits) == 13:
        digits = ("19" if digits >= "50" else "20") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
