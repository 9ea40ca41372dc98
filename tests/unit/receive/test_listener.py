"""Who may connect, how many, and how all of them leave at a stop."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from asyncroute.core.errors import OurFault
from asyncroute.link.descriptors import Descriptors
from tests.support import ul
from tests.support.certs import Authority, Identity
from tests.unit.calling import CONTEXTS, Bench, Caller, data_set, receiving, store
from tests.unit.parts import on_loop, settle_loop, until

UNKNOWN_CALLING, UNKNOWN_CALLED = (1, 1, 3), (1, 1, 7)
NO_REASON, LIMIT = (1, 1, 1), (2, 3, 2)


async def rejection(caller: Caller, calling: str = "CT_A", called: str = "ASYNCROUTE") -> tuple[int, ...] | None:
    """Result, source, reason; None if the association is accepted."""
    kind, body = await caller.request(calling=calling, called=called)
    return tuple(body[1:]) if kind == ul.RJ else None


@pytest.mark.parametrize(
    ("settings", "calling", "called", "expected"),
    [
        ({}, "ANYONE", "ASYNCROUTE", None),
        ({}, "ANYONE", "ELSE", UNKNOWN_CALLED),
        ({}, "ANYONE", "asyncroute", UNKNOWN_CALLED),
        ({"accept_called": ["OTHER", "ARCH*"]}, "ANYONE", "ASYNCROUTE", None),
        ({"accept_called": ["OTHER", "ARCH*"]}, "ANYONE", "OTHER", None),
        ({"accept_called": ["OTHER", "ARCH*"]}, "ANYONE", "ARCHIVE", None),
        ({"accept_called": ["OTHER", "ARCH*"]}, "ANYONE", "MY_ARCHIVE", UNKNOWN_CALLED),
        ({"accept_called": ["*"]}, "ANYONE", "WHATEVER", None),
        ({"accept_calling": ["CT_*"]}, "CT_1", "ASYNCROUTE", None),
        ({"accept_calling": ["CT_*"]}, "MR_1", "ASYNCROUTE", UNKNOWN_CALLING),
        ({"accept_from": ["127.0.0.0/8"]}, "ANYONE", "ASYNCROUTE", None),
        ({"accept_from": ["10.0.0.0/8"]}, "ANYONE", "ASYNCROUTE", NO_REASON),
    ],
)
def test_allow_lists(
    tmp_path: Path, settings: dict[str, Any], calling: str, called: str, expected: tuple[int, ...] | None
) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path, **settings) as bench:
            caller = await bench.caller()
            assert await rejection(caller, calling, called) == expected
            assert len(bench.listener.established) == (expected is None)

    body()


def test_the_cap_of_associations(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path, max_associations=3) as bench:
            inside = [await bench.associated() for _ in range(3)]
            assert await rejection(await bench.caller()) == LIMIT
            await inside[0].send(ul.release_rq())
            assert (await inside[0].pdu())[0] == ul.RELEASE_RP
            assert await rejection(await bench.caller()) is None
            assert await rejection(await bench.caller()) == LIMIT
            await inside[1].send(ul.abort())
            await inside[1].ended()
            assert await rejection(await bench.caller()) is None
            inside[2].close()
            await until(lambda: len(bench.listener.established) < 3, "the one that vanished no longer counts")
            assert await rejection(await bench.caller()) is None

    body()


def test_the_cap_per_peer(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path, max_associations_per_peer=2) as bench:
            inside = [await bench.associated(calling="CT_A") for _ in range(2)]
            assert await rejection(await bench.caller(), "CT_A") == LIMIT
            assert await rejection(await bench.caller(), "CT_B") is None
            inside[0].close()
            await until(lambda: len(bench.listener.established) == 2, "one has left")
            assert await rejection(await bench.caller(), "CT_A") is None

    body()


def test_who_only_connects_does_not_count(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path, max_associations=1) as bench:
            for _ in range(20):
                await bench.caller()
            assert await rejection(await bench.caller()) is None

    body()


def test_of_too_many_silent_connections_the_oldest_goes(tmp_path: Path) -> None:
    """The newcomer does not, and neither does an association, idle as it may be."""

    @on_loop
    async def body() -> None:
        async with receiving(tmp_path, max_associations=2) as bench:
            bench.intake.waiting.most = 10
            inside = await bench.associated()
            other = bench.listen()
            held = [await bench.caller(listener) for listener in [bench.listener] * 5 + [other] * 5]
            await until(lambda: bench.associations == 11, "ten connections without an association")
            newcomer = await bench.caller()
            await held[0].ended()
            assert await rejection(newcomer) is None
            assert await rejection(held[1]) == LIMIT  # which is an end: it counts among those without an association
            for caller in held[2:]:
                caller.sock.setblocking(False)
                with pytest.raises(BlockingIOError):
                    caller.sock.recv(1)
            assert await inside.echo() == 0

    body()


def test_who_has_been_sent_away_and_does_not_go_counts_with_the_silent(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            bench.intake.waiting.most = 3
            staying = [await bench.associated() for _ in range(4)]
            for caller in staying:
                await caller.send(ul.release_rq())
                assert (await caller.pdu())[0] == ul.RELEASE_RP
            await staying[0].ended()
            assert bench.associations == 3

    body()


def test_who_has_to_go_when_its_request_is_whole_takes_no_place(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path, max_associations=1) as bench:
            bench.intake.requests.most = 100
            caller = await bench.caller()
            await caller.send(ul.associate_rq("CT_A", "ASYNCROUTE", CONTEXTS))
            await caller.ended()
            assert bench.listener.established == []
            bench.intake.requests.most = 100_000
            assert await rejection(await bench.caller()) is None

    body()


def test_requests_hold_a_bounded_number_of_bytes(tmp_path: Path) -> None:
    """Who holds the most goes; who asks for little, or is being answered, stays."""

    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            bench.intake.requests.most = 200_000
            request = ul.associate_rq("CT_A", "ASYNCROUTE", CONTEXTS)
            small = await bench.caller()
            await small.send(request[:-5])
            large = [await bench.caller() for _ in range(4)]
            sizes = [60_000, 70_000, 60_000]
            held = len(request) - 11
            for caller, size in zip(large, sizes, strict=False):
                await caller.send(ul.pdu(ul.RQ, bytes(900_000))[: size + 6])
                held += size
                await until(lambda held=held: bench.intake.requests.size == held, "it is read")  # type: ignore[misc]
            await large[3].send(ul.pdu(ul.RQ, bytes(900_000))[:60_006])
            await large[1].ended()
            await until(lambda: bench.intake.requests.size == held - 10_000, "all is read")
            await small.send(request[-5:])
            assert (await small.pdu())[0] == ul.AC
            await until(lambda: bench.intake.requests.size == 3 * 60_000, "the small one is out")
            for caller in large:
                caller.close()
            await until(lambda: not bench.intake.requests.size, "nobody holds anything")

    body()


def test_connections_leave_descriptors_for_others(tmp_path: Path) -> None:
    """A connection whose descriptor has a high number is one too many: a silent one goes, or it itself."""

    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            inside = await bench.associated()
            (first,) = bench.intake.associations
            bench.intake.descriptors = scarce = Descriptors(1 << 20, first.stream.sock.fileno() + 1, 64)
            await (await bench.caller()).ended()  # nobody is silent
            bench.intake.descriptors = Descriptors.plan(0, 0)
            silent = await bench.caller()
            await until(lambda: bench.associations == 2, "the silent one")
            numbers = {acceptor.stream.sock.fileno() for acceptor in bench.intake.associations}
            bench.intake.descriptors = Descriptors(1 << 20, max(numbers) + 1, 64)
            newcomer = await bench.caller()
            await silent.ended()
            assert await rejection(newcomer) is None
            assert {acceptor.stream.sock.fileno() for acceptor in bench.intake.associations} == numbers
            bench.intake.descriptors = scarce
            await (await bench.caller()).ended()
            assert await inside.echo() == 0

    body()


def test_while_storage_is_in_trouble_nobody_is_let_in(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            bench.gate.refuses = "storage almost full"
            assert await rejection(await bench.caller()) == LIMIT
            bench.gate.refuses = None
            assert await rejection(await bench.caller()) is None

    body()


def test_two_hundred_callers_at_once(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path, max_associations=150) as bench:
            callers = await asyncio.gather(*(bench.caller() for _ in range(200)))
            answers = await asyncio.gather(*(rejection(caller, f"CT_{n}") for n, caller in enumerate(callers)))
            assert answers.count(None) == 150
            assert answers.count(LIMIT) == 50

    body()


# --- the socket -------------------------------------------------------------------------------------------------------


def test_an_address_that_is_taken(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            with pytest.raises(OurFault, match=rf"ASYNCROUTE: cannot listen on 127.0.0.1:{bench.listener.port}: "):
                bench.listen(port=bench.listener.port)
            with pytest.raises(OurFault, match=r"cannot listen on 192.0.2.1:0: "):
                bench.listen(host="192.0.2.1")
            with pytest.raises(OurFault, match=r"cannot listen on no-such-host.invalid:0: "):
                bench.listen(host="no-such-host.invalid")

    body()


def test_closed_it_takes_nobody_and_keeps_who_is_there(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            inside = await bench.associated()
            bench.listener.close()
            bench.listener.close()
            with pytest.raises(ConnectionRefusedError):
                await bench.caller()
            assert await inside.echo() == 0

    body()


def test_without_descriptors_it_waits_for_better_times(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And does not spin: the connection stays in the queue, one line is logged per try."""

    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            inside = await bench.associated()
            waiting = socket.socket()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (waiting.fileno() + 1, hard))
            try:
                caller = Caller(waiting)
                bench.callers.append(caller)
                waiting.setblocking(False)
                await asyncio.get_running_loop().sock_connect(waiting, ("127.0.0.1", bench.listener.port))
                await until(lambda: "cannot accept" in caplog.text, "the failure is told")
                for _ in range(20):
                    assert await inside.echo() == 0
                assert caplog.text.count("cannot accept") == 1
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert await rejection(caller) is None

    with caplog.at_level(logging.ERROR):
        body()


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def identity(ca: Authority) -> Identity:
    return ca.issue("router")


