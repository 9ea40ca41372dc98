"""Text from and to bytes by Specific Character Set (0008,0005), code extensions of ISO 2022 included (PS3.5 §6.1).

Guarantees: what is written reads back as the same characters, by `wire.charset` and by readers that do not go back to
the initial character set at delimiters; nothing is ever replaced, and the character set is never changed. Without a
Specific Character Set only ASCII can be written.
Failures: `Unrepresentable`, with the first character that the character set does not have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from asyncroute.wire import charset

_JIS_ROMAN = b"\x1b(J"  # the initial G0 of ISO_IR 13
_ASCII = b"\x1b(B"
_KATAKANA = "shift_jis"
# What designates a set (PS3.3 tables C.12-3 and C.12-4). Those of two bytes that go to G0 are written in 7 bits.
_TO_G0 = {"iso2022_jp": b"\x1b$B", "iso2022_jp_2": b"\x1b$(D"}
_PAIRS_TO_G1 = {"euc_kr": b"\x1b$)C", "iso_ir_58": b"\x1b$)A", "GB2312": b"\x1b$)A"}
_NAME_RUNS = re.compile(r"[\\^=\t\n\f\r]|[^\\^=\t\n\f\r\x80-\U0010ffff]+|[\x80-\U0010ffff]+")
_TEXT_RUNS = re.compile(r"[\\\t\n\f\r]|[^\\\t\n\f\r\x80-\U0010ffff]+|[\x80-\U0010ffff]+")
_C1 = re.compile(r"[\x80-\x9f]")
_NAME_RESETS = frozenset("\\^=\t\n\f\r")
_TEXT_RESETS = frozenset("\\\t\n\f\r")


class Unrepresentable(ValueError):
    """The character set does not have this character."""

    def __init__(self, character: str, specific_character_set: bytes) -> None:
        where = _name_of(specific_character_set)
        super().__init__(f"{character!r} cannot be written in the image's character set ({where})")


@dataclass(frozen=True, slots=True)
class _Set:
    """One character set that can be in use: a Python codec and what brings it to G0 or G1."""

    codec: str
    escape: bytes
    left: bool
    """It goes to G0, in place of ASCII."""


@dataclass(frozen=True, slots=True)
class _Repertoire:
    """What (0008,0005) allows to write."""

    alone: str | None
    """The codec of a set that knows no code extensions."""
    single: str | None
    """The codec if there is but one set, of single bytes."""
    initial: _Set | None
    """What is in G1 at the beginning; None: nothing."""
    sets: tuple[_Set, ...]
    back: bytes
    """What brings the initial G0 back."""


class _Missing(ValueError):
    """A character that is in none of the sets."""


def decoded(value: bytes, codecs: tuple[str, ...], name: bool) -> str | None:
    """The text of `value`; None if it has bytes that are no characters there. `name`: of a person."""
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii")
    text = charset.decode(value, codecs, name=name)
    return None if "\ufffd" in text else text


def encoded(text: str, specific_character_set: bytes, name: bool) -> bytes:
    """The bytes of ``text``, without padding, under the raw value of (0008,0005).

    ``name``: a person name, where ^ and = are delimiters too (PS3.5 §6.1.2.5.3). A backslash is taken as a delimiter
    by some readers and not by others, so both read what follows it.

    Raises:
        Unrepresentable: a character is in none of the sets; the escape character is in no set.
    """
    if text.isascii() and "\x1b" not in text:
        return text.encode("ascii")
    try:
        return _encoded(text, _repertoire(specific_character_set), name)
    except _Missing as missing:
        raise Unrepresentable(str(missing), specific_character_set) from None


def _name_of(specific_character_set: bytes) -> str:
    """For people: ``ISO_IR 100``."""
    terms = charset.terms_of(specific_character_set)
    return "\\".join(terms)[:80] if any(terms) else "ISO_IR 6"


def _encoded(text: str, repertoire: _Repertoire, name: bool) -> bytes:
    if "\x1b" in text:
        raise _Missing("\x1b")
    if repertoire.alone is not None:
        return _whole(text, repertoire.alone)
    if repertoire.single is not None:
        return _single(text, repertoire.single)
    return _Writer(repertoire).run(text, name)


def _whole(text: str, codec: str) -> bytes:
    try:
        raw = text.encode(codec)
    except UnicodeEncodeError as error:
        raise _Missing(text[error.start]) from None
    if raw.decode(codec) != text:
        raise _Missing(next(char for char in text if char.encode(codec).decode(codec) != char))
    return raw


def _single(text: str, codec: str) -> bytes:
    """One set of single bytes: 0x80 to 0x9F are control characters, whatever Python's codec says."""
    if control := _C1.search(text):
        raise _Missing(control[0])
    return _whole(text, codec)


