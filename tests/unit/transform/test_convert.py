"""What a converted image says of itself, what stays as it was, and what is not converted."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, parse_basic_offsets

from asyncroute.core.syntaxes import BY_WORD, Wish
from asyncroute.transform.pixels import codecs, convert, frames
from asyncroute.transform.pixels.elements import Head, elements_of
from asyncroute.wire.part10 import parse_meta
from asyncroute.wire.syntax import EXPLICIT_LE
from tests.support.converted import converted, file_of, pixels, read

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
LOSSLESS = ["rle", "jpeg-ls", "jpeg-lossless", "j2k-lossless", "htj2k-lossless"]
Edit = Callable[[pydicom.Dataset], None]


def header_of(path: Path) -> bytes:
    """A data set up to its pixels, as encoded."""
    data = path.read_bytes()
    meta = parse_meta(data)
    rest = data[meta.data_offset :]
    return rest[: rest.rindex(b"\xe0\x7f\x10\x00O")]


def elements(path: Path) -> dict[int, bytes]:
    header = memoryview(header_of(path))
    return {e.tag: bytes(header[e.start : e.end]) for e in elements_of(header, EXPLICIT_LE)}


def edited(name: str, edit: Edit, folder: Path) -> Path:
    """A real file that was changed."""
    data = read(file_of(name))
    edit(data)
    target = folder / f"edited-{name}"
    data.save_as(target)
    return target


@pytest.mark.parametrize("word", LOSSLESS)
def test_every_other_element_stays_byte_for_byte(word: str, tmp_path: Path) -> None:
    path = file_of("examples_overlay.dcm")
    told = converted(path, word, tmp_path)
    assert elements(told["path"]) == elements(path)


def test_colours_are_described_anew_and_nothing_else(tmp_path: Path) -> None:
    path = file_of("color-pl.dcm")
    told = converted(path, "j2k-lossless", tmp_path)
    before, after = elements(path), elements(told["path"])
    different = {tag for tag in before.keys() | after.keys() if before.get(tag) != after.get(tag)}
    assert {t for t in different if t & 0xFFFF} == {0x00280004, 0x00280006}
    data = read(told["path"])
    assert (data.PhotometricInterpretation, data.PlanarConfiguration) == ("YBR_RCT", 0)


@pytest.mark.parametrize("word", LOSSLESS)
def test_frames_have_a_table_of_offsets(word: str, tmp_path: Path) -> None:
    told = converted(file_of("emri_small.dcm"), word, tmp_path)
    offsets = parse_basic_offsets(read(told["path"]).PixelData)
    assert len(offsets) == 10
    back = converted(told["path"], "none", tmp_path)
    assert np.array_equal(pixels(back["path"]), pixels(file_of("emri_small.dcm")))


def test_offsets_beyond_32_bits_get_a_table_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "_BASIC_OFFSETS", 1000)
    told = converted(file_of("emri_small.dcm"), "rle", tmp_path)
    data = read(told["path"])
    assert len(data.ExtendedOffsetTable) == len(data.ExtendedOffsetTableLengths) == 80
    assert np.array_equal(pixels(told["path"]), pixels(file_of("emri_small.dcm")))
    back = converted(told["path"], "none", tmp_path)
    assert "ExtendedOffsetTable" not in read(back["path"])
    assert np.array_equal(pixels(back["path"]), pixels(file_of("emri_small.dcm")))


@pytest.mark.parametrize("name", ["MR_small.dcm", "emri_small.dcm", "SC_rgb_small_odd.dcm", "color-px.dcm"])
@pytest.mark.parametrize("word", LOSSLESS)
def test_there_and_back_again_is_the_same_data_set(name: str, word: str, tmp_path: Path) -> None:
    """But for a group's length, and the VR of the pixels."""
    there = converted(file_of(name), word, tmp_path)
    assert "refused" not in there, there
    back = converted(there["path"], "none", tmp_path)
    before, after = elements(file_of(name)), elements(back["path"])
    assert {t: v for t, v in before.items() if t & 0xFFFF} == {t: v for t, v in after.items() if t & 0xFFFF}
    assert np.array_equal(pixels(back["path"]), pixels(file_of(name)))


