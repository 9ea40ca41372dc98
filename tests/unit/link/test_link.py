"""One connection's reading, writing, pausing and ending, over real sockets and TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from asyncroute.core.errors import PeerFault
from asyncroute.link import tls
from asyncroute.link.deadlines import NEVER, Deadlines
from asyncroute.link.link import MAX_OUT, Link
from asyncroute.link.stream import Stream, TlsStream
from asyncroute.wire.pdata import ProtocolError
from tests.support import ul
from tests.support.certs import Authority
from tests.unit.parts import noise, on_loop, read_exactly, settle_loop, tcp_pair, until

PDU_TIMEOUT, IDLE_TIMEOUT = 20.0, 1000.0


class Log(Link):
    """A role that keeps what happens to it."""

    def __init__(
        self, stream: Stream, deadlines: Deadlines, piece: int = 4096, pdu_timeout: float = PDU_TIMEOUT
    ) -> None:
        self.view = memoryview(bytearray(piece))
        self.data = bytearray()
        self.pdus: list[int] = []
        self.faults: list[str] = []
        self.broken: list[str] = []
        self.times_drained = self.reads = self.times_expired = 0
        self.fail: BaseException | None = None
        self.pause_at = 0
        super().__init__(stream, deadlines, 1 << 20, pdu_timeout, IDLE_TIMEOUT)

    def _receive(self) -> bool:
        n = self.stream.recv_into(self.view)
        self.reads += 1
        if not n:
            self._gone("connection closed by peer")
            return False
        self.reader.feed(self.view, 0, n)
        return not self.ended and not self.stream.exhausted(n, len(self.view))

    def fragment(self, context_id: int, control: int, lo: int, hi: int) -> None:
        self.data += self.view[lo:hi]
        if self.pause_at and len(self.data) >= self.pause_at:
            self.pause()

    def pdu(self, kind: int, body: bytes) -> None:
        if self.fail is not None:
            raise self.fail
        self.pdus.append(kind)

    def lost(self, fault: PeerFault) -> None:
        self.faults.append(str(fault))

    def broke(self, error: PeerFault) -> None:
        self.broken.append(str(error))
        self.close()

    def drained(self) -> None:
        self.times_drained += 1

    def expired(self) -> None:
        self.times_expired += 1


def longer(link: Log, seen: int) -> bool:
    return len(link.data) > seen


@asynccontextmanager
async def linked(
    piece: int = 4096, buffers: int = 0, pdu_timeout: float = PDU_TIMEOUT
) -> AsyncIterator[tuple[Log, socket.socket]]:
    """A link that reads, its far end, and deadlines that are swept often."""
    near, far = tcp_pair(buffers)
    deadlines = Deadlines(0.01)
    deadlines.start()
    link = Log(Stream(near, "peer"), deadlines, piece, pdu_timeout)
    link.stream.watch_read()
    try:
        yield link, far
    finally:
        link.close()
        deadlines.stop()
        far.close()
        assert not deadlines.busy


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [7, 4096, 1 << 18])
def test_reads_whatever_the_size_of_its_buffer(piece: int) -> None:
    @on_loop
    async def body() -> None:
        async with linked(piece) as (link, far):
            data = noise(100_000)
            stream = b"".join(ul.pdv(1, 0, data[at : at + 9_999]) for at in range(0, len(data), 9_999))
            await asyncio.get_running_loop().sock_sendall(far, stream + ul.release_rq())
            await until(lambda: link.pdus, "everything is read")
            assert link.data == data
            assert link.faults == []

    body()


@on_loop
async def test_the_peer_s_end_is_told_once() -> None:
    async with linked() as (link, far):
        await asyncio.get_running_loop().sock_sendall(far, ul.release_rq())
        far.close()
        await until(lambda: link.ended, "the end")
        await settle_loop()
        assert link.pdus == [ul.RELEASE_RQ]
        assert link.faults == ["connection closed by peer"]
        assert link.stream.closed


@pytest.mark.parametrize("before", [b"", ul.release_rq(), ul.pdv(1, 0, bytes(50_000))], ids=["nothing", "pdu", "data"])
def test_a_reset_is_told_once(before: bytes) -> None:
    """Also when it comes right behind data: what was read is used, then the end is seen without another event."""

    @on_loop
    async def body() -> None:
        async with linked() as (link, far):
            await asyncio.get_running_loop().sock_sendall(far, before)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            far.close()
            await until(lambda: link.ended, "the end")
            await settle_loop()
            assert link.faults == ["connection reset by peer"]

    body()


@on_loop
async def test_a_protocol_error_is_the_role_s_to_answer() -> None:
    async with linked() as (link, far):
        await asyncio.get_running_loop().sock_sendall(far, b"GET / HTTP/1.1")
        await until(lambda: link.broken, "it is told")
        assert link.broken == ["unknown PDU type 47H"]
        assert link.faults == []


@pytest.mark.parametrize("error", [ZeroDivisionError("no"), AssertionError("odd")], ids=repr)
def test_an_unexpected_error_ends_this_connection_alone(error: Exception) -> None:
    @on_loop
    async def body() -> None:
        async with linked() as (bad, far_bad), linked() as (good, far_good):
            bad.fail = error
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(far_bad, ul.release_rq())
            await until(lambda: bad.ended, "the end")
            assert bad.faults == [f"unexpected error: {error!r}"]
            assert await loop.sock_recv(far_bad, 1) == b""
            await loop.sock_sendall(far_good, ul.release_rq())
            await until(lambda: good.pdus, "the other one reads")

    body()


@on_loop
async def test_a_peer_fault_after_the_end_is_not_told() -> None:
    async with linked() as (link, far):

        def late(kind: int, body: bytes) -> None:
            link.close()
            raise ProtocolError("late")

        link.pdu = late  # type: ignore[method-assign]
        await asyncio.get_running_loop().sock_sendall(far, ul.release_rq())
        await until(lambda: link.ended, "the end")
        assert (link.broken, link.faults) == ([], [])


# --- pausing ----------------------------------------------------------------------------------------------------------


@on_loop
async def test_paused_it_does_not_read_and_time_stands_still() -> None:
    async with linked() as (link, far):
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(far, ul.release_rq())
        await until(lambda: link.pdus, "the first PDU")
        link.deadline = before = loop.time() + 5
        link.pause()
        link.pause()
        assert link.deadline == NEVER
        await loop.sock_sendall(far, ul.release_rq())
        reads, begun = link.reads, loop.time()
        await until(lambda: loop.time() > begun + 0.05, "some time")
        assert link.reads == reads
        link.resume()
        assert 0.05 <= link.deadline - before < 4
        link.resume()
        await until(lambda: len(link.pdus) == 2, "the second PDU")


@on_loop
async def test_a_pause_from_within_a_read() -> None:
    """As a queue that is full asks for it: nothing more is read, and the sender's time does not run."""
    async with linked(piece=1000) as (link, far):
        link.pause_at = 1
        await asyncio.get_running_loop().sock_sendall(far, ul.pdv(1, 0, bytes(5000)))
        await until(lambda: link.reads, "a read")
        await settle_loop(20)
        assert link.reads == 1
        assert link.deadline == NEVER
        link.pause_at = 0
        link.resume()
        await until(lambda: len(link.data) == 5000, "the rest")