class _Writer:
    """Writes one text with code extensions.

    Readers disagree on what ends a designation in G1: by the standard every delimiter does, for many only the next
    one. So both states are kept, and a set is designated again where either reader would not have it.
    """

    __slots__ = ("_extended", "_left", "_out", "_repertoire", "_reset", "_stays")

    def __init__(self, repertoire: _Repertoire) -> None:
        self._repertoire = repertoire
        self._out = bytearray()
        self._left: _Set | None = None  # what is in G0; None: the initial one
        self._reset = repertoire.initial  # what is in G1 for readers by the standard
        self._stays = repertoire.initial  # ... and for those that know no delimiters

    def run(self, text: str, name: bool) -> bytes:
        resets = _NAME_RESETS if name else _TEXT_RESETS
        for part in (_NAME_RUNS if name else _TEXT_RUNS).findall(text):
            if not part.isascii():
                for char in part:
                    self._char(char)
                continue
            self._back()
            self._out += part.encode("ascii")
            if part in resets:
                self._reset = self._repertoire.initial
        self._back()
        return bytes(self._out)

    def _char(self, char: str) -> None:
        for candidate in self._repertoire.sets:
            raw = _bytes_of(char, candidate.codec)
            if raw is not None:
                break
        else:
            raise _Missing(char)
        if candidate.left:
            self._to_left(candidate)
        else:
            self._to_right(candidate)
        self._out += raw

    def _to_left(self, wanted: _Set) -> None:
        if self._left != wanted:
            self._out += wanted.escape
            self._left = wanted

    def _to_right(self, wanted: _Set) -> None:
        self._back()
        if self._reset != wanted or self._stays != wanted:
            self._out += wanted.escape
            self._reset = self._stays = wanted

    def _back(self) -> None:
        """The initial G0 again. Many readers then take G1 to be Latin-1, so nothing is relied on to be there."""
        if self._left is not None:
            self._out += self._repertoire.back
            self._left = self._reset = self._stays = None


@lru_cache(maxsize=1 << 14)
def _bytes_of(char: str, codec: str) -> bytes | None:
    """A character outside of ASCII in one set, without its escape sequence; None if it is not in there."""
    try:
        raw = char.encode(codec)
    except UnicodeEncodeError:
        return None
    escape = _TO_G0.get(codec)
    if escape is not None:
        # Python's codecs know more sets than the one that is meant, and go back to ASCII at the end.
        return raw[len(escape) : -3] if raw.startswith(escape) and raw.endswith(_ASCII) else None
    size = 2 if codec in _PAIRS_TO_G1 else 1
    return raw if len(raw) == size and min(raw) >= 0xA0 else None


@lru_cache(maxsize=256)
def _repertoire(specific_character_set: bytes) -> _Repertoire:
    terms = charset.terms_of(specific_character_set)
    first = charset.codec_of(terms[0])
    if first in charset.ALONE:
        return _Repertoire(first, None, None, (), _ASCII)
    found = [_set_of(term) for term in terms]
    sets = tuple(dict.fromkeys(one for one in found if one is not None))
    initial = found[0]
    if initial is not None and (initial.left or initial.codec in _PAIRS_TO_G1):
        initial = None  # not allowed as the first one; readers look for its escape sequence
    single = initial.codec if initial and len(sets) == 1 and initial.codec != _KATAKANA else None
    return _Repertoire(None, single, initial, sets, _JIS_ROMAN if first == _KATAKANA else _ASCII)


def _set_of(term: str) -> _Set | None:
    """The set besides ASCII that a defined term stands for; None if there is none, or nobody knows the term."""
    from pydicom.charset import ENCODINGS_TO_CODES, default_encoding

    codec = charset.codec_of(term)
    if codec is None or codec == default_encoding or codec in charset.ALONE or term.upper() == "ASCII":
        return None
    escape = _TO_G0.get(codec) or _PAIRS_TO_G1.get(codec) or ENCODINGS_TO_CODES[codec]
    return _Set(codec, escape, codec in _TO_G0)
