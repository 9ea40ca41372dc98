"""Files of batches: what is read of them, what is refused, and what becomes of sources."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asyncroute.batch import source
from asyncroute.batch.files import IN_PROGRESS, LINK, SPECIAL, Walk, read, signature, unfinished
from asyncroute.batch.finding import Finder
from asyncroute.wire.bare import NotDicom, start_of
from tests.support import synthetic
from tests.support.images import Image, part10_head, write_part10

IMAGE = synthetic.image("files", 1, synthetic.Kind(size=2_000))


def data_set(image: Image = IMAGE) -> bytes:
    return b"".join(image.chunks(1 << 20))


def head(image: Image = IMAGE) -> bytes:
    return part10_head(image.sop_class, image.sop_instance, image.transfer_syntax)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.tmp", True), ("a.tmp2343", True), ("a.TMP", True), ("a.part", True), ("a", False), ("a.tm", False)],
)
def test_names_in_progress(name: str, expected: bool) -> None:
    assert unfinished(name) is expected


@pytest.mark.parametrize("begin", [head(), b"\x55" * 128 + head()[128:], head()[128:], head()[132:], b""])
def test_an_image_with_or_without_preamble(begin: bytes) -> None:
    data = begin + data_set()
    start = start_of(data, len(data), last=True)
    assert start is not None
    assert data[start.data_offset :] == data_set()
    assert (start.sop_class_uid, start.sop_instance_uid) == (IMAGE.sop_class, IMAGE.sop_instance)
    assert start.bare == (not begin)


@pytest.mark.parametrize(
    ("data", "damaged"),
    [(b"", False), (b"hello", False), (bytes(500), False), (head()[:200], True), (head(), True), (b"PK\3\4", False)],
)
def test_what_is_no_image(data: bytes, damaged: bool) -> None:
    with pytest.raises(NotDicom) as caught:
        start_of(data, len(data), last=True)
    assert caught.value.damaged is damaged


def test_a_batch_is_walked_through_without_leaving_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    write_part10(IMAGE, tmp_path / "a" / "deep")
    (tmp_path / "a" / "link").symlink_to("/etc")
    (tmp_path / "a" / "x.tmp").mkdir()
    (tmp_path / "a" / ".cache").mkdir()
    os.mkfifo(tmp_path / "a" / "pipe")
    found = Walk(str(tmp_path / "a")).next(100)
    assert [(it.name, it.problem, it.hidden) for it in found] == [
        (".cache", "", True),
        (f"deep/{IMAGE.sop_instance}.dcm", "", False),
        ("link", LINK, False),
        ("pipe", SPECIAL, False),
        ("x.tmp", IN_PROGRESS, False),
    ]


def test_every_file_is_found_however_many_are_asked_for_at_a_time(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for number in range(50):
            (tmp_path / folder / f"{number:03d}").touch()
    for together in (1, 7, 100, 101):
        walk, found = Walk(str(tmp_path)), []
        while some := walk.next(together):
            found += [it.name for it in some]
        assert found == sorted(f"{path.parent.name}/{path.name}" for path in tmp_path.glob("*/*"))


def test_a_change_of_any_file_changes_the_signature(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number:03d}").touch()
    before = signature(str(tmp_path))
    for path in sorted(tmp_path.iterdir())[250:260]:
        path.write_text("more")
        before, last = signature(str(tmp_path)), before
        assert before != last, path.name


def test_the_bytes_of_the_data_set_are_what_is_read(tmp_path: Path) -> None:
    file = write_part10(IMAGE, tmp_path)
    (tmp_path / "z.txt").write_text("hello")
    found = Walk(str(tmp_path)).next(10)
    view = memoryview(bytearray(sum(it.size for it in found)))
    image, other = read(found, view)
    assert bytes(view[image.lo : image.hi]) == data_set()
    assert (other.problem, other.damaged) == ("is not a DICOM file", False)
    file.write_bytes(file.read_bytes() + b"more")
    (changed, _) = read(found, view)
    assert (changed.problem, changed.damaged) == ("cannot be read: it changed while it was read", True)


@pytest.mark.parametrize("after", ["delete", "move:"])
def test_a_source_that_has_changed_stays(tmp_path: Path, after: str) -> None:
    path = tmp_path / "set"
    path.mkdir()
    (path / "one").write_text("1")
    was = signature(str(path))
    (path / "late").write_text("2")
    with pytest.raises(source.Changed):
        source.dispose(str(path), 7, after + str(tmp_path / "done") if after == "move:" else after, was)
    assert sorted(it.name for it in path.iterdir()) == ["late", "one"]
    assert [it.name for it in tmp_path.iterdir()] == ["set"]


def test_a_source_is_moved_beside_what_is_there_already(tmp_path: Path) -> None:
    (tmp_path / "done" / "set").mkdir(parents=True)
    path = tmp_path / "set"
    path.mkdir()
    (path / "one").write_text("1")
    for _ in range(2):
        source.dispose(str(path), 7, f"move:{tmp_path / 'done'}", signature(str(path)) if path.exists() else 0)
    assert sorted(it.name for it in (tmp_path / "done").iterdir()) == ["set", "set.7"]


def test_a_rename_makes_ready_at_once_and_a_new_folder_waits(tmp_path: Path) -> None:
    finder = Finder((str(tmp_path),), 60, {}, False)
    (tmp_path / "x.tmp").mkdir()
    (tmp_path / "y").mkdir()
    assert finder.look() == []
    (tmp_path / "x.tmp").rename(tmp_path / "x")
    assert [entry.name for entry in finder.look()] == ["x"]
    assert finder.settling == 1