async def tls_association(ca: Authority, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """An established association over TLS."""
    context = ssl.create_default_context(cafile=str(ca.ca))
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context, family=socket.AF_INET)
    writer.write(ul.associate_rq("TLS", "ASYNCROUTE", CONTEXTS))
    head = await reader.readexactly(6)
    assert head[0] == ul.AC
    await reader.readexactly(int.from_bytes(head[2:], "big"))
    return reader, writer


def test_tls(tmp_path: Path, ca: Authority, identity: Identity) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            listener = bench.listen(identity)
            reader, writer = await tls_association(ca, listener.port)
            data = data_set(1, 900_000)
            writer.write(store(1, data, piece=70_000) + store(2, b"12"))
            for _ in range(2):
                head = await reader.readexactly(6)
                await reader.readexactly(int.from_bytes(head[2:], "big"))
            assert bench.gate.data == [data, b"12"]
            writer.write(ul.release_rq())
            assert (await reader.readexactly(10))[0] == ul.RELEASE_RP
            writer.close()

    body()


def test_silent_and_wrong_tls_callers_hold_up_nobody_and_are_cleared(
    tmp_path: Path, ca: Authority, identity: Identity
) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            listener = bench.listen(identity, association_timeout="300ms")
            silent = [await bench.caller(listener) for _ in range(20)]
            wrong = [await bench.caller(listener) for _ in range(5)]
            half = [await bench.caller(listener) for _ in range(5)]
            for caller in wrong:
                await caller.send(ul.associate_rq("PLAIN", "ASYNCROUTE", CONTEXTS))
            for caller in half:
                await caller.send(b"\x16\x03\x01\x02\x00\x01")
            _, writer = await tls_association(ca, listener.port)
            assert len(listener._handshakes) >= 20
            for caller in (*silent, *half):
                await caller.ended()
            await until(lambda: not listener._handshakes, "no handshake is left")
            for caller in wrong:  # an alert, fatal (RFC 8446 6), then our end of the connection; they close theirs
                assert (await asyncio.get_running_loop().sock_recv(caller.sock, 7))[::5] == b"\x15\x02"
                await caller.ended()
                caller.close()
            await until(lambda: len(listener.associations) == 1, "only the good caller is left")
            writer.close()

    body()


