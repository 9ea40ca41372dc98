"""A destination that replays recorded acceptors, damaged, and knows exactly what it answered.

It runs in a thread of the test. For each association it takes a recording of the same proposal, damages its PDUs, and
sends each when its turn has come: the first after the request, the next after each whole message. With ``honest`` set
it takes every image as it should.
Guarantees: ``Log.proven`` holds an image only if bytes that are a proper success answer to it (PS3.7 9.3.1, Annex C)
were given to the kernel on the association on which it was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.fuzz.mutations import damaged
from tests.fuzz.recording import Recording, pdus_of
from tests.support import ul
from tests.support.ports import HOST, free_port

Shape = tuple[tuple[int, str, tuple[str, ...]], ...]
"""A proposal: context ids with their syntaxes."""

RECORDED = re.compile(rb"2\.25\.\d{39}")
"""The SOP Instance UIDs of recorded images; an answer has to name the image that it is about."""

RESET = struct.pack("ii", 1, 0)
WARNINGS = frozenset({0x0001, 0x0107, 0x0111, 0x0116})
ENDINGS = ("wait",) * 12 + ("close", "reset", "half")
PATIENCE = 30.0
"""Seconds after which an association is closed: the router, with deadlines of a second or some, should have been
quicker.
"""


def shape_of(request: bytes) -> Shape:
    """What an A-ASSOCIATE-RQ proposes."""
    contexts = ul.read_associate_rq(request[6:]).contexts
    return tuple((context.id, context.abstract, context.transfer) for context in contexts)


def by_shape(recordings: Sequence[Recording]) -> dict[Shape, list[Recording]]:
    """Recordings by their proposals."""
    found: dict[Shape, list[Recording]] = {}
    for recording in recordings:
        found.setdefault(shape_of(recording.caller[0]), []).append(recording)
    return found


def succeeded(status: int) -> bool:
    """Whether a C-STORE-RSP with this status means that the image was taken: success and warnings."""
    return status == 0 or status in WARNINGS or status >> 12 == 0xB


def answers_in(stream: bytes) -> dict[int, int]:
    """{message id: status} of the proper C-STORE-RSPs behind a proper A-ASSOCIATE-AC; of several the last success."""
    pdus, found, command = pdus_of(stream), dict[int, int](), bytearray()
    for pdu in pdus[1:] if pdus and pdus[0][:1] == bytes((ul.AC,)) else []:
        if pdu[:1] != bytes((ul.PDATA,)) or len(pdu) != 6 + int.from_bytes(pdu[2:6], "big"):
            continue
        with contextlib.suppress(ul.WireError):
            for _, control, fragment in ul.pdvs(memoryview(pdu)[6:]):
                command += fragment
                if control & ul.LAST:
                    _note(bytes(command), found)
                    command.clear()
    return found


def _note(command: bytes, found: dict[int, int]) -> None:
    values = ul.read_command(command)
    number, status = values.get(ul.RESPONDED_ID), values.get(ul.STATUS)
    if values.get(ul.COMMAND_FIELD) != ul.C_STORE_RSP or not isinstance(number, int) or not isinstance(status, int):
        return
    if not succeeded(found.get(number, 0xFFFF)):
        found[number] = status


@dataclass
class Log:
    """What a destination saw and said."""

    associations: int = 0
    unknown: Counter[Shape] = field(default_factory=Counter)
    proven: set[tuple[str, str]] = field(default_factory=set)
    """(called AE title, SOP instance) of images that were answered with success."""
    early: int = 0
    """Successes for messages that had not come yet: what is sent under such a number may count as delivered."""
    whole: set[tuple[str, str, str]] = field(default_factory=set)
    """(called AE title, SOP instance, SHA-256) of data sets that arrived whole."""
    not_left: int = 0
    """Associations that the router did not give up in time."""


class Answerer:
    """See module. ``recordings`` by the shape of their proposal. Use as a context manager."""

    def __init__(self, recordings: Mapping[Shape, Sequence[Recording]], seed: str) -> None:
        self.port = free_port()
        self.log = Log()
        self.honest = False
        self._recordings = recordings
        self._streams = [recording.acceptor for found in recordings.values() for recording in found]
        self._seed = seed
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Answerer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._connected, HOST, self.port, backlog=256))
        self._loop.run_forever()
        server.close()
        for task in list(self._open):
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._open, return_exceptions=True))
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.log.associations += 1
        conversation = _Conversation(self, self.log.associations, reader, writer)
        try:
            async with asyncio.timeout(PATIENCE):
                await conversation.hold()
        except TimeoutError:
            self.log.not_left += 1
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            conversation.account()
            writer.transport.abort()
            self._open.discard(task)

    @property
    def quiet(self) -> bool:
        """Whether no association is open."""
        return not self._open

    def script(self, number: int, request: bytes) -> tuple[list[bytes], random.Random]:
        """The PDUs for association ``number``, and where its other decisions come from."""
        rng = random.Random(f"{self._seed}/{number}")
        fitting = self._recordings.get(shape_of(request))
        if not fitting:
            self.log.unknown[shape_of(request)] += 1
            return [ul.abort()], rng
        pdus = list(rng.choice(fitting).acceptor)
        if rng.random() < 0.05:
            return pdus, rng
        return damaged(rng, pdus, self._streams)[0], rng


class _Conversation:
    def __init__(
        self, owner: Answerer, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.owner = owner
        self.number = number
        self.reader = reader
        self.writer = writer
        self.said = bytearray()
        self.sent: dict[int, str] = {}
        self.message = bytearray()
        self.digest = hashlib.sha256()
        self.instance = self.called = ""
        self.command: dict[int, int | str] = {}
        self.context = 0

    async def hold(self) -> None:
        """Answer each turn until a script or the router ends it."""
        _, request = await self._pdu()
        self.called = ul.read_associate_rq(request[6:]).called
        if self.owner.honest:
            await self._serve(request)
            return
        pdus, rng = self.owner.script(self.number, request)
        ending = rng.choice(ENDINGS)
        stop = rng.randrange(1, len(pdus) + 1) if pdus else 0
        for n, pdu in enumerate(pdus):
            if ending != "wait" and n == stop:
                break
            if n:
                await self._turn()
            await self._say(pdu, rng)
        await self._leave(ending)

    async def _serve(self, request: bytes) -> None:
        """Take every image, answer every release."""
        asked = ul.read_associate_rq(request[6:])
        answers = [ul.Answer(context.id, 0, context.transfer[0]) for context in asked.contexts]
        self._write(ul.associate_ac(asked, answers, 65536))
        while await self._turn():
            self._write(ul.pdv(self.context, ul.COMMAND | ul.LAST, ul.response(self.command, 0)))
        self._write(ul.release_rp())
        await self.writer.drain()

    async def _turn(self) -> bool:
        """Wait for the end of the router's next message (True), or for its release."""
        while True:
            kind, pdu = await self._pdu()
            if kind == ul.ABORT:
                raise ConnectionAbortedError
            if kind != ul.PDATA or self._data(pdu):
                return kind == ul.PDATA

    def _data(self, pdu: bytes) -> bool:
        """Take in fragments; whether a message has ended."""
        ended = False
        for self.context, control, fragment in ul.pdvs(memoryview(pdu)[6:]):
            ended = self._fragment(control, fragment) or ended
        return ended

    def _fragment(self, control: int, fragment: memoryview) -> bool:
        if not control & ul.COMMAND:
            self.digest.update(fragment)
            if control & ul.LAST:
                self.owner.log.whole.add((self.called, self.instance, self.digest.hexdigest()))
            return bool(control & ul.LAST)
        self.message += fragment
        if not control & ul.LAST:
            return False
        command = ul.read_command(bytes(self.message))
        self.message.clear()
        self.command = command
        if command[ul.COMMAND_FIELD] != ul.C_STORE_RQ:
            return True
        self.digest, self.instance = hashlib.sha256(), str(command[ul.AFFECTED_INSTANCE])
        self.sent[int(command[ul.MESSAGE_ID])] = self.instance
        return False

    async def _pdu(self) -> tuple[int, bytes]:
        head = await self.reader.readexactly(6)
        return head[0], head + await self.reader.readexactly(int.from_bytes(head[2:6], "big"))

    async def _say(self, pdu: bytes, rng: random.Random) -> None:
        if self.instance:
            pdu = RECORDED.sub(self.instance.encode(), pdu)
        cut = rng.randrange(len(pdu) + 1) if rng.random() < 0.3 else len(pdu)
        for piece in (pdu[:cut], pdu[cut:]):
            if piece:
                self._write(piece)
                await self.writer.drain()

    def _write(self, data: bytes) -> None:
        self.said += data
        self.writer.write(data)

    async def _leave(self, ending: str) -> None:
        if ending == "reset":
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        elif ending == "half":
            self.writer.write_eof()
        if ending in ("half", "wait"):
            while True:
                await self._turn()

    def account(self) -> None:
        """The association is over: what was answered with success?"""
        log = self.owner.log
        good = [number for number, status in answers_in(bytes(self.said)).items() if succeeded(status)]
        log.proven |= {(self.called, self.sent[number]) for number in good if number in self.sent}
        log.early += sum(number not in self.sent for number in good)