@on_loop
async def test_pausing_and_resuming_after_the_end_does_nothing() -> None:
    async with linked() as (link, _):
        link.pause()
        link.close()
        link.resume()
        link.pause()
        link.resume()
        await settle_loop()
        assert link.reads == 0


@pytest.mark.parametrize("piece", [100, 5000])
def test_resuming_reads_what_tls_holds(tmp_path: object, piece: int, ca: Authority) -> None:
    """The peer sends nothing more, and the socket has nothing to read: what is decrypted must not be forgotten."""

    @on_loop
    async def body() -> None:
        near, far = tcp_pair()
        identity = ca.issue("router")
        server = TlsStream(near, "c", tls.server_context(identity.certificate, identity.key, None, False), server=True)
        shaking = asyncio.create_task(server.handshake())
        _, writer = await asyncio.open_connection(
            sock=far, ssl=ssl.create_default_context(cafile=str(ca.ca)), server_hostname="localhost"
        )
        await shaking
        link = Log(server, Deadlines(), piece)
        link.pause_at = 1
        server.watch_read()
        writer.write(ul.pdv(1, 0, bytes(10_000)))
        await until(lambda: link.data, "the first bytes")
        await settle_loop(20)
        assert len(link.data) < 10_000
        seen = 0
        while len(link.data) < 10_000:
            assert len(link.data) > seen, "stuck"
            seen = len(link.data)
            link.resume()
            await until(partial(longer, link, seen), "more")
        assert link.faults == []
        link.close()
        writer.close()

    body()


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


# --- writing ----------------------------------------------------------------------------------------------------------


@on_loop
async def test_order_is_kept_however_slowly_the_peer_reads() -> None:
    async with linked(buffers=8 << 10) as (link, far):
        data = noise(300_000 + MAX_OUT - 2000)
        pieces: list[bytes | memoryview] = [memoryview(data)[at : at + 111] for at in range(0, 300_000, 111)]
        end = sum(map(len, pieces))
        link.transmit(pieces)
        for at in range(end, len(data), 1001):
            link.write(data[at : at + 1001])
        assert link._out
        assert await read_exactly(far, len(data)) == data
        await until(lambda: not link._out, "all is written")
        assert link.times_drained == 1
        assert not link.stream._writing


