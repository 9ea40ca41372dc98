"""A journal out of the spool: what is queued, what is not, and that a kill at any step changes nothing."""

from __future__ import annotations

import os
import random
import shutil
import signal
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asyncroute.core.errors import OurFault, StorageFault
from asyncroute.core.model import Instance, RouteHit
from asyncroute.core.numbered import file_path
from asyncroute.journal.base import Group, Reroute
from asyncroute.journal.examine import REBUILDING_MARK
from asyncroute.journal.sqlite import SqliteJournal
from asyncroute.rebuild.journal import rebuild
from asyncroute.rebuild.report import Report
from tests.support import stored, synthetic
from tests.support.stored import Expected, Stored, Verdict

PAGE = 4096


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Expected]:
    folder = tmp_path_factory.mktemp("stored") / "data"
    return folder, stored.make(folder, live=12, history=30)


@pytest.fixture
def data(template: tuple[Path, Expected], tmp_path: Path) -> Path:
    """A stopped router's folder."""
    return stored.copy(template[0], tmp_path / "data")


@pytest.fixture
def expected(template: tuple[Path, Expected]) -> Expected:
    return template[1]


def spoil(folder: Path) -> None:
    """The root page of a table."""
    with (folder / "journal.db").open("r+b") as file:
        file.seek(2 * PAGE)
        file.write(bytes(64))


def file_of(folder: Path, number: int) -> Path:
    return folder / "spool" / file_path(number)


