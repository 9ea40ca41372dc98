"""Text of data sets: Specific Character Set (0008,0005) and code extensions (PS3.3 §C.12.1.1.2, PS3.5 §6.1).

Guarantees: nothing raises and nothing is logged, whatever a peer sends; ASCII text takes a short cut. An unknown
character set reads as Latin-1, as with pydicom; bytes outside the character set become U+FFFD.
Differs from pydicom on purpose: escape sequences of ISO 2022 IR 58 do not stay in the text, and in multi-valued text
and person names a delimiter resets the character set as PS3.5 §6.1.2.5.3 says.
"""

from __future__ import annotations

import re
from functools import lru_cache

_LATIN = "latin_1"
ALONE = frozenset({"UTF8", "GB18030", "GBK"})  # no code extensions with these: PS3.3 §C.12.1.1.2
_STATEFUL = frozenset({"iso2022_jp", "iso2022_jp_2"})  # codecs that want to see the escape sequence
_PLACE = re.compile(r"ISO[ _-]*(2022)?[ _-]*IR[ _-]*(\d+)")
_ALIASES = {"UTF-8": "UTF8", "UTF8": "UTF8", "UTF_8": "UTF8", "LATIN1": _LATIN, "ASCII": _LATIN}
_SEGMENT = re.compile(rb"\x1b[^\x1b]*|[^\x1b]+")
_ESCAPE = re.compile(rb"\x1b(?:\$[()]|[()$-]).")
_TEXT_RESET = re.compile(rb"[\t\n\f\r\\]")
_NAME_RESET = re.compile(rb"[\t\n\f\r\\^=]")
_MAX_TERMS = 256  # bytes of (0008,0005) that are looked at


def codecs_of(specific_character_set: bytes) -> tuple[str, ...]:
    """The Python codecs for the raw value of (0008,0005), the initial one first; never empty."""
    return _codecs_of(specific_character_set[:_MAX_TERMS])


@lru_cache(maxsize=256)
def _codecs_of(raw: bytes) -> tuple[str, ...]:
    codecs = [codec_of(term) or _LATIN for term in terms_of(raw)]
    if codecs[0] in ALONE:
        return (codecs[0],)
    return tuple(codec for codec in codecs if codec not in ALONE)


def terms_of(specific_character_set: bytes) -> list[str]:
    """The values of (0008,0005), at least one; an empty one is the default repertoire or that of value 1."""
    return [term.strip(" \0") for term in specific_character_set[:_MAX_TERMS].decode(_LATIN).split("\\")]


@lru_cache(maxsize=256)
def codec_of(term: str) -> str | None:
    """The Python codec of one defined term, common misspellings included; None if nobody knows the term."""
    from pydicom.charset import python_encoding

    found = python_encoding.get(term)
    if found is None and (match := _PLACE.fullmatch(term.upper())):
        found = python_encoding.get(f"{'ISO 2022 IR' if match[1] else 'ISO_IR'} {match[2]}")
    return found or _ALIASES.get(term.upper())


def decode(value: bytes, codecs: tuple[str, ...], *, name: bool = False) -> str:
    """The text of `value`; `name`: it is a person name, where ^ and = also reset the character set. Never raises."""
    if b"\x1b" not in value or codecs[0] in ALONE:
        return value.decode("ascii" if value.isascii() else codecs[0], "replace")
    reset = _NAME_RESET if name else _TEXT_RESET
    return "".join(_segment(part, codecs[0], reset) for part in _SEGMENT.findall(value))


def _segment(part: bytes, initial: str, reset: re.Pattern[bytes]) -> str:
    """Text up to the next escape sequence; `part` may begin with one."""
    if not part.startswith(b"\x1b"):
        return part.decode(initial, "replace")
    match = _ESCAPE.match(part)
    codec = _escapes().get(match[0]) if match else None
    if match is None or codec is None:
        return part.decode(initial, "replace")
    if codec in _STATEFUL:
        return part.decode(codec, "replace")
    body = part[match.end() :]
    stop = reset.search(body)
    cut = stop.start() if stop else len(body)
    return body[:cut].decode(codec, "replace") + body[cut:].decode(initial, "replace")


@lru_cache
def _escapes() -> dict[bytes, str]:
    from pydicom.charset import CODES_TO_ENCODINGS

    return dict(CODES_TO_ENCODINGS)