# --- between encodings without compression ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("MR_small_implicit.dcm", "MR_small.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("OBXXXX1A_expb.dcm", "OBXXXX1A.dcm"),
        ("emri_small_big_endian.dcm", "emri_small.dcm"),
        ("SC_rgb_small_odd_big_endian.dcm", "SC_rgb_small_odd.dcm"),
        ("gdcm-US-ALOKA-16_big.dcm", "gdcm-US-ALOKA-16.dcm"),
    ],
)
def test_plain_encodings_say_the_same(one: str, other: str, tmp_path: Path) -> None:
    """The same image in two files: pixels, numbers of every VR, nested ones too."""
    a, b = read(converted(file_of(one), "none", tmp_path)["path"]), read(file_of(other))
    assert np.array_equal(pixels(tmp_path / f"none-{one}"), pixels(file_of(other)))
    for tag in (t for t in a.keys() & b.keys() if t.group in (0x0018, 0x0028, 0x5200)):
        assert a[tag].value == b[tag].value, tag


@pytest.mark.parametrize("name", ["reportsi.dcm", "rtplan.dcm", "nested_priv_SQ.dcm", "priv_SQ.dcm"])
def test_what_has_no_pixels_is_encoded_otherwise(name: str, tmp_path: Path) -> None:
    plain = converted(file_of(name), EXPLICIT, tmp_path)["path"]
    implicit = converted(plain, IMPLICIT, tmp_path)["path"]
    assert _texts(read(implicit)) == _texts(read(file_of(name)))
    assert _texts(read(plain)).keys() == _texts(read(file_of(name))).keys()


def _texts(data: pydicom.Dataset) -> dict[str, str]:
    return {f"{path}": str(e.value) for path, e in enumerate(data.iterall()) if e.VR != "SQ" and e.tag.element}


def test_a_deflated_image_is_inflated_as_a_stream(tmp_path: Path) -> None:
    told = converted(file_of("image_dfl.dcm"), "none", tmp_path)
    assert np.array_equal(pixels(told["path"]), pixels(file_of("image_dfl.dcm")))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["none-image_dfl.dcm"]


def test_what_inflates_beyond_the_room_is_refused(tmp_path: Path) -> None:
    told = converted(file_of("image_dfl.dcm"), "none", tmp_path, room=100_000)
    assert told["refused"] == "inflated it is larger than 100000 bytes"
    assert not list(tmp_path.iterdir())


def test_float_pixels_stay_as_they_are(tmp_path: Path) -> None:
    path = edited("MR_small.dcm", _of_floats, tmp_path)
    assert read(converted(path, IMPLICIT, tmp_path)["path"]).FloatPixelData == read(path).FloatPixelData
    assert converted(path, "jpeg-ls", tmp_path)["refused"] == "it has no Pixel Data of whole numbers"


def _of_floats(data: pydicom.Dataset) -> None:
    del data.PixelData
    data.BitsAllocated = 32
    data.FloatPixelData = np.arange(64 * 64, dtype="<f4").tobytes()


# --- what cannot be ---------------------------------------------------------------------------------------------------

IMPOSSIBLE = [
    ("liver_1frame.dcm", "rle", "Bits Allocated is 1, not 8 or 16"),
    ("test-SR.dcm", "j2k", "it has no Pixel Data of whole numbers"),
    ("examples_palette.dcm", "j2k", "its colours are a palette's, which are not to be changed"),
    ("CT_small.dcm", "jpeg-ls-near", "signed pixels cannot be near-lossless: the code knows no negative ones"),
    ("mlut_18.dcm", "jpeg-ls", "bits above Bits Stored are used, for an overlay or for padding"),
    ("rtdose.dcm", "j2k-lossless", "Bits Allocated is 32, not 8 or 16"),
]


@pytest.mark.parametrize(("name", "word", "why"), IMPOSSIBLE)
def test_what_cannot_be_says_why(name: str, word: str, why: str, tmp_path: Path) -> None:
    told = converted(file_of(name), word, tmp_path)
    assert (told["refused"], told["broken"]) == (why, False)
    assert not list(tmp_path.iterdir())


