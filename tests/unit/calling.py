"""A receiving side for unit tests (listener, memory, spool; only ``admit`` is a double) and a caller to talk to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from asyncroute.config.listeners import Listener as ListenerSettings
from asyncroute.core.model import Instance
from asyncroute.link import tls as link_tls
from asyncroute.link.buffers import Memory
from asyncroute.link.deadlines import Deadlines
from asyncroute.receive.base import Received, StreamWatcher
from asyncroute.receive.listener import Intake, Listener
from asyncroute.spool.local import LocalSpool
from asyncroute.streaming import StreamWriter
from tests.support import ul
from tests.support.certs import Identity
from tests.unit.parts import CT, EXPLICIT_LE, noise, read_exactly, until

CONTEXTS = [ul.Context(1, ul.VERIFICATION, (ul.IMPLICIT_LE,)), ul.Context(3, CT, (EXPLICIT_LE,))]
STORE = 3


class Gate:
    """``receive.base.Admit``: keeps what it is offered; answers at once with ``status``, or (None) later."""

    def __init__(self, spool: LocalSpool, writers: ThreadPoolExecutor, memory: Memory) -> None:
        self.refuses: str | None = None
        self.status: int | None = 0
        self.offered: list[Received] = []
        self.waiting: list[Received] = []
        self.data: list[bytes] = []
        self.streams: list[StreamWriter] = []
        self._spool = spool
        self._writers = writers
        self._memory = memory

    def refusal(self) -> str | None:
        return self.refuses

    def allocate(self) -> tuple[int, str]:
        return self._spool.allocate()

    def stream(self, instance: Instance, watcher: StreamWatcher) -> StreamWriter:
        self.streams.append(StreamWriter(self._spool, instance, watcher, self._writers))
        return self.streams[-1]

    def offer(self, received: Received) -> None:
        self.offered.append(received)
        image = received.image
        if image is None:
            i = received.instance
            self.data.append(self._spool.read(i.path, i.data_offset, i.size))
        else:
            assert sum(map(len, image.parts)) == image.size == received.instance.size
            self.data.append(b"".join(image.parts))
        self.waiting.append(received)
        if self.status is not None:
            self.answer(self.status)

    def answer(self, status: int = 0, comment: str = "") -> None:
        """Answer the first that waits, its bytes let go before."""
        received = self.waiting.pop(0)
        if received.image is not None:
            received.image.unpin()
        received.owner.answer(received, status, comment)


class Bench:
    """Everything that receives."""

    def __init__(self, folder: Path, memory: int) -> None:
        self.writers = ThreadPoolExecutor(2)
        self.negotiators = ThreadPoolExecutor(2)
        self.memory = Memory(memory)
        self.spool = LocalSpool(folder / "spool", "process-crash")
        self.gate = Gate(self.spool, self.writers, self.memory)
        self.deadlines = Deadlines(0.02)
        self.intake = Intake(self.gate, self.memory, self.deadlines, self.negotiators)
        self.listener: Listener
        self.callers: list[Caller] = []

    def listen(self, identity: Identity | None = None, **settings: Any) -> Listener:
        """One more listener, on a port of the kernel's choice."""
        context = link_tls.server_context(identity.certificate, identity.key, None, False) if identity else None
        made = Listener(ListenerSettings(**{"host": "127.0.0.1", "port": 0, **settings}), self.intake, context)
        self.intake.listeners.append(made)
        made.open()
        return made

    async def caller(self, listener: Listener | None = None) -> Caller:
        """A TCP connection to a listener."""
        sock = socket.socket()
        sock.setblocking(False)
        self.callers.append(caller := Caller(sock))
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", (listener or self.listener).port))
        return caller

    async def associated(
        self, contexts: Sequence[ul.Context] = CONTEXTS, calling: str = "CT_A", listener: Listener | None = None
    ) -> Caller:
        """An established association."""
        caller = await self.caller(listener)
        kind, body = await caller.request(contexts, calling)
        assert kind == ul.AC, (kind, body)
        return caller

    @property
    def associations(self) -> int:
        return len(self.intake.associations)

    async def quiet(self) -> None:
        """Wait until no connection is left, and with it no memory."""
        await until(lambda: not self.associations, "no connection")
        await until(lambda: not self.memory.used, f"no memory in use ({self.memory.used})")
        assert not self.deadlines.busy
        assert all(not x.established and not x._per_peer for x in self.intake.listeners)


