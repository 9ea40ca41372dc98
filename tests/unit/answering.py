"""A destination byte by byte, for unit tests: TCP servers whose every connection runs a test's script."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from asyncroute.forward.association import Shared, Target
from asyncroute.link.deadlines import Deadlines
from asyncroute.link.resolve import Resolver
from tests.support import ul


@dataclass
class Message:
    """One DIMSE request as it arrived; ``lengths``: of its P-DATA PDUs, without their headers."""

    command: dict[int, int | str]
    data: bytes
    context: int
    lengths: list[int] = field(default_factory=list)
    odd: int = 0
    """Fragments of odd length that were not the last."""


class Peer:
    """One connection that the router made."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.request = ul.AssociateRQ("", "")

    async def pdu(self) -> tuple[int, bytes]:
        head = await self.reader.readexactly(6)
        return head[0], await self.reader.readexactly(int.from_bytes(head[2:], "big"))

    async def take_request(self) -> ul.AssociateRQ:
        kind, body = await self.pdu()
        assert kind == ul.RQ
        self.request = ul.read_associate_rq(body)
        return self.request

    def acceptance(self, max_pdu: int = 65536, refused: tuple[str, ...] = ()) -> bytes:
        """Accepts the first transfer syntax of every context but those of ``refused`` classes and syntaxes."""
        results = [3 if x.abstract in refused else 4 if x.transfer[0] in refused else 0 for x in self.request.contexts]
        answers = [ul.Answer(x.id, n, x.transfer[0]) for x, n in zip(self.request.contexts, results, strict=True)]
        return ul.associate_ac(self.request, answers, max_pdu)

    async def accept(self, max_pdu: int = 65536, refused: tuple[str, ...] = ()) -> Peer:
        """Take the request and accept."""
        await self.take_request()
        self.writer.write(self.acceptance(max_pdu, refused))
        return self

    async def message(self) -> Message:
        """The next request, whole; EOFError when there is none."""
        found = Message({}, b"", 0)
        command, data = bytearray(), bytearray()
        while True:
            kind, body = await self.pdu()
            if kind != ul.PDATA:
                raise EOFError(kind)
            found.lengths.append(len(body))
            for context, control, fragment in ul.pdvs(memoryview(body)):
                last = control & ul.LAST
                found.odd += bool(len(fragment) & 1 and not last)
                (command if control & ul.COMMAND else data).extend(fragment)
                found.context = context
                if control == ul.COMMAND | ul.LAST:
                    found.command = ul.read_command(bytes(command))
                if last and (control != ul.COMMAND | ul.LAST or found.command[ul.DATA_SET_TYPE] == ul.NO_DATA_SET):
                    found.data = bytes(data)
                    return found

    def respond(self, message: Message, status: int = 0, comment: str = "", **more: int) -> None:
        """Answer ``message``; ``more`` replaces elements of the answer."""
        answer = ul.read_command(ul.response(message.command, status, comment))
        answer |= {getattr(ul, name): value for name, value in more.items()}
        self.writer.write(ul.pdv(message.context, ul.COMMAND | ul.LAST, ul.command(answer)))

    async def end(self) -> bytes:
        """Everything up to the end of the connection."""
        try:
            return await self.reader.read(-1)
        except ConnectionError:
            return b"reset"

    async def release(self) -> None:
        """Answer the release request that comes next, and wait for the end."""
        kind, _ = await self.pdu()
        assert kind == ul.RELEASE_RQ, kind
        self.writer.write(ul.release_rp())
        await self.end()


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class Server:
    """A listening destination. ``errors``: what its scripts failed with."""

    port: int = 0
    connections: int = 0
    errors: list[BaseException] = field(default_factory=list)
    running: set[asyncio.Task[None]] = field(default_factory=set)

    async def done(self) -> None:
        """Wait until every script has ended, and raise what one failed with."""
        async with asyncio.timeout(10):
            while self.running:
                await asyncio.wait(self.running)
        for error in self.errors:
            raise error


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None, buffers: int = 0) -> AsyncIterator[Server]:
    """A destination on a free port; every connection runs ``script``. ``buffers``: bytes the kernel receives ahead."""
    server = Server()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        server.connections += 1
        server.running.add(task)
        try:
            await script(Peer(reader, writer))
        except asyncio.CancelledError:
            pass  # the test is over
        except Exception as error:
            server.errors.append(error)
        finally:
            server.running.discard(task)
            writer.close()

    sock = socket.socket()
    if buffers:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
    sock.bind(("127.0.0.1", 0))
    server.port = sock.getsockname()[1]
    listening = await asyncio.start_server(connected, sock=sock, ssl=tls, limit=4 * buffers or 256 << 10)
    try:
        yield server
    finally:
        listening.close()
        for task in list(server.running):
            task.cancel()
        while server.running:
            await asyncio.sleep(0.005)


@asynccontextmanager
async def sharing() -> AsyncIterator[Shared]:
    """What associations share; at the end none may be left."""
    shared = Shared(Deadlines(0.02), ThreadPoolExecutor(2), Resolver())
    shared.deadlines.start()
    try:
        yield shared
        async with asyncio.timeout(10):
            while shared.deadlines.busy:
                await asyncio.sleep(0.005)
    finally:
        shared.deadlines.stop()
        shared.resolver.close()
        shared.pool.shutdown()


def target(port: int, **more: object) -> Target:
    """A destination on the loopback with short timeouts."""
    values: dict[str, object] = {"connect_timeout": 5.0, "response_timeout": 5.0, **more}
    return Target("127.0.0.1", port, "PACS", **values)  # type: ignore[arg-type]
