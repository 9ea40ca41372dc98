"""Numbers and tags in text to the values of binary VRs (PS3.5 §6.2).

Guarantees: nothing is rounded to fit a range; what Python alone takes for a number (``1_000``, ``inf``) is none.
Failures: `NoNumber`, with a reason for people.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import isinf
from struct import Struct
from struct import error as StructError

_CODES = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d", "AT": "HH"}
BINARY = frozenset(_CODES)
"""Numbers and tags."""
_PACK = {(vr, big): Struct((">" if big else "<") + code).pack for vr, code in _CODES.items() for big in (False, True)}
_REAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,30}", re.ASCII)
_TAG = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?")


class NoNumber(ValueError):
    """This text is no number or tag that the VR takes."""


def encoded(text: str, vr: str, big: bool) -> bytes:
    """The value: numbers in decimal, tags as (gggg,eeee), with backslashes between them; empty: no value.

    Raises:
        NoNumber: any of them is none or beyond the range.
    """
    if not text:
        return b""
    pack = _PACK[vr, big]
    return b"".join(_one(part.strip(" "), vr, pack) for part in text.split("\\"))


def _one(text: str, vr: str, pack: Callable[..., bytes]) -> bytes:
    try:
        if vr == "AT":
            if tag := _TAG.fullmatch(text):
                return pack(int(tag[1], 16), int(tag[2], 16))
        elif vr in ("FL", "FD"):
            if _REAL.fullmatch(text) and not isinf(real := float(text)):
                return pack(real)
        elif _INTEGER.fullmatch(text):
            return pack(int(text))
    except (OverflowError, StructError):
        pass
    raise NoNumber(f"is no {'tag' if vr == 'AT' else 'number'} that {vr} takes")