def test_colours_that_no_codec_is_for_are_not_taken_for_broken(tmp_path: Path) -> None:
    """Two bytes a pixel: such an image goes as it is stored."""

    def edit(data: pydicom.Dataset) -> None:
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "YBR_PARTIAL_422", 0
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0

    told = converted(edited("MR_small.dcm", edit, tmp_path), "rle", tmp_path)
    assert told["refused"] == "its Photometric Interpretation is YBR_PARTIAL_422 with 3 Samples per Pixel"
    assert not told["broken"]


@pytest.mark.parametrize("bits", [1, 12])
def test_cells_that_are_no_bytes_are_not_decoded(bits: int, tmp_path: Path) -> None:
    def edit(data: pydicom.Dataset) -> None:
        data.BitsAllocated = data.BitsStored = bits

    told = converted(edited("MR_small_RLE.dcm", edit, tmp_path), "none", tmp_path)
    assert told["refused"] == f"Bits Allocated is {bits}, not 8 or 16 or 32"


def test_bits_above_those_stored_survive_in_rle(tmp_path: Path) -> None:
    there = converted(file_of("mlut_18.dcm"), "rle", tmp_path)
    back = converted(there["path"], "none", tmp_path)
    assert read(back["path"]).PixelData == read(file_of("mlut_18.dcm")).PixelData


def _overlay_in_bits(data: pydicom.Dataset) -> None:
    """A plane in bit 12 of the pixels, with something in it only in the eighth frame."""
    cells = np.frombuffer(data.PixelData, "<u2").copy()
    cells[7 * 64 * 64 + 5 :: 97] |= 1 << 12
    data.PixelData = cells.tobytes()
    _plane(data)


def _plane(data: pydicom.Dataset) -> None:
    for element, vr, value in ((0x10, "US", 64), (0x11, "US", 64), (0x40, "CS", "G"), (0x50, "SS", [1, 1])):
        data.add_new(0x60000000 | element, vr, value)
    data.add_new(0x60000100, "US", 16)
    data.add_new(0x60000102, "US", 12)


@pytest.mark.parametrize("word", [*LOSSLESS, "j2k", "jpeg-ls-near"])
def test_an_overlay_within_the_pixels_is_not_lost(word: str, tmp_path: Path) -> None:
    """Only RLE keeps its bits; the others refuse, and the image goes as it is stored."""
    path = edited("emri_small.dcm", _overlay_in_bits, tmp_path)
    told = converted(path, word, tmp_path)
    if word == "rle":
        back = converted(told["path"], "none", tmp_path)
        assert read(back["path"]).PixelData == read(path).PixelData
    else:
        assert told["refused"] == "it has an overlay within its pixels"


def test_an_overlay_where_signs_are_is_not_taken_for_them(tmp_path: Path) -> None:
    """Negative numbers without their sign above Bits Stored: a codec gives them back with it, in the overlay."""

    def edit(data: pydicom.Dataset) -> None:
        data.PixelRepresentation = 1
        _plane(data)

    path = edited("emri_small.dcm", edit, tmp_path)
    assert converted(path, "jpeg-ls", tmp_path)["refused"] == "it has an overlay within its pixels"


def test_bits_in_use_of_a_later_frame_leave_nothing_behind(tmp_path: Path) -> None:
    """No overlay is declared; the eighth frame is refused when seven are written."""

    def edit(data: pydicom.Dataset) -> None:
        _overlay_in_bits(data)
        for element in (0x10, 0x11, 0x40, 0x50, 0x100, 0x102):
            del data[0x60000000 | element]

    told = converted(edited("emri_small.dcm", edit, tmp_path), "jpeg-ls", tmp_path)
    assert told["refused"] == "bits above Bits Stored are used, for an overlay or for padding"
    assert not told["path"].exists()


def _odd_frames(data: pydicom.Dataset) -> None:
    """Three frames of 35 bytes, and the byte that makes the length even."""
    data.Rows, data.Columns, data.NumberOfFrames = 5, 7, 3
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.PixelData = bytes(n * n * 3 & 0xFF for n in range(105)) + b"\0"
    data["PixelData"].VR = "OB"


@pytest.mark.parametrize("word", LOSSLESS)
def test_frames_of_odd_length(word: str, tmp_path: Path) -> None:
    path = edited("MR_small.dcm", _odd_frames, tmp_path)
    there = converted(path, word, tmp_path)
    assert all(offset % 2 == 0 for offset in parse_basic_offsets(read(there["path"]).PixelData))
    back = converted(there["path"], "none", tmp_path)
    assert read(back["path"]).PixelData == read(path).PixelData


