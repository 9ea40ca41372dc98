"""Steps that write text: set, fill, prefix, suffix, replace, upper, lower, strip, pad, truncate, map.

Guarantees: several values of an attribute are treated one by one, empty ones are left empty (but by set and fill); a
step that would write what is there already writes nothing.
Failures: `Refused`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from asyncroute.core.coercion import Affix, Alter, Lookup, Replace, Set, Template
from asyncroute.transform import fits
from asyncroute.transform.base import Refused
from asyncroute.transform.editing import Editing, vr_of
from asyncroute.transform.level import Entry, Level
from asyncroute.wire import charset

Run = Callable[[Editing], None]


def set_step(spec: Set) -> Run:
    """``set`` and ``fill``."""
    target, vr = spec.target, spec.target.vr or vr_of(spec.target.path[-1].tag)
    constant = constant_of(spec.value)

    def run(e: Editing) -> None:
        new = e.render(spec.value) if constant is None else constant
        if spec.empty_only and not new:
            return
        for level, tag, name in e.places(target, True) if spec.everywhere else e.reserve(target):
            entry = level.get(tag)
            was = _readable(e, level, tag, entry, name, vr) if entry is not None else None
            if spec.empty_only and was is not None and not _is_empty(*was):
                continue
            if was is None or was != (entry, new):
                e.write(level, tag, name, new, vr, was)

    return run


def _readable(e: Editing, level: Level, tag: int, entry: Entry, name: str, vr: str) -> tuple[Entry, str]:
    """What is there and its text; of what has none: as it is shown, in an element that takes the text of this VR."""
    try:
        return entry, e.text(level, tag, entry, name, vr)
    except Refused:
        coded = entry.vr if entry.vr in fits.TEXT else vr if " or " not in vr else level.either(vr)
        return entry._replace(vr=coded, undefined=False), e.show(level, tag, entry) or ""


def _is_empty(entry: Entry, text: str) -> bool:
    """Whether there is no value: nothing, spaces, or several that are all nothing."""
    return not text.strip() or (entry.vr not in fits.SINGLE and not text.strip("\\ "))


def affix_step(spec: Affix) -> Run:
    """``prefix`` and ``suffix``."""
    target, front, once = spec.target, spec.front, spec.once
    constant = constant_of(spec.value)

    def one(value: str, affix: str) -> str:
        if not value:
            return value
        if front:
            return value if once and value.startswith(affix) else affix + value
        return value if once and value.endswith(affix) else value + affix

    def run(e: Editing) -> None:
        affix = e.render(spec.value) if constant is None else constant
        for level, tag, name in e.places(target, spec.everywhere):
            entry = level.get(tag)
            if entry is None:
                continue
            before = e.text(level, tag, entry, name)
            several = "\\" in before and entry.vr not in fits.SINGLE
            new = "\\".join([one(v, affix) for v in before.split("\\")]) if several else one(before, affix)
            if new != before:
                raw = None if several or entry.value.isascii() else _spliced(entry, affix, front)
                e.write(level, tag, name, new, "", (entry, before), raw)

    return run


def _spliced(entry: Entry, affix: str, front: bool) -> bytes | None:
    """The value with its own bytes kept; None where code extensions are in force at its end, or come."""
    if not affix.isascii() or "\x1b" in affix or (b"\x1b" in entry.value and not front):
        return None
    raw = entry.value.rstrip(b" \0")
    return affix.encode("ascii") + raw.lstrip(b" ") if front else raw + affix.encode("ascii")


def replace_step(spec: Replace) -> Run:
    """``replace``."""
    pattern = re.compile(spec.old) if spec.regex else None
    # Values in the place of a regular expression are text, not references to groups.
    parts = [piece if isinstance(piece, str) else (piece,) for piece in spec.value]

    def one(e: Editing, value: str) -> str:
        if pattern is None:
            return value.replace(spec.old, e.render(spec.value))
        made = "".join(part if isinstance(part, str) else e.render(part).replace("\\", "\\\\") for part in parts)
        return _substituted(pattern, made, value)

    return _each(spec, lambda e, _, value: one(e, value))


def _substituted(pattern: re.Pattern[str], made: str, value: str) -> str:
    """As ``pattern.sub``, but nothing is put where a match just ended: ``.*`` matches there once more, for nobody."""
    ended = -1

    def one(match: re.Match[str]) -> str:
        nonlocal ended
        again, ended = match.start() == match.end() == ended, match.end()
        return "" if again else match.expand(made)

    return pattern.sub(one, value)


def alter_step(spec: Alter) -> Run:
    """``upper``, ``lower``, ``strip``, ``pad``, ``truncate``."""
    if spec.kind == "strip":
        return _strip_step(spec)
    size, fill = spec.size, spec.fill
    changes: dict[str, Callable[[str], str]] = {
        "upper": str.upper,
        "lower": str.lower,
        "pad": lambda value: value.rjust(size, fill) if spec.right else value.ljust(size, fill),
        "truncate": lambda value: value[:size],
    }
    one = changes[spec.kind]
    return _each(spec, lambda e, vr, value: one(value))


def _strip_step(spec: Alter) -> Run:
    """Also of spaces that mean nothing, which other steps do not see."""
    others = _each(spec, lambda e, _, value: value.strip())

    def run(e: Editing) -> None:
        others(e)
        for level, tag, name in e.places(spec.target, spec.everywhere):
            entry = level.get(tag)
            if entry is None or not _is_padded(entry):
                continue
            text = e.text(level, tag, entry, name)
            value, _ = e.fitted(level, entry.vr, name, text, False, None)
            if value != entry.value:
                level.put(tag, entry._replace(value=value))
                e.changed(name, charset.decode(entry.value, level.codecs, name=entry.vr == "PN"), text)

    return run


def _is_padded(entry: Entry) -> bool:
    """Whether there are spaces, or may be, around a value beyond what makes its length even."""
    raw = entry.value
    if entry.vr not in fits.TEXT or entry.vr in fits.SINGLE:
        return entry.vr in fits.SINGLE and raw.endswith(b"  ")
    return raw.startswith(b" ") or raw.endswith(b"  ") or b"\\ " in raw or b" \\" in raw


def map_step(spec: Lookup) -> Run:
    """``map``."""

    def one(e: Editing, name: str, value: str) -> str:
        key = e.render(spec.key) if spec.key is not None else value
        found = spec.table.get(key)
        if found is None and spec.default is not None:
            return e.render(spec.default)
        if found is None and spec.missing == "hold":
            raise e.refused(name, f"there is no entry for {key!r}")
        return value if found is None else found

    if spec.key is None:
        return _each(spec, one)
    return _whole(spec, one)


Change = Callable[[Editing, str, str], str]


def _each(spec: Replace | Alter | Lookup, change: Change) -> Run:
    """Changes every value that is not empty by `change(editing, name, value)`."""

    def run(e: Editing) -> None:
        for level, tag, name in e.places(spec.target, spec.everywhere):
            entry = level.get(tag)
            if entry is None:
                continue
            before = e.text(level, tag, entry, name)
            several = "\\" in before and entry.vr not in fits.SINGLE
            values = before.split("\\") if several else [before]
            new = "\\".join([change(e, name, value) if value else value for value in values])
            if new != before:
                e.write(level, tag, name, new, "", (entry, before))

    return run


def _whole(spec: Lookup, change: Change) -> Run:
    """Writes the attribute, whether it is there or not."""
    vr = spec.target.vr or vr_of(spec.target.path[-1].tag)

    def run(e: Editing) -> None:
        for level, tag, name in e.places(spec.target, True) if spec.everywhere else e.reserve(spec.target):
            entry = level.get(tag)
            before = e.text(level, tag, entry, name, vr) if entry else ""
            new = change(e, name, before)
            if new != before:
                e.write(level, tag, name, new, vr, (entry, before) if entry else None)

    return run


def constant_of(template: Template) -> str | None:
    """The text of a template that names nothing."""
    if not template:
        return ""
    return template[0] if len(template) == 1 and isinstance(template[0], str) else None
