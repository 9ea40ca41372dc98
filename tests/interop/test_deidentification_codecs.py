"""De-identification together with compression, and of images that come deflated or in big endian."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asyncroute.config import secrets
from tests.interop.test_deidentification import SENDER, study
from tests.support import peers, settings
from tests.support.converted import Array, converted, pixels, read
from tests.support.corpus import image_of
from tests.support.exact_sender import send_all
from tests.support.fixtures import MakeRouter
from tests.support.peers import StoreSCP

JLS, J2K, RLE = (f"1.2.840.10008.1.2.{end}" for end in ("4.80", "4.91", "5"))

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def encoded(path: Path, option: str) -> Path:
    """The same image in another encoding, by dcmtk."""
    target = path.with_suffix(f".{option}")
    done = peers.run(peers.program("dcmconv"), option, path, target)
    assert done.returncode == 0, done
    return target


def content(path: Path, folder: Path) -> tuple[bytes, Array]:
    """All bytes of a file that a reader could see, and its pixels."""
    plain = converted(path, "none", folder)["path"]
    return path.read_bytes() + plain.read_bytes(), pixels(plain)


def test_compressed_images_tell_nothing(make_router: MakeRouter, tmp_path: Path) -> None:
    """Three encodings come in; each destination's own goes out, with the same pixels and nothing of whom they show."""
    (tmp_path / "in").mkdir()
    paths, marks = study(tmp_path / "in")
    original = pixels(paths[0])
    paths[1:] = [encoded(path, option) for path, option in zip(paths[1:], ("+td", "+tb"), strict=True)]
    sent = b"".join(content(path, tmp_path)[0] for path in paths)
    assert not [mark for mark in marks if mark.encode() not in sent]
    secrets.create(tmp_path / "research.secret")
    wants = {"plain": {}, "rle": {"compress": "rle"}, "lossy": {"compress": "j2k"}}
    with StoreSCP(tmp_path / "storescp", "+xt") as storescp:
        router = make_router(
            destination=[
                settings.dicom("jls", storescp.port, calling_ae_title="RESEARCH", compress="jpeg-ls"),
                *(settings.folder(name, tmp_path / name, **want) for name, want in wants.items()),
            ],
            route=[settings.route("all", ["jls", *wants], transform=["research"])],
            transform={"research": {"secret_file": "../research.secret", "steps": [{"deidentify": "basic"}]}},
        )
        router.codecs = True
        router.start()
        send_all(replace(router.caller(), calling=SENDER), [image_of(path) for path in paths])
        router.wait_delivered(12)
        made = {name: [p for p in (tmp_path / name).rglob("*") if p.is_file()] for name in wants}
        made["jls"] = storescp.wait_files(3)
        (tmp_path / "plain-again").mkdir()
        for name, files in made.items():
            assert len(files) == 3, name
            for path in files:
                seen, cells = content(path, tmp_path / "plain-again")
                assert not [mark for mark in marks if mark.encode() in seen], (name, path)
                if name != "lossy":
                    assert np.array_equal(cells, original), (name, path)
        syntaxes = {
            name: {str(read(path).file_meta.TransferSyntaxUID) for path in files} for name, files in made.items()
        }
        assert syntaxes["jls"] == {JLS}
        assert syntaxes["rle"] == {RLE}
        assert syntaxes["lossy"] == {J2K}
        assert len(syntaxes["plain"]) == 3
        check_lossy(made)


def check_lossy(made: dict[str, list[Path]]) -> None:
    """What was made with a loss is another image, and names the de-identified one that it is made of."""
    plain = {str(read(path).SOPInstanceUID) for path in made["plain"]}
    lossy = [read(path) for path in made["lossy"]]
    assert plain == {str(read(path).SOPInstanceUID) for path in made["rle"]}
    assert not plain & {str(data.SOPInstanceUID) for data in lossy}
    assert {str(data.SourceImageSequence[0].ReferencedSOPInstanceUID) for data in lossy} == plain
    assert {data.LossyImageCompression for data in lossy} == {"01"}
    assert {data.PatientID for data in lossy} == {read(made["plain"][0]).PatientID}
