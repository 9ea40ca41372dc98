"""Host names: one look-up for all who ask, remembered for a while, a hanging one in nobody else's way."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from asyncroute.link import resolve
from asyncroute.link.resolve import Addresses, Resolver
from tests.unit.parts import on_loop, settle_loop, until


class Names:
    """A name server in the look-up's place: it counts, hangs and fails as told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.fails = False
        self.hang = threading.Event()
        self.hang.set()
        monkeypatch.setattr(resolve, "_look_up", self.look_up)

    def look_up(self, host: str, port: int) -> Addresses:
        self.asked.append(host)
        if host == "slow":
            assert self.hang.wait(20)
        if self.fails:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"10.0.0.{len(self.asked)}", port))]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


@on_loop
async def test_numbers_need_no_look_up() -> None:
    resolver = Resolver()
    assert (await resolver.addresses("127.0.0.1", 104))[0][4] == ("127.0.0.1", 104)
    assert (await resolver.addresses("::1", 104))[0][4][:2] == ("::1", 104)
    assert not resolver._asked
    resolver.close()


@on_loop
async def test_a_real_name() -> None:
    resolver = Resolver()
    found = await resolver.addresses("localhost", 104)
    assert {address[4][:2] for address in found} & {("127.0.0.1", 104), ("::1", 104)}
    with pytest.raises(OSError, match=r"."):
        await resolver.addresses("no-such-host.invalid", 104)
    resolver.close()


def test_one_look_up_for_all_who_ask(names: Names) -> None:
    @on_loop
    async def body() -> None:
        resolver = Resolver()
        answers = await asyncio.gather(*(resolver.addresses("pacs", 104) for _ in range(10)))
        assert names.asked == ["pacs"]
        assert all(answer == answers[0] for answer in answers)
        await resolver.addresses("pacs", 104)
        assert names.asked == ["pacs"]
        await resolver.addresses("pacs", 105)
        assert names.asked == ["pacs", "pacs"]
        resolver.close()

    body()


def test_an_answer_serves_for_a_while_only(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    @on_loop
    async def body() -> None:
        resolver = Resolver()
        first = await resolver.addresses("pacs", 104)
        monkeypatch.setattr(resolve, "TTL", -1.0)
        assert await resolver.addresses("pacs", 104) != first
        resolver.close()

    body()


def test_a_failure_is_not_remembered(names: Names) -> None:
    @on_loop
    async def body() -> None:
        resolver = Resolver()
        names.fails = True
        answers = await asyncio.gather(*(resolver.addresses("pacs", 104) for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [socket.gaierror] * 3
        names.fails = False
        assert await resolver.addresses("pacs", 104)
        resolver.close()

    body()


def test_a_name_that_hangs_holds_up_no_other(names: Names) -> None:
    @on_loop
    async def body() -> None:
        resolver = Resolver()
        names.hang.clear()
        waiting = [asyncio.create_task(resolver.addresses("slow", 104)) for _ in range(50)]
        await until(lambda: "slow" in names.asked, "the slow look-up has begun")
        assert await resolver.addresses("pacs", 104)
        assert names.asked.count("slow") == 1
        names.hang.set()
        await asyncio.gather(*waiting)
        resolver.close()

    body()


def test_one_who_gives_up_leaves_the_others_their_answer(names: Names) -> None:
    @on_loop
    async def body() -> None:
        resolver = Resolver()
        names.hang.clear()
        impatient = asyncio.create_task(resolver.addresses("slow", 104))
        patient = asyncio.create_task(resolver.addresses("slow", 104))
        await until(lambda: names.asked, "the look-up has begun")
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        names.hang.set()
        assert await patient
        assert names.asked == ["slow"]
        resolver.close()

    body()


def both(host: str, port: int) -> Addresses:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"10.0.0.{n}", port)) for n in (1, 2, 3)]


def test_addresses_that_could_not_be_reached_come_last_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "_look_up", both)

    @on_loop
    async def body() -> None:
        resolver = Resolver()
        first, second, third = await resolver.addresses("pacs", 104)
        resolver.avoid(first)
        assert await resolver.addresses("pacs", 104) == [second, third, first]
        resolver.avoid(second)
        resolver.avoid(third)
        assert await resolver.addresses("pacs", 104) == [first, second, third], "all alike: as they were given"
        monkeypatch.setattr(resolve, "AVOIDED", 0.0)
        resolver.avoid(second)
        assert await resolver.addresses("pacs", 104) == [first, second, third]
        assert len(resolver._avoided) == 1, "what is over is forgotten"
        resolver.close()

    body()


def test_what_was_looked_up_lately_is_known(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting, in the order of ``addresses``; what failed is not."""

    @on_loop
    async def body() -> None:
        resolver = Resolver()
        assert resolver.known("127.0.0.1", 104) == await resolver.addresses("127.0.0.1", 104)
        assert resolver.known("pacs", 104) is None
        names.hang.clear()
        asking = asyncio.create_task(resolver.addresses("slow", 104))
        await until(lambda: names.asked, "the look-up has begun")
        assert resolver.known("slow", 104) is None
        names.hang.set()
        assert await asking == resolver.known("slow", 104)
        monkeypatch.setattr(resolve, "_look_up", both)
        first, *others = await resolver.addresses("pacs", 104)
        resolver.avoid(first)
        assert resolver.known("pacs", 104) == [*others, first]
        monkeypatch.setattr(resolve, "TTL", -1.0)
        assert resolver.known("pacs", 104) is None
        monkeypatch.undo()
        names.fails = True
        monkeypatch.setattr(resolve, "_look_up", names.look_up)
        names.hang.clear()
        given_up = asyncio.create_task(resolver.addresses("slow", 105))
        await until(lambda: names.asked.count("slow") == 2, "the look-up has begun")
        _, looking = resolver._asked["slow", 105]
        given_up.cancel()
        await settle_loop()
        names.hang.set()
        await until(looking.done, "it has failed")
        assert isinstance(looking.exception(), OSError)
        assert resolver.known("slow", 105) is None
        resolver.close()

    body()


def test_what_is_forgotten_is_asked_anew(names: Names) -> None:
    @on_loop
    async def body() -> None:
        resolver = Resolver()
        resolver.forget("pacs", 104)
        first = await resolver.addresses("pacs", 104)
        resolver.forget("pacs", 104)
        assert await resolver.addresses("pacs", 104) != first
        names.hang.clear()
        waiting = asyncio.create_task(resolver.addresses("slow", 104))
        await until(lambda: "slow" in names.asked, "the slow look-up has begun")
        resolver.forget("slow", 104)
        another = asyncio.create_task(resolver.addresses("slow", 104))
        names.hang.set()
        assert await waiting == await another
        assert names.asked.count("slow") == 1
        resolver.close()

    body()
