"""Real images in every syntax that ``compress`` can name, read by other programs: dcmtk, GDCM, OpenJPEG.

The long form takes every native image that the corpus has through every syntax.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from openjpeg.utils import decode

from tests.support.converted import Array, converted, decoded_by, file_of, pixels, read
from tests.support.corpus import path_of, storable

NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}
BY_PROGRAM = {
    "rle": ("dcmdrle", "gdcmconv"),
    "jpeg-ls": ("dcmdjpls", "gdcmconv"),
    "jpeg-lossless": ("dcmdjpeg", "gdcmconv"),
    "j2k-lossless": ("gdcmconv",),
}

BEYOND_GDCM = {"SC_rgb_16bit.dcm", "SC_rgb_16bit_2frame.dcm", "SC_rgb_expb_16bit.dcm", "SC_rgb_expb_16bit_2frame.dcm"}
"""16-bit colours: GDCM reads them wrong from RLE, and not at all where there are several frames, its own files too."""

SAMPLE = [
    ("693_UNCR.dcm", "jpeg-lossless"),  # signed, 14 of 16 bits
    ("MR_small_bigendian.dcm", "j2k-lossless"),
    ("MR_small_implicit.dcm", "rle"),
    ("MR_small.dcm", "jpeg-ls"),
    ("emri_small.dcm", "jpeg-ls"),  # ten frames, 12 of 16 bits
    ("emri_small.dcm", "j2k-lossless"),
    ("OBXXXX1A_expb_2frame.dcm", "jpeg-lossless"),  # palette, 8 bits in words of the other byte order
    ("color-pl.dcm", "jpeg-ls"),  # planes one after the other
    ("color-pl.dcm", "rle"),
    ("SC_rgb_16bit.dcm", "j2k-lossless"),
    ("SC_rgb_small_odd.dcm", "rle"),
    ("SC_ybr_full_uncompressed.dcm", "jpeg-lossless"),
]


def check_by_others(path: Path, word: str, folder: Path) -> bool:
    """Whether ``path`` can be in that syntax; if so, others must read the same pixels from it."""
    told = converted(path, word, folder)
    if "refused" in told:
        assert not told["broken"], told
        assert not told["path"].exists()
        return False
    before = pixels(path)
    for program in BY_PROGRAM[word]:
        if program == "gdcmconv" and path.name in BEYOND_GDCM and (word == "rle" or "2frame" in path.name):
            continue
        after = pixels(decoded_by(program, told["path"]))
        assert after.shape == before.shape
        assert np.array_equal(after, before), (path.name, word, program)
    told["path"].unlink()
    return True


@pytest.mark.parametrize(("name", "word"), SAMPLE)
def test_other_programs_read_the_same_pixels(name: str, word: str, tmp_path: Path) -> None:
    assert check_by_others(file_of(name), word, tmp_path)


@pytest.mark.parametrize(
    ("stored", "allocated", "signed", "shape"),
    [
        *((12, 16, True, (33, 20)), (10, 16, True, (33, 20)), (7, 8, True, (33, 20))),
        *((7, 8, False, (33, 20)), (2, 8, False, (33, 20)), (6, 16, False, (33, 20)), (8, 16, True, (33, 20))),
        *((12, 16, False, (1, 1)), (12, 16, False, (3, 7)), (10, 16, True, (1, 1))),  # noise in hardly any room
    ],
)
@pytest.mark.parametrize("program", ["dcmdjpls", "dcmdjpeg"])
def test_cells_of_few_bits_come_back_as_they_were(
    program: str, stored: int, allocated: int, signed: bool, shape: tuple[int, int], tmp_path: Path
) -> None:
    """With the sign in the bits above Bits Stored, which programs do not make up."""
    lowest = -(1 << stored - 1) if signed else 0
    rng = np.random.default_rng(1)
    values = rng.integers(lowest, lowest + (1 << stored), shape)
    cells = values.astype(f"{'i' if signed else 'u'}{allocated // 8}")
    data = read(file_of("MR_small.dcm"))
    data.Rows, data.Columns = shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = allocated, stored, stored - 1, signed
    data.PixelData = cells.tobytes() + b"\0" * (cells.nbytes & 1)
    data.save_as(path := tmp_path / "cells.dcm")
    told = converted(path, {"dcmdjpls": "jpeg-ls", "dcmdjpeg": "jpeg-lossless"}[program], tmp_path)
    after = read(decoded_by(program, told["path"]))
    got = np.frombuffer(after.PixelData, f"{cells.dtype.kind}{after.BitsAllocated // 8}")[: cells.size]
    assert np.array_equal(got, cells.ravel())


def of_openjpeg(path: Path) -> Array:
    data = read(path)
    from pydicom.encaps import generate_frames

    frames = generate_frames(data.PixelData, number_of_frames=int(data.get("NumberOfFrames", 1)))
    return np.squeeze(np.stack([decode(frame) for frame in frames]))


@pytest.mark.parametrize("name", ["emri_small.dcm", "MR_small.dcm", "693_UNCR.dcm", "US1_UNCR.dcm", "SC_rgb_16bit.dcm"])
def test_another_library_reads_high_throughput_jpeg_2000(name: str, tmp_path: Path) -> None:
    told = converted(file_of(name), "htj2k-lossless", tmp_path)
    assert np.array_equal(of_openjpeg(told["path"]), np.squeeze(pixels(file_of(name))))


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("JPEG-LL.dcm", "dcmdjpeg"),
        ("JPGExtended.dcm", "dcmdjpeg"),
        ("MR_small_jpeg_ls_lossless.dcm", "dcmdjpls"),
        ("SC_rgb_rle_16bit_2frame.dcm", "dcmdrle"),
        ("emri_small_jpeg_2k_lossless.dcm", "gdcmconv"),
        ("J2K_pixelrep_mismatch.dcm", "gdcmconv"),
        ("SC_rgb_gdcm_KY.dcm", "gdcmconv"),
        ("OBXXXX1A_rle_2frame.dcm", "dcmdrle"),
        ("JPEGLSNearLossless_16.dcm", "dcmdjpls"),
    ],
)
def test_what_is_decoded_is_what_other_programs_decode(name: str, program: str, tmp_path: Path) -> None:
    source = tmp_path / name
    source.write_bytes(file_of(name).read_bytes())
    told = converted(source, "none", tmp_path)
    assert np.array_equal(pixels(told["path"]), pixels(decoded_by(program, source)))


@pytest.mark.parametrize(("name", "apart"), [("SC_rgb_dcmtk_+eb+cy+np.dcm", 1), ("SC_rgb_dcmtk_+eb+cr.dcm", 0)])
def test_colours_of_jpeg_become_those_that_dcmtk_shows(name: str, apart: int, tmp_path: Path) -> None:
    """Converting colours is arithmetic that rounds."""
    source = file_of(name)
    told = converted(source, "none", tmp_path)
    reference = file_of({"+np": "SC_rgb_dcmtk_ebcynp_dcmd.dcm", "+cr": "SC_rgb_dcmtk_ebcr_dcmd.dcm"}[source.stem[-3:]])
    assert read(told["path"]).PhotometricInterpretation == "RGB"
    assert np.abs(pixels(told["path"]).astype(int) - pixels(reference)).max() <= apart


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("word", BY_PROGRAM)
def test_every_native_image_in_every_syntax(word: str, tmp_path: Path) -> None:
    native = [path_of(image) for image in storable() if image.transfer_syntax in NATIVE]
    images = [path for path in native if "PixelData" in read(path) and path.name != "MR_truncated.dcm"]
    done = [path.name for path in images if check_by_others(path, word, tmp_path)]
    assert len(done) > 30
