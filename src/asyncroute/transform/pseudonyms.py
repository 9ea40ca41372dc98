"""What stands for an original value: made of it and a secret, so that it is the same everywhere and always.

Guarantees: equal values give equal pseudonyms with the same secret, in any image, process and router; without the
secret nobody can tell which value one stands for, nor try out values (HMAC-SHA-256, RFC 2104; a key of its own for each
kind of value). Pseudonyms have 80 bits: among a million patients two share one with a chance of 1 : 10^12.
Failures: none.
"""

from __future__ import annotations

import hmac
from functools import lru_cache

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # without I, L, O and U, which people misread
_CHARACTERS = 16  # as many as SH takes
REGISTERED = "1.2.840.10008."
"""How UIDs begin that DICOM itself has registered."""


class Pseudonyms:
    """Of one secret. All methods are pure."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def code(self, kind: str, value: str) -> str:
        """16 capital letters and digits for ``value``, a ``kind`` of which is ``patient`` or ``accession``."""
        number = int.from_bytes(_digest(self._secret, kind, value)[:10], "big")
        return "".join(_ALPHABET[number >> shift & 31] for shift in range(5 * _CHARACTERS - 5, -1, -5))

    def uid(self, uid: str) -> str:
        """A UID below 2.25 (PS3.5 §B.2); those of the standard itself stay as they are."""
        return uid if not uid or uid.startswith(REGISTERED) else uid_of(_digest(self._secret, "uid", uid))

    def days(self, patient: str, most: int) -> int:
        """By how many days, 1 to ``most``, this patient's dates move into the past."""
        return 1 + int.from_bytes(_digest(self._secret, "days", patient)[:8], "big") % most


def uid_of(digest: bytes) -> str:
    """A UID of 16 bytes, as a UUID below 2.25 (PS3.5 §B.2); made in its maker's own way (RFC 9562, version 8)."""
    number = int.from_bytes(digest[:16], "big")
    number = number & ~(0xF << 76) | 8 << 76
    return f"2.25.{number & ~(3 << 62) | 2 << 62}"


@lru_cache(8192)
def _digest(secret: bytes, kind: str, value: str) -> bytes:
    key = hmac.digest(secret, kind.encode(), "sha256")
    return hmac.digest(key, value.encode("utf-8", "surrogatepass"), "sha256")
