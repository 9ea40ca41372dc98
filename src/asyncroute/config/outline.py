"""The little of a configuration that commands need which look at what a router left: where it is, and who is who.

Purpose: to read it takes a tenth of the time of the whole configuration, and works while somebody edits the rest.
Guarantees: what `read` gives is what `of` gives for the same file, as far as that can be loaded; what is not written
plainly is not guessed. Failures: none; `read` gives None for whatever needs a closer look.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from asyncroute.config.places import DATA_DIR, placed
from asyncroute.config.units import DAY, parse_duration

if TYPE_CHECKING:
    from asyncroute.config.model import Config

_DURABILITY = ("power-loss", "process-crash")
_KINDS = ("dicom", "folder")
_HISTORY = 30 * DAY


class Watched(NamedTuple):
    """A ``[[watch]]``."""

    name: str
    mode: str
    paths: tuple[str, ...]


class Outline(NamedTuple):
    """See module. ``file``: empty for the embedded default. ``history``: seconds. ``destinations``: {name: kind}.

    ``tiers``: the archive's; none: there is no archive.
    """

    file: str
    name: str
    data_dir: Path
    durability: str
    history: float
    destinations: Mapping[str, str]
    groups: tuple[str, ...]
    watches: tuple[Watched, ...]
    tiers: tuple[Path, ...]


def of(config: Config) -> Outline:
    """That of a whole configuration."""
    node = config.node
    return Outline(
        str(config.path or ""),
        node.name,
        node.data_dir,
        node.durability,
        node.history,
        {each.name: each.kind for each in config.destinations},
        tuple(each.name for each in config.groups),
        tuple(Watched(each.name, each.mode, tuple(map(str, each.bases))) for each in config.watches),
        tuple(each.path for each in config.archive.tiers) if config.archive is not None else (),
    )


def embedded(data_dir: Path) -> Outline:
    """That of ``loading.embedded_default``."""
    return Outline("", "asyncroute", data_dir, _DURABILITY[0], _HISTORY, {"images": "folder"}, (), (), ())


def read(file: Path) -> Outline | None:
    """That of the file at this absolute path; None: it takes a closer look to tell."""
    try:
        return _outline(file, tomllib.loads(file.read_text("utf-8-sig")))
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RuntimeError, RecursionError):
        return None


def _outline(file: Path, raw: Mapping[str, Any]) -> Outline:
    """Raises whatever, where something is not plain."""
    node, base = raw.get("node", {}), file.parent
    durability, history = node.get("durability", _DURABILITY[0]), node.get("history")
    archive = raw.get("archive")
    tiers = [placed(base, each["path"]) for each in archive["tiers"]] if archive is not None else []
    if durability not in _DURABILITY or (archive is not None and not tiers):
        raise ValueError
    return Outline(
        str(file),
        _text(node.get("name", "asyncroute")),
        placed(base, node.get("data_dir", str(DATA_DIR))),
        durability,
        parse_duration(history) if history is not None else _HISTORY,
        {_text(each["name"]): _kind(each["kind"]) for each in raw["destination"]},
        tuple(_text(each["name"]) for each in raw.get("group", ())),
        tuple(_watched(base, each) for each in raw.get("watch", ())),
        tuple(tiers),
    )


def _watched(base: Path, raw: Mapping[str, Any]) -> Watched:
    written, below = raw.get("paths") or [raw["path"]], raw.get("subfolder") or ""
    if not isinstance(written, list):
        raise TypeError
    paths = (placed(base, each) / below for each in written)
    mode = _text(raw.get("mode", "stream"))
    if mode not in ("stream", "batch"):
        raise ValueError
    return Watched(_text(raw["name"]), mode, tuple(map(os.path.normpath, paths)))


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError
    return value


def _kind(value: object) -> str:
    if value not in _KINDS:
        raise ValueError
    return str(value)
