"""New associations wait for those that are being released, in the order of coming, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from asyncroute.forward import leaving as module
from asyncroute.forward.association import Requestor, connect
from asyncroute.forward.leaving import Leaving
from tests.support import ul
from tests.unit.answering import Peer, serving, sharing, target
from tests.unit.parts import on_loop, until
from tests.unit.requesting import PROPOSAL


@asynccontextmanager
async def leavers(count: int) -> AsyncIterator[list[tuple[Requestor, Callable[[], None]]]]:
    """Associations, and what lets the destination answer the release of each."""
    going = [asyncio.Event() for _ in range(count)]
    waiting = iter(going)

    async def script(peer: Peer) -> None:
        go = next(waiting)
        await peer.accept()
        kind, _ = await peer.pdu()
        if kind == ul.RELEASE_RQ:
            await go.wait()
            peer.writer.write(ul.release_rp())

    async with sharing() as shared, serving(script) as server:
        made = [await connect(target(server.port), PROPOSAL, shared) for _ in going]
        try:
            yield [(requestor, go.set) for requestor, go in zip(made, going, strict=True)]
        finally:
            for requestor in made:
                requestor.close()


def leave(leaving: Leaving, association: Requestor) -> None:
    association.release()
    leaving.add(association)


def test_each_waits_for_those_that_were_leaving_when_it_came() -> None:
    @on_loop
    async def body() -> None:
        called: list[str] = []
        async with leavers(3) as ((first, first_goes), (second, second_goes), (third, third_goes)):
            leaving = Leaving()
            assert not leaving
            leave(leaving, first)
            assert leaving
            leaving.wait(partial(called.append, "behind the first"))
            leave(leaving, second)
            leaving.wait(partial(called.append, "behind both"))
            leaving.wait(partial(called.append, "behind both, too"))
            leave(leaving, third)
            second_goes()
            await until(lambda: second.ended, "the second has gone")
            assert called == []
            first_goes()
            await until(lambda: first.ended, "the first has gone")
            assert called == ["behind the first", "behind both", "behind both, too"]
            leaving.wait(partial(called.append, "behind the third"))
            assert len(called) == 3
            third_goes()
            await until(lambda: third.ended, "the third has gone")
            assert called[3:] == ["behind the third"]
            assert not leaving

    body()


def test_who_does_not_leave_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAVING", 0.1)

    @on_loop
    async def body() -> None:
        loop = asyncio.get_running_loop()
        called: list[float] = []

        def ready() -> None:
            called.append(loop.time())

        async with leavers(1) as ((only, _),):
            leaving = Leaving()
            leave(leaving, only)
            begun = loop.time()
            leaving.wait(ready)
            await asyncio.sleep(0.05)
            later = loop.time()
            leaving.wait(ready)
            await until(lambda: len(called) == 2, "both have waited long enough")
            assert not only.ended
            assert called[0] >= begun + 0.1
            assert called[1] >= later + 0.1

    body()
