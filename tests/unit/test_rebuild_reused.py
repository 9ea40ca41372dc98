"""Rebuilding, and starting, where images were written over others and the journal lost what it knew of that."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from asyncroute.core.model import Settlement
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Group
from asyncroute.rebuild.journal import rebuild
from tests.contract.made import T0
from tests.support import stored, synthetic
from tests.support.stored import Stored


def stale(folder: Path, tmp_path: Path, how: str) -> int:
    """A data_dir whose log was damaged: image 2 was acknowledged and is in the file of image 1, which is done."""
    one = synthetic.series("s", 2)
    with Stored(folder) as opened:
        (a,) = opened.admit([one[0]])
    # closing has written the log back: image 1 is owed in journal.db
    opened = Stored(folder)
    try:
        opened.recover()
        settled = [Settlement(a.id, to, DeliveryState.DELIVERED, 1, T0, 0) for to in "ab"]
        ((number, path),) = opened.journal.commit(Group(settlements=settled)).releasable
        assert opened.spool.release(path, number)
        opened.journal.commit(Group(released=[number]))
        opened.spool.spare([path])
        (b,) = opened.admit([one[1]])
        assert b.path == a.path
        shutil.copytree(folder, tmp_path / "crashed")  # kill -9
    finally:
        opened.close()
    log = tmp_path / "crashed" / "journal.db-wal"
    assert log.stat().st_size > 0
    if how == "removed":
        log.unlink()
        (tmp_path / "crashed" / "journal.db-shm").unlink(missing_ok=True)
    elif how == "header":
        with log.open("r+b") as file:
            file.write(b"\0" * 32)
    return b.id


@pytest.mark.parametrize("how", ["whole", "header", "removed"])
def test_rebuild_of_a_journal_whose_log_is_damaged(tmp_path: Path, how: str) -> None:
    number = stale(tmp_path / "data", tmp_path, how)
    data = tmp_path / "crashed"
    rebuild(stored.config(data), anew=True)
    for _ in range(2):
        with Stored(data) as opened:
            opened.recover()
            owed = [d for d in opened.claims() if d.instance_id == number]
            assert [d.destination for d in owed] == ["a", "b"]
            assert all(opened.sent(d) for d in owed)
        assert rebuild(stored.config(data)).reason == ""


def test_a_start_sets_the_image_aside(tmp_path: Path) -> None:
    number = stale(tmp_path / "data", tmp_path, "removed")
    with Stored(tmp_path / "crashed") as opened:
        found = opened.recover()
        assert (found.orphans, found.lost) == (1, 1)
        assert opened.orphans() == {number}
    report = rebuild(stored.config(tmp_path / "crashed"))
    assert report.orphans == 1


def test_two_whole_images_of_one_number(tmp_path: Path) -> None:
    """Different images; each was acknowledged by a journal that has been lost."""
    data = tmp_path / "data"
    with Stored(data) as opened:
        (one,) = opened.admit([synthetic.image("one", 0)])
    with Stored(tmp_path / "other") as opened:
        (two,) = opened.admit([synthetic.image("two", 0)])
        assert two.id == one.id
        shutil.copyfile(opened.spool.root / two.path, data / "spool" / "000000" / "00000009.dcm")
    (data / "journal.db").unlink()
    rebuild(stored.config(data))
    with Stored(data) as opened:
        opened.recover()
        assert {d.sop_instance_uid for d in opened.claims()} == {one.sop_instance_uid, two.sop_instance_uid}
        assert all(opened.sent(d) for d in opened.claims())


def test_a_copy_is_no_second_image(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Stored(data) as opened:
        (one,) = opened.admit([synthetic.image("one", 0)])
        shutil.copyfile(opened.spool.root / one.path, data / "spool" / "000000" / "00000009.dcm")
    (data / "journal.db").unlink()
    report = rebuild(stored.config(data))
    assert (report.images, report.orphans, report.known) == (1, 0, 1)
