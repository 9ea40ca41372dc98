"""Descriptive text without what is known to identify (PS3.15 §E.3.5, Clean Descriptors): as well as a program can.

Guarantees: words that occur in the image's own identifying attributes (names, numbers, addresses), titles with the
word behind them, numbers of three digits and more, dates, telephone numbers and mail addresses become X's.
Not noticed: names that stand nowhere else in the image, nicknames, what only a person would recognize. So whatever
text remains can be listed (`asyncroute.transform.phi`).
Failures: none; text that cannot be written again in its character set is replaced as a whole.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+", re.UNICODE)
_PATTERNS = re.compile(
    r"\S+@\S+"
    r"|\b\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\b"
    r"|\+?\d[\d ()/-]{5,}\d"
    r"|\w*\d{3,}\w*"
    r"|\b(?:dr|prof|mr|mrs|ms|miss|herr|frau|m|mme)\b\.?\s+\w+",
    re.IGNORECASE | re.UNICODE,
)
REPLACED = "XXX"
_COMMON = frozenset({"of", "the", "and", "de", "la", "le", "der", "die", "das", "und", "von", "el", "no", "yes"})
_SHORTEST = 2


def words_of(text: str) -> set[str]:
    """The words of an identifying text that must not stand in any other."""
    found = {word.casefold() for word in _WORD.findall(text.replace("_", " "))}
    return {word for word in found if len(word) >= _SHORTEST and word not in _COMMON}


def clean(text: str, identifying: set[str]) -> str:
    """``text``, with what identifies replaced; no longer than before."""

    def hidden(match: re.Match[str]) -> str:
        return REPLACED[: len(match[0])]

    def word(match: re.Match[str]) -> str:
        return hidden(match) if match[0].casefold() in identifying else match[0]

    parts = re.split(r"(_)", _PATTERNS.sub(hidden, text))
    return "".join(_WORD.sub(word, part) for part in parts)
