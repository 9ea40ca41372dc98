"""Studies that wait for their completion, and what the channels make of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncroute.core.model import RouteHit, Wait
from asyncroute.core.priority import PRIORITIES
from asyncroute.journal.base import Complete, Group
from asyncroute.link.buffers import ImageBytes
from tests.unit.parts import on_loop, settle_loop, until
from tests.unit.queueing import Queue, queueing

STUDY = Wait("study")


def hits(priority: str = "normal") -> tuple[RouteHit, ...]:
    return (RouteHit("studies", "pacs", PRIORITIES[priority], STUDY),)


def complete(queue: Queue) -> None:
    (ids,) = queue.journal._connection.execute("SELECT json_group_array(id) FROM completion").fetchall()[0]
    queue.journal.commit(Group(actions=[Complete(list(map(int, ids.strip("[]").split(","))))]))
    queue.scheduler.channels["pacs"].look_now()


def test_what_waits_is_owed_but_not_in_memory(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            site = queue.channel()
            await queue.begin()
            (made,) = queue.write([1], hits=hits())
            image = ImageBytes()
            queue.memory.keep_for_sending(1, image)
            queue.scheduler.admitted(made, image)
            assert (queue.ids(), site.log, image.alive) == (set(), [], False)
            assert queue.scheduler.tallies["pacs"].backlog.images == 1
            complete(queue)
            await until(lambda: site.log == [1], "it begins")

    body()


@pytest.mark.parametrize(("priority", "first"), [("high", True), ("normal", True), ("low", False)])
def test_a_complete_study_goes_in_its_turn_whatever_waits_there(tmp_path: Path, priority: str, first: bool) -> None:
    """Also where the channel holds as many as it may: of a class as urgent, studies take turns."""

    @on_loop
    async def body() -> None:
        async with queueing(tmp_path) as queue:
            site = queue.channel(lanes=1)
            await queue.begin()
            queue.admit(range(1, 701), study_uid="1.7")
            queue.admit(range(1001, 1004), hits=hits(priority), study_uid="1.9")
            complete(queue)
            await until(queue.idle, "the journal is read")
            await settle_loop()
            for _ in range(10):
                site.finish(site.sending[0])
                await settle_loop()
            assert ({1001, 1002, 1003} <= set(site.log)) == first

    body()
