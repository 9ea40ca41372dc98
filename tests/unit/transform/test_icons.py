"""Compressed pictures within sequences get native when the image around them gets another syntax."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence

from tests.support.converted import converted, file_of, pixels, read

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"


def with_icon(name: str, folder: Path) -> Path:
    """A real compressed image whose own stream is its icon as well, in an item of another sequence."""
    data = read(file_of(name))
    icon = pydicom.Dataset()
    for element in data.group_dataset(0x0028):
        icon.add(element)
    stream = next(generate_frames(data.PixelData, number_of_frames=1))
    icon.PixelData = encapsulate([stream])
    icon["PixelData"].VR, icon["PixelData"].is_undefined_length = "OB", True
    around = pydicom.Dataset()
    around.IconImageSequence = Sequence([icon])
    data.ReferencedImageSequence = Sequence([around])
    data.save_as(path := folder / "icon.dcm")
    return path


@pytest.mark.parametrize("name", ["MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm", "SC_rgb_jpeg_gdcm.dcm"])
@pytest.mark.parametrize("word", [EXPLICIT, IMPLICIT, "j2k-lossless"])
def test_a_compressed_icon_is_decoded(name: str, word: str, tmp_path: Path) -> None:
    path = with_icon(name, tmp_path)
    after = read(converted(path, word, tmp_path)["path"])
    whole = converted(file_of(name), EXPLICIT, tmp_path)["path"]
    icon = after.ReferencedImageSequence[0].IconImageSequence[0]
    assert not icon["PixelData"].is_undefined_length
    assert np.array_equal(np.frombuffer(icon.PixelData, "u1"), np.frombuffer(pixels(whole).tobytes(), "u1"))
    assert icon.PhotometricInterpretation == read(whole).PhotometricInterpretation
    assert after.PatientID == read(path).PatientID


def test_an_icon_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    data = read(with_icon("MR_small_RLE.dcm", tmp_path))
    data.ReferencedImageSequence[0].IconImageSequence[0].Rows += 1
    data.save_as(path := tmp_path / "broken.dcm")
    told = converted(path, EXPLICIT, tmp_path)
    assert told["refused"].startswith("a picture within it, such as an icon: RLE segment 1 of a frame has 4096 bytes")
    assert told["broken"]
