"""Steps that move elements as they are: copy, move, delete.

Guarantees: a value that is copied between attributes of the same VR keeps its bytes, a sequence all of its items; what
has another VR there is converted as text and has to fit. Pixel data are never touched.
Failures: `Refused`.
"""

from __future__ import annotations

from collections.abc import Callable

from asyncroute.core.coercion import Delete, Transfer
from asyncroute.transform import fits
from asyncroute.transform.editing import Editing, Place, name_of, vr_of
from asyncroute.transform.level import Entry, Level
from asyncroute.transform.tail import Drops

Run = Callable[[Editing], None]
_PIXEL_GROUP = 0x7FE0


def transfer_step(spec: Transfer) -> Run:
    """``copy`` and ``move``: nothing happens where there is nothing to copy."""

    def run(e: Editing) -> None:
        found = next(((p, entry) for p in e.places(spec.source) if (entry := p[0].get(p[1])) is not None), None)
        if found is None:
            return
        for place in list(e.reserve(spec.target)):
            _transfer(e, spec, found[0], found[1], place)
        if spec.move:
            level, tag, name = found[0]
            e.changed(name, e.show(level, tag, found[1]), None)
            level.drop(tag)

    return run


def _transfer(e: Editing, spec: Transfer, source: Place, entry: Entry, target: Place) -> None:
    level, tag, name = target
    old = level.get(tag)
    vr = spec.target.vr or vr_of(tag)
    vr = old.vr if old and old.vr != "UN" else (vr if " or " not in vr else level.either(vr))
    given = source[0].meaning(source[1], entry)
    if entry == old:
        return
    if vr in (entry.vr, given, "UN") or (given == "UN" and vr not in fits.TEXT):
        same = source[0].encoding is level.encoding and source[0].character_set == level.character_set
        if same or (given != "SQ" and entry.value.isascii() and b"\x1b" not in entry.value):
            level.put(tag, entry if not level.encoding.implicit else entry._replace(vr=vr))
            e.changed(name, e.show(level, tag, old), e.show(level, tag, entry))
            return
    new = e.text(source[0], source[1], entry, source[2])
    e.write(level, tag, name, new, vr, (old, e.show(level, tag, old) or "") if old else None)


def delete_step(spec: Delete) -> Run:
    """``delete``: attributes, groups, all private elements."""
    if spec.target is not None:
        target = spec.target

        def run(e: Editing) -> None:
            for level, tag, name in e.places(target, spec.everywhere):
                _drop(e, level, tag, name)

        return run

    def run_many(e: Editing) -> None:
        for level in list(e.top.levels()) if spec.private or spec.everywhere else [e.top]:
            for tag in level.tags():
                if tag >> 16 & 1 if spec.private else tag >> 16 == spec.group:
                    _drop(e, level, tag, name_of(tag))

    return run_many


def _drop(e: Editing, level: Level, tag: int, name: str) -> None:
    entry = level.get(tag)
    if entry is not None:
        e.changed(name, e.show(level, tag, entry), None)
        level.drop(tag)


def dropped_behind(spec: Delete) -> Drops | None:
    """What a ``delete`` drops behind the pixel data; None: nothing."""
    if spec.private:
        return Drops(lambda tag, creator: bool(tag >> 16 & 1), lambda group: bool(group & 1))
    step = spec.target.path[0] if spec.target is not None else None
    group = step.tag >> 16 if step is not None else spec.group or 0
    if group <= _PIXEL_GROUP or (spec.target is not None and len(spec.target.path) > 1):
        return None
    shrinks = group.__eq__
    if step is None:
        return Drops(lambda tag, creator: tag >> 16 == group, shrinks)
    if step.creator:
        return Drops(lambda tag, creator: creator == step.creator and tag & 0xFFFF00FF == step.tag, shrinks)
    return Drops(lambda tag, creator: tag == step.tag, shrinks)
