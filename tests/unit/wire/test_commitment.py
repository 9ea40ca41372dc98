"""Data sets of Storage Commitment, held against pydicom, and what is none."""

from __future__ import annotations

from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from asyncroute.core.proof import Commitment, Failed, Reference
from asyncroute.wire import commitment
from asyncroute.wire.elements import Odd
from tests.support.committing import report

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
GOOD = (Reference(CT, "1.2.3"), Reference(MR, "1.2.34"))
BAD = (Failed(CT, "1.2.5", 0x0112), Failed(MR, "1.2.66", 0x0213))
WHOLE = Commitment("2.25.7", GOOD, BAD)


def encoded(data_set: Dataset, syntax: str, undefined: bool = False) -> bytes:
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = syntax != BIG, syntax == IMPLICIT
    for element in data_set:
        if element.VR == "SQ":
            element.is_undefined_length = undefined
            for item in element.value:
                item.is_undefined_length_sequence_item = undefined
    write_dataset(out, data_set)
    return bytes(out.getvalue())


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_what_pydicom_writes_is_read(syntax: str, undefined: bool) -> None:
    told = report("2.25.7", GOOD, {(f[0], f[1]): f[2] for f in BAD})
    told.RetrieveAETitle = "PACS"
    told.FailedSOPSequence[0].PurposeOfReferenceCodeSequence = [Dataset()]
    assert commitment.parse(encoded(told, syntax, undefined), syntax) == WHOLE


@pytest.mark.parametrize("done", [WHOLE, Commitment("1.2", GOOD), Commitment("1.2", (), BAD)])
def test_what_is_written_is_read(done: Commitment) -> None:
    data = commitment.report(done)
    assert commitment.parse(data, IMPLICIT) == done
    read = dcmread(BytesIO(data), force=True)
    assert read.TransactionUID == done.transaction_uid
    assert len(read.get("FailedSOPSequence") or ()) == len(done.failed)


def test_a_request() -> None:
    read = dcmread(BytesIO(commitment.request("1.2.3", GOOD)), force=True)
    assert [item.ReferencedSOPInstanceUID for item in read.ReferencedSOPSequence] == ["1.2.3", "1.2.34"]
    assert read.TransactionUID == "1.2.3"


def test_an_identifier() -> None:
    data = commitment.images_of("1.2.3", "1.2.4.55")
    read = dcmread(BytesIO(data), force=True)
    assert (read.QueryRetrieveLevel, read.StudyInstanceUID, read.SeriesInstanceUID) == ("IMAGE", "1.2.3", "1.2.4.55")
    assert commitment.instance_of(data, IMPLICIT) == ""
    read.SOPInstanceUID = "1.2.99"
    assert commitment.instance_of(encoded(read, BIG), BIG) == "1.2.99"


@pytest.mark.parametrize(
    "data",
    [b"", b"\x08\x00\x95", commitment.report(WHOLE)[:-3], commitment.request("", GOOD), b"\xff" * 40, b"\x08\x00" * 30],
)
def test_what_is_no_such_data_set_is_odd(data: bytes) -> None:
    with pytest.raises(Odd):
        commitment.parse(data, IMPLICIT)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1.99", "1.2.3", EXPLICIT])
def test_another_encoding_is_odd(syntax: str) -> None:
    with pytest.raises(Odd):
        commitment.parse(commitment.report(WHOLE), syntax)


def test_every_beginning_is_read_or_odd() -> None:
    whole = encoded(report("2.25.7", GOOD, {(f[0], f[1]): f[2] for f in BAD}), EXPLICIT, True)
    for end in range(len(whole)):
        try:
            commitment.parse(whole[:end], EXPLICIT)
        except Odd:
            continue
