"""Which text a value representation takes: lengths and characters of PS3.5 §6.2, table 6.2-1.

Guarantees: `problem` says in a few words what is wrong with one value (of several between backslashes), or None.
`cut` gives the longest beginning that is not too long, of descriptive text only: a code, a number or a UID that was cut
is another one. Unknown VRs take everything.
Failures: none.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache

LENGTHS = {
    "AE": 16, "AS": 4, "CS": 16, "DA": 8, "DS": 16, "DT": 26, "IS": 12, "LO": 64, "LT": 10240, "PN": 64, "SH": 16,
    "ST": 1024, "TM": 14, "UI": 64,
}  # fmt: skip
"""Characters of one value; of PN: of one component group."""

PLAIN = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"})
"""Text in ASCII, whatever the character set."""
LOCAL = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""Text in the data set's character set."""
TEXT = PLAIN | LOCAL
SINGLE = frozenset({"LT", "ST", "UR", "UT"})
"""A backslash is a character there, not a delimiter."""
CUT = frozenset({"LO", "LT", "PN", "SH", "ST"})
"""Descriptive text: may be cut."""

_GROUPS = 3  # of a person name
_PATTERNS = {
    "AE": r"(?! +\Z)[ -\[\]-~]*",
    "AS": r"(?:\d{3}[DWMY])?",
    "CS": r"[A-Z0-9_ ]*",
    "DA": r"(?:\d{4}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))?",
    "DS": r"(?: *[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)? *)?",
    "DT": r"(?:\d{4}(?:(?:0[1-9]|1[0-2])(?:(?:0[1-9]|[12]\d|3[01])(?:(?:[01]\d|2[0-3])(?:[0-5]\d"
    r"(?:(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?)?)?)?(?:\+(?:(?:0\d|1[0-3])[0-5]\d|1400)|-(?!0000)(?:(?:0\d|1[01])[0-5]\d|1200))?)?",
    "IS": r"(?: *[+-]?\d+ *)?",
    "TM": r"(?:(?:[01]\d|2[0-3])(?:[0-5]\d(?:(?:[0-5]\d|60)(?:\.\d{1,6})?)?)? *)?",
    "UI": r"(?:(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))*)?",
    "UR": r"[A-Za-z0-9_:/?#\[\]@!$&'()*+,;=%.~-]*",
    "LO": r"[^\x00-\x1f\x7f-\x9f\\]*",
    "SH": r"[^\x00-\x1f\x7f-\x9f\\]*",
    "PN": r"[^\x00-\x1f\x7f-\x9f\\]*",
    "UC": r"[^\x00-\x1f\x7f-\x9f\\]*",
    "LT": r"[^\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]*",
    "ST": r"[^\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]*",
    "UT": r"[^\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]*",
}
_DAYS = frozenset({"DA", "DT"})
_VALID = {vr: re.compile(pattern, re.ASCII).fullmatch for vr, pattern in _PATTERNS.items()}
_WORDS = {
    "AE": "an AE title", "AS": "an age such as 045Y",
    "CS": "capital letters, digits, spaces and underscores", "DA": "a date, YYYYMMDD",
    "DS": "a decimal number", "DT": "a date and time", "IS": "a whole number", "TM": "a time, HHMMSS", "UI": "a UID",
    "UR": "a URI",
}  # fmt: skip


@lru_cache(maxsize=4096)
def problem(vr: str, text: str) -> str | None:
    """What is wrong with this value of that VR, or None."""
    return too_long(vr, text) or _wrong(vr, text)


def _wrong(vr: str, text: str) -> str | None:
    valid = _VALID.get(vr)
    if valid is None:
        return None
    if not valid(text) or (vr in _DAYS and text and not _is_day(text)):
        return f"is not {_WORDS[vr]} ({vr})" if vr in _WORDS else f"has characters that {vr} does not allow"
    if vr == "IS" and text.strip() and not -(2**31) <= int(text) < 2**31:
        return "is beyond the numbers that IS allows"
    if vr == "PN" and text.count("=") >= _GROUPS:
        return "has more than three component groups (PN)"
    if vr == "PN" and any(group.count("^") > 4 for group in text.split("=")):
        return "has more than five components (PN)"
    return None


def _is_day(text: str) -> bool:
    """Whether the calendar has the day with which a valid pattern begins; a date and time may end earlier."""
    day = re.split(r"[+-]", text)[0]
    try:
        date(int(day[:4]), int(day[4:6] or 1), int(day[6:8] or 1))
    except ValueError:
        return False
    return True


def too_long(vr: str, text: str) -> str | None:
    """Whether it is only too long, and by how much."""
    most = LENGTHS.get(vr)
    if most is None:
        return None
    length = max(map(len, text.split("="))) if vr == "PN" else len(text)
    if length <= most:
        return None
    return f"has {length} characters, {vr} takes {most}" + (" in a component group" if vr == "PN" else "")


def cut(vr: str, text: str) -> str:
    """As much from the beginning as is not too long, of a name: of each component group; all where not in `CUT`."""
    if vr not in CUT:
        return text
    most = LENGTHS[vr]
    return "=".join(group[:most] for group in text.split("=")) if vr == "PN" else text[:most]
