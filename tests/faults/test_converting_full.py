"""A disk that is full while an image is converted: the image waits, others go, nothing half made stays."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from tests.support import settings
from tests.support.converted import converted, file_of, read
from tests.support.corpus import image_of, named
from tests.support.exact_receiver import ReceiverHost
from tests.support.exact_sender import send_all
from tests.support.images import Image
from tests.support.small_disk import MIB, Filler, SmallDisk
from tests.support.waiting import wait_until

EXPLICIT = "1.2.840.10008.1.2.1"


def small_until_decoded(folder: Path) -> Image:
    """32 MiB of nothing, in a few bytes."""
    data = read(file_of("MR_small.dcm"))
    data.Rows = data.Columns = 4096
    data.PixelData = bytes(32 * MIB)
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    data.save_as(folder / "large.dcm")
    path: Path = converted(folder / "large.dcm", "rle", folder)["path"]
    assert path.stat().st_size < MIB
    return image_of(path)


@pytest.mark.long  # a conversion for which there was no space is tried again after half a minute
def test_a_conversion_for_which_there_is_no_space_waits(tmp_path: Path, receivers: ReceiverHost) -> None:
    end, folder = receivers.receiver(), tmp_path / "disk"
    with SmallDisk({folder: "64m"}) as disk:
        router = disk.router(
            tmp_path / "router",
            {
                "node": settings.node(data_dir=str(folder), min_free=0),
                "destination": [settings.dicom("end", end.port, compress="none")],
                "route": [settings.route("all", ["end"])],
            },
        )
        router.codecs = True
        router.start()
        try:
            image = small_until_decoded(tmp_path)
            filler = Filler(disk.inside(folder))
            filler.fill(leave=12 * MIB)
            send_all(router.caller(), [image])
            router.wait_status(lambda s: "No space left" in router.channel("end", s)["last_error"], 30, "it is told")
            wait_until(lambda: not list((disk.inside(folder) / "converted").iterdir()), 10, "nothing half made stays")
            send_all(router.caller(), named("CT_small.dcm"))
            router.wait_delivered(1)
            filler.remove()
            router.wait_delivered(2)
            assert {each.transfer_syntax for each in end.stored()} == {EXPLICIT}
        finally:
            router.kill()
            router.made.remove(router)
