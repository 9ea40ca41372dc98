"""Moves from tier to tier, and the end: with real files, an index, and a clock that is asked for."""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from asyncroute.archive.base import Wanted
from asyncroute.config.archive import parse_moment
from asyncroute.config.hours import parse_hours
from asyncroute.core.archiving import MoveIn
from tests.support import synthetic
from tests.support.archiving import digests, digests_in, files_in
from tests.unit.archive_parts import Bench, study

NEVER = MoveIn(older_than=1e9)
NOW = MoveIn(older_than=0.0)


def bench(folder: Path, *move_in: MoveIn, **more: object) -> Bench:
    return Bench(folder, *move_in, **more)  # type: ignore[arg-type]


def made_uid(number: int) -> str:
    return synthetic.uid(f"study{number}", "study", number)


def moved(made: Bench) -> None:
    made.mover.work(made.shelves)


def test_what_is_old_enough_moves(tmp_path: Path) -> None:
    made = bench(tmp_path, NEVER)
    images = study(1) + study(2)
    made.keep(*images)
    moved(made)
    assert digests_in(tmp_path / "t1") == digests(images)
    names = [path.relative_to(tmp_path / "t1") for path in files_in(tmp_path / "t1")]
    made.change(move_in=NOW)
    moved(made)
    assert digests_in(tmp_path / "t2") == digests(images)
    assert [path.relative_to(tmp_path / "t2") for path in files_in(tmp_path / "t2")] == names
    assert [path.name for path in (tmp_path / "t1").iterdir()] == [".asyncroute"], "empty folders go, too"
    assert [(t.images, t.studies) for t in made.index.totals()] == [(0, 0), (6, 2)]
    made.close()


def test_what_a_crash_left_half_written_in_a_later_tier_goes(tmp_path: Path) -> None:
    made = bench(tmp_path, NEVER)
    parts = tmp_path / "t2" / ".asyncroute" / "part"
    parts.mkdir(exist_ok=True)
    (parts / "7.4711").write_bytes(b"half")
    made.keep(*study(1))
    moved(made)
    assert list(parts.iterdir()) == []
    made.close()