def test_fragments_of_odd_length(tmp_path: Path) -> None:
    """Against the standard, but there are such files."""
    there = converted(edited("MR_small.dcm", _odd_frames, tmp_path), "jpeg-ls", tmp_path)
    data = read(there["path"])
    streams = [frame.rstrip(b"\0") for frame in pydicom.encaps.generate_frames(data.PixelData, number_of_frames=3)]
    assert any(len(stream) % 2 for stream in streams)
    item = b"\xfe\xff\x00\xe0"
    data.PixelData = item + bytes(4) + b"".join(item + len(each).to_bytes(4, "little") + each for each in streams)
    odd = tmp_path / "odd.dcm"
    data.save_as(odd)
    back = converted(odd, "none", tmp_path)
    assert read(back["path"]).PixelData == read(tmp_path / "edited-MR_small.dcm").PixelData


@pytest.mark.parametrize("word", ["jpeg-ls", "j2k-lossless", "rle"])
@pytest.mark.parametrize(
    "name", ["SC_rgb_small_odd_big_endian.dcm", "MR_small_bigendian.dcm", "emri_small_big_endian.dcm", "image_dfl.dcm"]
)
def test_big_endian_and_deflated_images_are_compressed(name: str, word: str, tmp_path: Path) -> None:
    told = converted(file_of(name), word, tmp_path)
    assert np.array_equal(pixels(converted(told["path"], "none", tmp_path)["path"]), pixels(file_of(name)))
    before, after = read(file_of(name)), read(told["path"])
    assert (before.PatientName, before.SOPInstanceUID) == (after.PatientName, after.SOPInstanceUID)


def test_a_codec_that_loses_something_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = codecs._ENCODERS["1.2.840.10008.1.2.4.80"]
    wrong = {"1.2.840.10008.1.2.4.80": lambda frame, image, wish: encode(frame + (frame == frame.max()), image, wish)}
    monkeypatch.setattr(codecs, "_ENCODERS", {**codecs._ENCODERS, **wrong})
    told = converted(file_of("MR2_UNCR.dcm"), "jpeg-ls", tmp_path)
    assert told["refused"] == "the codec lost something: other pixels come out than went in"
    assert "refused" not in converted(file_of("MR2_UNCR.dcm"), "jpeg-ls", tmp_path, verify=False)


def test_an_image_that_another_one_is_written_over_meanwhile_is_not_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.dcm"
    path.write_bytes(file_of("MR_small.dcm").read_bytes())
    run = convert._Work.run

    def overtaken(work: convert._Work, *arguments: Any) -> dict[str, Any]:
        with path.open("r+b") as file:
            file.seek(-2, 2)
            file.write(b"\1\1")
        return run(work, *arguments)

    monkeypatch.setattr(convert._Work, "run", overtaken)
    told = converted(path, "rle", tmp_path)
    assert told["damaged"] == "the file in the spool is damaged: its checksum is another one"
    assert not told["path"].exists()


def test_a_codec_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "find_spec", lambda module: None if module == "jpeg_ls" else module)
    told = converted(file_of("MR_small.dcm"), "jpeg-ls", tmp_path)
    assert told["refused"] == (
        'JPEG-LS Lossless needs a codec that is not installed ("jpeg_ls"): pip install "asyncroute[codecs]"'
    )
    assert "refused" not in converted(file_of("MR_small.dcm"), "rle", tmp_path)


# --- broken streams ---------------------------------------------------------------------------------------------------


def _cut(data: pydicom.Dataset) -> None:
    data.PixelData = encapsulate([next(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=1))[:300]])


def _wrong_rows(data: pydicom.Dataset) -> None:
    data.Rows += 1


def _byte_cells(data: pydicom.Dataset) -> None:
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit = 7


