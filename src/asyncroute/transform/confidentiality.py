"""Table E.1-1 of PS3.15: what the confidentiality profile does with each attribute, under the options that were chosen.

The table itself is `confidentiality.csv`, whose head says where it is from; `safe_private.csv` is Table E.3.10-1.
Guarantees: every attribute has an action, whether the table lists it or not.

The table leaves some choices to the information object (Type 1, 2 or 3), which is not looked at. What is chosen is
valid for every type, so that an object that conforms still does: an empty value for X/Z (Type 2 and 3 may be empty), a
dummy for X/D, Z/D and X/Z/D, references with new UIDs for X/Z/U*. Only X itself removes.

What the table does not list: private attributes and such that the dictionary does not know are removed (the latter may
be anything), the whole of groups 50xx and 60xx (a plane without its data is of no use), everything below group 0008;
by VR: names are emptied, dates and times follow their option, URLs are removed, UIDs replaced, but for those that say
what something is (SOP Classes, Transfer Syntaxes, code systems). A few that tell as much as a neighbour in the table
does are removed (`_AS_TELLING`). Everything else is kept.
Failures: none.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from enum import Enum
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

OPTIONS = (
    *("safe_private", "uids", "device", "institution", "patient", "full_dates", "modified_dates", "descriptors"),
    *("structured", "graphics"),
)
"""Columns of the table that change the basic profile."""

_TEXT = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_TEMPORAL = frozenset({"DA", "DT", "TM"})
_NAMES_A_KIND = ("SOPClass", "TransferSyntax", "CodingScheme", "ContextUID", "ContextGroup", "MappingResource")
# fmt: off
_AS_TELLING = frozenset({
    0x00080051, 0x00100024, 0x00400026, 0x00400027,  # who issued the accession number, the patient's ID, order numbers
    0x00100033, 0x00100034,  # dates of birth and death in another calendar, as text
    0x00321031, 0x00321034, 0x00404009,  # requesting physician and service, performer
    0x00400400,  # comments on the scheduled procedure step
    0x00401006, 0x00401007, 0x00402006, 0x00402007,  # order numbers of earlier editions
    0x0040A028, 0x0040A068, 0x0040A076,  # organization, author and observer of trial documents
    0x0040A992, 0x0040E001,  # where a document is, which one it is
    0x04000500,  # what somebody before us replaced, for whoever has the key
})
# fmt: on
"""Attributes that the table forgets."""
_KEPT_URLS = frozenset({0x0008010E, 0x00080120})  # of a code system; a code itself


class Action(Enum):
    """What becomes of an attribute. In the sequences that stay, everything is treated by itself."""

    KEEP = "keep"
    REMOVE = "remove"
    EMPTY = "empty"
    DUMMY = "dummy"
    UID = "uid"
    CLEAN = "clean"
    SHIFT = "shift"


_CHOICES = {
    "X": Action.REMOVE,
    "Z": Action.EMPTY,
    "D": Action.DUMMY,
    "U": Action.UID,
    "X/Z": Action.EMPTY,
    "X/D": Action.DUMMY,
    "Z/D": Action.DUMMY,
    "X/Z/D": Action.DUMMY,
    "X/Z/U*": Action.KEEP,
}


class Row(NamedTuple):
    """One attribute of the table. ``tag``: eight hexadecimal digits, of which some may be x; or ``private``."""

    tag: str
    vr: str
    name: str
    basic: str
    options: dict[str, str]


@lru_cache(1)
def rows() -> tuple[Row, ...]:
    """All rows of Table E.1-1."""
    return tuple(
        Row(row["tag"], row["vr"], row["name"], row["basic"], {name: row[name] for name in OPTIONS if row[name]})
        for row in _read("confidentiality.csv")
    )


@lru_cache(1)
def safe_private() -> frozenset[tuple[str, int]]:
    """Private attributes that identify nobody (Table E.3.10-1): creator, and 0xggggee."""
    return frozenset(
        (row["creator"], int(row["group"], 16) << 8 | int(row["element"], 16)) for row in _read("safe_private.csv")
    )


def _read(name: str) -> Iterator[dict[str, str]]:
    text = resources.files(__package__).joinpath(name).read_text("utf-8")
    return csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))


@lru_cache(1)
def _listed() -> dict[int, Row]:
    return {int(row.tag, 16): row for row in rows() if row.tag.isalnum() and "x" not in row.tag and row.vr}


class Table:
    """The actions under some options (columns of the table)."""

    def __init__(self, columns: Iterable[str]) -> None:
        self._columns = frozenset(columns)
        self._known: dict[int, Action] = {}
        self.safe_private = safe_private() if "safe_private" in self._columns else frozenset()

    def action(self, tag: int) -> Action:
        """Of a public attribute, or any private one (REMOVE; `safe_private` says which of them stay)."""
        found = self._known.get(tag)
        if found is None:
            found = self._known[tag] = self._find(tag)
        return found

    def _find(self, tag: int) -> Action:
        row = _listed().get(tag)
        group = tag >> 16
        if group & 1 or group < 8 or group >> 8 in (0x50, 0x60):
            return Action.REMOVE
        return self._unlisted(tag) if row is None else self._of(row)

    def _of(self, row: Row) -> Action:
        chosen = {code for name, code in row.options.items() if name in self._columns}
        basic = _CHOICES[row.basic]
        if "C" in chosen:
            return self._cleaned(row, basic)
        return Action.KEEP if "K" in chosen else basic

    def _cleaned(self, row: Row, basic: Action) -> Action:
        """AE titles, time zones and what is no text cannot be cleaned: as in the basic profile."""
        if row.vr in _TEMPORAL and "modified_dates" in self._columns:
            return Action.SHIFT
        if "C" not in {row.options.get("descriptors"), row.options.get("patient")}:
            return basic
        if row.vr == "SQ":
            return Action.KEEP
        return Action.CLEAN if row.vr in _TEXT else basic

    def _unlisted(self, tag: int) -> Action:
        vr, name = _dictionary(tag)
        if not tag & 0xFFFF:
            return Action.KEEP  # a group length, which follows its group
        if not vr or vr == "UR" or tag in _AS_TELLING:
            return Action.KEEP if tag in _KEPT_URLS else Action.REMOVE
        if vr == "PN":
            return Action.EMPTY
        if vr in _TEMPORAL:
            return self._temporal()
        if vr == "UI":
            return Action.KEEP if self._keeps_uid(name) else Action.UID
        return Action.KEEP

    def _temporal(self) -> Action:
        if "full_dates" in self._columns:
            return Action.KEEP
        return Action.SHIFT if "modified_dates" in self._columns else Action.REMOVE

    def _keeps_uid(self, name: str) -> bool:
        return "uids" in self._columns or any(kind in name for kind in _NAMES_A_KIND)


def listed_vr(tag: int) -> str:
    """The VR of an attribute in the table; "" if it is not in it. The installed dictionary may be older."""
    row = _listed().get(tag)
    return row.vr if row is not None else ""


@lru_cache(4096)
def _dictionary(tag: int) -> tuple[str, str]:
    """VR and keyword of a public attribute, "" where nobody knows it."""
    from pydicom.datadict import dictionary_VR, keyword_for_tag

    try:
        return dictionary_VR(tag), keyword_for_tag(tag)
    except KeyError:
        return "", ""
