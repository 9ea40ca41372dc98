"""Values in transforms: templates (``"{PatientID}^{calling_aet}"``) and single values (``crc32(StudyInstanceUID)``).

In braces stands an attribute (`asyncroute.config.attributes`), a fact (``calling_aet``, ...), or a function of one:
``hash(X, n)``: n hexadecimal digits of it (SHA-256; of HMAC-SHA-256 with the transform's secret, where it has one);
``crc32(X)``: an unsigned decimal number; ``uid(X)``: a UID below 2.25. ``{{`` and ``}}`` are braces.
Failures: ValueError with a text that follows the key's name.
"""

from __future__ import annotations

import re
from typing import Literal, cast

from asyncroute.config.attributes import find_path
from asyncroute.config.words import Invalid, did_you_mean, quote, show
from asyncroute.core.coercion import FACTS, Template, Value
from asyncroute.core.paths import Path

LONGEST_HASH = 64
FUNCTIONS = ("hash", "crc32", "uid")

_CALL = re.compile(r"([A-Za-z_]\w*)\((.*)\)", re.DOTALL)
_PIECES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|([{}])")


def parse_value(text: object) -> Value:
    """An attribute, a fact, or a function of one, without braces."""
    if not isinstance(text, str) or not text.strip():
        raise Invalid(f"must be an attribute or a function of one, such as {quote('PatientID')}, not {show(text)}")
    text = text.strip()
    call = _CALL.fullmatch(text)
    if call is None or text.startswith("("):
        return Value(_source(text))
    name, argument = call[1], call[2]
    if name not in FUNCTIONS:
        raise Invalid(f"unknown function {quote(name)}{did_you_mean(name, FUNCTIONS, '; there is hash, crc32, uid')}")
    return _hash(argument) if name == "hash" else Value(_source(argument), cast(Literal["crc32", "uid"], name))


def _hash(argument: str) -> Value:
    source, comma, number = argument.rpartition(",")
    if not comma or not number.strip().isdecimal():
        raise Invalid("hash needs how many characters it should have: hash(StudyInstanceUID, 16)")
    length = int(number)
    if not 4 <= length <= LONGEST_HASH:
        raise Invalid(f"hash can have 4..{LONGEST_HASH} characters, not {length}")
    return Value(_source(source), "hash", length)


def _source(name: str) -> Path | str:
    name = name.strip()
    if name in FACTS:
        return name
    return find_path(name, FACTS).path


def parse_template(text: object) -> Template:
    """Text with values in braces."""
    if not isinstance(text, str):
        raise Invalid(f"must be text in quotes, not {show(text)}")
    parts: list[str | Value] = []
    at = 0
    for found in _PIECES.finditer(text):
        parts.append(text[at : found.start()])
        at = found.end()
        if found[2]:
            raise Invalid(f"has braces that do not match in {quote(text)}; a brace itself is written twice")
        if found[1] is None:
            parts.append(found[0][0])
            continue
        try:
            parts.append(parse_value(found[1]))
        except ValueError as error:
            raise Invalid(f"{{{found[1]}}}: {error}") from None
    parts.append(text[at:])
    return _joined(parts)


def _joined(parts: list[str | Value]) -> Template:
    made: list[str | Value] = []
    for part in parts:
        if isinstance(part, str) and made and isinstance(made[-1], str):
            made[-1] += part
        elif part != "":
            made.append(part)
    return tuple(made)