BROKEN: list[tuple[str, Any, str]] = [
    ("MR_small_RLE.dcm", _cut, "RLE segment 1 of a frame"),
    ("MR_small_jpeg_ls_lossless.dcm", _cut, "a frame is not JPEG-LS Lossless: "),
    ("MR_small_jp2klossless.dcm", _cut, "a frame is not JPEG 2000 Lossless: "),
    ("MR_small_jp2klossless.dcm", _byte_cells, "a frame has 16 bits a sample, Bits Allocated is 8"),
    ("MR_small_jpeg_ls_lossless.dcm", _byte_cells, "a frame has 16 bits a sample, Bits Allocated is 8"),
    ("SC_rgb_jpeg_gdcm.dcm", _wrong_rows, "a frame has the shape (100, 100, 3), the header says (101, 100, 3)"),
    ("MR_small.dcm", _wrong_rows, "the pixel data have 8192 bytes, 1 frames need 8320"),
    ("MR_truncated.dcm", None, "the pixel data have 8130 bytes instead of 8192"),
    ("emri_small_jpeg_2k_lossless_too_short.dcm", None, "the pixel data end without a delimiter"),
]


@pytest.mark.parametrize(("name", "edit", "why"), BROKEN)
def test_broken_images_are_held_in_the_codecs_words(name: str, edit: Edit | None, why: str, tmp_path: Path) -> None:
    path = edited(name, edit, tmp_path) if edit is not None else file_of(name)
    word = "none" if read(path).file_meta.TransferSyntaxUID.is_compressed else "jpeg-ls"
    told = converted(path, word, tmp_path)
    assert told.get("refused", "").startswith(why), told
    assert told["broken"]


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", ["SC_rgb_jpeg_dcmtk.dcm", "JPEG-LL.dcm", "JPGExtended.dcm", "MR_small.dcm"])
def test_streams_that_are_cut_off_are_broken(name: str, kept: float, tmp_path: Path) -> None:
    """Also those of which the codecs make up the rest without a word."""
    path = file_of(name)
    if name == "MR_small.dcm":
        path = converted(path, "htj2k-lossless", tmp_path)["path"]
    data = read(path)
    stream = next(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=1))
    data.PixelData = encapsulate([stream[: int(len(stream) * kept)]])
    data.save_as(cut := tmp_path / "cut.dcm")
    told = converted(cut, "none", tmp_path)
    assert told["broken"]
    assert told["refused"].startswith("a frame is cut off: its JPEG")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("SC_rgb_jpeg_dcmtk.dcm", "a frame is cut off: its JPEG stream ends before its last pixel"),
        ("JPEG-LL.dcm", "a frame is cut off: its JPEG stream ends before its last pixel"),
        ("JPGExtended.dcm", "a frame is cut off: its JPEG stream ends before its last pixel"),
        ("MR_small.dcm", "a frame is cut off: its JPEG 2000 stream is not as long as it says"),
        ("MR_small_RLE.dcm", "RLE segment 2 of a frame has 5482 bytes instead of 4096"),
    ],
)
def test_streams_with_a_gap_are_broken(name: str, why: str, tmp_path: Path) -> None:
    path = file_of(name)
    if name == "MR_small.dcm":
        path = converted(path, "htj2k-lossless", tmp_path)["path"]
    data = read(path)
    stream = next(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=1))
    middle = len(stream) // 2
    data.PixelData = encapsulate([stream[:middle] + stream[middle + len(stream) // 10 :]])
    data.save_as(path := tmp_path / "gap.dcm")
    told = converted(path, "none", tmp_path)
    assert (told["refused"], told["broken"]) == (why, True)


def test_a_stream_that_only_lacks_its_end_is_whole(tmp_path: Path) -> None:
    data = read(file_of("SC_rgb_jpeg_dcmtk.dcm"))
    stream = next(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=1))
    data.PixelData = encapsulate([stream[: stream.rindex(b"\xff\xd9")]])
    data.save_as(path := tmp_path / "no-end.dcm")
    whole = converted(file_of("SC_rgb_jpeg_dcmtk.dcm"), "none", tmp_path)["path"]
    assert np.array_equal(pixels(converted(path, "none", tmp_path)["path"]), pixels(whole))


def test_frames_in_several_fragments_are_put_together(tmp_path: Path) -> None:
    def split(data: pydicom.Dataset) -> None:
        streams = list(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=10))
        data.PixelData = encapsulate(streams, fragments_per_frame=3, has_bot=True)

    def no_table(data: pydicom.Dataset) -> None:
        streams = list(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=10))
        data.PixelData = encapsulate(streams, fragments_per_frame=3, has_bot=False)

    for edit in (split, no_table):
        path = edited("emri_small_jpeg_2k_lossless.dcm", edit, tmp_path)
        assert np.array_equal(pixels(converted(path, "none", tmp_path)["path"]), pixels(file_of("emri_small.dcm")))


