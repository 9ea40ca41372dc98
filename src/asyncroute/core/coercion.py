"""What a transform does, as data: steps in order, values made of templates.

Plain and frozen, so that a plan can be compared (did a reload change it?) and sent to another process. How a step is
carried out is `asyncroute.transform.steps`' matter; a new kind of step is one class here, one table in
`asyncroute.config.steps`, one function there. Guarantees and failures: none of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from asyncroute.core.paths import Path

FACTS = ("calling_aet", "called_aet", "listener", "peer", "watch", "route", "destination")
"""What a template may name besides attributes."""

Misfits = Literal["hold", "truncate", "pass"]


@dataclass(frozen=True, slots=True)
class Value:
    """One ``{...}`` of a template: an attribute or a fact, or a function of one."""

    source: Path | str
    function: Literal["", "hash", "crc32", "uid"] = ""
    length: int = 0
    """Characters of a ``hash``."""


Template = tuple[str | Value, ...]
"""Literal text and values, joined."""


@dataclass(frozen=True, slots=True)
class Write:
    """``set``, ``fill`` (``if_empty``): an attribute gets a value."""

    attribute: Path
    value: Template
    if_empty: bool = False
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Affix:
    """``prefix``, ``suffix``: text before or behind what is there, if anything is; ``once``: unless it is there."""

    attribute: Path
    text: Template
    before: bool
    once: bool = True
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Replace:
    """``replace``: every occurrence of a text, or of a pattern (with groups)."""

    attribute: Path
    find: str
    by: str
    regex: bool = False
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """``upper``, ``lower``, ``strip``, ``pad``, ``truncate``."""

    attributes: tuple[Path, ...]
    how: Literal["upper", "lower", "strip", "pad", "truncate"]
    length: int = 0
    fill: str = " "
    left: bool = False
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Copy:
    """``copy``, ``move``."""

    source: Path
    target: Path
    move: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """``delete``: attributes, whole groups, all private attributes; wherever they stand, if ``everywhere``."""

    attributes: tuple[Path, ...] = ()
    groups: frozenset[int] = frozenset()
    private: bool = False
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """``map``: what a table says of a value. ``missing``: where it says nothing."""

    attribute: Path
    key: Template
    table: Mapping[str, str] = field(hash=False)
    missing: Literal["hold", "keep"] | Template = "hold"
    file: str = ""


@dataclass(frozen=True, slots=True)
class ShiftDates:
    """``shift_dates``: all dates by 1 to ``days`` days into the past, for each patient as many."""

    days: int


@dataclass(frozen=True, slots=True)
class NewUids:
    """``new_uids``: every UID of an instance becomes another, always the same."""


@dataclass(frozen=True, slots=True)
class Call:
    """``python``: a user's function."""

    file: str
    function: str


Step = Write | Affix | Replace | Shape | Copy | Delete | Look | ShiftDates | NewUids | Call


@dataclass(frozen=True, slots=True)
class Plan:
    """One ``[transform.NAME]``. ``labels``: each step for people, as ``step 2 (prefix)``."""

    name: str
    steps: tuple[object, ...]
    labels: tuple[str, ...]
    misfit: Misfits = "hold"
    record: bool = False
    secret: bytes = field(default=b"", repr=False)
    system: str = "asyncroute"
    """Who does it, for Original Attributes."""
