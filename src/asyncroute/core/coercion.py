"""What a transform consists of: its steps as plain data, as the configuration has understood them.

Guarantees: everything here is frozen and can be pickled, so that a transform can be compiled again in another process.
A new kind of step is a dataclass of its own, here or elsewhere: `transform.registry` maps classes to what runs them.
Failures: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import NamedTuple

from asyncroute.core.paths import Path

FACTS = ("calling_aet", "called_aet", "listener", "peer", "watch", "route", "destination")
"""What templates may name besides attributes."""


class Target(NamedTuple):
    """One attribute: where it stands, as people write it, and its VR by the dictionary or as configured ("": unknown).

    `given`: the VR is the configuration's word.
    """

    path: Path
    name: str
    vr: str
    given: bool = False


class Fact(NamedTuple):
    """What is known of an image besides its attributes: one of `FACTS`."""

    name: str


class Function(NamedTuple):
    """``hash(X, size)``, ``crc32(X)`` or ``uid(X)``."""

    kind: str
    of: Target | Fact
    size: int = 0


Template = tuple[str | Target | Fact | Function, ...]
"""A value: its pieces are put together."""


@dataclass(frozen=True, slots=True)
class Set:
    """``set`` and ``fill`` (`empty_only`)."""

    target: Target
    value: Template
    empty_only: bool = False
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Affix:
    """``prefix`` (`front`) and ``suffix``: of every value that is not empty; `once`: not where it is already."""

    target: Target
    value: Template
    front: bool
    once: bool = True
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Replace:
    """``replace``: every occurrence of a text, or of a regular expression (`regex`: groups are ``\\1`` in `value`)."""

    target: Target
    old: str
    value: Template
    regex: bool = False
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Alter:
    """``upper``, ``lower``, ``strip``, ``pad`` (`size`, `fill`, `right`: text to the right), ``truncate`` (`size`)."""

    kind: str
    target: Target
    size: int = 0
    fill: str = " "
    right: bool = True
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Lookup:
    """``map``: the value that a table has for a key (default: the attribute's own value).

    Without an entry: `default`, or as `missing` says: "hold" or "keep".
    """

    target: Target
    table: Mapping[str, str] = field(hash=False)
    key: Template | None = None
    default: Template | None = None
    missing: str = "hold"
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Transfer:
    """``copy`` and ``move``: an attribute as it is to another place."""

    source: Target
    target: Target
    move: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """``delete``: an attribute, a whole group (of ``0xgggg``), or all private ones (everywhere)."""

    target: Target | None = None
    group: int | None = None
    everywhere: bool = False

    @property
    def private(self) -> bool:
        """All private elements."""
        return self.target is None and self.group is None


@dataclass(frozen=True, slots=True)
class ShiftDates:
    """``shift_dates``: all dates earlier, by 1 to `days` days, for each patient as many."""

    days: int = 3650


@dataclass(frozen=True, slots=True)
class NewUids:
    """``new_uids``: all UIDs of instances, series, studies and frames of reference."""


@dataclass(frozen=True, slots=True)
class Python:
    """``python``: a user's function in a file."""

    file: FilePath
    function: str


@dataclass(frozen=True, slots=True)
class Coercion:
    """One ``[transform.NAME]``.

    `misfit`: hold, truncate or pass. `record`: whether an Original Attributes Sequence is written; `system` is then the
    Modifying System. `secret`: what new UIDs, shifted dates and hashes are made with, empty if there is none. `words`:
    for every step its kind, for people.
    """

    name: str
    steps: tuple[object, ...]
    words: tuple[str, ...]
    misfit: str = "hold"
    record: bool = False
    system: str = "asyncroute"
    secret: bytes = field(default=b"", repr=False)
