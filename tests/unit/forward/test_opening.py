"""Associations in the making: who opens is told once, what is known takes no thread, and what is given up leaves
nothing behind."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from asyncroute.core.outcomes import Kind
from asyncroute.forward.association import Requestor, connect
from asyncroute.forward.dial import Failed, Shared
from asyncroute.forward.opening import Opening
from asyncroute.link.resolve import Resolver
from tests.support.ports import BlackHole, free_port
from tests.unit.answering import Peer, serving, sharing, target
from tests.unit.parts import CT, EXPLICIT_LE, on_loop, settle_loop, until
from tests.unit.requesting import PROPOSAL, Owner

Found = Requestor | Failed


class Counting(ThreadPoolExecutor):
    """A pool that keeps what it was given."""

    def __init__(self) -> None:
        super().__init__(1)
        self.calls: list[str] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.calls.append(fn.__name__)
        return super().submit(fn, *args, **kwargs)


async def accepting(peer: Peer) -> None:
    await peer.accept()
    await peer.release()


def opening(port: int, shared: Shared, done: Callable[[Found], None], host: str = "") -> Opening[Requestor]:
    there = target(port)
    return Opening(Requestor, replace(there, host=host or there.host), lambda: PROPOSAL, shared, done)


def test_what_was_agreed_before_takes_no_thread() -> None:
    proposal = replace(PROPOSAL, called_aet="ONLY_HERE")

    @on_loop
    async def body() -> None:
        found: list[Found] = []
        async with sharing() as shared, serving(accepting) as server:
            with Counting() as pool:
                counted = replace(shared, pool=pool)
                for _ in range(3):
                    Opening(Requestor, target(server.port), lambda: proposal, counted, found.append).begin()
                    await until(lambda: found, "the association")
                    made = found.pop()
                    assert isinstance(made, Requestor)
                    assert made.peer is not None
                    assert (CT, EXPLICIT_LE) in made.peer.contexts
                    made.release()
                assert pool.calls == ["request", "conclude"]
            await server.done()

    body()


def test_a_failure_is_told_when_begin_has_returned() -> None:
    """Who opens may be in the midst of something."""

    @on_loop
    async def body() -> None:
        found: list[Found] = []
        async with sharing() as shared:
            opening(free_port(), shared, found.append).begin()
            assert found == []
            await until(lambda: found, "the failure")
            (failed,) = found
            assert isinstance(failed, Failed)
            assert failed.outcome.text.startswith("cannot connect: connection refused")

    body()


@pytest.mark.parametrize("turns", [*range(6), 20])
def test_given_up_at_any_moment_nothing_is_told_and_nothing_is_left(turns: int) -> None:
    """``sharing`` sees to it that no association is left open."""

    async def script(peer: Peer) -> None:
        await peer.take_request()
        await peer.end()

    @on_loop
    async def body() -> None:
        found: list[Found] = []
        async with sharing() as shared, serving(script) as server:
            one = opening(server.port, shared, found.append)
            one.begin()
            for _ in range(turns):
                await asyncio.sleep(0.001)
            one.cancel()
            one.cancel()
            assert one.over
            one.begin()
            await server.done()
            await settle_loop(20)
            assert found == []

    body()


def test_given_up_while_a_failure_is_about_to_be_told() -> None:
    @on_loop
    async def body() -> None:
        found: list[Found] = []
        async with sharing() as shared:
            one = opening(free_port(), shared, found.append)
            one.begin()
            one.cancel()
            await settle_loop(20)
            assert found == []

    body()


def test_given_up_while_nobody_answers() -> None:
    """In the look-up, and in the connection."""

    @on_loop
    async def body() -> None:
        found: list[Found] = []
        async with sharing() as shared:
            with BlackHole() as hole:
                one = opening(hole.port, shared, found.append)
                one.begin()
                assert shared.deadlines.busy
                one.cancel()
                assert not shared.deadlines.busy
            one = opening(104, shared, found.append, host="no-such-host.invalid")
            one.begin()
            one.cancel()
            await settle_loop(20)
            assert found == []
            left = {task.get_name() for task in asyncio.all_tasks()}
            assert "look up a destination" not in left

    body()


def test_what_nobody_expected_is_a_failure_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr(Resolver, "addresses", broken)

    @on_loop
    async def body() -> None:
        found: list[Found] = []
        async with sharing() as shared, serving(accepting) as server:
            opening(104, shared, found.append, host="no-such-host.invalid").begin()
            await until(lambda: found, "the failure")
            closed = ThreadPoolExecutor(1)
            closed.shutdown()
            unheard_of = replace(PROPOSAL, called_aet="NEVER_ASKED")
            closing = replace(shared, pool=closed)
            Opening(Requestor, target(server.port), lambda: unheard_of, closing, found.append).begin()
            await until(lambda: len(found) == 2, "the other failure")
            for failed, words in zip(found, ("surprise", "after shutdown"), strict=True):
                assert isinstance(failed, Failed)
                assert failed.outcome.kind is Kind.POISON_COUNT
                assert "unexpected error while connecting" in failed.outcome.text
                assert words in failed.outcome.text

    body()


def test_an_error_of_who_was_told_ends_the_association_and_nothing_else() -> None:
    @on_loop
    async def body() -> None:
        owner = Owner()

        def done(found: Found) -> None:
            assert isinstance(found, Requestor)
            found.owner = owner
            raise ZeroDivisionError

        async with sharing() as shared, serving(accepting) as server:
            opening(server.port, shared, done).begin()
            await until(lambda: owner.told, "the end")
            assert "ZeroDivisionError" in owner.losses[0].text

    body()


def test_an_association_that_is_over_is_freed_at_once() -> None:
    """It does not wait for the collector, which looks at everything else as well."""

    @on_loop
    async def body() -> None:
        gc.disable()
        try:
            async with sharing() as shared, serving(accepting) as server:
                made = await connect(target(server.port), PROPOSAL, shared)
                made.release()
                over, closed = weakref.ref(made), asyncio.Event()
                made.on_closed = closed.set
                del made
                await closed.wait()
                await until(lambda: over() is None, "it is freed")
        finally:
            gc.enable()

    body()
