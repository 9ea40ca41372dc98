"""Descriptive text without what is known to identify (PS3.15 §E.3.5, Clean Descriptors): as well as a program can.

Guarantees: words that occur in the image's own identifying attributes (names, numbers, addresses), titles with the
word behind them, numbers of three digits and more, dates, telephone numbers and mail addresses become X's. A word is
found in any case, without its accents, with German and Nordic letters transcribed, within longer words from four
letters on, and between others where a script has no spaces.
Not noticed: names that stand nowhere else in the image, nicknames, what only a person would recognize. So whatever
text remains can be listed (`asyncroute.transform.phi`).
Failures: none; text that cannot be written again in its character set is replaced as a whole.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

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
_SHORTEST_WITHIN = 4
"""Letters from which on a word is looked for within longer ones, such as a name with an initial behind it."""
_TRANSCRIBED = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "æ": "ae", "ø": "oe", "œ": "oe", "\u0131": "i"}
)
_PLAIN = str.maketrans({"æ": "ae", "ø": "o", "œ": "oe", "ł": "l", "đ": "d", "\u0131": "i"})
_NO_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f]"
)
"""Letters of scripts in which words stand next to each other: Thai, Lao, Burmese, Khmer, kana, ideographs; hangul, in
which titles and particles follow a name without a space."""


def words_of(text: str) -> set[str]:
    """The words of an identifying text that must not stand in any other, as `clean` takes them."""
    found: set[str] = set()
    for representation in text.split("="):  # of a person's name: alphabetic, ideographic, phonetic (PS3.5 §6.2.1.2)
        parts = [_WORD.findall(part) for part in re.split(r"[\^\\_]", representation)]
        words = [word for part in parts for word in part]
        for word in (*words, *map("".join, parts), "".join(words)):
            found |= _forms(word)
    return {word for word in found if len(word) >= _SHORTEST and word not in _COMMON}


@lru_cache(4096)
def _forms(word: str) -> frozenset[str]:
    """A word in the ways in which it may be written."""
    lower = unicodedata.normalize("NFC", word).casefold()
    decomposed = unicodedata.normalize("NFKD", lower.translate(_PLAIN))
    plain = "".join(each for each in decomposed if not unicodedata.combining(each))
    return frozenset((lower, plain, lower.translate(_TRANSCRIBED)))


def clean(text: str, identifying: set[str]) -> str:
    """``text``, with what identifies replaced; no longer than before."""
    composed = unicodedata.normalize("NFC", text)
    left = without(_PATTERNS.sub(_hidden, composed), identifying)
    return left if left != composed else text


def without(text: str, identifying: set[str]) -> str:
    """``text`` with only the ``identifying`` words replaced."""

    long = [each for each in identifying if len(each) >= _SHORTEST_WITHIN]

    def word(match: re.Match[str]) -> str:
        return _hidden(match) if _tells(match[0], identifying, long) else match[0]

    composed = left = unicodedata.normalize("NFC", text)
    if pattern := _anywhere(identifying):
        left = re.sub(pattern, _hidden, left)
    left = "".join(_WORD.sub(word, part) for part in re.split(r"(_)", left))
    return left if left != composed else text


def _hidden(match: re.Match[str]) -> str:
    return REPLACED[: len(match[0])]


def _tells(word: str, identifying: set[str], long: list[str]) -> bool:
    forms = _forms(word)
    letters = {form.strip("0123456789") for form in forms}
    if not identifying.isdisjoint(forms | letters):
        return True
    return any(each in form for form in forms for each in long)


def _anywhere(identifying: Iterable[str]) -> str:
    """A pattern for words of scripts without spaces, the longest first; empty: there are none."""
    found = sorted((each for each in identifying if _NO_SPACES.search(each)), key=lambda each: (-len(each), each))
    return "|".join(map(re.escape, found))
