"""Rerouting what is partly at its new destination already: bytes are counted of what went there."""

from __future__ import annotations

from pathlib import Path

from asyncroute.journal.base import Group
from tests.unit.parts import instance, on_loop
from tests.unit.test_administer import Bench, running


def write(bench: Bench, size: int, *destinations: str) -> int:
    """An image in spool and journal; its id."""
    number, path = bench.app.spool.allocate()
    made = instance(number, *destinations, path=path, size=size)
    assert not bench.app.spool.write([(made, [b"x" * size])])
    bench.app.journal.commit(Group([made]))
    return number


def test_an_image_that_was_for_the_target_already_counts_for_nothing(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with running(tmp_path) as bench:
            small, large = write(bench, 1000, "pacs", "copy"), write(bench, 3000, "pacs")
            bench.fail([small, large])
            bench.fail([small], "copy")
            await bench.start()
            assert await bench.person.queue_reroute({"to": "pacs", "target": "copy"}) == {"deliveries": 1, "images": 0}
            assert bench.states() == {small: "failed", large: "discarded"}
            waiting = {name: tally.backlog.bytes for name, tally in bench.app.scheduler.tallies.items()}
            assert waiting == {"pacs": 0, "copy": 3000}

    body()
