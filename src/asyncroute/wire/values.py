"""Raw element values to text, by value representation (PS3.5 §6.2).

Guarantees: nothing raises; what has no text (OB, OW, SQ, binary private data) gives no text.
"""

from __future__ import annotations

from functools import lru_cache
from struct import iter_unpack

from asyncroute.wire import charset

_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
_SIZES = {"H": 2, "h": 2, "I": 4, "i": 4, "Q": 8, "q": 8, "f": 4, "d": 8}
_PLAIN = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"})  # default repertoire
_LOCALIZED = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})  # (0008,0005) applies
_SINGLE = frozenset({"LT", "ST", "UR", "UT"})  # a backslash is a character
_LEADING = frozenset({"AE", "CS", "DS", "IS", "LO", "SH"})  # leading spaces mean nothing
_PADDING = " \0"
_SHORT = 64  # bytes of a value whose text is remembered


def texts_of(vr: str, value: bytes, codecs: tuple[str, ...], *, big: bool) -> tuple[str, ...]:
    """The values as text: padding gone, numbers in decimal, tags as (gggg,eeee); empty for an empty value.

    `codecs` as from `charset.codecs_of`; `big`: byte order of binary values.
    """
    if vr in _PLAIN:
        return _split(vr, value.decode("latin-1"))
    if vr in _LOCALIZED:
        return _split(vr, charset.decode(value, codecs, name=vr == "PN"))
    if vr in _NUMBERS:
        return _numbers(_NUMBERS[vr], value, big)
    if vr == "AT":
        return _tags(value, big)
    if vr == "UN":
        return _unknown(value)
    return ()


def short_texts(vr: str, value: bytes, codecs: tuple[str, ...], big: bool) -> tuple[str, ...]:
    """The same as ``texts_of``; of short values those that were asked for last are remembered."""
    return _remembered(vr, value, codecs, big) if len(value) <= _SHORT else texts_of(vr, value, codecs, big=big)


@lru_cache(maxsize=2048)
def _remembered(vr: str, value: bytes, codecs: tuple[str, ...], big: bool) -> tuple[str, ...]:
    return texts_of(vr, value, codecs, big=big)


def _split(vr: str, text: str) -> tuple[str, ...]:
    text = text.rstrip(_PADDING)
    if "\\" in text and vr not in _SINGLE:
        return tuple(_bare(vr, part.rstrip(_PADDING)) for part in text.split("\\"))
    text = _bare(vr, text)
    return (text,) if text else ()


def _bare(vr: str, text: str) -> str:
    return text.lstrip(" ") if vr in _LEADING else text


def _numbers(code: str, value: bytes, big: bool) -> tuple[str, ...]:
    if len(value) % _SIZES[code]:
        return ()
    return tuple(str(number) for (number,) in iter_unpack((">" if big else "<") + code, value))


def _tags(value: bytes, big: bool) -> tuple[str, ...]:
    if len(value) % 4:
        return ()
    return tuple(f"({group:04X},{element:04X})" for group, element in iter_unpack(">HH" if big else "<HH", value))


def _unknown(value: bytes) -> tuple[str, ...]:
    """A value of unknown VR, if it is nothing but printable ASCII: private text that passed implicit VR."""
    text = value.rstrip(b" \0")
    if not all(0x20 <= byte < 0x7F for byte in text):
        return ()
    return _split("LO", text.decode("ascii"))


@lru_cache(maxsize=1024)
def dictionary_vr(tag: int, creator: str) -> str:
    """The VR of an element by the data dictionary; `creator` counts for private ones. "UN" where nobody knows.

    May be one of the dictionary's choices, like "US or SS".
    """
    from pydicom.datadict import dictionary_VR, private_dictionary_VR

    if not tag & 0xFFFF:
        return "UL"
    private = tag >> 16 & 1
    if private and 0x10 <= tag & 0xFFFF <= 0xFF:
        return "LO"  # the private creator itself
    try:
        return str(private_dictionary_VR(tag, creator) if private else dictionary_VR(tag))
    except KeyError:
        return "UN"
