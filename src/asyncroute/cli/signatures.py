"""Whether an image is digitally signed: what an edit then breaks (PS3.15 §C).

Guarantees: looks at every level of the data set, whatever its encoding. Failures: ``OurFault``, where that cannot be
told.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from asyncroute.core.errors import OurFault

SIGNATURES = frozenset({0xFFFAFFFA, 0x4FFE0001})
"""Digital Signatures Sequence and MAC Parameters Sequence (PS3.3 §C.12.1.1.3); both may be in items of sequences."""

BROKEN = "has digital signatures, which the changes break (Digital Signatures Sequence)"
_DEEPEST = 64


def is_signed(path: Path) -> bool:
    """Whether the image in this file has a signature anywhere."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _signed(dcmread(path, defer_size=4096), 0)
    except Exception as error:  # whatever pydicom makes of odd files
        why = " ".join(str(error).split()) or repr(error)
        raise OurFault(f"{path}: whether it has digital signatures cannot be told: {why}") from None


def _signed(dataset: Dataset, depth: int) -> bool:
    if depth > _DEEPEST:
        raise OurFault(f"sequences nested more than {_DEEPEST} deep")
    for tag in dataset.keys():  # noqa: SIM118 - iterating a Dataset decodes every value
        if tag in SIGNATURES:
            return True
        items = dataset[tag].value if _may_be_sequence(dataset, int(tag)) and dataset[tag].VR == "SQ" else ()
        if any(_signed(item, depth + 1) for item in items):
            return True
    return False


def _may_be_sequence(dataset: Dataset, tag: int) -> bool:
    """Without decoding what is none."""
    vr = dataset.get_item(tag).VR
    if vr in ("SQ", None):
        return vr == "SQ" or _by_dictionary(tag) == "SQ"
    return vr == "UN" and _by_dictionary(tag) == "SQ"


def _by_dictionary(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"
