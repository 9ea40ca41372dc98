"""What stands at the beginning of a DICOM file, with or without preamble and File Meta Information (PS3.10 §7).

Guarantees: a file is taken for DICOM only where its first bytes can hardly be anything else; the transfer syntax of a
bare data set is told from its first element, or not at all. UIDs that the File Meta lacks are read from the data set.
Failures: ``NotDicom`` with one line that says why; ``damaged`` if it began like DICOM.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from asyncroute.wire.header import HeaderScanner
from asyncroute.wire.part10 import PREFIX, CutShort, Meta, NotPart10, parse_meta
from asyncroute.wire.syntax import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE

DICOMDIR = "1.2.840.10008.1.3.10"
"""Media Storage Directory Storage: an index of files, no image."""

SOP_CLASS, SOP_INSTANCE = 0x00080016, 0x00080018

_LOWEST, _HIGHEST = 0x0000, 0x0018
_PREAMBLE = bytes(128)
_SCANNER = HeaderScanner((SOP_CLASS, SOP_INSTANCE))
_UID = re.compile(r"[0-9.]{1,64}")
_USABLE_UID = re.compile(r"[!-)+-.0->@-\[\]-~]{1,64}")
"""As of received images: printable ASCII but for space, asterisk, slash, question mark, backslash."""
_VRS = frozenset({b"UL", b"UI", b"CS", b"DA", b"TM", b"LO", b"SH", b"DT", b"UN", b"SQ"})  # of those elements
_MOST_FIRST = 1 << 16


class NotDicom(ValueError):
    """No image. ``damaged``: it begins like one."""

    def __init__(self, text: str, damaged: bool = False) -> None:
        super().__init__(text)
        self.damaged = damaged


class Start(NamedTuple):
    """What a file is. ``data_offset``: where its data set begins. ``bare``: it has no File Meta Information.

    The UIDs are those of the data set; ``warning``: the File Meta says something else.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    data_offset: int
    bare: bool = False
    warning: str = ""


def start_of(data: bytes, length: int, last: bool = False) -> Start | None:
    """What the file of ``length`` bytes is that begins with ``data``; None: more of it is needed (not if ``last``).

    Raises NotDicom.
    """
    meta, offset = _meta(data, length)
    if meta is _MORE:
        if last or len(data) >= length:
            raise NotDicom("its File Meta Information is cut short", damaged=True)
        return None
    if isinstance(meta, Meta):
        start = Start(meta.sop_class_uid, meta.sop_instance_uid, meta.transfer_syntax, offset)
    else:
        start = Start("", "", _bare_syntax(data), 0, bare=True)
    if start.sop_class_uid == DICOMDIR:
        raise NotDicom("is a DICOMDIR")
    if offset >= length:
        raise NotDicom("has no data set", damaged=True)
    return _completed(start, data, len(data) >= length, last)


_MORE = object()


def _meta(data: bytes, length: int) -> tuple[object, int]:
    """The File Meta and where the data set begins; None: there is none; ``_MORE``: it goes on behind ``data``."""
    before = 0
    if data[128:PREFIX] == b"DICM":
        whole = data
    elif data[:4] == b"DICM":
        whole, before = _PREAMBLE + data, 128
    elif data[:4] == b"\2\0\0\0" or data[:4] == b"\2\0\1\0":
        whole, before = _PREAMBLE + b"DICM" + data, PREFIX
    else:
        return None, 0
    try:
        meta = parse_meta(whole)
    except CutShort:
        return _MORE, 0
    except NotPart10 as error:
        raise NotDicom(str(error), damaged=True) from None
    return meta, meta.data_offset - before


def _bare_syntax(data: bytes) -> str:
    """The transfer syntax of a data set without File Meta, by its first element: of group 0008. Raises NotDicom."""
    if len(data) >= 8:
        for order, big in (("little", False), ("big", True)):
            group, element = (int.from_bytes(data[n : n + 2], order) for n in (0, 2))  # type: ignore[arg-type]
            if group == 8 and _LOWEST <= element <= _HIGHEST:
                if data[4:6] in _VRS:
                    return EXPLICIT_BIG if big else EXPLICIT_LITTLE
                if not big and int.from_bytes(data[4:8], "little") < _MOST_FIRST:
                    return IMPLICIT_LITTLE
    raise NotDicom("is not a DICOM file")


def _completed(start: Start, data: bytes, whole: bool, last: bool) -> Start | None:
    """With the UIDs of the data set; what it does not say is the File Meta's word. Raises NotDicom."""
    scan = _SCANNER.scan(data[start.data_offset :], start.transfer_syntax, whole)
    if scan is None and not last:
        return None
    texts = [scan.texts(tag) if scan is not None else () for tag in (SOP_CLASS, SOP_INSTANCE)]
    own_class, own_instance = (each[0] if each else "" for each in texts)
    named = start.sop_instance_uid
    found = start._replace(
        sop_class_uid=own_class or start.sop_class_uid,
        sop_instance_uid=own_instance or named,
        warning=f"its File Meta Information names another SOP Instance UID: {named}"
        if named and own_instance and named != own_instance
        else "",
    )
    if not (found.sop_class_uid and found.sop_instance_uid):
        raise NotDicom("does not say what it is (no SOP Class and Instance UID)", damaged=not start.bare)
    if not _UID.fullmatch(found.sop_class_uid) or not _USABLE_UID.fullmatch(found.sop_instance_uid):
        raise NotDicom("has a malformed SOP Class or Instance UID", damaged=True)
    return found
