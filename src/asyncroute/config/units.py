"""Durations and sizes as an administrator writes them.

Purpose: `30s`, `1h30m`, `never` to seconds; `128 KiB`, `20 MB` to bytes; and back, for messages and status.
Guarantees: what the formatters write, the parsers read; a formatted duration of whole milliseconds and a formatted
size that divides evenly come back as the same number.
Failures: Invalid (a ValueError) with a text that says what to write instead.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from itertools import pairwise

from asyncroute.config.words import Invalid, quote, show

NEVER = math.inf
DAY = 86400.0
"""Seconds."""

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
"""Bytes."""

_UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_ORDER = list(_UNITS)
_PART = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)(ms|[wdhms])")
_DURATION = re.compile(rf"(?:{_PART.pattern}\s*)+")
_BARE = re.compile(r"\d{1,15}(?:\.\d{1,15})?")
_LONGEST = 100 * 365.25 * 86400
_DURATION_HINT = 'must be a duration such as "30s", "10m", "1h30m", "7d" or "never"'


def parse_duration(value: object) -> float:
    """Seconds, inf for ``never``. Units: w, d, h, m, s, ms, the largest first, each once."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Invalid(_DURATION_HINT)
    text = value.strip() if isinstance(value, str) else show(value)
    if _BARE.fullmatch(text):
        raise Invalid(f'must have a unit, such as "{text}s", "{text}m" or "{text}h"')
    if text == "never":
        return NEVER
    seconds = _sum_parts(text)
    if seconds > _LONGEST:
        raise Invalid('is more than 100 years; write "never"')
    return seconds


def _sum_parts(text: str) -> float:
    if not text.isascii() or not _DURATION.fullmatch(text + " "):
        raise Invalid(f"{_DURATION_HINT}, not {quote(text)}")
    parts = _PART.findall(text)
    order = [_ORDER.index(unit) for _, unit in parts]
    if any(later <= earlier for earlier, later in pairwise(order)):
        raise Invalid(f'must have its units in falling order, each once: "1h30m", not {quote(text)}')
    milliseconds = sum(Fraction(number) * _UNITS[unit] for number, unit in parts)
    return float(milliseconds / 1000)


def format_duration(seconds: float) -> str:
    """Seconds as a duration, to the millisecond: ``1m30s``, ``never``, ``0s``."""
    if math.isinf(seconds):
        return "never"
    rest, parts = round(seconds * 1000), []
    for unit, length in list(_UNITS.items())[1:]:  # days and below: nobody thinks of 30 days as 4w2d
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


_SIZES = {"B": 1}
for _power, _letter in enumerate("KMGTP", start=1):
    _SIZES[f"{_letter}IB"] = 1024**_power
    _SIZES[f"{_letter}B"] = 1000**_power
_SIZE = re.compile(r"(\d{1,20}(?:\.\d{1,15})?)\s*([A-Za-z]*)")
_SIZE_HINT = 'must be a size such as "128 KiB", "1 GiB" or "20 MB", or a number of bytes'
_LARGEST = 2**60
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def parse_size(value: object) -> int:
    """Bytes. Units: B, KiB to PiB (powers of 1024), KB to PB (powers of 1000); a TOML integer is bytes."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Invalid(_SIZE_HINT)
    size = _size_of_text(value.strip()) if isinstance(value, str) else value
    if not 0 <= size <= _LARGEST:
        raise Invalid("must be 0 bytes to 1024 PiB")
    return size


def _size_of_text(text: str) -> int:
    found = _SIZE.fullmatch(text) if text.isascii() else None
    if not found:
        raise Invalid(f"{_SIZE_HINT}, not {quote(text)}")
    number, unit = found[1], found[2].upper()
    if not unit:
        raise Invalid(f'must have a unit, such as "{number} MiB", or be a number without quotes (bytes)')
    if unit not in _SIZES:
        letter = unit[0] if unit[0] in "KMGTP" else "K"
        raise Invalid(f'has the unknown unit {quote(found[2])}; write "{number} {letter}iB" or "{number} {letter}B"')
    return int(Fraction(number) * _SIZES[unit])


def format_size(size: int) -> str:
    """Bytes in binary units: exactly where they divide evenly (``128 KiB``), else to one decimal (``1.4 GiB``)."""
    power = min(max(size.bit_length() - 1, 0) // 10, len(_BINARY) - 1)
    for lower in range(power, max(power - 2, -1), -1):  # "1536 MiB" is exact, "1610612736 B" is nothing to read
        if size % 1024**lower == 0:
            return f"{size // 1024**lower} {_BINARY[lower]}"
    return f"{size / 1024**power:.1f} {_BINARY[power]}"