def test_a_caller_that_leaves_during_the_handshake(tmp_path: Path, identity: Identity) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            listener = bench.listen(identity)
            for _ in range(5):
                (await bench.caller(listener)).close()
            await until(lambda: not listener.associations, "nobody is left")
            await until(lambda: not listener._handshakes, "no handshake is left")

    body()


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_drain_sends_the_idle_away_and_lets_the_busy_finish(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            idle, busy, waiting = [await bench.associated() for _ in range(3)]
            data = data_set(1, 100_000)
            stream = store(1, data)
            await busy.send(stream[:-10_000])
            bench.gate.status = None
            await waiting.send(store(2, b"12"))
            await until(lambda: bench.gate.waiting, "one waits for its answer")
            draining = asyncio.create_task(bench.intake.drain(20, quiet=0.1))
            assert await idle.aborted() == (0, 0)
            await settle_loop(20)
            assert not draining.done()
            await busy.send(stream[-10_000:])
            await until(lambda: len(bench.gate.waiting) == 2, "the image is whole")
            for _ in range(2):
                bench.gate.answer()
            assert await waiting.statuses(1) == [(2, 0)]
            assert await busy.statuses(1) == [(1, 0)]
            assert await busy.aborted() == (0, 0)
            for caller in (idle, busy, waiting):
                caller.close()
            await draining
            assert bench.gate.data == [b"12", data]

    body()


def test_at_the_deadline_everybody_leaves(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            stuck, silent = await bench.associated(), await bench.caller()
            await stuck.send(store(1, data_set(1, 100_000))[:-10])
            await until(lambda: bench.memory.used, "half an image")
            await bench.intake.drain(0.2)
            assert bench.associations == 0
            assert await stuck.aborted() == (0, 0)
            assert await silent.aborted() == (0, 0)

    body()


def test_who_keeps_sending_during_the_drain_is_told(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            caller = await bench.associated()
            bench.gate.refuses = "router is shutting down"
            draining = asyncio.create_task(bench.intake.drain(20, quiet=0.1))
            await caller.send(store(1, b"12"))
            answer = await caller.response()
            assert (answer[ul.STATUS], answer[ul.ERROR_COMMENT]) == (0xA700, "router is shutting down")
            assert await caller.aborted() == (0, 0)
            caller.close()
            await draining

    body()


def test_drained_at_once_when_there_is_nobody(tmp_path: Path) -> None:
    @on_loop
    async def body() -> None:
        async with receiving(tmp_path) as bench:
            bench.listener.close()
            async with asyncio.timeout(1):
                await bench.intake.drain(60)

    body()


def test_the_bench_counts(tmp_path: Path) -> None:
    """The end of every test here checks that no connection and no byte is left; this shows that it would see one."""

    @on_loop
    async def body() -> None:
        bench: Bench | None = None
        with pytest.raises(AssertionError, match="no memory in use"):  # noqa: PT012
            async with receiving(tmp_path) as bench:
                bench.memory.take(1)
                bench.quiet = lambda: until(lambda: not bench.memory.used, "no memory in use", 0.1)  # type: ignore[method-assign]

    body()
