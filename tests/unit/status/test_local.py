"""The status of a router that does not run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from asyncroute.core.model import Settlement
from asyncroute.core.states import DeliveryState
from asyncroute.journal.base import Group
from asyncroute.journal.reader import read_stopped
from asyncroute.journal.sqlite import SqliteJournal
from asyncroute.status import local
from asyncroute.status.attention import needs_person
from tests.unit.parts import instance


def read(folder: Path, **destinations: str) -> dict[str, Any]:
    async def ask() -> dict[str, Any]:
        reader = await read_stopped(folder)
        try:
            return await local.read(reader, "edge-1", destinations, folder)
        finally:
            await reader.close()

    return asyncio.run(ask())


def test_what_the_journal_and_the_spool_say(tmp_path: Path) -> None:
    journal = SqliteJournal.open(tmp_path)
    journal.commit(Group(admits=[instance(1, "a", "b"), instance(2, "a"), instance(3, hold_reason="no route")]))
    settled = [
        Settlement(1, "a", DeliveryState.DELIVERED, 1, 10.0, 0),
        Settlement(2, "a", DeliveryState.FAILED, 1, 10.0, 0xC000, "no"),
    ]
    journal.commit(Group(settlements=settled))
    journal.close()
    (tmp_path / "spool" / "000000").mkdir(parents=True)
    (tmp_path / "spool" / "000000" / "00000001.dcm").write_bytes(bytes(1500))
    found = read(tmp_path, a="dicom", unused="folder")
    assert (found["node"], found["running"]) == ("edge-1", False)
    assert found["totals"] == {"received": 3, "delivered": 1, "waiting": 1, "held": 1, "failed": 1}
    assert [(c["name"], c["state"], c["waiting"], c["failed"], c["delivered"]) for c in found["channels"]] == [
        ("a", "stopped", 0, 1, 1),
        ("unused", "stopped", 0, 0, 0),
        ("b", "removed", 1, 0, 0),
    ]
    assert (found["spool"]["files"], found["spool"]["bytes"]) == (1, 1500)
    assert found["spool"]["free_bytes"] > 0
    assert len(needs_person(found)) == 3


def test_a_spool_that_is_not_there(tmp_path: Path) -> None:
    assert local.spool_usage(tmp_path / "none") == (0, 0)
    assert local.free_bytes(tmp_path / "none") == 0


def test_orphans_are_counted_again_when_something_changed(tmp_path: Path) -> None:
    orphans = local.Orphans(tmp_path)
    assert orphans.look() == 0
    folder = tmp_path / "orphans"
    (folder / "a folder").mkdir(parents=True)
    for number in range(3):
        (folder / f"{number}.dcm").touch()
    assert orphans.look() == orphans.count == 3
    (folder / "1.dcm").unlink()
    assert orphans.look() == 2
    for path in folder.iterdir():
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    assert orphans.look() == 0


def test_orphans_need_a_person(tmp_path: Path) -> None:
    SqliteJournal.open(tmp_path).close()
    assert needs_person(read(tmp_path)) == []
    (tmp_path / "orphans").mkdir()
    (tmp_path / "orphans" / "x.dcm").touch()
    (line,) = needs_person(read(tmp_path))
    assert line.startswith("1 files that the journal does not know")
