"""Text to the bytes of a data set's character sets (PS3.3 §C.12.1.1.2, PS3.5 §6.1, §6.2).

Guarantees: what `encoded` gives is read back as the same text, also by `wire.charset`; nothing is replaced. Without a
Specific Character Set only ASCII can be written.
Failures: `Unrepresentable`.
"""

from __future__ import annotations

import re
from functools import lru_cache

from asyncroute.wire import charset

_ALONE = frozenset({"UTF8", "GB18030", "GBK"})
_UNDECLARED = "iso8859"  # pydicom's name for the default repertoire, which is ISO-IR 6
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
    """Text between two characters at which code extensions end."""
    from pydicom.charset import encode_string

    if text.isascii():
        return text.encode("ascii")
    for c in text:
        if not c.isascii() and not any(_has(codec, c) for codec in codecs):
            raise UnicodeError(c)
    return encode_string(text, [codec for codec in codecs if codec != _UNDECLARED] or list(codecs))


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
