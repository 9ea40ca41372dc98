"""Values of a transform's steps: text with attributes, facts and functions in braces.

``"{PatientID}^{calling_aet}"``, ``"ACC{hash(StudyInstanceUID, 12)}"``; ``{{`` and ``}}`` are braces. Where an
expression is asked for (``from``), one name or function stands without them.
Guarantees: what is returned names attributes that have text, facts that exist and functions with right arguments.
Failures: ValueError that names the nearest known word.
"""

from __future__ import annotations

import re

from asyncroute.config.attributes import PIXELS, Attribute, find_path
from asyncroute.config.words import Invalid, did_you_mean, quote
from asyncroute.core import coercion

FUNCTIONS = ("hash", "crc32", "uid")
_PIECES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_CALL = re.compile(r"([A-Za-z_]\w*)\((.*)\)", re.DOTALL)
_MOST_DIGITS = 64


def template(text: str) -> coercion.Template:
    """The template that `text` is."""
    pieces: list[str | coercion.Target | coercion.Fact | coercion.Function] = []
    for found in _PIECES.finditer(text):
        whole, name = found[0], found[1]
        if whole in ("{", "}"):
            raise Invalid(f"has braces that do not match in {quote(text)}")
        piece = whole[0] if whole in ("{{", "}}") else whole if name is None else _piece(name)
        if isinstance(piece, str) and pieces and isinstance(pieces[-1], str):
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return tuple(pieces)


def expression(text: str) -> coercion.Template:
    """One attribute, fact or function; or a template, if there are braces in it."""
    if "{" in text or "}" in text:
        return template(text)
    return (_piece(text),)


def target_of(attribute: Attribute) -> coercion.Target:
    """As the steps know it."""
    return coercion.Target(attribute.path, attribute.name, attribute.vr)


def _piece(name: str) -> coercion.Target | coercion.Fact | coercion.Function:
    called = _CALL.fullmatch(name)
    if called and not name.startswith("("):
        return _function(name, called[1], called[2])
    return _value(name)


def _value(name: str) -> coercion.Target | coercion.Fact:
    if name in coercion.FACTS:
        return coercion.Fact(name)
    try:
        found = find_path(name.strip(), also=coercion.FACTS)
    except ValueError as error:
        raise Invalid(f"{quote('{' + name + '}')}: {error}") from None
    if found.opaque and found.vr != "AT":
        raise Invalid(f"{quote('{' + name + '}')}: {found.name} has no value that is text")
    if found.path[0].tag >= PIXELS:
        raise Invalid(f"{quote('{' + name + '}')}: {found.name} stands behind the header: no step can read it")
    return target_of(found)


def _function(text: str, name: str, arguments: str) -> coercion.Function:
    if name not in FUNCTIONS:
        there_is = f"; there is {', '.join(FUNCTIONS)}"
        raise Invalid(f"has the unknown function {quote(name)}{did_you_mean(name, FUNCTIONS, there_is)}")
    of, size = arguments.strip(), 0
    if name == "hash":
        of, comma, digits = (part.strip() for part in arguments.rpartition(","))
        if not comma or not (digits.isascii() and digits.isdigit() and 1 <= int(digits) <= _MOST_DIGITS):
            raise Invalid(f"has {quote(text)}: write hash(X, N) with N hexadecimal digits, 1..{_MOST_DIGITS}")
        size = int(digits)
    if not of:
        raise Invalid(f"has {quote(text)}, of what?")
    return coercion.Function(name, _value(of), size)
