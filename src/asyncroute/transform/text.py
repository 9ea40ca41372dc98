"""Text to the bytes of a data set's character sets (PS3.3 §C.12.1.1.2, PS3.5 §6.1, §6.2).

Guarantees: what `encoded` gives is read back as the same text, also by `wire.charset`; nothing is replaced. Without a
Specific Character Set only ASCII can be written.
Failures: `Unrepresentable`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from asyncroute.wire import charset

_ALONE = frozenset({"UTF8", "GB18030", "GBK"})
_UNDECLARED = "iso8859"  # pydicom's name for the default repertoire, which is ISO-IR 6
_OF_G0 = frozenset({"iso2022_jp", "iso2022_jp_2"})
_PARTS = {True: re.compile(r"([\\^=])"), False: re.compile(r"([\\\t\n\f\r])")}


class Unrepresentable(ValueError):
    """The character sets do not have all of these characters."""


def decoded(value: bytes, codecs: tuple[str, ...], name: bool) -> str | None:
    """The text of `value`; None if it has bytes that are no characters there. `name`: of a person."""
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii")
    text = charset.decode(value, codecs, name=name)
    return None if "\ufffd" in text else text


def encoded(text: str, codecs: tuple[str, ...], name: bool) -> bytes:
    """`text` in these character sets, without padding. Raises `Unrepresentable`."""
    if text.isascii():
        return text.encode("ascii")
    return _encoded(text, codecs, name)


@lru_cache(maxsize=1024)
def _encoded(text: str, codecs: tuple[str, ...], name: bool) -> bytes:
    try:
        if len(codecs) == 1 and codecs[0] in _ALONE:
            value = text.encode(codecs[0])
        else:
            value = b"".join(_part(part, codecs) for part in _PARTS[name].split(text))
    except UnicodeError:
        raise Unrepresentable(_missing(text, codecs)) from None
    if charset.decode(value, codecs, name=name) != text:
        raise Unrepresentable(_missing(text, codecs))
    return value


def replaced(text: str, codecs: tuple[str, ...]) -> str:
    """The text with a question mark for every character that cannot be written."""
    return "".join(c if c.isascii() or any(_has(codec, c) for codec in codecs) else "?" for c in text)


def _part(text: str, codecs: tuple[str, ...]) -> bytes:
    """Text between two characters at which code extensions end, with the escape sequences that it needs.

    One set of G0 has to be left again before ASCII and at the end; those of G1 have ASCII beside them (PS3.5 §6.1.2.5).
    """
    from pydicom.charset import ENCODINGS_TO_CODES

    if text.isascii():
        return text.encode("ascii")
    out: list[bytes] = []
    state = codecs[0]
    back = b"\x1b(J" if codecs[0] == "shift_jis" else b"\x1b(B"
    for codec, run in _runs(text, codecs):
        if codec is None:
            out += [back] if state in _OF_G0 else []
            state = codecs[0] if state in _OF_G0 else state
            out.append(run.encode("ascii"))
            continue
        if codec != state:
            out.append(ENCODINGS_TO_CODES[codec])
            state = codec
        out.append(_bytes(run, codec))
    return b"".join(out) + (back if state in _OF_G0 else b"")


def _runs(text: str, codecs: tuple[str, ...]) -> Iterator[tuple[str | None, str]]:
    """The text in pieces of one codec each; None: ASCII. Raises UnicodeError for a character that none has."""
    last: str | None = None
    run = ""
    for c in text:
        codec = None if c.isascii() else _codec(c, last, codecs)
        if codec != last and run:
            yield last, run
            run = ""
        last, run = codec, run + c
    yield last, run


def _codec(c: str, last: str | None, codecs: tuple[str, ...]) -> str:
    """One that has this character, best the one in force."""
    if last is not None and _has(last, c):
        return last
    for codec in codecs:
        if _has(codec, c):
            return codec
    raise UnicodeError(c)


def _bytes(text: str, codec: str) -> bytes:
    """Without escape sequences."""
    from pydicom.charset import ENCODINGS_TO_CODES, custom_encoders

    if codec not in custom_encoders:
        return text.encode(codec)
    value: bytes = custom_encoders[codec](text, errors="strict")
    return value.removeprefix(ENCODINGS_TO_CODES[codec])


@lru_cache(maxsize=4096)
def _has(codec: str, character: str) -> bool:
    from pydicom.charset import custom_encoders

    if codec == _UNDECLARED:
        return character.isascii()
    try:
        if codec in custom_encoders:
            custom_encoders[codec](character, errors="strict")
        else:
            character.encode(codec)
    except UnicodeError:
        return False
    return True


def _missing(text: str, codecs: tuple[str, ...]) -> str:
    missing = [c for c in dict.fromkeys(text) if not c.isascii() and not any(_has(codec, c) for codec in codecs)]
    what = " ".join(missing[:5]) if missing else text
    return f"{what!r} cannot be written in the image's character set ({', '.join(codecs)})"
