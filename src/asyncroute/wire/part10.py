"""The beginning of a DICOM file: preamble, "DICM", File Meta Information (PS3.10 §7.1).

Guarantees: `build_meta` never fails on strings (characters beyond Latin-1 become "?") and costs a few microseconds.
`parse_meta` reads that and other people's files, also those with a wrong or missing group length, elements out of
order, or implicit VR; what it reads is bounded by the bytes that it is given.
Failures: `NotPart10` with one line that says why; `CutShort` if more of the file's beginning would help.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct, error
from typing import NamedTuple

IMPLEMENTATION_UID = "2.25.212731654485560894897890788219891615220"
IMPLEMENTATION_VERSION = "ASYNCROUTE_0"
PRIVATE_CREATOR_UID = "2.25.158491818164208770207667005404763844746"

PREFIX = 132  # bytes: preamble and "DICM"

_UNDEFINED = 0xFFFFFFFF
_SHORT = Struct("<HH2sH")
_LONG = Struct("<HH2sHI")
_IMPLICIT = Struct("<HHI")
_LENGTH = Struct("<I")
_START = bytes(128) + b"DICM" + _SHORT.pack(2, 0, b"UL", 4)
_VERSION = _LONG.pack(2, 1, b"OB", 0, 2) + b"\0\1"
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})


class NotPart10(ValueError):
    """The bytes are not the beginning of a DICOM Part 10 file."""


class CutShort(NotPart10):
    """The File Meta Information goes on beyond the bytes at hand."""


class Meta(NamedTuple):
    """File Meta Information (PS3.10 table 7.1-1), without padding; "" or None where an element is absent.

    `data_offset`: where the data set begins, in bytes from the beginning of the file. `private`: the private
    information as stored (a block of odd length has got a trailing NUL).
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    data_offset: int
    source_aet: str
    sending_aet: str
    receiving_aet: str
    implementation_uid: str
    implementation_version: str
    private_creator: str
    private: bytes | None


def build_meta(
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax: str,
    *,
    source_aet: str = "",
    sending_aet: str = "",
    receiving_aet: str = "",
    private: bytes | None = None,
) -> bytes:
    """Everything that stands before the data set in its file.

    Empty AE titles are left out. `private` becomes (0002,0102) under our own creator UID, padded to even length.
    """
    before, after = _constant_parts(sop_class_uid, transfer_syntax, source_aet, sending_aet, receiving_aet)
    instance = _pad(sop_instance_uid.encode("latin-1", "replace"), b"\0")
    extra = _private_part(private) if private is not None else b""
    length = _LENGTH.pack(len(before) + 8 + len(instance) + len(after) + len(extra))
    return b"".join((_START, length, before, _SHORT.pack(2, 3, b"UI", len(instance)), instance, after, extra))


@lru_cache(maxsize=1024)
def _constant_parts(sop_class_uid: str, syntax: str, source: str, sending: str, receiving: str) -> tuple[bytes, bytes]:
    """What is the same for many images: the elements before and behind the SOP Instance UID."""
    after = [
        _text(0x0010, b"UI", syntax),
        _text(0x0012, b"UI", IMPLEMENTATION_UID),
        _text(0x0013, b"SH", IMPLEMENTATION_VERSION),
    ]
    titles = ((0x0016, source), (0x0017, sending), (0x0018, receiving))
    after += [_text(element, b"AE", title) for element, title in titles if title]
    return _VERSION + _text(0x0002, b"UI", sop_class_uid), b"".join(after)


def _text(element: int, vr: bytes, text: str) -> bytes:
    value = _pad(text.encode("latin-1", "replace"), b"\0" if vr == b"UI" else b" ")
    return _SHORT.pack(2, element, vr, len(value)) + value


def _private_part(private: bytes) -> bytes:
    value = _pad(private, b"\0")
    return _CREATOR + _LONG.pack(2, 0x0102, b"OB", 0, len(value)) + value


def _pad(value: bytes, padding: bytes) -> bytes:
    return value + padding if len(value) & 1 else value


_CREATOR = _text(0x0100, b"UI", PRIVATE_CREATOR_UID)


def parse_meta(data: bytes) -> Meta:
    """Read the beginning of a file; 16 KiB of it are enough for nearly all.

    Raises `NotPart10`, `CutShort`.
    """
    if data[128:PREFIX] != b"DICM":
        raise NotPart10('not a DICOM Part 10 file (no "DICM" at offset 128)')
    try:
        values, offset = _elements(data)
    except error:
        raise _cut(data) from None
    if not values.get(0x0010):
        raise NotPart10("not a DICOM Part 10 file (no Transfer Syntax UID (0002,0010) in the File Meta Information)")
    return Meta(
        sop_class_uid=_string(values, 0x0002),
        sop_instance_uid=_string(values, 0x0003),
        transfer_syntax=_string(values, 0x0010),
        data_offset=offset,
        source_aet=_string(values, 0x0016),
        sending_aet=_string(values, 0x0017),
        receiving_aet=_string(values, 0x0018),
        implementation_uid=_string(values, 0x0012),
        implementation_version=_string(values, 0x0013),
        private_creator=_string(values, 0x0100),
        private=values.get(0x0102),
    )


def _elements(data: bytes) -> tuple[dict[int, bytes], int]:
    """The values of group 0002 by element number, and where the group ends.

    Its stated length is believed only where the elements begin anew behind it: a data set that itself has group 0002.

    Raises `NotPart10`, or struct.error in the middle of an element.
    """
    values: dict[int, bytes] = {}
    pos = PREFIX
    last = -1
    while data[pos : pos + 2] == b"\2\0":
        _, element, vr, length = _SHORT.unpack_from(data, pos)
        if element <= last and _stated_end(values) == pos:
            return values, pos
        last = element
        start = pos + 8
        if vr in _LONG_VRS:
            (length,) = _LENGTH.unpack_from(data, start)
            start += 4
        elif not (vr.isalpha() and vr.isupper()):
            _, _, length = _IMPLICIT.unpack_from(data, pos)
        if length == _UNDEFINED:
            raise NotPart10(f"not a DICOM Part 10 file ((0002,{element:04X}) has no length)")
        pos = start + length
        values[element] = data[start:pos]
    if pos + 2 > len(data) and not (pos == len(data) and _says_so(values, pos)):
        raise _cut(data)
    return values, pos


def _says_so(values: dict[int, bytes], end: int) -> bool:
    """Whether the group length, if there is one, does not lead beyond `end`: then no data set follows."""
    stated = _stated_end(values)
    return stated is None or stated <= end


def _stated_end(values: dict[int, bytes]) -> int | None:
    """Where the group ends by its group length, if it has one."""
    stated = values.get(0, b"")
    return PREFIX + 12 + int.from_bytes(stated, "little") if len(stated) == 4 else None


def _cut(data: bytes) -> CutShort:
    return CutShort(f"the File Meta Information goes on beyond the first {len(data)} bytes")


def _string(values: dict[int, bytes], element: int) -> str:
    return values.get(element, b"").decode("latin-1").strip(" \0")
