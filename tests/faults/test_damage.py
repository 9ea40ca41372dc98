"""Damage through the real router: a damaged journal is refused, then rebuilt; a journal of others is left alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import settings, stored
from tests.support.exact_receiver import ExactReceiver, ReceiverHost, assert_all_there, received
from tests.support.fixtures import MakeRouter
from tests.support.router import Router, run_cli
from tests.support.stored import Expected

Templates = tuple[Path, Path, Expected]


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """A folder after an orderly stop, the same after a crash, and what has to come of both."""
    folder = tmp_path_factory.mktemp("stored")
    return folder / "stopped", folder / "crashed", stored.make(folder / "stopped", folder / "crashed")


def router_on(make_router: MakeRouter, ends: dict[str, ExactReceiver]) -> Router:
    """A router (not started) with the destinations and routes of the stored folders."""
    peers = [settings.dicom(name, end.port, max_associations=4) for name, end in ends.items()]
    return make_router(destination=peers, route=[settings.route("all", list(ends), unless={"Modality": "OT"})])


def refuse(router: Router) -> str:
    """Start, insist on a refusal in one line; that line."""
    before = router.log_tail(1000)
    router.start(wait=False)
    assert router.wait_exit() == 1
    lines = router.log_tail(1000).removeprefix(before).strip().splitlines()
    assert [line for line in lines if "error:" in line] == lines[-1:], lines
    assert "Traceback" not in "\n".join(lines)
    return lines[-1]


def assert_everything_owed_arrived(ends: dict[str, ExactReceiver], expected: Expected) -> None:
    """Each destination got what it was owed, byte for byte, and nothing that was never its own."""
    for name, end in ends.items():
        assert_all_there([end], [expected.images[number] for number, to in expected.owed if to == name])
        own = {expected.images[n].identity for n, to in expected.owed | expected.over | expected.dead if to == name}
        assert set(received(end)) <= own


def noise(folder: Path) -> None:
    with (folder / "journal.db").open("r+b") as file:
        file.seek(9 * 4096)
        file.write(b"\xa5\x5a\xff\x00" * 1024)


def log_header(folder: Path) -> None:
    with (folder / "journal.db-wal").open("r+b") as file:
        file.write(b"\0\0\0\0")


@pytest.mark.parametrize(
    ("crashed", "damage"),
    [(False, noise), (True, log_header), (True, lambda folder: (folder / "journal.db").unlink())],
    ids=["a page", "the log's header", "the journal gone, its log there"],
)
def test_a_damaged_journal_is_refused_then_rebuilt(
    templates: Templates,
    make_router: MakeRouter,
    receivers: ReceiverHost,
    crashed: bool,
    damage: Callable[[Path], None],
) -> None:
    ends = {name: receivers.receiver() for name in stored.DESTINATIONS}
    router, expected = router_on(make_router, ends), templates[2]
    stored.copy(templates[1] if crashed else templates[0], router.data_dir)
    damage(router.data_dir)
    evidence, files = stored.evidence(router.data_dir), stored.image_files(router.data_dir)
    assert '"asyncroute rebuild"' in refuse(router)
    asked = run_cli("status", "-c", router.config_file)
    assert (asked.returncode, "Traceback" in asked.stderr) in {(0, False), (1, False), (2, False)}
    assert stored.evidence(router.data_dir) == evidence
    assert stored.image_files(router.data_dir) == files
    done = run_cli("rebuild", "-c", router.config_file)
    assert done.returncode == 0, done.stderr
    (kept,) = router.data_dir.glob("damaged-*")
    assert {name: (kept / name).read_bytes() for name in evidence} == evidence
    router.start()
    status = router.wait_status(lambda s: not s["totals"]["waiting"], 60, "all sent")
    assert_everything_owed_arrived(ends, expected)
    assert status["totals"]["held"] == len(expected.held)
    again = sum(received(end).total() for end in ends.values()) - len(expected.owed)
    ended = len(expected.over | expected.dead)
    print(f"{len(expected.owed)} deliveries owed, 0 lost; {again} of {ended} that had ended sent again")


def test_an_interrupted_rebuild_keeps_routers_away(
    templates: Templates, make_router: MakeRouter, tmp_path: Path
) -> None:
    router = make_router(destination=[settings.folder("files", tmp_path / "files")])
    stored.copy(templates[0], router.data_dir)
    (router.data_dir / "damaged-1").mkdir()
    (router.data_dir / "journal.rebuilding").write_text("damaged-1\nmoving\n")
    assert "a rebuild of the journal was interrupted" in refuse(router)
    asked = run_cli("queue", "list", "-c", router.config_file)
    assert (asked.returncode, "was interrupted" in asked.stderr) == (1, True)
    assert run_cli("rebuild", "-c", router.config_file).returncode == 0
    router.start()


def newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def theirs(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()


def text(path: Path) -> None:
    path.write_text("I am a letter, not a journal.\n" * 400)


@pytest.mark.parametrize(
    ("make", "words", "mended"),
    [
        (newer, "written by a newer asyncroute (schema 99, this one knows ", False),
        (theirs, "this is another program's database; give asyncroute a data_dir of its own", False),
        (text, "it is damaged, or not a journal at all (SQLITE_NOTADB: file is not a database)", True),
    ],
)
def test_the_journal_of_others_is_refused_and_left_alone(
    templates: Templates,
    make_router: MakeRouter,
    tmp_path: Path,
    make: Callable[[Path], None],
    words: str,
    mended: bool,
) -> None:
    router = make_router(destination=[settings.folder("files", tmp_path / "files")])
    stored.copy(templates[0], router.data_dir)
    path = router.data_dir / "journal.db"
    make(path)
    before, files = path.read_bytes(), stored.image_files(router.data_dir)
    assert words in refuse(router)
    assert (path.read_bytes(), stored.image_files(router.data_dir)) == (before, files)
    done = run_cli("rebuild", "-c", router.config_file)
    assert done.returncode == (0 if mended else 1), done.stderr
    if not mended:
        assert words in done.stderr
        assert path.read_bytes() == before
    assert stored.image_files(router.data_dir) == files
