"""Hold and release of a destination on a running router: journal, memory and events agree."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from asyncroute.core import outcomes
from asyncroute.core.errors import OurFault, StorageFault
from tests.unit.parts import on_loop, settle_loop, until
from tests.unit.test_administer import Bench, running


def events(folder: Path) -> list[tuple[str, str]]:
    """(kind, destination) of all, oldest first."""
    connection = sqlite3.connect(folder / "data" / "journal.db")
    try:
        return connection.execute("SELECT kind, destination FROM event ORDER BY id").fetchall()
    finally:
        connection.close()


async def held(bench: Bench) -> list[str]:
    """Destinations that the journal has as held; memory must say the same."""
    holds = (await bench.app.reader.counts()).holds
    found = sorted(name for name, periods in holds.items() if any(p.until is None for p in periods))
    assert found == sorted(name for name, hold in bench.app.scheduler.holds.items() if hold.at is not None)
    return found


def test_hold_and_release(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as bench:
            bench.write(3, "pacs", "copy")
            assert await bench.person.queue_hold({"to": "pacs"}) == {"destinations": 1}
            await bench.start()
            assert (bench.sites["pacs"].log, bench.sites["copy"].log) == ([], [1])
            assert await bench.person.queue_hold({"to": "pacs"}) == {"destinations": 0}
            assert await held(bench) == ["pacs"]
            await bench.person.queue_retry({"to": "pacs"})
            await settle_loop()
            assert bench.sites["pacs"].log == []
            assert await bench.person.queue_release({"to": "pacs"}) == {"destinations": 1}
            assert bench.sites["pacs"].log == [1]
            assert await held(bench) == []
            assert await bench.person.queue_release({"to": "pacs"}) == {"destinations": 0}
        assert events(tmp_path) == [("hold", "pacs"), ("release", "pacs")]

    on_loop(scenario)


def test_release_ends_the_hold_for_refusals_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as bench:
            bench.write(1, "pacs")
            bench.app.scheduler.channels["pacs"].verdict.held = outcomes.classify(0x0124).text
            await bench.start()
            assert bench.sites["pacs"].log == []
            assert await bench.person.queue_release({"to": "pacs"}) == {"destinations": 1}
            assert bench.sites["pacs"].log == [1]
        assert events(tmp_path) == [("release", "pacs")]

    on_loop(scenario)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({}, "to: must be the name of a destination"),
        ({"to": 7}, "to: must be the name of a destination"),
        ({"to": "pasc"}, 'no destination is called "pasc"; there is "pacs", "copy"'),
    ],
    ids=str,
)
def test_what_is_no_destination(tmp_path: Path, what: dict[str, Any], words: str) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as bench:
            await bench.start()
            for act in (bench.person.queue_hold, bench.person.queue_release):
                with pytest.raises(OurFault) as caught:
                    await act(what)
                assert str(caught.value) == words
        assert events(tmp_path) == []

    on_loop(scenario)


def test_one_that_is_no_longer_configured_can_be_released(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as bench:
            await bench.start()
            await bench.person.queue_hold({"to": "copy"})
            bench.app.scheduler.retire("copy", 0.0)
            assert await held(bench) == ["copy"]
            assert await bench.person.queue_release({"to": "copy"}) == {"destinations": 1}
            assert await held(bench) == []

    on_loop(scenario)


def test_many_at_once_leave_journal_and_memory_alike(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as bench:
            await bench.start()
            acts = [bench.person.queue_hold, bench.person.queue_release]
            done = await asyncio.gather(*(acts[n % 2]({"to": "pacs"}) for n in range(41)))
            assert [each["destinations"] for each in done] == [1] * 41
            assert await held(bench) == ["pacs"]

    on_loop(scenario)


def test_a_hold_that_cannot_be_written_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as bench:
            await bench.start()

            def fail(*_: object) -> None:
                raise StorageFault("disk full")

            with monkeypatch.context() as broken:
                broken.setattr(bench.app.journal, "commit", fail)
                with pytest.raises(StorageFault):
                    await bench.person.queue_hold({"to": "pacs"})
            assert await held(bench) == []
            await until(lambda: bench.app.committer.trouble is None, "the journal works again")

    on_loop(scenario)
