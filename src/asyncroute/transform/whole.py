"""Steps that need the whole header as a pydicom Dataset: what they change is found and spliced in.

Guarantees: an element that the function did not change keeps its bytes, also inside of sequences whose items stay as
many; what it did change is encoded by pydicom, and text has to fit its VR as what other steps write (not inside of
sequences that are written anew). A new Specific Character Set re-encodes all text that is not ASCII, as pydicom does.
Failures: `Refused` for what pydicom cannot read or write; what `function` raises passes through.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from io import BytesIO
from typing import Any

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_data_element

from asyncroute.transform import fits
from asyncroute.transform.base import Refused
from asyncroute.transform.editing import Editing, name_of
from asyncroute.transform.level import Entry, Level
from asyncroute.wire.elements import PIXELS, UNDEFINED, Odd, tag_text
from asyncroute.wire.syntax import Encoding

_LOCAL = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT", "SQ"})


def edit_dataset(editing: Editing, function: Callable[[Dataset], Dataset]) -> None:
    """Let `function` change the header, or return another one."""
    top = editing.top
    data = top.encoded()
    try:
        before, given = _read(data, top.encoding), _read(data, top.encoding)
    except Exception as error:  # whatever pydicom raises on odd data
        raise editing.refused("header", f"cannot be read by pydicom: {type(error).__name__}: {_line(error)}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's quote values, which belong in no log
        after = function(given)
    if not isinstance(after, Dataset):
        raise editing.refused("header", f"the function returned {type(after).__name__}, not the header")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", "Failed to encode value")  # else written with question marks
            _splice(editing, top, before, after, "", _codecs(after, None))
    except (Refused, Odd):
        raise
    except Exception as error:  # likewise, on odd values
        raise editing.refused("header", f"cannot be written: {type(error).__name__}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]


def _read(data: bytes, encoding: Encoding) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_dataset(BytesIO(data), encoding.implicit, not encoding.big)


def _codecs(dataset: Dataset, outer: list[str] | None) -> list[str]:
    from pydicom.charset import convert_encodings

    own = dataset.get("SpecificCharacterSet")
    return list(convert_encodings(own)) if own or outer is None else outer


def _splice(e: Editing, level: Level, before: Dataset, after: Dataset, place: str, codecs: list[str]) -> None:
    """Put into `level` what differs between the two."""
    recoded = list(_codecs(before, None)) != list(_codecs(after, None)) and "SpecificCharacterSet" in after
    was, now = dict(before.items()), dict(after.items())
    for tag in was.keys() - now.keys():
        _changed(e, level, int(tag), None, place)
    for tag in sorted(now):
        number = int(tag)
        if number >> 16 in (0, 2) or number >= PIXELS or number >> 16 == 0xFFFE:
            raise e.refused(tag_text(number), "cannot stand in a header")
        if not number & 0xFFFF and tag in was:
            continue  # group lengths follow by themselves
        old, new = was.get(tag), now[tag]
        if isinstance(new, RawDataElement) and old is not None and new == old and not recoded:
            continue
        _compare(e, level, before, after, number, place, codecs, recoded)


def _compare(
    e: Editing, level: Level, before: Dataset, after: Dataset, tag: int, place: str, codecs: list[str], recoded: bool
) -> None:
    new = after[tag]
    old = before[tag] if tag in before else None  # noqa: SIM401 - Dataset.get means something else by a number
    same = old is not None and _same(old, new)
    if same and not (recoded and new.VR in _LOCAL):
        return
    if old is not None and new.VR == old.VR == "SQ" and not recoded and _into(e, level, old, new, tag, place, codecs):
        return
    entry = _encoded(new, level, codecs)
    _changed(e, level, tag, entry if same else _fitted(e, level, tag, entry, place), place)


def _fitted(e: Editing, level: Level, tag: int, entry: Entry, place: str) -> Entry:
    """What the function wrote, as far as it fits its VR; else as the transform's ``misfit`` says."""
    if entry.vr not in fits.TEXT:
        return entry
    name = f"{place}{name_of(tag)}"
    value, _ = e.fitted(level, entry.vr, name, e.text(level, tag, entry, name), False, entry.value)
    return entry._replace(value=value)


def _same(old: DataElement, new: DataElement) -> bool:
    try:
        return bool(old == new)
    except (ValueError, TypeError, AttributeError):
        return False


def _into(
    e: Editing, level: Level, old: DataElement, new: DataElement, tag: int, place: str, codecs: list[str]
) -> bool:
    """Whether the items are as many as before, so that each is changed by itself."""
    sequence = level.sequence(tag)
    if sequence is None or not len(sequence.items) == len(old.value) == len(new.value):
        return False
    for number, (item, one, other) in enumerate(zip(sequence.items, old.value, new.value, strict=True)):
        _splice(e, item.level, one, other, f"{place}{name_of(tag)}.{number}.", _codecs(other, codecs))
    return True


def _encoded(element: DataElement, level: Level, codecs: list[str]) -> Entry:
    """As pydicom writes it."""
    encoding = level.encoding
    file: Any = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = not encoding.big, encoding.implicit
    write_data_element(file, element, codecs)
    raw = file.getvalue()
    if encoding.implicit:
        size, vr, length = 8, str(element.VR), encoding.item(raw, 0)[2]
    else:
        _, _, code, length = encoding.header(raw, 0)
        size, vr = encoding.forms[code], encoding.vr_name(code)
        length = encoding.length(raw, 8)[0] if size == 12 else length
    return Entry(vr, raw[size:], length == UNDEFINED)


def _changed(e: Editing, level: Level, tag: int, entry: Entry | None, place: str) -> None:
    old = level.get(tag)
    if entry is not None and old is not None and old.value == entry.value and old.vr == entry.vr:
        return
    before = e.show(level, tag, old)
    if entry is None:
        level.drop(tag)
    else:
        level.put(tag, entry)
    e.changed(f"{place}{name_of(tag)}", before, e.show(level, tag, entry))
