"""Into the first tier: what is there already, what collides, what is damaged, and what a crash left."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from asyncroute.archive import tier
from asyncroute.archive.base import Wanted
from asyncroute.archive.tier import Absent, Folder
from tests.support import synthetic
from tests.support.archiving import digests, digests_in, files_in
from tests.support.images import BytesSource, Image
from tests.support.ul import EXPLICIT_LE
from tests.unit.archive_parts import Bench, study


def other_bytes(image: Image) -> Image:
    """The same SOP instance with other pixels."""
    data = b"".join(image.chunks(1 << 20))
    changed = BytesSource(data[:-1] + bytes([data[-1] ^ 1]))
    return Image(image.name, image.sop_class, image.sop_instance, image.transfer_syntax, image.size, changed)


def without_study(text: str) -> Image:
    """An image that says hardly anything, with a name that leads out."""
    value = text.encode() + b" " * (len(text) & 1)
    data = struct.pack("<HH2sH", 0x0010, 0x0020, b"LO", len(value)) + value
    return Image("odd", synthetic.CT, "1.2.3.4", EXPLICIT_LE, len(data), BytesSource(data))


def copying(bench: Bench) -> None:
    """As where the tier is on another file system."""
    bench.spool.link = lambda *_: False  # type: ignore[method-assign]


@pytest.mark.parametrize("copies", [False, True])
def test_the_same_bytes_are_one_file_and_others_are_kept_beside(tmp_path: Path, copies: bool) -> None:
    made = Bench(tmp_path)
    if copies:
        copying(made)
    (image,) = study(1, images=1)
    other = other_bytes(image)
    assert made.keep(image, image) == [1, 2]
    assert made.keep(other) == [3]
    assert made.keep(image, other) == [4, 5]
    assert digests_in(made.paths[0]) == digests([image, other])
    assert [path.name for path in files_in(made.paths[0])] == sorted(
        f"{image.sop_instance}{more}.dcm" for more in ("", "~2")
    )
    assert [(found.images, found.study_uid) for found in made.index.find(Wanted(), 10)] == [
        (2, synthetic.uid("study1", "study", 1))
    ]
    assert not list((tmp_path / "data" / "spool").rglob("*.dcm"))
    made.close()


def test_a_sender_s_name_does_not_lead_out(tmp_path: Path) -> None:
    made = Bench(tmp_path, layout="{PatientID}/{SOPInstanceUID}.dcm")
    made.keep(without_study("../../out"))
    (path,) = files_in(made.paths[0])
    assert path.is_relative_to(made.paths[0])
    assert path.parent.parent == made.paths[0]
    (found,) = made.index.find(Wanted(patient_id="../../out"), 10)
    assert (found.study_uid, found.images) == ("1.2.3.4", 1)
    made.close()


def test_a_folder_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    made = Bench(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (made.paths[0] / "20240229").symlink_to(tmp_path / "elsewhere")
    assert made.keep(*study(1)) == []
    assert "a symbolic link" in made.intake.trouble
    assert not list((tmp_path / "elsewhere").iterdir())
    (made.paths[0] / "20240229").unlink()
    assert len(made.keep(*study(2))) == 3
    assert made.intake.trouble == ""
    made.close()


def test_a_file_that_was_damaged_in_the_spool_is_set_aside(tmp_path: Path) -> None:
    made = Bench(tmp_path)
    copying(made)
    batch = [made.spooled(image) for image in study(1)]
    with (tmp_path / "data" / "spool" / batch[1][1]).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    os.truncate(tmp_path / "data" / "spool" / batch[2][1], 500)
    assert sorted(made.release(batch)) == [1, 2, 3]
    assert digests_in(made.paths[0]) == digests(study(1)[:1])
    assert len(list((tmp_path / "data" / "orphans").iterdir())) == 2
    assert made.index.intents(1) == []
    made.close()


@pytest.mark.parametrize("whole", [True, False])
def test_what_a_crash_left_at_its_place(tmp_path: Path, whole: bool) -> None:
    made = Bench(tmp_path)
    (image,) = study(1, images=1)
    number, path = made.spooled(image)
    name = f"20240229/{synthetic.uid('study1', 'study', 1)}/{image.sop_instance}.dcm"
    made.index.intend([(1, name, None)])
    place = made.paths[0] / name
    place.parent.mkdir(parents=True)
    content = (tmp_path / "data" / "spool" / path).read_bytes()
    place.write_bytes(content if whole else content[:-7])
    (made.paths[0] / ".asyncroute" / "part").mkdir()
    (made.paths[0] / ".asyncroute" / "part" / "1.1").write_text("half")
    made.restart()
    assert made.release([(number, path)]) == [number]
    assert len(files_in(made.paths[0])) == 1 + (not whole), "what is not whole is nobody's, and stays"
    assert [kept.path for kept in made.index.after(0, None, 9)] == [name if whole else name[:-4] + "~2.dcm"]
    assert made.index.intents(1) == []
    assert not list((made.paths[0] / ".asyncroute" / "part").iterdir())
    made.close()


def test_a_disk_that_gives_other_bytes_back_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Bench(tmp_path)
    copying(made)
    settle = Folder._settle

    def rotten(folder: Folder, number: int) -> None:
        settle(folder, number)
        os.pwrite(number, b"\1\2\3", 900)

    monkeypatch.setattr(Folder, "_settle", rotten)
    assert made.keep(*study(1)) == []
    assert "what was written to" in made.intake.trouble
    assert "damaged" in made.intake.trouble
    assert not files_in(made.paths[0])
    made.close()


def test_a_disk_that_is_unmounted_between_two_files_is_noticed(tmp_path: Path) -> None:
    """What is below the mount may be on the spool's own file system, and takes the name."""
    mounted, away = tmp_path / "tier", tmp_path / "away"
    folder = Folder(1, mounted, tier.found(mounted, "power-loss"), "power-loss")
    file = tmp_path / "image"
    file.write_bytes(b"1")

    def unmounted(place: str) -> bool:
        mounted.rename(away)
        Path(place).parent.mkdir(parents=True)
        os.link(file, place)
        return True

    assert folder.link("study/one.dcm", unmounted)
    with pytest.raises(Absent, match="missing"):
        folder.sync(["study/one.dcm"])
