"""DICOM attributes and UIDs by the names that a configuration uses.

Purpose: keyword or tag to tag number and value representation; attributes inside sequences and of private creators to
paths; keyword to UID. An attribute is written

- as its keyword, ``Modality``, or its tag, ``(0008,0060)`` or ``00080060``;
- a private one with its creator, whatever block that has in an image: ``(0029,xx10,SIEMENS CSA HEADER)``;
- inside sequences with a dot between them: ``RequestAttributesSequence.0.AccessionNumber`` in the first item,
  ``RequestAttributesSequence.AccessionNumber`` in any.

Guarantees: what ``find_attribute`` returns can be matched against decoded header values: top-level attributes of the
data set whose values are text or numbers. What ``find_path`` returns is part of a data set, of whatever kind.
Failures: ValueError that names the nearest known keyword.

Source: PS3.6 (data dictionary, registry of UIDs), by way of pydicom's tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from asyncroute.config import dictionary
from asyncroute.config.words import Invalid, did_you_mean, quote
from asyncroute.core.paths import Key, Path, Step, key_of

NUMERIC = frozenset({"IS", "DS", "US", "SS", "UL", "SL", "FL", "FD", "SV", "UV", "US or SS"})
MOMENTS = {"DA": "date", "TM": "time", "DT": "datetime"}
PIXELS = 0x7FE00000
"""From here on nothing is read before an image is stored."""

_OPAQUE = ("OB", "OW", "OF", "OD", "OL", "OV", "AT", "NONE")

MAX_DEPTH = 8
"""Attributes in one path."""

_PRIVATE = re.compile(r"\(([0-9A-Fa-f]{4}), ?[xX]{2}([0-9A-Fa-f]{2}), ?([^\\]{1,64})\)")
_TAG = re.compile(r"\(([0-9A-Fa-f]{4}),\s?([0-9A-Fa-f]{4})\)|([0-9A-Fa-f]{4})([0-9A-Fa-f]{4})")
_UID = re.compile(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))*")
_LONGEST_UID = 64
_ITEM_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute: its tag (0xggggeeee), its keyword (or the tag as text), its VR ("" if unknown: private).

    ``path``: where it stands; ``tag`` is then that of its last step.
    """

    tag: int
    name: str
    vr: str
    path: Path = ()

    @property
    def key(self) -> Key:
        """Its tag, or its path where the tag does not say all."""
        return key_of(self.path) if self.path else self.tag

    @property
    def opaque(self) -> bool:
        """Whether its value is no text: a sequence, or binary."""
        return self.vr == "SQ" or any(vr in _OPAQUE for vr in self.vr.split(" or "))


def find_attribute(name: str, also: Iterable[str] = ()) -> Attribute:
    """The attribute that a configuration calls `name`: a keyword, ``(gggg,eeee)`` or ``ggggeeee``.

    `also`: other names that would be right in its place, for the suggestion.
    """
    if "." in name:
        raise Invalid("attributes inside sequences are not available here")
    if _PRIVATE.fullmatch(name):
        raise Invalid("private attributes by their creator are not available here")
    tag = _tag(name, also)
    attribute = Attribute(tag, name, _vr(tag))
    _refuse_opaque(attribute)
    return attribute


def find_path(name: str, also: Iterable[str] = ()) -> Attribute:
    """The attribute that a configuration calls `name`, wherever it stands; see the module for how it is written.

    Its ``path`` is filled. `also`: other names that would be right in its place, for the suggestion.
    """
    steps: list[Step] = []
    vr = ""
    for part in _parts(name):
        if len(part) <= _ITEM_DIGITS and part.isascii() and part.isdigit():
            if not steps or steps[-1].item is not None:
                raise Invalid(f"has an item number ({part}) that follows no sequence")
            steps[-1] = steps[-1]._replace(item=int(part))
            continue
        if steps and vr not in ("SQ", "UN", ""):
            raise Invalid(f"{part} cannot be inside of {_parts(name)[len(steps) - 1]}, which is no sequence")
        step, vr = _step(part, also if not steps else ())
        steps.append(step)
    if steps[-1].item is not None:
        raise Invalid("ends with an item number; which attribute of that item?")
    if len(steps) > MAX_DEPTH:
        raise Invalid(f"leads through more than {MAX_DEPTH - 1} sequences")
    return Attribute(steps[-1].tag, name, vr, tuple(steps))


def _parts(name: str) -> list[str]:
    """The names between the dots that are not inside of brackets: creators have dots."""
    parts, depth = [""], 0
    for c in name:
        depth += (c == "(") - (c == ")")
        if c == "." and depth <= 0:
            parts.append("")
        else:
            parts[-1] += c
    return parts


def _step(part: str, also: Iterable[str]) -> tuple[Step, str]:
    found = _PRIVATE.fullmatch(part)
    if found is None:
        tag = _tag(part, also)
        if tag >> 16 in (0x0000, 0x0002, 0xFFFE):
            raise Invalid(f"{part} is not part of an image's data set")
        return Step(tag), _vr(tag)
    tag, creator = int(found[1] + "00" + found[2], 16), found[3].strip(" ")
    if not tag >> 16 & 1 or not creator:
        raise Invalid(f"{part} is no private attribute: its group must be odd, its creator not empty")
    try:
        from pydicom.datadict import private_dictionary_VR

        return Step(tag, creator), str(private_dictionary_VR(tag | 0x1000, creator))
    except KeyError:
        return Step(tag, creator), ""


def _tag(name: str, also: Iterable[str]) -> int:
    found = _TAG.fullmatch(name)
    if found:
        return int("".join(part for part in found.groups() if part), 16)
    tag = dictionary.keywords().get(name, 0)
    if not tag:
        raise Invalid(f"unknown attribute{did_you_mean(name, [*_keywords(), *also], _TAG_HINT)}")
    return tag


def _vr(tag: int) -> str:
    entry = dictionary.attributes().get(tag)
    return entry[0] if entry is not None else ""


_TAG_HINT = "; use a DICOM keyword such as Modality, or a tag such as (0008,0060)"


def _keywords() -> list[str]:
    return [entry[4] for entry in dictionary.attributes().values() if entry[4] and entry[0] not in _OPAQUE]


def _refuse_opaque(attribute: Attribute) -> None:
    group = attribute.tag >> 16
    if group in (0x0000, 0x0002) or group == 0xFFFE:
        raise Invalid(f"{attribute.name} is not part of an image's data set")
    if attribute.vr == "SQ":
        raise Invalid(f"{attribute.name} is a sequence; attributes inside sequences are not available here")
    if attribute.opaque:
        raise Invalid(f"{attribute.name} has no value that text could be compared with")


def is_uid(text: str) -> bool:
    """Whether `text` is a valid UID (PS3.5 9.1): digits and dots, no leading zeros, at most 64 characters."""
    return len(text) <= _LONGEST_UID and text.isascii() and _UID.fullmatch(text) is not None


def find_uid(name: str, kind: str | None = None) -> str:
    """The UID with this keyword, or `name` itself if it is one; `kind` limits keywords ("Transfer Syntax")."""
    if is_uid(name):
        return name
    known = {entry[4]: uid for uid, entry in dictionary.uids().items() if entry[4] and kind in (None, entry[1])}
    if name in known:
        return known[name]
    what = f"the keyword of a {kind.lower()}" if kind else "a UID's keyword"
    raise Invalid(f"{quote(name)} is neither a UID nor {what}{did_you_mean(name, known)}")
