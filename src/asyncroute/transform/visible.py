"""Which images may show who they are of: pixels are not cleaned here, so such images do not go out de-identified.

Guarantees: refused are images that say so (Burned In Annotation, Recognizable Visual Features); those of kinds that
usually have text in the picture (ultrasound, secondary capture, endoscopy and other photographs, scans, screen shots)
and do not say NO; overlays within the pixels; encapsulated documents, whatever is configured.
Not noticed: text in an image of another kind that does not say so; faces in a series of slices.
Failures: ``Refused``.
"""

from __future__ import annotations

from asyncroute.core.deidentification import Deidentify
from asyncroute.transform.base import Header, Refused
from asyncroute.transform.elements import Elements

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_CLASSES = tuple(_STORAGE + end for end in ("3", "3.1", "6", "6.1", "6.2", "6.3", "7"))
_FAMILIES = tuple(_STORAGE + end for end in ("7.", "77.1.", "29", "30"))  # captures, photographs, prints
# fmt: off
_MODALITIES = frozenset({
    "BDUS", "CP", "CS", "DD", "DG", "DMS", "DOC", "EPS", "ES", "FA", "FS", "GM", "HC", "IVUS", "LP", "OAM", "OP", "OPV",
    "OT", "SC", "SM", "TG", "US", "VF", "XC",
})
# fmt: on
_IMAGE_TYPES = ("SCREEN", "REPORT", "LABEL", "DOSE_INFO", "CAPTURE", "PATIENT PROTOCOL")
_ROWS, _BURNED, _FEATURES = 0x00280010, 0x00280301, 0x00280302
_DOCUMENT = 0x00420011
UNSURE = 'its Burned In Annotation (0028,0301) does not say NO (look at it; then burned_in = "pass")'


def refuse_visible(level: Elements, header: Header, rule: Deidentify) -> None:
    """Raises ``Refused``: see module."""
    if _DOCUMENT in level:
        raise Refused("an encapsulated document cannot be de-identified")
    if rule.burned_in == "pass":
        return
    if _says(level, _BURNED) == "YES":
        raise Refused("it has text in its pixels (Burned In Annotation (0028,0301) is YES), which are not cleaned")
    if _says(level, _FEATURES) == "YES":
        raise Refused("a person can be recognized in it (Recognizable Visual Features (0028,0302) is YES)")
    if _in_pixels(level):
        raise Refused("it has an overlay within its pixels, which are not cleaned")
    kind = _kind(level, header)
    if kind and _says(level, _BURNED) != "NO":
        raise Refused(f"{kind} often has text in its pixels, and {UNSURE}")


def _says(level: Elements, tag: int) -> str:
    texts = level.texts(tag)
    return texts[0].strip().upper() if texts else ""


def _kind(level: Elements, header: Header) -> str:
    """What makes it probable, for people; empty: nothing."""
    if header.whole and _ROWS not in level:
        return ""
    uid = header.sop_class_uid
    if uid in _CLASSES or uid.startswith(_FAMILIES):
        return "an image of this SOP Class"
    modality = _says(level, 0x00080060)
    if modality in _MODALITIES:
        return f"an image of modality {modality}"
    if 0x00080064 in level:
        return "a converted image (Conversion Type (0008,0064))"
    found = [text for text in level.texts(0x00080008) if any(word in text.upper() for word in _IMAGE_TYPES)]
    return f"an image of type {found[0]}" if found else ""


def _in_pixels(level: Elements) -> bool:
    """Whether a plane of group 60xx has no data of its own: then it is in unused bits of the pixels (PS3.5 §8.1.2)."""
    planes = {tag >> 16 for tag in level.tags() if tag >> 24 == 0x60}
    return any(group << 16 | 0x10 in level and group << 16 | 0x3000 not in level for group in planes)