def own(path: Path) -> Path:
    """Make the file one of its own: the copies of the template share theirs."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    return path


def flip(path: Path, at: int) -> None:
    content = bytearray(own(path).read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def verdict_of(folder: Path, expected: Expected) -> Verdict:
    with Stored(folder) as opened:
        opened.recover()
        return stored.judge(opened, expected)


def set_aside(folder: Path, number: int) -> Path:
    """Make an orphan of an image that the journal does not know."""
    (folder / "orphans").mkdir(exist_ok=True)
    return Path(shutil.move(file_of(folder, number), folder / "orphans" / f"{number:08d}.dcm"))


# --- a sound journal --------------------------------------------------------------------------------------------------


def test_a_sound_journal_stays(data: Path, expected: Expected) -> None:
    before = stored.query(data / "journal.db", "SELECT * FROM delivery")
    assert rebuild(stored.config(data)) == Report()
    assert stored.query(data / "journal.db", "SELECT * FROM delivery") == before
    assert not list(data.glob("damaged-*"))
    assert verdict_of(data, expected).lost == []


def test_orphans_are_taken_in_by_their_own_facts(tmp_path: Path) -> None:
    images = synthetic.mixed("orphans", 6)
    with Stored(tmp_path) as opened:
        made = [opened._written(image) for image in images]  # and never journaled
    with Stored(tmp_path) as opened:
        assert opened.recover().orphans == 6
    report = rebuild(stored.config(tmp_path))
    assert (report.reason, report.images, report.orphans, report.held, report.evidence) == ("", 6, 6, 1, "")
    assert report.queued == {"a": 5, "b": 5}
    expected = Expected(dict(zip([it.id for it in made], images, strict=True)))
    expected.owed = {(it.id, to) for it in made[:4] + made[5:] for to in "ab"}
    expected.held = {made[4].id}
    found = verdict_of(tmp_path, expected)
    assert (found.lost, found.wrong, found.sent["orphans"]) == ([], [], 0)
    with Stored(tmp_path) as opened:
        opened.recover()
        assert {(d.calling_aet, d.called_aet) for d in opened.claims()} == {("CT_A", "ASYNCROUTE")}
        assert not opened.orphans()
        rows = opened.rows()
    assert {row.queued_at for row in rows} <= {it.received_at for it in made}
    assert {row.route for row in rows} == {"all"}
    assert rebuild(stored.config(tmp_path)) == Report()


def test_orphans_that_are_no_whole_images_are_set_aside(tmp_path: Path) -> None:
    with Stored(tmp_path) as opened:
        for image in synthetic.series("orphans", 3):
            opened._written(image)
    with Stored(tmp_path) as opened:
        opened.recover()
    cut, altered, _ = sorted((tmp_path / "orphans").iterdir())
    os.truncate(cut, cut.stat().st_size - 1)
    flip(altered, altered.stat().st_size - 10)
    (tmp_path / "orphans" / "notes.txt").write_text("mine")
    report = rebuild(stored.config(tmp_path))
    assert (report.images, report.damaged) == (1, 3)
    assert {path.name for path in Path(report.evidence, "orphans").iterdir()} == {cut.name, altered.name, "notes.txt"}
    assert not list((tmp_path / "orphans").iterdir())


def test_an_orphan_whose_number_is_taken_gets_a_new_one(data: Path, expected: Expected, tmp_path: Path) -> None:
    other = tmp_path / "other"
    image = synthetic.image("elsewhere", 0)
    with Stored(other) as opened:
        made = opened._written(image)
        assert made.id == 1  # the journal has released its own number 1 long ago
    (data / "orphans").mkdir()
    shutil.copyfile(file_of(other, 1), data / "orphans" / "00000001.dcm.7")
    report = rebuild(stored.config(data))
    assert (report.images, report.orphans, report.queued) == (1, 1, {"a": 1, "b": 1})
    with Stored(data) as opened:
        opened.recover()
        (delivery,) = (d for d in opened.claims() if d.sop_instance_uid == image.sop_instance and d.destination == "a")
        assert delivery.instance_id > max(expected.images)
        assert opened.sent(delivery) == image.identity
    assert (Path(report.evidence) / "orphans" / "00000001.dcm.7").exists()


def test_an_orphan_that_the_journal_waits_for_goes_back_to_its_place(data: Path, expected: Expected) -> None:
    number = min(n for n, _ in expected.owed)
    set_aside(data, number)
    with Stored(data) as opened:
        assert opened.recover().lost == 1
    assert rebuild(stored.config(data)).orphans == 1
    assert verdict_of(data, expected).lost == []
    with Stored(data) as opened:
        opened.recover()
        assert {to for d in opened.claims() if d.instance_id == number for to in [d.destination]} >= {"b"}


def test_an_orphan_that_the_journal_is_done_with_is_set_aside(tmp_path: Path) -> None:
    with Stored(tmp_path) as opened:
        (made,) = opened.admit([synthetic.image("one", 0)])
        content = (opened.spool.root / made.path).read_bytes()
        opened.release([made.id])
    (tmp_path / "orphans").mkdir()
    (tmp_path / "orphans" / "00000001.dcm").write_bytes(content)
    report = rebuild(stored.config(tmp_path))
    assert (report.images, report.orphans, report.known) == (0, 0, 1)
    assert (Path(report.evidence) / "orphans" / "00000001.dcm").read_bytes() == content


# --- a new one --------------------------------------------------------------------------------------------------------


def test_a_damaged_journal_is_kept_and_its_images_queued(data: Path, expected: Expected) -> None:
    spoil(data)
    evidence = (data / "journal.db").read_bytes()
    report = rebuild(stored.config(data))
    assert "it is damaged" in report.reason
    assert (Path(report.evidence) / "journal.db").read_bytes() == evidence
    assert report.images == len(expected.images)
    assert report.held == len(expected.held)
    found = verdict_of(data, expected)
    assert found.lost == found.wrong == []
    assert rebuild(stored.config(data)) == Report()


def test_what_the_old_journal_knows_is_kept(data: Path, expected: Expected) -> None:
    report = rebuild(stored.config(data), anew=True)
    assert (report.reason, report.over, report.failed) == ("asked for", len(expected.over), len(expected.dead))
    assert sum(report.queued.values()) == len(expected.owed)
    with Stored(data) as opened:
        opened.recover()
        going = {(d.instance_id, d.destination) for d in opened.claims()}
        dead = {(r.instance_id, r.destination): r for r in opened.rows() if r.state == "failed"}
    assert (going, set(dead)) == (expected.owed, expected.dead)
    assert {(row.attempts, row.last_status, row.last_error) for row in dead.values()} == {(3, 0xA900, "no")}


def test_destinations_that_only_the_old_journal_names_are_kept(tmp_path: Path) -> None:
    with Stored(tmp_path) as opened:
        opened.admit([synthetic.image("one", 0)])
    other = stored.config(tmp_path, stored.ROUTES.replace('to = ["a", "b"]', 'to = ["b"]'))
    assert rebuild(other, anew=True).queued == {"a": 1, "b": 1}


def test_held_images_follow_the_routes_of_today(data: Path, expected: Expected) -> None:
    everything = stored.config(data, '[[route]]\nname = "all"\nto = ["a", "b"]\n')
    report = rebuild(everything, anew=True)
    assert (report.held, sum(report.queued.values())) == (0, len(expected.owed) + 2 * len(expected.held))


def test_what_was_held_and_sent_by_a_person_stays_sent(data: Path, expected: Expected) -> None:
    number = min(expected.held)
    journal = SqliteJournal.open(data)
    held = [row.id for row in journal.unreleased(0, 1000) if row.held]
    assert number in held
    journal.commit(Group(actions=[Reroute(number, (RouteHit("by hand", "a"),))]))
    journal.close()
    report = rebuild(stored.config(data), anew=True)
    assert report.held == len(expected.held) - 1


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_lost_journal(data: Path, expected: Expected, how: str) -> None:
    if how == "missing":
        (data / "journal.db").unlink()
    else:
        os.truncate(data / "journal.db", 0)
    report = rebuild(stored.config(data))
    assert (report.reason, report.images) == ("there is no journal", len(expected.images))
    found = verdict_of(data, expected)
    assert found.lost == found.wrong == []
    assert not found.sent["orphans"]


def test_damaged_files_become_dead_letters_or_evidence(data: Path, expected: Expected) -> None:
    wrong, gone, headless, half = sorted(n for n, to in expected.owed if to == "b")[:4]
    flip(file_of(data, wrong), -10)
    file_of(data, gone).unlink()
    flip(file_of(data, headless), 700)
    os.truncate(own(file_of(data, half)), 400)
    report = rebuild(stored.config(data), anew=True)
    assert (report.missing, report.damaged) == (1, 0)
    with Stored(data) as opened:
        opened.recover()
        told = {r.instance_id: r.last_error for r in opened.rows() if r.state == "failed" and r.destination == "b"}
    assert set(told) >= {wrong, gone, half}
    assert "checksum" in told[wrong]
    assert "missing" in told[gone]
    assert "no valid header" in told[half]
    found = verdict_of(data, expected)
    assert found.lost == found.wrong == []


def test_half_written_files_of_nobody_are_moved_not_deleted(data: Path) -> None:
    half = file_of(data, 1999)
    half.parent.mkdir(exist_ok=True)
    half.write_bytes(b"half of it")
    report = rebuild(stored.config(data), anew=True)
    assert report.damaged == 1
    assert (Path(report.evidence) / "spool" / half.name).read_bytes() == b"half of it"
    assert not half.exists()


def test_bytes_behind_64_kib_are_looked_at_for_routes(tmp_path: Path) -> None:
    """A private element of 100 kB stands before the attribute that the route asks for."""
    image = synthetic.image("long", 0)
    data = b"".join(image.chunks(1 << 20))
    at = data.index(struct.pack("<HH", 0x10, 0x20))
    long = data[:at] + struct.pack("<HH2sxxI", 0x0009, 0x1001, b"OB", 100_000) + bytes(100_000) + data[at:]
    asks = stored.config(tmp_path, '[[route]]\nname = "p"\nto = ["a"]\nmatch = { PatientID = "PAT-1" }\n')
    with Stored(tmp_path) as opened:
        number, path = opened.spool.allocate()
        made = Instance(number, stored.SOURCE, image.sop_class, "1.2.3", image.transfer_syntax, 1.0, path)
        assert opened.spool.write([(made, [long])]) == {}
    assert rebuild(asks, anew=True).queued == {"a": 1}


# --- what is refused --------------------------------------------------------------------------------------------------


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OurFault, match="there is no such folder"):
        rebuild(stored.config(tmp_path / "none"))


@pytest.mark.parametrize("anew", [False, True])
def test_a_running_router_keeps_its_journal(data: Path, anew: bool) -> None:
    with Stored(data), pytest.raises(StorageFault, match="in use by another asyncroute"):
        rebuild(stored.config(data), anew)
    assert not list(data.glob("damaged-*"))


def test_an_interrupted_rebuild_refuses_to_be_opened(data: Path) -> None:
    (data / REBUILDING_MARK).write_text("damaged-1\nbuilding\n")
    with pytest.raises(StorageFault, match="was interrupted"):
        SqliteJournal.open(data)


# --- kill -9 ----------------------------------------------------------------------------------------------------------

STEPS = ("rename", "replace", "fsync", "fdatasync", "unlink", "mkdir", "rmdir")


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Do ``work`` in a process that is killed before its ``step``-th change on disk; False: it came to its end."""
    child = os.fork()
    if not child:
        try:
            _count_down(step)
            work()
        except BaseException:
            os._exit(2)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _count_down(step: int) -> None:
    """In the child: count everything that changes the disk, and commits."""
    from asyncroute.journal import sqlite

    left = [step]

    def passing(*_: object) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    for name in STEPS:
        setattr(os, name, _after(passing, getattr(os, name)))
    vars(sqlite)["crash_point"] = passing