def _no_count(data: pydicom.Dataset) -> None:
    del data.NumberOfFrames


def _one(data: pydicom.Dataset) -> None:
    """No table of offsets."""
    streams = list(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=10))
    data.PixelData, data.NumberOfFrames = encapsulate(streams, has_bot=False), "1"


@pytest.mark.parametrize("edit", [_no_count, _one])
@pytest.mark.parametrize(
    "name", ["emri_small_jpeg_2k_lossless.dcm", "emri_small_jpeg_ls_lossless.dcm", "emri_small_RLE.dcm"]
)
def test_frames_that_are_not_counted_are_not_lost(name: str, edit: Edit, tmp_path: Path) -> None:
    told = converted(edited(name, edit, tmp_path), "none", tmp_path)
    assert told["refused"] == "it has one frame by its Number of Frames, but more by its pixel data"


def test_native_frames_that_are_not_counted_are_not_lost(tmp_path: Path) -> None:
    path = edited("emri_small.dcm", _no_count, tmp_path)
    told = converted(path, "rle", tmp_path)
    assert told["refused"] == "the pixel data have 81920 bytes, of which Number of Frames tells 8192"
    assert read(converted(path, IMPLICIT, tmp_path)["path"]).PixelData == read(path).PixelData


# --- order, memory ----------------------------------------------------------------------------------------------------

JPEG, JLS = "1.2.840.10008.1.2.4.50", BY_WORD["jpeg-ls"]


@pytest.mark.parametrize(
    ("wish", "stored", "order"),
    [
        (Wish(), EXPLICIT, [EXPLICIT]),
        (Wish(transcode=True), JLS, [JLS, EXPLICIT, IMPLICIT]),
        (Wish("jpeg-ls"), EXPLICIT, [JLS, EXPLICIT, IMPLICIT]),
        (Wish("jpeg-ls"), JPEG, [JPEG, JLS, EXPLICIT, IMPLICIT]),
        (Wish("none"), JPEG, [EXPLICIT, IMPLICIT, JPEG]),
        (Wish("none"), IMPLICIT, [IMPLICIT, EXPLICIT]),
        (Wish("rle"), "1.2.840.10008.1.2.4.100", ["1.2.840.10008.1.2.4.100"]),  # MPEG-2: as it is
    ],
)
def test_wanted_then_as_stored_then_decoded(wish: Wish, stored: str, order: list[str]) -> None:
    assert list(wish.order(stored)) == order


def test_a_large_image_is_read_frame_by_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No read is larger than a header's beginning or a frame, and each frame is written before the next is read."""
    longest = []
    read_once = frames.Source.read

    def noted(self: frames.Source, at: int, length: int) -> bytes:
        longest.append(length)
        return read_once(self, at, length)

    monkeypatch.setattr(frames.Source, "read", noted)
    monkeypatch.setattr(frames, "_FIRST", 16 << 10)
    converted(file_of("emri_small.dcm"), "rle", tmp_path)
    assert max(longest[1:-1]) == 16 << 10  # the first read and the last are of the whole, for its checksum, by the MiB
    assert longest.count(64 * 64 * 2) == 10


def test_a_header_gives_back_what_it_was_made_of() -> None:
    header = header_of(file_of("MR_small.dcm"))
    assert Head(header, EXPLICIT_LE).encoded() == header


def test_a_broken_deflated_stream_is_broken(tmp_path: Path) -> None:
    data = file_of("image_dfl.dcm").read_bytes()
    path = tmp_path / "short.dcm"
    path.write_bytes(data[:-500])
    assert converted(path, "none", tmp_path)["refused"] == "the deflated data end too early"
    at = data.index(zlib.compress(b"")[:0] or data[-600:-590])
    path.write_bytes(data[:at] + b"\xff" * 600)
    assert converted(path, "none", tmp_path)["broken"]
