"""An exact storage SCP on asyncio: digests what comes, keeps to its ``Behaviour``, remembers everything.

Standard library only, so that its process starts fast. See ``exact_receiver`` for the side that tests use.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NoReturn

from tests.support import odd_answers, ul
from tests.support.behaviour import Behaviour, Event, Stored, Tally

READ_AHEAD = 1 << 17
READS_A_SECOND = 20
HALF_PDU = ul.pdv(1, ul.COMMAND | ul.LAST, bytes(64))[:20]


class Ended(Exception):
    """The association is over; the text says how."""


@dataclass
class Incoming:
    """The data set being received."""

    request: dict[int, int | str]
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    size: int = 0
    file: BinaryIO | None = None

    def add(self, fragment: memoryview) -> None:
        """Take in one fragment."""
        self.digest.update(fragment)
        self.size += len(fragment)
        if self.file is not None:
            self.file.write(fragment)


class Receiver:
    """One listening peer. ``start`` and ``stop`` may alternate on the same port."""

    def __init__(self, port: int, behaviour: Behaviour) -> None:
        self.port = port
        self.stored: list[Stored] = []
        self.events: list[Event] = []
        self.connections = self.associations = self.current = self.most_at_once = 0
        self.arrivals = self.echoes = self.rejected = 0
        self.troubled = 0
        self.behaviour = behaviour
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    def set(self, behaviour: Behaviour) -> None:
        """Behave like this from now on, for associations already open too; ``trouble_first`` counts from here."""
        self.behaviour = behaviour
        self.troubled = 0

    async def start(self) -> None:
        """Listen."""
        behaviour = self.behaviour
        tls = _context(behaviour.tls) if behaviour.tls else None
        sock = _listening(behaviour, self.port)
        limit = min(behaviour.receive_buffer or READ_AHEAD, READ_AHEAD)
        self._server = await asyncio.start_server(self._connected, sock=sock, backlog=256, ssl=tls, limit=limit)

    async def stop(self) -> None:
        """Close the listener and every connection at once."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def take(self) -> list[Stored]:
        """What was stored, and forget it and the events: a receiver of hundreds of thousands of images stays small."""
        taken, self.stored, self.events = self.stored, [], []
        return taken

    def tally(self) -> Tally:
        """See ``Tally``."""
        return Tally(
            self.connections,
            self.associations,
            self.current,
            self.most_at_once,
            len(self.stored),
            self.echoes,
            self.rejected,
        )

    def note(self, association: int, kind: str, detail: str = "") -> None:
        """Remember an event."""
        self.events.append(Event(time.monotonic(), association, kind, detail))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._serve(reader, writer)
        except asyncio.CancelledError:  # by stop(): this task is ours, nobody waits for its end but stop()
            writer.transport.abort()
        finally:
            self._serving.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        serving = Serving(self, self.connections, reader, writer)
        self.note(serving.number, "connect")
        try:
            await serving.run()
        except Ended as how:
            self.note(serving.number, str(how))
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError) as error:
            self.note(serving.number, "lost", repr(error))
        except ul.WireError as error:
            self.note(serving.number, "malformed", str(error))
            writer.write(ul.abort(2, 0))