@on_loop
async def test_more_pieces_than_the_kernel_takes() -> None:
    async with linked() as (link, far):
        link.transmit([bytes([n % 251]) for n in range(5000)])
        assert await read_exactly(far, 5000) == bytes(n % 251 for n in range(5000))


@on_loop
async def test_a_peer_that_does_not_read_is_given_up() -> None:
    async with linked(buffers=8 << 10) as (link, _):
        most = 0
        while not link.ended:
            link.write(bytes(10_000))
            most += 10_000
            assert most < 4 * MAX_OUT
        assert most > MAX_OUT
        assert link.faults == ["does not read our answers"]
        assert not link._out
        link.write(b"more")
        link.transmit([b"more"])
        assert not link._out


@on_loop
async def test_what_the_peer_has_taken_no_longer_waits() -> None:
    """A slow reader is not one that does not read: what counts is what waits now."""
    async with linked(buffers=8 << 10) as (link, far):
        link.write(bytes(MAX_OUT // 2))
        for _ in range(100):
            link.write(bytes(MAX_OUT // 4))
            await read_exactly(far, MAX_OUT // 4)
            assert link._out
        assert not link.ended


@on_loop
async def test_one_large_piece_may_wait() -> None:
    async with linked(buffers=8 << 10) as (link, far):
        link.transmit([bytes(3 * MAX_OUT)])
        assert not link.ended
        link.write(b"answer")
        assert not link.ended
        assert (await read_exactly(far, 3 * MAX_OUT + 6))[-6:] == b"answer"


@on_loop
async def test_a_reset_while_writing_is_told_once() -> None:
    async with linked(buffers=8 << 10) as (link, far):
        link.stream.unwatch_read()
        link.transmit([bytes(3 * MAX_OUT)])
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        await until(lambda: link.ended, "the end")
        link.write(b"more")
        assert link.faults == ["connection reset by peer"]


@on_loop
async def test_closing_is_quiet_and_for_good() -> None:
    async with linked() as (link, far):
        await asyncio.get_running_loop().sock_sendall(far, ul.release_rq())
        link.close()
        link.close()
        await settle_loop()
        assert (link.faults, link.pdus, link.reader.stopped) == ([], [], True)


# --- deadlines --------------------------------------------------------------------------------------------------------


@on_loop
async def test_idle_between_pdus_and_busy_within_one() -> None:
    async with linked() as (link, far):
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(far, ul.pdv(1, 0, b"whole"))
        await until(lambda: len(link.data) == 5, "a whole PDU")
        assert IDLE_TIMEOUT - 10 < link.deadline - loop.time() <= IDLE_TIMEOUT
        await loop.sock_sendall(far, ul.pdv(1, 0, b"cut short")[:-1])
        await until(lambda: len(link.data) == 13, "most of the next")
        first = link.deadline
        assert PDU_TIMEOUT - 10 < first - loop.time() <= PDU_TIMEOUT
        await loop.sock_sendall(far, b"t")
        await until(lambda: len(link.data) == 14, "its end")
        assert link.deadline > first + 100


@on_loop
async def test_a_new_pdu_has_its_own_time() -> None:
    async with linked() as (link, far):
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(far, ul.pdv(1, 0, b"one")[:-1])
        await until(lambda: len(link.data) == 2, "the first")
        first = link.deadline
        await loop.sock_sendall(far, b"e" + ul.pdv(1, 0, b"two")[:-1])
        await until(lambda: len(link.data) == 5, "the second")
        assert first < link.deadline < first + PDU_TIMEOUT


@on_loop
async def test_a_header_in_pieces_is_one_pdu() -> None:
    async with linked() as (link, far):
        loop = asyncio.get_running_loop()
        first = NEVER
        for byte in ul.pdv(1, 0, b"four")[:13]:
            await loop.sock_sendall(far, bytes([byte]))
            await asyncio.sleep(0.002)
            first = min(first, link.deadline)
            assert link.deadline == first
        assert first < NEVER


@on_loop
async def test_a_drip_does_not_renew_the_deadline_of_a_pdu() -> None:
    async with linked(pdu_timeout=0.3) as (link, far):
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(far, ul.pdv(1, 0, bytes(100_000))[:100])
        dripped = 0
        while not link.times_expired:
            await loop.sock_sendall(far, b"\0")
            await asyncio.sleep(0.005)
            dripped += 1
            assert dripped < 2000, "never expired"
        assert dripped > 2
        assert link.deadline <= loop.time()
