"""DICOM attributes and UIDs by the names that a configuration uses.

Purpose: keyword or tag to tag number and value representation; keyword to UID.
Guarantees: what is returned can be matched against decoded header values: top-level attributes of the data set whose
values are text or numbers.
Failures: ValueError that names the nearest known keyword.

Source: PS3.6 (data dictionary, registry of UIDs), by way of pydicom's tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pydicom import datadict
from pydicom._dicom_dict import DicomDictionary
from pydicom._uid_dict import UID_dictionary

from asyncroute.config.words import Invalid, did_you_mean, quote

NUMERIC = frozenset({"IS", "DS", "US", "SS", "UL", "SL", "FL", "FD", "SV", "UV", "US or SS"})
MOMENTS = {"DA": "date", "TM": "time", "DT": "datetime"}
_OPAQUE = ("OB", "OW", "OF", "OD", "OL", "OV", "AT", "NONE")

_TAG = re.compile(r"\(([0-9A-Fa-f]{4}),\s?([0-9A-Fa-f]{4})\)|([0-9A-Fa-f]{4})([0-9A-Fa-f]{4})")
_UID = re.compile(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))*")
_LONGEST_UID = 64


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute: its tag (0xggggeeee), its keyword (or the tag as text), its VR ("" if unknown: private)."""

    tag: int
    name: str
    vr: str


def find_attribute(name: str, also: Iterable[str] = ()) -> Attribute:
    """The attribute that a configuration calls `name`: a keyword, ``(gggg,eeee)`` or ``ggggeeee``.

    `also`: other names that would be right in its place, for the suggestion.
    """
    found = _TAG.fullmatch(name)
    if found:
        tag = int("".join(part for part in found.groups() if part), 16)
    elif "." in name:
        raise Invalid("attributes inside sequences are not available yet")
    else:
        tag = (datadict.tag_for_keyword(name) if name else None) or 0  # retired elements have the keyword ""
        if not tag:
            raise Invalid(f"unknown attribute{did_you_mean(name, [*_keywords(), *also], _TAG_HINT)}")
    attribute = Attribute(tag, name, datadict.dictionary_VR(tag) if datadict.dictionary_has_tag(tag) else "")
    _refuse_opaque(attribute)
    return attribute


_TAG_HINT = "; use a DICOM keyword such as Modality, or a tag such as (0008,0060)"


def _keywords() -> list[str]:
    return [entry[4] for entry in DicomDictionary.values() if entry[4] and entry[0] not in _OPAQUE]


def _refuse_opaque(attribute: Attribute) -> None:
    group = attribute.tag >> 16
    if group in (0x0000, 0x0002) or group == 0xFFFE:
        raise Invalid(f"{attribute.name} is not part of an image's data set")
    if attribute.vr == "SQ":
        raise Invalid(f"{attribute.name} is a sequence; attributes inside sequences are not available yet")
    if any(vr in _OPAQUE for vr in attribute.vr.split(" or ")):
        raise Invalid(f"{attribute.name} has no value that text could be compared with")


def is_uid(text: str) -> bool:
    """Whether `text` is a valid UID (PS3.5 9.1): digits and dots, no leading zeros, at most 64 characters."""
    return len(text) <= _LONGEST_UID and text.isascii() and _UID.fullmatch(text) is not None


def find_uid(name: str, kind: str | None = None) -> str:
    """The UID with this keyword, or `name` itself if it is one; `kind` limits keywords ("Transfer Syntax")."""
    if is_uid(name):
        return name
    known = {entry[4]: uid for uid, entry in UID_dictionary.items() if entry[4] and kind in (None, entry[1])}
    if name in known:
        return known[name]
    what = f"the keyword of a {kind.lower()}" if kind else "a UID's keyword"
    raise Invalid(f"{quote(name)} is neither a UID nor {what}{did_you_mean(name, known)}")