class Serving:
    """One connection, from accept to close."""

    def __init__(
        self, receiver: Receiver, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.receiver = receiver
        self.number = number
        self.reader = reader
        self.writer = writer
        self.request = ul.AssociateRQ("", "")
        self.syntaxes: dict[int, str] = {}
        self.command = bytearray()
        self.incoming: Incoming | None = None
        self.bytes_in = self.images = 0
        self.due = 0.0
        self.troubled = False

    @property
    def behaviour(self) -> Behaviour:
        """The receiver's conduct at this moment."""
        return self.receiver.behaviour

    async def run(self) -> None:
        """Serve until the association ends."""
        self._decide_trouble()
        if self.troubled and self.behaviour.close_at_connect:
            raise Ended("closed-at-connect")
        kind, body = await self._read_pdu()
        if kind != ul.RQ:
            raise Ended(f"first-pdu-{kind}")
        self.request = ul.read_associate_rq(bytes(body))
        await self._answer_association()
        self._opened()
        try:
            await self._established()
        finally:
            self.receiver.current -= 1

    def _decide_trouble(self) -> None:
        self.receiver.troubled += 1
        first = self.behaviour.trouble_first
        self.troubled = first is None or self.receiver.troubled <= first

    def _opened(self) -> None:
        receiver = self.receiver
        receiver.associations += 1
        receiver.current += 1
        receiver.most_at_once = max(receiver.most_at_once, receiver.current)
        receiver.note(self.number, "open", self.request.calling)

    async def _established(self) -> None:
        if self.troubled and self.behaviour.mute == "read":
            await self._stop_reading()
        if self.troubled and self.behaviour.with_ac == "half":
            await self._stop_reading()
        while True:
            kind, body = await self._read_pdu()
            if kind == ul.PDATA:
                await self._data(body)
            elif kind == ul.RELEASE_RQ:
                self.writer.write(ul.release_rp())
                raise Ended("released")
            elif kind == ul.RELEASE_RP:
                raise Ended("release-answered")
            else:
                raise Ended("aborted" if kind == ul.ABORT else f"unexpected-pdu-{kind}")

    async def _stop_reading(self) -> None:
        self.receiver.note(self.number, "stops-reading")
        self.reader._transport.pause_reading()  # type: ignore[attr-defined]
        while not self.writer.transport.is_closing():
            await asyncio.sleep(0.1)
            self._notice_close()

    def _notice_close(self) -> None:
        """A paused transport does not see the peer's close: ask the kernel for the state of the connection."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        if state != 1:
            raise Ended("closed-by-peer")

    async def _read_pdu(self) -> tuple[int, memoryview]:
        header = await self._read(6)
        kind, size = struct.unpack(">BxI", header)
        if size > max(self.behaviour.max_pdu, 1 << 20):
            raise ul.WireError(f"PDU of {size} bytes")
        return kind, memoryview(await self._read(size))

    async def _read(self, size: int) -> bytes:
        """So many bytes, no faster than ``read_rate``."""
        if not self.behaviour.read_rate or not self.syntaxes:
            return await self.reader.readexactly(size)
        data = bytearray()
        while len(data) < size:
            share = max(1, int(self.behaviour.read_rate / READS_A_SECOND))
            piece = await self.reader.readexactly(min(share, size - len(data)))
            data += piece
            await self._pace(len(piece))
        return bytes(data)

    async def _pace(self, size: int) -> None:
        """Wait until the next bytes are due; what was late is not made good."""
        now = time.monotonic()
        self.due = max(self.due, now - 1 / READS_A_SECOND) + size / self.behaviour.read_rate
        await asyncio.sleep(max(self.due - now, 0))

    async def _answer_association(self) -> None:
        refusal = self._refusal()
        if refusal is not None:
            self.receiver.rejected += 1
            self.writer.write(ul.associate_rj(*refusal))
            raise Ended(f"rejected-{'/'.join(map(str, refusal))}")
        if self.troubled and self.behaviour.mute == "association":
            await self.reader.read()
            raise Ended("never-answered")
        if self.troubled and self.behaviour.odd_ac:
            self._odd(odd_answers.ASSOCIATION[self.behaviour.odd_ac](self.request))
            await self._read_out()
        accepted = ul.associate_ac(self.request, self._answers(), self.behaviour.max_pdu)
        self.writer.write(accepted + self._along())
        await self.writer.drain()

    def _odd(self, data: bytes) -> None:
        self.receiver.note(self.number, "odd-answer")
        self.writer.write(data)

    async def _read_out(self) -> NoReturn:
        """Take whatever comes until the peer is gone; an A-ABORT among it is noted."""
        data = await self.reader.read()
        raise Ended("aborted" if data[-10:-4] == ul.abort()[:6] else "gone")

    def _along(self) -> bytes:
        if not self.troubled:
            return b""
        return {"": b"", "abort": ul.abort(), "release": ul.release_rq(), "half": HALF_PDU}[self.behaviour.with_ac]

    def _refusal(self) -> tuple[int, int, int] | None:
        behaviour, calling = self.behaviour, self.request.calling
        if behaviour.called is not None and self.request.called != behaviour.called:
            return 1, 1, 7
        if 0 < behaviour.max_associations <= self.receiver.current:
            return 2, 3, 2
        named = not behaviour.reject_calling or calling in behaviour.reject_calling
        return behaviour.reject if self.troubled and named else None

    def _answers(self) -> list[ul.Answer]:
        answers = [self._answer(context) for context in self.request.contexts]
        self.syntaxes = {answer.id: answer.transfer for answer in answers if answer.result == 0}
        return answers

    def _answer(self, context: ul.Context) -> ul.Answer:
        if context.abstract in self.behaviour.refuse_classes:
            return ul.Answer(context.id, 3, context.transfer[0])
        only = self.behaviour.only_transfer
        fitting = [uid for uid in context.transfer if not only or uid in only]
        if context.abstract == ul.VERIFICATION:
            fitting = list(context.transfer)
        return ul.Answer(context.id, 0, fitting[0]) if fitting else ul.Answer(context.id, 4, context.transfer[0])

    async def _data(self, body: memoryview) -> None:
        for context, control, fragment in ul.pdvs(body):
            if control & ul.COMMAND:
                self.command += fragment
                if control & ul.LAST:
                    await self._command(context)
            else:
                await self._fragment(context, control, fragment)

    async def _command(self, context: int) -> None:
        request = ul.read_command(bytes(self.command))
        self.command.clear()
        if context not in self.syntaxes:
            raise ul.WireError(f"message on presentation context {context}, which was not accepted")
        if request[ul.COMMAND_FIELD] == ul.C_ECHO_RQ:
            self._echo(context, request)
        elif request[ul.COMMAND_FIELD] == ul.C_STORE_RQ:
            self._begin(request)
        else:
            raise ul.WireError(f"command {request[ul.COMMAND_FIELD]}")

    def _echo(self, context: int, request: dict[int, int | str]) -> None:
        self.receiver.echoes += 1
        self.receiver.note(self.number, "echo", self.request.calling)
        answer = ul.response(request, self.behaviour.echo_status)
        self.writer.write(ul.pdv(context, ul.COMMAND | ul.LAST, answer))

    def _begin(self, request: dict[int, int | str]) -> None:
        if request[ul.AFFECTED_INSTANCE] in self.behaviour.abort_on:
            self._abort("we-aborted-on-instance")
        self.receiver.arrivals += 1
        self.incoming = Incoming(request)
        if self.behaviour.keep_in:
            path = Path(self.behaviour.keep_in) / f"{self.receiver.arrivals}.dataset"
            self.incoming.file = path.open("wb")

    async def _fragment(self, context: int, control: int, fragment: memoryview) -> None:
        if self.incoming is None:
            raise ul.WireError("data set without a command")
        self.incoming.add(fragment)
        self.bytes_in += len(fragment)
        self._break_off()
        if control & ul.LAST:
            await self._whole(context, self.incoming)

    def _break_off(self) -> None:
        behaviour = self.behaviour
        if not self.troubled:
            return
        if behaviour.abort_after is not None and self.bytes_in > behaviour.abort_after:
            self._abort("we-aborted")
        if behaviour.reset_after is not None and self.bytes_in > behaviour.reset_after:
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise Ended("we-reset")

    def _abort(self, why: str) -> None:
        self.writer.write(ul.abort())
        raise Ended(why)

    async def _whole(self, context: int, incoming: Incoming) -> None:
        self.incoming = None
        if incoming.file is not None:
            incoming.file.close()
        status = self._status(str(incoming.request[ul.AFFECTED_INSTANCE]))
        self._remember(context, incoming, status)
        if self.troubled and self.behaviour.mute == "store":
            return
        if self.behaviour.delay:
            await asyncio.sleep(self.behaviour.delay)
        if self._is_odd(incoming):
            self._odd(odd_answers.RESPONSES[self.behaviour.odd_response](context, incoming.request))
            return
        comment = self.behaviour.comment if status else ""
        self.writer.write(ul.pdv(context, ul.COMMAND | ul.LAST, ul.response(incoming.request, status, comment)))
        self.images += 1
        if self.images == self.behaviour.max_images:
            self._abort("we-aborted-after-images")

    def _is_odd(self, incoming: Incoming) -> bool:
        behaviour = self.behaviour
        named = not behaviour.odd_for or incoming.request[ul.AFFECTED_INSTANCE] in behaviour.odd_for
        return self.troubled and named and bool(behaviour.odd_response)

    def _remember(self, context: int, incoming: Incoming, status: int) -> None:
        request = incoming.request
        self.receiver.stored.append(
            Stored(
                association=self.number,
                sop_class=str(request[ul.AFFECTED_CLASS]),
                sop_instance=str(request[ul.AFFECTED_INSTANCE]),
                transfer_syntax=self.syntaxes[context],
                calling=self.request.calling,
                called=self.request.called,
                size=incoming.size,
                sha256=incoming.digest.hexdigest(),
                status=status,
                at=time.monotonic(),
                number=self.receiver.arrivals,
            )
        )

    def _status(self, instance: str) -> int:
        behaviour = self.behaviour
        if instance in behaviour.status_of:
            return behaviour.status_of[instance]
        turn = len(self.receiver.stored)
        return behaviour.statuses[turn] if turn < len(behaviour.statuses) else behaviour.status


def _listening(behaviour: Behaviour, port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if behaviour.receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, behaviour.receive_buffer)
    sock.bind((behaviour.host, port))
    return sock


def _context(tls: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls["certificate"], tls["key"])
    if "client_ca" in tls:
        context.load_verify_locations(tls["client_ca"])
        context.verify_mode = ssl.CERT_REQUIRED
    return context
