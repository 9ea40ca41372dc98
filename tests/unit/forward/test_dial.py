"""From a name to a connection: every address has its chance, and each way to fail its words."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from asyncroute.core.outcomes import Kind, Outcome
from asyncroute.forward.dial import MOST_ADDRESSES, Dialing, Failed, Shared, Target
from asyncroute.link import resolve, tls
from asyncroute.link.deadlines import Deadlines
from asyncroute.link.resolve import Resolver
from asyncroute.link.stream import Stream
from tests.support.certs import Authority
from tests.support.ports import HOST, BlackHole, free_port
from tests.unit.parts import on_loop, settle_loop

OTHER = "127.0.0.2"


def address(host: str, port: int) -> tuple[Any, ...]:
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of every name, to be filled."""
    found: list[str] = []
    monkeypatch.setattr(resolve, "_look_up", lambda _, port: [address(host, port) for host in found])
    return found


async def dial(target: Target, resolver: Resolver) -> Stream:
    """The stream, or ``Failed``."""
    deadlines = Deadlines(0.02)
    deadlines.start()
    came: asyncio.Future[Stream | Failed] = asyncio.get_running_loop().create_future()
    with ThreadPoolExecutor(1) as pool:
        Dialing(target, Shared(deadlines, pool, resolver), came.set_result).begin()
        found = await came
    assert not deadlines.busy
    deadlines.stop()
    if isinstance(found, Failed):
        raise found
    return found


async def fails(target: Target, resolver: Resolver) -> Outcome:
    with pytest.raises(Failed) as caught:
        await dial(target, resolver)
    return caught.value.outcome


def listening(port: int, host: str = HOST) -> socket.socket:
    """The kernel takes connections; nobody says anything."""
    return socket.create_server((host, port), backlog=8)


def test_the_second_address_and_then_it_first(names: list[str]) -> None:
    port = free_port()
    names += [OTHER, HOST]

    @on_loop
    async def body() -> None:
        resolver, target = Resolver(), Target("pacs", port, "PACS", connect_timeout=2.0)
        loop = asyncio.get_running_loop()
        took: list[float] = []
        for _ in range(3):
            begun = loop.time()
            stream: Stream = await dial(target, resolver)
            took.append(loop.time() - begun)
            assert stream.peer == HOST
            stream.close()
        assert took[0] >= 2 > max(took[1:])
        resolver.close()

    with BlackHole(OTHER, port), listening(port):
        body()


def test_all_addresses_fail_and_are_asked_for_anew(names: list[str]) -> None:
    port = free_port()
    names += [OTHER, HOST]

    @on_loop
    async def body() -> None:
        resolver, target = Resolver(), Target("pacs", port, "PACS", connect_timeout=5)
        outcome = await fails(target, resolver)
        assert outcome.text == f"cannot connect: connection refused by pacs:{port} ({HOST})"
        assert (outcome.narrow, outcome.unreached) == (True, True)
        names[:] = ["127.0.0.3"]
        with listening(port, "127.0.0.3"):
            (await dial(target, resolver)).close()
        resolver.close()

    body()


def test_no_more_addresses_than_make_sense(names: list[str]) -> None:
    port = free_port()
    names += [f"127.0.1.{n}" for n in range(1, 30)]

    @on_loop
    async def body() -> None:
        resolver = Resolver()
        outcome = await fails(Target("pacs", port, "PACS"), resolver)
        assert outcome.kind is Kind.ASSOCIATION_FAILED
        assert f"127.0.1.{MOST_ADDRESSES}" in outcome.text
        assert len(resolver._avoided) == MOST_ADDRESSES
        resolver.close()

    body()


def test_a_name_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object) -> None:
        await asyncio.sleep(20)

    monkeypatch.setattr(Resolver, "addresses", hang)

    @on_loop
    async def body() -> None:
        resolver = Resolver()
        outcome = await fails(Target("pacs", 104, "PACS", connect_timeout=0.1), resolver)
        assert outcome.text == "cannot find the host's address: pacs: no answer from the name server in 0.1 s"
        resolver.close()

    body()


def test_a_name_without_addresses(names: list[str]) -> None:
    @on_loop
    async def body() -> None:
        resolver = Resolver()
        assert (await fails(Target("pacs", 104, "PACS"), resolver)).text.endswith("pacs has no address")
        resolver.close()

    body()


def test_what_was_looked_up_lately_is_not_waited_for(names: list[str]) -> None:
    port = free_port()
    names.append(HOST)

    @on_loop
    async def body() -> None:
        resolver = Resolver()
        (await dial(Target("pacs", port, "PACS"), resolver)).close()
        asked = resolver._asked["pacs", port]
        tasks = asyncio.all_tasks()
        deadlines, found = Deadlines(), list[Stream | Failed]()
        with ThreadPoolExecutor(1) as pool:
            Dialing(Target("pacs", port, "PACS"), Shared(deadlines, pool, resolver), found.append).begin()
        assert asyncio.all_tasks() == tasks
        assert resolver._asked["pacs", port] is asked
        (stream,) = found
        assert isinstance(stream, Stream), "a neighbour is there at once"
        stream.close()
        resolver.close()

    with listening(port):
        body()


def test_who_answers_late(names: list[str]) -> None:
    """As over a network, where the kernel does not know at once: the second request for the connection is heard."""
    names.append(HOST)

    @on_loop
    async def body() -> None:
        resolver = Resolver()
        with BlackHole() as hole:
            calling = asyncio.create_task(dial(Target("pacs", hole.port, "PACS"), resolver))
            await settle_loop()
            assert not calling.done()
            hole.listen()
            stream = await calling
            assert (stream._reading, stream._writing) == (True, False)
            assert stream.sock.getpeername() == (HOST, hole.port)
            stream.close()
        resolver.close()

    body()


def test_who_refuses_late(names: list[str]) -> None:
    names.append(HOST)

    @on_loop
    async def body() -> None:
        resolver = Resolver()
        with BlackHole() as hole:
            calling = asyncio.create_task(fails(Target("pacs", hole.port, "PACS"), resolver))
            await settle_loop()
            assert not calling.done()
        assert (await calling).text == f"cannot connect: connection refused by pacs:{hole.port}"
        resolver.close()

    body()


@pytest.mark.parametrize("alone", [True, False])
def test_a_hanging_tls_handshake_is_tls_trouble(names: list[str], tmp_path: Path, alone: bool) -> None:
    """Also where another of the addresses fails otherwise."""
    port = free_port()
    names += [HOST] if alone else [HOST, OTHER]
    context = tls.client_context(Authority(tmp_path).ca, None, None)

    @on_loop
    async def body() -> None:
        resolver = Resolver()
        outcome = await fails(Target("pacs", port, "PACS", connect_timeout=0.2, tls=context), resolver)
        where = f"pacs:{port}" if alone else f"pacs:{port} ({HOST})"
        assert outcome.text == f"TLS: no answer to the handshake from {where} in 0.2 s"
        assert outcome.loud
        resolver.close()

    with listening(port):
        body()