def _after(passing: Callable[[], None], real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        passing()
        return real(*arguments, **named)

    return call


def queue_of(folder: Path) -> set[tuple[int, str, str]]:
    """All that ``queue list`` shows: what is sent again is here, too."""
    with Stored(folder) as opened:
        return {(row.instance_id, row.destination, row.state) for row in opened.rows() + opened.rows(held=True)}


@pytest.mark.no_cover
@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.long)])
def test_a_kill_at_any_step_loses_nothing(tmp_path: Path, every: int) -> None:
    """In the short form at a fourth of them, another fourth each time."""
    start = tmp_path / "start"
    expected = stored.make(start, live=5, history=8)
    with Stored(start) as opened:
        more = synthetic.series("orphans", 2)
        made = [opened._written(image) for image in more]
        opened.recover()
    for instance, image in zip(made, more, strict=True):
        expected.images[instance.id] = image
        expected.owed |= {(instance.id, to) for to in "ab"}
    file_of(start, 1999).parent.mkdir(exist_ok=True)
    file_of(start, 1999).write_bytes(b"half")
    spoil(start)
    files, journal = stored.image_files(start), (start / "journal.db").read_bytes()
    reference = stored.copy(start, tmp_path / "reference")
    rebuild(stored.config(reference))
    step = random.SystemRandom().randint(1, every)
    while True:
        folder = stored.copy(start, tmp_path / f"{step}")
        was_killed = killed_at(step, partial(rebuild, stored.config(folder)))
        assert stored.image_files(folder) == files, f"killed at step {step}"
        rebuild(stored.config(folder))
        found = verdict_of(folder, expected)
        assert (found.lost, found.wrong, found.sent["orphans"]) == ([], [], 0), f"killed at step {step}"
        assert stored.image_files(folder) == files
        assert queue_of(folder) == queue_of(reference), f"killed at step {step}"
        kept = [path for path in folder.glob("damaged-*/journal.db") if path.read_bytes() == journal]
        assert len(kept) == 1
        shutil.rmtree(folder)
        if not was_killed:
            break
        step += every
    print(f"killed before every {every}. of {step - 1} steps: nothing lost, the old journal kept")
    assert step > 30
