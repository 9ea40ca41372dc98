"""Finding images in files and folders."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from asyncroute.cli.files import Found, ImageFile, examine, find
from asyncroute.core.errors import OurFault
from asyncroute.wire.part10 import NotPart10, build_meta
from tests.support import corpus
from tests.support.images import Image, write_part10
from tests.support.synthetic import CT, image
from tests.support.ul import EXPLICIT_LE

SOP_CLASS, SOP_INSTANCE = (0x0008, 0x0016), (0x0008, 0x0018)


def element(tag: tuple[int, int], vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", *tag, vr, len(value)) + value


def names(found: Found) -> list[str]:
    return [image.path.name for image in found.images]


def write(path: Path, meta: bytes, data: bytes = b"\x08\0\x60\0CS\x02\0CT") -> Path:
    path.write_bytes(meta + data)
    return path


def test_what_is_said_of_an_image(tmp_path: Path) -> None:
    made = image("files", 1)
    path = write_part10(made, tmp_path)
    found = examine(path)
    offset = path.stat().st_size - made.size
    assert found == ImageFile(path, made.sop_class, made.sop_instance, made.transfer_syntax, offset, made.size)


@pytest.mark.parametrize("real", corpus.storable(), ids=lambda real: real.name)
def test_real_images(real: Image) -> None:
    found = examine(corpus.path_of(real))
    assert (found.sop_class, found.transfer_syntax, found.size) == (real.sop_class, real.transfer_syntax, real.size)
    assert found.sop_instance == real.sop_instance


def test_folders_are_walked_in_order_and_nothing_comes_twice(tmp_path: Path) -> None:
    meta = build_meta(CT, "1.2.3", EXPLICIT_LE)
    for name in ("b/2.dcm", "b/1.dcm", "a/9.dcm", "z.dcm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, meta)
    assert names(find([tmp_path])) == ["z.dcm", "9.dcm", "1.dcm", "2.dcm"]
    assert names(find([tmp_path / "b" / "2.dcm", tmp_path / "b", tmp_path / "b"])) == ["2.dcm", "1.dcm"]


def test_the_data_set_knows_better_than_its_file_meta(tmp_path: Path) -> None:
    own = element(SOP_CLASS, b"UI", b"1.2.840.10008.5.1.4.1.1.4\0") + element(SOP_INSTANCE, b"UI", b"9.8.7\0")
    found = examine(write(tmp_path / "a", build_meta(CT, "1.2.3", EXPLICIT_LE), own + element((8, 0x60), b"CS", b"MR")))
    assert (found.sop_class, found.sop_instance) == ("1.2.840.10008.5.1.4.1.1.4", "9.8.7")


@pytest.mark.parametrize("value", [b"", b"not a UID!", b"1" * 70])
def test_its_file_meta_helps_where_the_data_set_does_not(tmp_path: Path, value: bytes) -> None:
    data = element(SOP_INSTANCE, b"UI", value + b"\0" * (len(value) & 1)) + element((8, 0x60), b"CS", b"CT")
    found = examine(write(tmp_path / "a", build_meta(CT, "1.2.3", EXPLICIT_LE), data))
    assert (found.sop_class, found.sop_instance) == (CT, "1.2.3")


def test_a_long_file_meta(tmp_path: Path) -> None:
    meta = build_meta(CT, "1.2.3", EXPLICIT_LE, private=bytes(40_000))
    assert examine(write(tmp_path / "a", meta)).offset == len(meta)


SKIPPED = [
    (b"", "not a DICOM Part 10 file"),
    (b"plain text\n" * 50, "not a DICOM Part 10 file"),
    (build_meta("1.2.840.10008.1.3.10", "1.2.3", EXPLICIT_LE) + b"\4\0\0\0", "a DICOMDIR"),
]

FAILED = [
    (build_meta("", "1.2.3", EXPLICIT_LE) + b"\x08\0\x60\0CS\x02\0CT", "it has no SOP Class UID"),
    (build_meta(CT, "", EXPLICIT_LE) + b"\x08\0\x60\0CS\x02\0CT", "it has no SOP Instance UID"),
    (build_meta(CT, "abc", EXPLICIT_LE) + b"\x08\0\x60\0CS\x02\0CT", "it has an invalid SOP Instance UID"),
    (build_meta(CT, "1.2.3", EXPLICIT_LE), "no data set behind"),
    (build_meta(CT, "1.2.3", EXPLICIT_LE)[:180], "the File Meta Information goes on beyond"),
]


@pytest.mark.parametrize(("content", "why"), SKIPPED)
def test_what_is_no_image_is_skipped_with_its_reason(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "a").write_bytes(content)
    found = find([tmp_path])
    assert (found.images, found.failed) == ([], [])
    assert [(path, why in text) for path, text in found.skipped] == [(tmp_path / "a", True)]


@pytest.mark.parametrize(("content", "why"), FAILED)
def test_an_image_that_lacks_something_has_failed(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "a").write_bytes(content)
    found = find([tmp_path])
    assert (found.images, found.skipped) == ([], [])
    assert [(path, why in text) for path, text in found.failed] == [(tmp_path / "a", True)]


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = find([tmp_path])
    assert [(path.name, why) for path, why in found.skipped] == [("pipe", "not a regular file")]
    assert [(path.name, why) for path, why in found.failed] == [("dangling", "a link to nothing")]


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OurFault, match="no such file or folder"):
        find([tmp_path, tmp_path / "none"])
    with pytest.raises(NotPart10):
        examine(tmp_path)
