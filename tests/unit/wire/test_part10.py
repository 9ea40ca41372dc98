"""The beginning of DICOM files: ours, those of others, and what is none."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.filereader import read_partial

from asyncroute.wire.part10 import (
    IMPLEMENTATION_UID,
    IMPLEMENTATION_VERSION,
    PRIVATE_CREATOR_UID,
    CutShort,
    Meta,
    NotPart10,
    build_meta,
    parse_meta,
)
from tests.support import corpus

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
INSTANCE = "1.2.3.4.5"


def full(private: bytes | None = b"calling=CT_A") -> bytes:
    return build_meta(
        CT, INSTANCE, EXPLICIT, source_aet="CT_A", sending_aet="ROUTER", receiving_aet="PACS-1", private=private
    )


def test_pydicom_reads_what_is_built() -> None:
    data = full() + b"\x10\0\x20\0LO\2\0P1"
    dataset = dcmread(io.BytesIO(data))
    meta = dataset.file_meta
    assert dataset.preamble == bytes(128)
    assert meta.FileMetaInformationGroupLength == len(full()) - 132 - 12
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.MediaStorageSOPInstanceUID == INSTANCE
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.ImplementationClassUID == IMPLEMENTATION_UID
    assert meta.ImplementationVersionName == IMPLEMENTATION_VERSION == "ASYNCROUTE_0"
    assert meta.SourceApplicationEntityTitle == "CT_A"
    assert meta.SendingApplicationEntityTitle == "ROUTER"
    assert meta.ReceivingApplicationEntityTitle == "PACS-1"
    assert meta.PrivateInformationCreatorUID == PRIVATE_CREATOR_UID
    assert meta.PrivateInformation == b"calling=CT_A"
    assert dataset.PatientID == "P1"
    assert [int(tag) for tag in meta.keys()] == sorted(meta.keys())  # noqa: SIM118


def test_our_uids_are_valid() -> None:
    for uid in (IMPLEMENTATION_UID, PRIVATE_CREATOR_UID):
        assert uid.startswith("2.25.")
        assert len(uid) <= 64
        assert 0 < int(uid[5:]) < 1 << 128
        assert str(int(uid[5:])) == uid[5:]


def test_what_is_built_is_parsed() -> None:
    data = full()
    assert parse_meta(data) == Meta(
        CT,
        INSTANCE,
        EXPLICIT,
        len(data),
        "CT_A",
        "ROUTER",
        "PACS-1",
        IMPLEMENTATION_UID,
        IMPLEMENTATION_VERSION,
        PRIVATE_CREATOR_UID,
        b"calling=CT_A",
    )


@pytest.mark.parametrize("instance", ["1.2", "1.2.3", "1." * 31 + "22", "", "not a uid", "ü" * 64])
@pytest.mark.parametrize("aet", ["", "A", "PACS-2", "ABCDEFGHIJKLMNOP"])
@pytest.mark.parametrize("private", [None, b"", b"1", b"12"])
def test_every_length_is_padded_to_even(instance: str, aet: str, private: bytes | None) -> None:
    data = build_meta(CT, instance, EXPLICIT, source_aet=aet, private=private)
    meta = parse_meta(data)
    assert len(data) % 2 == 0
    assert (meta.sop_instance_uid, meta.source_aet, meta.sending_aet) == (instance, aet, "")
    assert meta.private == (private + bytes(len(private) % 2) if private is not None else None)
    assert meta.data_offset == len(data)


def test_strings_that_no_file_can_hold_do_not_fail() -> None:
    meta = parse_meta(build_meta("1.2", "1.\u6f22", EXPLICIT, source_aet="\u6f22"))
    assert (meta.sop_instance_uid, meta.source_aet) == ("1.?", "?")


def test_empty_titles_are_left_out() -> None:
    data = build_meta(CT, INSTANCE, EXPLICIT)
    assert b"AE" not in data[132:]
    assert parse_meta(data).receiving_aet == ""


# --- files of others --------------------------------------------------------------------------------------------------


def element(number: int, vr: bytes, value: bytes) -> bytes:
    if vr in (b"OB", b"UN", b"UT"):
        return struct.pack("<HH2sHI", 2, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


def start(*elements: bytes) -> bytes:
    return bytes(range(128)) + b"DICM" + b"".join(elements)


SYNTAX = element(0x10, b"UI", EXPLICIT.encode() + b"\0")
CLASS = element(0x02, b"UI", CT.encode() + b"\0")
LENGTH = element(0x00, b"UL", struct.pack("<I", len(SYNTAX) + len(CLASS)))
DATA = b"\x08\0\x05\0CS\0\0"

TOLERATED = {
    "no group length": start(CLASS, SYNTAX),
    "wrong group length": start(element(0, b"UL", b"\xff\xff\0\0"), CLASS, SYNTAX),
    "group length of 0": start(element(0, b"UL", bytes(4)), CLASS, SYNTAX),
    "out of order": start(SYNTAX, CLASS, LENGTH),
    "implicit": start(struct.pack("<HHI", 2, 2, 26) + CT.encode() + b"\0", SYNTAX),
    "padded with spaces": start(CLASS, element(0x10, b"UI", EXPLICIT.encode() + b"   ")),
    "unknown elements": start(CLASS, SYNTAX, element(0x26, b"UR", b""), element(0x103, b"UN", b"1234")),
    "odd length": start(CLASS, element(0x10, b"UI", EXPLICIT.encode())),
}


@pytest.mark.parametrize("name", TOLERATED)
def test_tolerated(name: str) -> None:
    data = TOLERATED[name]
    if name == "unknown elements":
        data = data.replace(b"UR\0\0", b"SH\0\0")
    meta = parse_meta(data + DATA)
    assert meta.transfer_syntax == EXPLICIT
    assert meta.sop_class_uid == CT
    assert meta.data_offset == len(data)


REFUSED = {
    "nothing": b"",
    "no preamble": b"DICM" + CLASS + SYNTAX + DATA * 40,
    "no prefix": bytes(128) + CLASS + SYNTAX + DATA,
    "a data set": b"\x08\0\x16\0UI\x1a\0" + CT.encode() + b"\0" + DATA * 40,
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(500),
    "no transfer syntax": start(CLASS) + DATA,
    "empty transfer syntax": start(CLASS, element(0x10, b"UI", b"")) + DATA,
    "no meta": start() + DATA,
    "undefined length": start(struct.pack("<HH2sHI", 2, 1, b"OB", 0, 0xFFFFFFFF)) + DATA * 40,
    "big endian meta": start(struct.pack(">HH2sH", 2, 16, b"UI", 4) + b"1.2\0") + DATA,
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises(NotPart10, match="not a DICOM Part 10 file") as caught:
        parse_meta(REFUSED[name])
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


def test_a_beginning_that_is_too_short_says_so() -> None:
    data = full()
    for size in range(132, len(data)):
        with pytest.raises(NotPart10) as caught:
            parse_meta(data[:size])
        assert isinstance(caught.value, CutShort) or size < 134, size
    assert parse_meta(data).data_offset == len(data)
    with pytest.raises(CutShort):
        parse_meta(data + b"\2")


def test_a_stated_length_beyond_everything_is_refused_at_once() -> None:
    huge = start(struct.pack("<HH2sHI", 2, 1, b"OB", 0, 0xFFFFFFF0), SYNTAX)
    with pytest.raises(CutShort, match="goes on beyond the first"):
        parse_meta(huge)


def readable() -> list[Path]:
    found = []
    for root in corpus.roots():
        for path in sorted(p for p in root.rglob("*") if p.is_file()):
            with path.open("rb") as file:
                if file.read(132)[128:] == b"DICM":
                    found.append(path)
    return found


@pytest.mark.parametrize("path", readable(), ids=lambda path: path.name)
def test_real_files_are_read_as_pydicom_reads_them(path: Path) -> None:
    data = path.read_bytes()
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")
        theirs = read_partial(file, stop_when=lambda *_: True).file_meta
        offset = file.tell()
    if "TransferSyntaxUID" not in theirs:
        with pytest.raises(NotPart10, match="no Transfer Syntax UID"):
            parse_meta(data)
        return
    meta = parse_meta(data)
    assert meta.transfer_syntax == theirs.TransferSyntaxUID
    assert meta.sop_class_uid == theirs.get("MediaStorageSOPClassUID", "")
    assert meta.sop_instance_uid == theirs.get("MediaStorageSOPInstanceUID", "")
    assert meta.source_aet == theirs.get("SourceApplicationEntityTitle", "")
    assert meta.private == theirs.get("PrivateInformation")
    assert meta.implementation_version == theirs.get("ImplementationVersionName", "")
    if not theirs.TransferSyntaxUID.is_deflated:
        assert meta.data_offset == offset
