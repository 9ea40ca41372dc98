"""What an image says of its losses, when it is compressed and when it is decoded."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate

from tests.support.converted import converted, file_of, pixels, read
from tests.unit.transform.test_convert import Edit, edited


@pytest.mark.parametrize(("word", "method"), [("jpeg-ls-near", "ISO_14495_1"), ("j2k", "ISO_15444_1")])
def test_a_loss_is_said_and_makes_another_image(word: str, method: str, tmp_path: Path) -> None:
    path = file_of("MR2_UNCR.dcm")
    told = converted(path, word, tmp_path, error=3)
    before, after = read(path), read(told["path"])
    assert after.LossyImageCompression == "01"
    assert after.LossyImageCompressionMethod == method
    size = sum(len(f) for f in pydicom.encaps.generate_fragments(after.PixelData)) - 4
    assert float(after.LossyImageCompressionRatio) == pytest.approx(len(before.PixelData) / size, rel=0.01)
    assert after.ImageType[0] == "DERIVED"
    assert after.DerivationCodeSequence[-1].CodeValue == "113040"
    source = after.SourceImageSequence[-1]
    assert source.ReferencedSOPInstanceUID == before.SOPInstanceUID != after.SOPInstanceUID
    assert source.PurposeOfReferenceCodeSequence[0].CodeValue == "121320"
    assert told["sop_instance_uid"] == after.SOPInstanceUID == after.file_meta.MediaStorageSOPInstanceUID
    assert converted(path, word, tmp_path, error=3)["sop_instance_uid"] == told["sop_instance_uid"]
    if word == "jpeg-ls-near":
        assert np.abs(pixels(told["path"]).astype(int) - pixels(path)).max() == 3


def test_losses_add_up(tmp_path: Path) -> None:
    path = edited("MR2_UNCR.dcm", _lossy_before, tmp_path)
    after = read(converted(path, "j2k", tmp_path, keep_uid=True)["path"])
    assert [*after.LossyImageCompressionMethod] == ["ISO_10918_1", "ISO_15444_1"]
    assert after.LossyImageCompressionRatio[0] == 4.5
    assert float(after.LossyImageCompressionRatio[1]) == pytest.approx(10, rel=0.1)


def _lossy_before(data: pydicom.Dataset) -> None:
    data.LossyImageCompression = "01"
    data.LossyImageCompressionRatio = "4.5"
    data.LossyImageCompressionMethod = "ISO_10918_1"


def test_the_uid_can_be_kept(tmp_path: Path) -> None:
    path = file_of("MR2_UNCR.dcm")
    after = read(converted(path, "j2k", tmp_path, keep_uid=True)["path"])
    assert after.SOPInstanceUID == read(path).SOPInstanceUID
    assert "SourceImageSequence" not in after
    assert after.LossyImageCompression == "01"


@pytest.mark.parametrize("ratio", [5.0, 20.0])
def test_the_ratio_is_that_of_the_bytes(ratio: float, tmp_path: Path) -> None:
    after = read(converted(file_of("RG1_UNCR.dcm"), "j2k", tmp_path, ratio=ratio)["path"])
    assert float(after.LossyImageCompressionRatio) == pytest.approx(ratio, rel=0.02)


KEYWORDS = ("LossyImageCompression", "LossyImageCompressionMethod", "LossyImageCompressionRatio")


def _unsaid(data: pydicom.Dataset) -> None:
    for keyword in KEYWORDS:
        if keyword in data:
            delattr(data, keyword)


def _half_said(data: pydicom.Dataset) -> None:
    _unsaid(data)
    data.LossyImageCompression = "01"


def _high_throughput(data: pydicom.Dataset) -> None:
    cells = np.arange(64 * 64).reshape(64, 64).astype("u1")
    data.Rows = data.Columns = 64
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    data.PixelData = encapsulate([bytes(imagecodecs.htj2k_encode(cells, reversible=False))])
    data.file_meta.TransferSyntaxUID = pydicom.uid.UID("1.2.840.10008.1.2.4.203")
    _unsaid(data)


@pytest.mark.parametrize(
    ("name", "edit", "method"),
    [
        ("SC_rgb_jpeg_dcmtk.dcm", _unsaid, "ISO_10918_1"),
        ("SC_rgb_jpeg_dcmtk.dcm", _half_said, "ISO_10918_1"),
        ("JPEGLSNearLossless_08.dcm", _unsaid, "ISO_14495_1"),
        ("RG3_J2KI.dcm", _unsaid, "ISO_15444_1"),
        ("RG3_J2KI.dcm", _high_throughput, "ISO_15444_15"),
    ],
)
def test_what_was_lost_is_remembered_when_it_is_decoded(name: str, edit: Edit, method: str, tmp_path: Path) -> None:
    path = edited(name, edit, tmp_path)
    before, after = read(path), read(converted(path, "none", tmp_path)["path"])
    size = sum(map(len, [*pydicom.encaps.generate_fragments(before.PixelData)][1:]))
    assert [after[keyword].value for keyword in KEYWORDS[:2]] == ["01", method]
    assert float(after.LossyImageCompressionRatio) == pytest.approx(len(after.PixelData) / size, abs=0.01)


def test_what_is_said_of_losses_already_is_not_said_otherwise(tmp_path: Path) -> None:
    path = edited("RG3_J2KI.dcm", _lossy_before, tmp_path)
    after = read(converted(path, "none", tmp_path)["path"])
    assert [after[keyword].value for keyword in KEYWORDS] == ["01", "ISO_10918_1", 4.5]
