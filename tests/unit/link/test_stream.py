"""Plain and TLS streams on real sockets: nothing lost, nothing blocked, an error stays where it happened."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from asyncroute.link import tls
from asyncroute.link.stream import VANISHED, Stream, TlsStream
from tests.support.certs import Authority, Identity
from tests.unit.parts import noise, on_loop, read_exactly, settle_loop, tcp_pair, until


def once(stream: Stream, called: list[str], what: str) -> None:
    """A callback that stops watching as soon as it was called."""
    called.append(what)
    stream.unwatch_read()


def more_than(calls: list[str], what: str, n: int) -> bool:
    return calls.count(what) > n


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def identity(authority: Authority) -> Identity:
    return authority.issue("router")


@asynccontextmanager
async def plain() -> AsyncIterator[tuple[Stream, socket.socket]]:
    near, far = tcp_pair()
    stream = Stream(near, "peer")
    try:
        yield stream, far
    finally:
        stream.close()
        far.close()


async def drain(stream: Stream, size: int, piece: int = 1 << 16) -> bytes:
    """``size`` bytes from a stream by its readiness."""
    found = bytearray()
    view = memoryview(bytearray(piece))
    more = asyncio.Event()
    stream.attach(more.set, lambda: None, lambda error: None)
    stream.watch_read()
    while len(found) < size:
        try:
            n = stream.recv_into(view)
        except BlockingIOError:
            more.clear()
            await more.wait()
            continue
        if not n:
            break
        found += view[:n]
    stream.unwatch_read()
    return bytes(found)


async def until_readable(stream: Stream, size: int) -> None:
    """Wait until so many bytes wait in the socket."""
    await until(lambda: len(stream.sock.recv(size, socket.MSG_PEEK)) == size, "the bytes")


async def pour(stream: Stream, data: bytes, sizes: list[int]) -> int:
    """Send ``data`` in pieces of ``sizes`` by readiness; the number of writes that took less than was offered."""
    pieces: list[bytes | memoryview] = []
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(memoryview(data)[at : at + size])
        at += size
        turn += 1
    short = 0
    free = asyncio.Event()
    stream.attach(lambda: None, free.set, lambda error: None)
    while pieces:
        try:
            n = stream.send(pieces[:1000])
        except BlockingIOError:
            free.clear()
            stream.watch_write()
            await free.wait()
            continue
        short += n < sum(map(len, pieces[:1000]))
        while n:
            if n < len(pieces[0]):
                pieces[0] = memoryview(pieces[0])[n:]
                break
            n -= len(pieces.pop(0))
    stream.unwatch_write()
    return short


# --- plain ------------------------------------------------------------------------------------------------------------


@on_loop
async def test_short_writes() -> None:
    async with plain() as (stream, far):
        data = noise(8 << 20)
        reading = asyncio.create_task(read_exactly(far, len(data)))
        short = await pour(stream, data, [100_000, 1, 6, 300_000])
        assert await reading == data
        assert short > 0


@on_loop
async def test_nothing_to_read_and_the_end() -> None:
    async with plain() as (stream, far):
        view = memoryview(bytearray(10))
        with pytest.raises(BlockingIOError):
            stream.recv_into(view)
        far.send(b"abc")
        far.close()
        assert await drain(stream, 10) == b"abc"
        assert stream.recv_into(view) == 0


@on_loop
async def test_a_short_read_is_the_last_one() -> None:
    async with plain() as (stream, far):
        view = memoryview(bytearray(10))
        await asyncio.get_running_loop().sock_sendall(far, b"0123456789abc")
        await until_readable(stream, 13)
        assert not stream.exhausted(stream.recv_into(view), 10)
        assert stream.exhausted(stream.recv_into(view), 10)
        with pytest.raises(BlockingIOError):
            stream.recv_into(view)


@on_loop
async def test_a_reset_behind_the_last_bytes_is_seen_with_them() -> None:
    """The loop may have told of it already, and tells once."""
    async with plain() as (stream, far):
        far.send(b"last words")
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        view = memoryview(bytearray(100))
        n = stream.recv_into(view)
        assert bytes(view[:n]) == b"last words"
        with pytest.raises(ConnectionResetError):
            stream.exhausted(n, 100)


@on_loop
async def test_no_delay() -> None:
    async with plain() as (stream, _):
        assert stream.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not stream.tls
        assert not stream.buffered
        stream.quick_ack()
        stream.close()
        stream.quick_ack()


@on_loop
async def test_a_peer_that_vanishes_is_asked_for() -> None:
    async with plain() as (stream, _):
        assert stream.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        tcp = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        after, every, times = (stream.sock.getsockopt(socket.IPPROTO_TCP, option) for option in tcp)
        assert after + every * times == VANISHED


@on_loop
async def test_an_exception_in_a_callback_ends_that_stream_alone() -> None:
    """And is told once: a callback that stayed registered would be called as fast as the machine can."""
    async with plain() as (bad, far_bad), plain() as (good, far_good):
        calls: list[str] = []
        faults: list[BaseException] = []

        def broken() -> None:
            calls.append("bad")
            raise ZeroDivisionError

        def reads() -> None:
            good.recv_into(memoryview(bytearray(10)))
            calls.append("good")

        bad.attach(broken, broken, faults.append)
        good.attach(reads, broken, faults.append)
        bad.watch_read()
        good.watch_read()
        far_bad.send(b"x")
        await until(lambda: faults, "the fault is told")
        for n in range(3):
            far_good.send(b"y")
            await until(partial(more_than, calls, "good", n), "the other stream reads")
        assert calls.count("bad") == 1
        assert [type(fault) for fault in faults] == [ZeroDivisionError]
        assert bad.closed
        assert not good.closed


@on_loop
async def test_an_exception_while_writing_ends_that_stream_alone() -> None:
    async with plain() as (stream, _):
        faults: list[BaseException] = []

        def broken() -> None:
            raise KeyError

        stream.attach(lambda: None, broken, faults.append)
        stream.watch_write()
        await until(lambda: faults, "the fault is told")
        await settle_loop()
        assert stream.closed
        assert len(faults) == 1


@on_loop
async def test_watching_twice_and_not() -> None:
    async with plain() as (stream, far):
        calls: list[int] = []

        def reads() -> None:
            calls.append(stream.recv_into(memoryview(bytearray(10))))

        stream.attach(reads, lambda: None, lambda error: None)
        stream.watch_read()
        stream.watch_read()
        stream.unwatch_read()
        far.send(b"x")
        await settle_loop()
        assert calls == []
        stream.unwatch_read()
        stream.watch_read()
        await until(lambda: calls == [1], "it reads")


@on_loop
async def test_a_number_that_is_used_again_belongs_to_the_new_socket() -> None:
    near, far = tcp_pair()
    old = Stream(near, "old")
    called: list[str] = []
    old.attach(lambda: called.append("old"), lambda: None, lambda error: None)
    old.watch_read()
    old.watch_write()
    number = near.fileno()
    old.close()
    again, other = tcp_pair()
    if again.fileno() != number:
        os.dup2(again.fileno(), number)
        again.close()
        again = socket.socket(fileno=number)
    new = Stream(again, "new")
    new.attach(lambda: once(new, called, "new"), lambda: None, lambda error: None)
    new.watch_read()
    other.send(b"x")
    await until(lambda: called, "the new stream is called")
    await settle_loop()
    assert called == ["new"]
    old.watch_read()
    new.close()
    far.close()
    other.close()


@on_loop
async def test_close_and_reset() -> None:
    async with plain() as (stream, far):
        stream.close()
        stream.close()
        stream.watch_read()
        stream.watch_write()
        assert await asyncio.get_running_loop().sock_recv(far, 10) == b""
    async with plain() as (stream, far):
        stream.reset()
        stream.reset()
        with pytest.raises(ConnectionResetError):
            await asyncio.get_running_loop().sock_recv(far, 10)


# --- TLS --------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def secured(authority: Authority, identity: Identity, buffers: int = 0) -> AsyncIterator[tuple[Stream, Stream]]:
    """A server's and a client's stream, hands shaken."""
    near, far = tcp_pair(buffers)
    server = TlsStream(near, "c", tls.server_context(identity.certificate, identity.key, None, False), server=True)
    client = TlsStream(far, "s", tls.client_context(authority.ca, None, None), server=False, server_name="localhost")
    try:
        await asyncio.gather(server.handshake(), client.handshake())
        yield server, client
    finally:
        server.close()
        client.close()


@pytest.mark.parametrize("sizes", [[1, 6, 12], [70_000, 3, 40_000], [1 << 20]], ids=str)
def test_tls_carries_what_it_is_given(authority: Authority, identity: Identity, sizes: list[int]) -> None:
    @on_loop
    async def body() -> None:
        data = noise(2 << 20 if sizes[0] > 1 else 50_000)
        for near, far in ((0, 1), (1, 0)):
            async with secured(authority, identity, buffers=32 << 10) as streams:
                reading = asyncio.create_task(drain(streams[far], len(data)))
                await pour(streams[near], data, sizes)
                assert await reading == data

    body()


def test_small_pieces_share_a_record(authority: Authority, identity: Identity) -> None:
    """A command set, two headers and a slice each in a record of its own would cost 4 times the packets."""

    @on_loop
    async def body() -> None:
        async with secured(authority, identity) as (server, client):
            assert server.send([b"a" * 100, memoryview(b"b" * 200), b"c" * 300]) == 600
            view = memoryview(bytearray(1000))
            await until(lambda: _readable(client, view) == 600, "one record of 600 bytes")

    body()


def _readable(stream: Stream, view: memoryview) -> int:
    try:
        return stream.recv_into(view)
    except BlockingIOError:
        return 0


def test_what_tls_has_decrypted_is_told(authority: Authority, identity: Identity) -> None:
    """The socket is empty by then: only ``buffered`` says that there is more."""

    @on_loop
    async def body() -> None:
        async with secured(authority, identity) as (server, client):
            server.send([b"x" * 10_000])
            view = memoryview(bytearray(100))
            await until(lambda: _readable(client, view) == 100, "the first bytes")
            assert client.buffered
            left = 9_900
            while client.buffered:
                left -= client.recv_into(view)
            assert left == 0
            with pytest.raises(BlockingIOError):
                client.recv_into(view)
            client.close()
            assert not client.buffered

    body()


def test_an_end_without_goodbye_is_an_end(authority: Authority, identity: Identity) -> None:
    @on_loop
    async def body() -> None:
        async with secured(authority, identity) as (server, client):
            server.send([b"last words"])
            with socket.socket(fileno=os.dup(server.sock.fileno())) as plain_socket:
                plain_socket.shutdown(socket.SHUT_WR)
            assert await drain(client, 100) == b"last words"

    body()


class _Ending:
    """The far end of a connection on which hands are to be shaken, for one ``with``."""

    def __init__(self, identity: Identity) -> None:
        near, self.far = tcp_pair()
        context = tls.server_context(identity.certificate, identity.key, None, False)
        self.server = TlsStream(near, "c", context, server=True)

    def __enter__(self) -> _Ending:
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.close()
        self.far.close()


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", b"\x01\0\0\0\0\xcd" + bytes(100), b""])
def test_who_speaks_no_tls(identity: Identity, first: bytes) -> None:
    @on_loop
    async def body() -> None:
        with _Ending(identity) as pair:
            if first:
                pair.far.send(first)
            else:
                pair.far.close()
            with pytest.raises(OSError, match=r".") as caught:
                await pair.server.handshake()
            assert isinstance(caught.value, ssl.SSLError | ConnectionError)

    body()


def test_a_handshake_that_is_given_up_leaves_nothing_behind(identity: Identity) -> None:
    """Cancelled, or its stream closed: the loop must not go on watching the socket."""

    @on_loop
    async def body() -> None:
        with _Ending(identity) as pair:
            task = asyncio.create_task(pair.server.handshake())
            await settle_loop()
            number = pair.server.sock.fileno()
            pair.server.close()
            near, far = tcp_pair()
            assert number in (near.fileno(), far.fileno())
            stream, called = Stream(near if near.fileno() == number else far, "peer"), list[str]()

            def reads() -> None:
                called.append("read")
                stream.unwatch_read()

            stream.attach(reads, lambda: None, lambda error: None)
            stream.watch_read()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            (far if stream.sock is near else near).send(b"x")
            await until(lambda: called == ["read"], "the next owner of the descriptor reads")
            near.close()
            far.close()

    body()


def test_a_silent_client_does_not_hold_up_the_loop(authority: Authority, identity: Identity) -> None:
    @on_loop
    async def body() -> None:
        with _Ending(identity) as silent:
            waiting = asyncio.create_task(silent.server.handshake())
            async with secured(authority, identity) as (server, client):
                server.send([b"hello"])
                assert await drain(client, 5) == b"hello"
            assert not waiting.done()
            waiting.cancel()

    body()


def test_a_stranger_s_certificate_is_refused(identity: Identity, tmp_path_factory: pytest.TempPathFactory) -> None:
    @on_loop
    async def body() -> None:
        other = Authority(tmp_path_factory.mktemp("other"))
        with _Ending(identity) as pair:
            context = tls.client_context(other.ca, None, None)
            client = TlsStream(pair.far, "s", context, server=False, server_name="localhost")
            answers = await asyncio.gather(pair.server.handshake(), client.handshake(), return_exceptions=True)
            client.close()
            assert isinstance(answers[1], ssl.SSLCertVerificationError)
            assert isinstance(answers[0], ssl.SSLError)

    body()
