"""The words in which configuration problems are told.

Purpose: values, keys and lists of choices as an administrator reads them, and the nearest known name for one that is
mistyped.
Guarantees: every text stays in one line and is of bounded length, whatever the file contains.
Failures: none.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from datetime import date, time

from asyncroute.core.words import LONGEST, printable, quote, shortened

__all__ = [
    "Invalid",
    "Loc",
    "did_you_mean",
    "key_path",
    "nearest",
    "one_of",
    "printable",
    "quote",
    "show",
]


class Invalid(ValueError):
    """A value that cannot be used; the text follows the key's name: "must be 1..65535, not 70000"."""


Loc = tuple[str | int, ...]
"""The place of a value: keys and array indexes from the top of the file."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def show(value: object) -> str:
    """A value as TOML would write it, shortened; tables and lists by their name only."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, str):
        return quote(value)
    return shortened(str(value).lower() if isinstance(value, bool) else _number(value))


def _number(value: object) -> str:
    huge = isinstance(value, int) and value.bit_length() > 256  # str() refuses thousands of digits
    return "a huge number" if huge else str(value)


def one_of(choices: Iterable[str]) -> str:
    """``"a", "b" or "c"``."""
    *most, last = [quote(choice) for choice in choices]
    return f"{', '.join(most)} or {last}" if most else last


def key_path(loc: Loc) -> str:
    """A place as ``listener[0].port``; keys that TOML would quote are quoted."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else quote(part))
    return text


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` is most likely meant to be, if any is near; case does not count."""
    by_fold = {candidate.casefold(): candidate for candidate in known}
    found = difflib.get_close_matches(name[:LONGEST].casefold(), by_fold, n=1, cutoff=0.7)
    return by_fold[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """``, did you mean "pacs"?`` for the nearest known name, else `otherwise`."""
    near = nearest(name, known)
    return f", did you mean {quote(near)}?" if near else otherwise