def at(text: str) -> MoveIn:
    return MoveIn(at=(parse_moment(text),))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The wall clock that the archive sees."""
    now = [time.time()]
    for module in ("intake", "mover"):
        monkeypatch.setattr(f"asyncroute.archive.{module}.time", lambda: now[0])
    return now


def berlin(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp()


def test_everything_moves_at_a_time_of_day(tmp_path: Path, clock: list[float]) -> None:
    made = bench(tmp_path, at("02:00 Europe/Berlin"))
    clock[0] = berlin("2026-06-01 12:00")
    made.keep(*study(1))
    moved(made)
    clock[0] = berlin("2026-06-02 01:59")
    moved(made)
    assert not files_in(tmp_path / "t2")
    clock[0] = berlin("2026-06-02 02:00")
    made.keep(*study(2))
    moved(made)
    assert digests_in(tmp_path / "t2") == digests(study(1)), "what comes later is for the next night"
    clock[0] = berlin("2026-06-02 23:00")
    moved(made)
    assert digests_in(tmp_path / "t1") == digests(study(2))
    made.restart()
    clock[0] = berlin("2026-06-05 12:00")  # no router ran at two o'clock
    moved(made)
    assert not files_in(tmp_path / "t1"), "it is made up for"
    made.close()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("2026-03-29 01:59", "2026-03-29 03:00"),  # the clock skips 02:30: it is the moment of the jump
        ("2026-10-25 02:29", "2026-10-25 02:30"),  # it comes twice: the first one counts
    ],
)
def test_the_time_of_day_when_the_clock_is_changed(tmp_path: Path, clock: list[float], before: str, after: str) -> None:
    made = bench(tmp_path, at("02:30 Europe/Berlin"))
    clock[0] = berlin(before) - 3600
    made.keep(*study(1))
    moved(made)
    clock[0] = berlin(before)
    moved(made)
    assert not files_in(tmp_path / "t2")
    clock[0] = berlin(after)
    moved(made)
    assert digests_in(tmp_path / "t2") == digests(study(1))
    made.keep(*study(2))
    clock[0] = berlin(after) + 3601  # where it comes twice, this is the second time
    moved(made)
    assert digests_in(tmp_path / "t1") == digests(study(2))
    made.close()


def test_a_clock_that_was_ahead_for_a_while_stops_nothing(tmp_path: Path, clock: list[float]) -> None:
    made = bench(tmp_path, at("02:00 Europe/Berlin"))
    clock[0] = berlin("2030-01-01 12:00")
    moved(made)
    clock[0] = berlin("2026-06-01 12:00")
    made.keep(*study(1))
    moved(made)
    clock[0] = berlin("2026-06-02 02:00")
    moved(made)
    assert digests_in(tmp_path / "t2") == digests(study(1))
    made.close()


def test_nothing_moves_outside_the_hours(tmp_path: Path, clock: list[float]) -> None:
    made = bench(tmp_path, MoveIn(older_than=0.0, hours=parse_hours(["01:00-05:00 Europe/Berlin"])))
    clock[0] = berlin("2026-06-01 12:00")
    made.keep(*study(1))
    clock[0] = berlin("2026-06-01 12:01")
    moved(made)
    assert not files_in(tmp_path / "t2")
    (state,) = made.mover.states.values()
    assert (state["state"], state["until"]) == ("closed", berlin("2026-06-02 01:00"))
    clock[0] = berlin("2026-06-02 01:00")
    moved(made)
    assert digests_in(tmp_path / "t2") == digests(study(1))
    made.close()


def test_the_oldest_move_until_there_is_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench(tmp_path, MoveIn(below_free=1000))
    for number in range(4):
        made.keep(*study(number))
    source = made.shelves.all[0].folder
    assert source is not None
    monkeypatch.setattr(source, "device", lambda: -1)  # as if it were another file system
    monkeypatch.setattr(source, "free", lambda: 2000 - 300 * len(files_in(tmp_path / "t1")) // 3)
    moved(made)
    assert digests_in(tmp_path / "t2") == digests(study(0))
    assert made.mover.states[made.index.totals()[1].tier]["state"] == "ok"
    made.close()


def test_below_free_on_one_file_system_says_that_it_does_nothing(tmp_path: Path) -> None:
    made = bench(tmp_path, MoveIn(below_free=1 << 60))
    made.keep(*study(0))
    moved(made)
    assert not files_in(tmp_path / "t2")
    (state,) = made.mover.states.values()
    assert "same file system" in str(state["why"])
    made.close()


def test_whole_studies_end_when_they_were_kept_long_enough(tmp_path: Path, clock: list[float]) -> None:
    clock[0] = berlin("2026-06-01 12:00")
    made = bench(tmp_path, NEVER, keep=3600.0)
    made.keep(*study(1), *study(2))
    clock[0] += 1800
    made.keep(*study(2, images=5)[3:])
    clock[0] += 1801
    made.restart()
    moved(made)
    assert digests_in(tmp_path / "t1") == digests(study(2, images=5)), "a study is as old as its last image"
    assert [found.study_uid for found in made.index.find(Wanted(), 10)] == [made_uid(2)]
    clock[0] += 1801
    moved(made)
    assert not files_in(tmp_path / "t1")
    made.close()


def test_what_is_not_what_was_received_does_not_move(tmp_path: Path) -> None:
    made = bench(tmp_path, NOW)
    images = study(1, images=4)
    made.keep(*images)
    source = made.shelves.all[0].folder
    assert source is not None
    gone, damaged, other, _ = files_in(tmp_path / "t1")
    gone.unlink()
    with damaged.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff" if damaged.read_bytes()[-1] != 0xFF else b"\0")
    other.write_text("no image at all")
    source.link_from = lambda *_: False  # type: ignore[method-assign]
    target = made.shelves.all[1].folder
    assert target is not None
    target.link_from = lambda *_: False  # type: ignore[method-assign]
    moved(made)
    assert len(files_in(tmp_path / "t2")) == 1
    assert sorted(files_in(tmp_path / "t1")) == sorted([damaged, other]), "evidence stays where it is"
    wrong = {image.path: image.wrong.split(":")[0] for image in made.index.after(0, None, 10) if image.wrong}
    names = [str(path.relative_to(tmp_path / "t1")) for path in (gone, damaged, other)]
    assert wrong == dict(zip(names, ("missing", "damaged", "changed"), strict=True))
    moved(made)
    made.close()


def test_a_tier_that_is_not_there_loses_nothing(tmp_path: Path) -> None:
    made = bench(tmp_path, NOW)
    (tmp_path / "t2").rename(tmp_path / "away")
    made.keep(*study(1))
    moved(made)
    assert digests_in(tmp_path / "t1") == digests(study(1))
    made.shelves.all[1].look()
    assert made.shelves.all[1].why == f"missing: there is no folder {tmp_path / 't2'}"
    (tmp_path / "t2").mkdir()  # an empty mount point
    moved(made)
    assert "is not the tier's folder (is its disk mounted?)" in made.shelves.all[1].why
    made.restart()
    moved(made)
    assert not files_in(tmp_path / "t2"), "also after a restart"
    (tmp_path / "t2").rmdir()
    (tmp_path / "away").rename(tmp_path / "t2")
    moved(made)
    assert digests_in(tmp_path / "t2") == digests(study(1))
    made.close()
