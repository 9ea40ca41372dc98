"""The read side where nothing runs, or something is wrong."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from asyncroute.core.errors import StorageFault
from asyncroute.core.priority import NORMAL
from asyncroute.journal.base import Counts, Group
from asyncroute.journal.examine import Mark
from asyncroute.journal.reader import SqliteReader, read_stopped
from asyncroute.journal.sqlite import SqliteJournal
from tests.contract.made import T0, delivered, image

ROOT = Path(__file__).resolve().parents[3]


def counts(folder: Path) -> Counts:
    """What ``read_stopped`` sees."""

    async def read() -> Counts:
        reader = await read_stopped(folder)
        try:
            return await reader.counts()
        finally:
            await reader.close()

    return asyncio.run(read())


def received(folder: Path) -> int:
    """The total of received images, read while nothing runs."""
    return counts(folder).totals["received"]


def closed(folder: Path) -> Path:
    """The folder of a journal that was closed in good order, with three images."""
    journal = SqliteJournal.open(folder)
    journal.commit(Group([image(n, "a") for n in (1, 2, 3)]))
    journal.close()
    return folder


def crashed(folder: Path) -> Path:
    """The folder of a journal whose process died with everything still in the write-ahead log."""
    original = folder.parent / "original"
    journal = SqliteJournal.open(original)
    journal.commit(Group([image(n, "a") for n in (1, 2, 3)]))
    journal.commit(Group(settlements=[delivered(2, "a")]))
    folder.mkdir()
    for name in ("journal.db", "journal.db-wal"):
        shutil.copyfile(original / name, folder / name)
    journal.close()
    assert (folder / "journal.db-wal").stat().st_size > 0
    return folder


def test_a_stopped_journal(tmp_path: Path) -> None:
    assert received(closed(tmp_path / "data")) == 3


def test_a_crashed_journal(tmp_path: Path) -> None:
    folder = crashed(tmp_path / "data")
    assert received(folder) == 3
    assert counts(folder).totals["delivered"] == 1


def test_beside_a_running_writer(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path)
    journal.commit(Group([image(1, "a")]))
    assert received(tmp_path) == 1
    journal.commit(Group([image(2, "a")]))
    assert received(tmp_path) == 2
    journal.close()


def test_reading_disturbs_no_later_start(tmp_path: Path) -> None:
    folder = crashed(tmp_path / "data")
    assert received(folder) == 3
    journal = SqliteJournal.open(folder)
    assert journal.last_id() == 3
    journal.close()


PROGRAM = """
import asyncio, os, sys
from pathlib import Path
folder = Path(sys.argv[1])
assert not os.access(folder, os.W_OK)
from asyncroute.journal.reader import read_stopped
async def read():
    reader = await read_stopped(folder)
    print((await reader.counts()).totals["received"])
    await reader.close()
asyncio.run(read())
"""

READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$2" -c "$3" "$1"'
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


def read_on_read_only_mount(folder: Path) -> str:
    """What ``read_stopped`` sees on a file system that is mounted read-only (needs user namespaces)."""
    temporary = folder.parent / "temporary"
    temporary.mkdir()
    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", READ_ONLY, "sh", folder, sys.executable, PROGRAM],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert list(temporary.iterdir()) == []
    return (done.stdout + done.stderr).strip()


@pytest.mark.parametrize("make", [closed, crashed])
def test_a_folder_that_cannot_be_written(tmp_path: Path, make: type) -> None:
    folder = make(tmp_path / "data")
    names = sorted(os.listdir(folder))
    assert read_on_read_only_mount(folder) == "3"
    assert sorted(os.listdir(folder)) == names


# --- what is refused --------------------------------------------------------------------------------------------------


def refusal(folder: Path) -> str:
    """What both ways of opening say, in one line."""
    texts = set()
    for opener in (SqliteReader.open, read_stopped):
        with pytest.raises(StorageFault) as caught:
            asyncio.run(opener(folder))
        texts.add(str(caught.value))
    (text,) = texts
    assert "\n" not in text
    assert str(folder / "journal.db") in text
    return text


def test_no_journal(tmp_path: Path) -> None:
    assert "no journal here" in refusal(tmp_path)
    assert os.listdir(tmp_path) == []


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "journal.db").touch()
    assert "empty" in refusal(tmp_path)


def test_a_newer_journal(tmp_path: Path) -> None:
    connection = sqlite3.connect(closed(tmp_path) / "journal.db", isolation_level=None)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert "newer asyncroute" in refusal(tmp_path)


def test_no_database(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_text("no database at all, really not\n" * 200)
    assert "damaged" in refusal(tmp_path)


def test_damage_met_while_reading_is_a_fault(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path, "process-crash")
    journal.commit(Group([image(n, "a") for n in range(1, 3000)]))
    journal.close()
    path = tmp_path / "journal.db"
    content = path.read_bytes()
    path.write_bytes(content[: 20 * 4096] + b"\xff" * (len(content) - 20 * 4096))
    with pytest.raises(StorageFault, match="damaged"):
        counts(tmp_path)


def test_the_reader_cannot_write(tmp_path: Path) -> None:
    async def write() -> None:
        reader = await read_stopped(closed(tmp_path))
        try:
            with pytest.raises(StorageFault, match="read-only"):
                await reader._all("DELETE FROM delivery")
        finally:
            await reader.close()

    asyncio.run(write())


LEFT_OPEN = """
import asyncio, sys
from pathlib import Path
from asyncroute.journal.reader import read_stopped
kept = []
async def main():
    kept.append(await read_stopped(Path(sys.argv[1])))
asyncio.run(main())
"""


def test_a_reader_left_open_does_not_keep_the_process_alive(tmp_path: Path) -> None:
    closed(tmp_path)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LEFT_OPEN, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        timeout=30,
        check=True,
    )


def test_damage_met_while_reading_is_told(tmp_path: Path) -> None:
    """The reader meets it, the writer must hear of it: it would go on acknowledging."""
    journal = SqliteJournal.open(tmp_path, "process-crash")
    journal.commit(Group([image(n, "a", header=bytes(300)) for n in range(1, 3000)]))
    journal.close()
    journal = SqliteJournal.open(tmp_path, "process-crash")
    path = tmp_path / "journal.db"

    async def read() -> None:
        reader = await SqliteReader.open(tmp_path)
        reader.on_damage = journal.condemn
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (path.stat().st_size - 4096))
        try:
            with pytest.raises(StorageFault, match="asyncroute rebuild"):
                await reader.claim("a", {NORMAL: 1000}, T0 * 2, ())
        finally:
            await reader.close()

    asyncio.run(read())
    assert journal.broken is not None
    assert Mark(tmp_path).set
    journal.close()