@asynccontextmanager
async def receiving(folder: Path, memory: int = 64 << 20, **settings: Any) -> AsyncIterator[Bench]:
    """A bench with one listener; everything is closed and counted at the end."""
    bench = Bench(folder, memory)
    bench.deadlines.start()
    bench.listener = bench.listen(**settings)
    try:
        yield bench
        for caller in bench.callers:
            caller.close()
        bench.gate.status = 0
        while bench.gate.waiting:
            bench.gate.answer()
        await bench.quiet()
    finally:
        for caller in bench.callers:
            caller.close()
        for listener in bench.intake.listeners:
            listener.close()
        for acceptor in bench.intake.associations:
            acceptor.close()
        bench.deadlines.stop()
        bench.writers.shutdown()
        bench.negotiators.shutdown()
        bench.spool.close()


class Caller:
    """The requestor's side, byte by byte."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def pdu(self) -> tuple[int, bytes]:
        """Type and content of the next PDU, within 10 s."""
        async with asyncio.timeout(10):
            head = await read_exactly(self.sock, 6)
            return head[0], await read_exactly(self.sock, int.from_bytes(head[2:], "big"))

    async def ended(self) -> None:
        """Nothing comes any more but the end of the connection, within 10 s."""
        async with asyncio.timeout(10):
            assert await asyncio.get_running_loop().sock_recv(self.sock, 1) == b""

    async def request(
        self, contexts: Sequence[ul.Context] = CONTEXTS, calling: str = "CT_A", called: str = "ASYNCROUTE"
    ) -> tuple[int, bytes]:
        """Ask for an association; the answer."""
        await self.send(ul.associate_rq(calling, called, contexts))
        return await self.pdu()

    async def response(self) -> dict[int, int | str]:
        """The next response."""
        kind, body = await self.pdu()
        assert kind == ul.PDATA, (kind, body)
        ((_, control, fragment),) = ul.pdvs(memoryview(body))
        assert control == ul.COMMAND | ul.LAST
        return ul.read_command(bytes(fragment))

    async def statuses(self, count: int) -> list[tuple[int, int]]:
        """(message id, status) of the next responses."""
        found = [await self.response() for _ in range(count)]
        return [(int(answer[ul.RESPONDED_ID]), int(answer[ul.STATUS])) for answer in found]

    async def aborted(self) -> tuple[int, int]:
        """Source and reason of the A-ABORT that comes next."""
        kind, body = await self.pdu()
        assert kind == ul.ABORT, (kind, body)
        return body[2], body[3]

    async def echo(self) -> int:
        await self.send(ul.pdv(1, ul.COMMAND | ul.LAST, ul.echo_rq(1)))
        return int((await self.response())[ul.STATUS])

    def close(self) -> None:
        self.sock.close()


def store(number: int, data: bytes, piece: int = 16_000, context: int = STORE, uid: str = "") -> bytes:
    """The PDUs of a C-STORE-RQ with message id ``number``."""
    command = ul.pdv(context, ul.COMMAND | ul.LAST, ul.store_rq(number, CT, uid or f"1.2.3.{number}"))
    starts = range(0, len(data), piece) or range(1)
    pieces = [data[at : at + piece] for at in starts]
    return command + b"".join(ul.pdv(context, ul.LAST if n == len(pieces) else 0, x) for n, x in enumerate(pieces, 1))


def data_set(number: int, size: int) -> bytes:
    """A data set's bytes; nothing here looks into them."""
    return noise(size, number)
