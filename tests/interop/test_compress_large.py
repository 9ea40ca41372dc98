"""Images of many frames, far larger than the memory of the router and of its workers, through the codecs."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames, parse_basic_offsets
from pydicom.pixels.decoders.rle import _rle_decode_frame

from tests.interop.test_compress import _workers
from tests.support import procfs, settings
from tests.support.converted import Array, converted, file_of, pixels, read
from tests.support.corpus import image_of
from tests.support.exact_receiver import ReceiverHost
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.router import Router

RLE, EXPLICIT = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1"
SIDE = 512
FRAME = SIDE * SIDE * 2
MOST_ROUTER = 300 * procfs.MIB
MOST_WORKER = 150 * procfs.MIB
"""Mostly numpy and the codecs themselves."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


def frame(slice_: Array, number: int) -> Array:
    """A CT slice that moves by a line from frame to frame."""
    return np.roll(slice_, number, axis=0)


def many_frames(folder: Path, frames: int) -> tuple[Path, Array]:
    """A multi-frame image made of a real CT slice; written frame by frame."""
    slice_ = pixels(file_of("693_UNCR.dcm"))
    assert slice_.shape == (SIDE, SIDE)
    data, of_slice = read(file_of("emri_small.dcm")), read(file_of("693_UNCR.dcm"))
    for keyword in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        setattr(data, keyword, getattr(of_slice, keyword))
    data.Rows = data.Columns = SIDE
    data.NumberOfFrames = frames
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    del data.PixelData
    path = folder / "large.dcm"
    data.save_as(path)
    with path.open("ab") as file:
        file.write(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, frames * FRAME))
        for number in range(frames):
            file.write(frame(slice_, number).astype("<i2").tobytes())
    return path, slice_


def check_memory(router: Router) -> None:
    """Of the router, and of each worker, which is still there."""
    ours, workers = procfs.memory(router.pid), [procfs.memory(pid) for pid in _workers(router.pid)]
    print(f"router {ours / procfs.MIB:.0f} MiB, workers {[round(each / procfs.MIB) for each in workers]} MiB at most")
    assert ours < MOST_ROUTER
    assert workers
    assert max(workers) < MOST_WORKER


@pytest.mark.parametrize("frames", [800, 4200], ids=["400-MB", "2-GB"])
def test_many_frames_are_compressed(
    frames: int, make_router: MakeRouter, receivers: ReceiverHost, tmp_path: Path
) -> None:
    """For two destinations, once; every frame is there, and a sample of them is what another decoder makes of it."""
    path, slice_ = many_frames(tmp_path, frames)
    end = receivers.receiver()
    router = make_router(
        destination=[
            settings.dicom("end", end.port, compress="rle", response_timeout="300s"),
            settings.folder("disk", tmp_path / "disk", compress="rle"),
        ],
        route=[settings.route("all", ["end", "disk"])],
    )
    router.codecs = True
    router.start()
    [image] = send_all(router.caller(timeout=600), [image_of(path)])
    router.wait_delivered(2, deadline=900)
    check_memory(router)
    assert router.status()["conversions"]["made"] == 1
    (stored,) = end.stored()
    assert (stored.sop_instance, stored.transfer_syntax) == (image.sop_instance, RLE)
    (made,) = (each for each in (tmp_path / "disk").rglob("*") if each.is_file())
    check_frames(made, slice_, frames)


def check_frames(path: Path, slice_: Array, frames: int) -> None:
    with path.open("rb") as file:
        file.seek(file.read(1 << 20).index(b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff") + 12)
        start = file.tell()
        assert len(parse_basic_offsets(file)) == frames
        file.seek(start)
        count = 0
        for number, stream in enumerate(generate_frames(file, number_of_frames=frames)):
            count += 1
            if number % 397 and number != frames - 1:
                continue
            cells = np.frombuffer(_rle_decode_frame(stream, SIDE, SIDE, 1, 16), "<i2").reshape(SIDE, SIDE)
            assert np.array_equal(cells, frame(slice_, number)), number
    assert count == frames


def test_many_frames_are_decoded(make_router: MakeRouter, tmp_path: Path) -> None:
    """What comes out is byte for byte what was compressed."""
    native, _ = many_frames(tmp_path, 800)
    compressed = converted(native, "rle", tmp_path)["path"]
    router = make_router(
        destination=[settings.folder("disk", tmp_path / "disk", compress="none")],
        route=[settings.route("all", ["disk"])],
    )
    router.codecs = True
    router.start()
    send_all(router.caller(timeout=600), [image_of(compressed)])
    router.wait_delivered(1, deadline=900)
    check_memory(router)
    (made,) = (each for each in (tmp_path / "disk").rglob("*") if each.is_file())
    with made.open("rb") as one, native.open("rb") as other:
        for file in (one, other):
            file.seek(-800 * FRAME, 2)
        while piece := one.read(1 << 20):
            assert piece == other.read(1 << 20)
