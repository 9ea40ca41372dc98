"""Callers that play prepared streams at a router, many at once, and leave in every way a peer can leave.

They read answers only to know when to go on. Every caller ends by its own deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.support import ul
from tests.support.ports import HOST

AT_ONCE = 40
ANSWER = 1.0
"""Seconds to wait for the answer to a request before going on regardless."""
QUIET = 0.1
"""Seconds without an answer after which a polite caller that has said everything leaves."""
FOR_EVER = 60.0
"""Seconds after which a router that still holds on to a silent caller has forgotten it: far past every deadline."""
ENDINGS = ("polite",) * 8 + ("fin",) * 4 + ("reset",) * 4 + ("half",) * 2 + ("deaf",) + ("stay",)
RESET = struct.pack("ii", 1, 0)
LAST_WORDS = frozenset({ul.RJ, ul.RELEASE_RP, ul.ABORT})


@dataclass(frozen=True)
class Script:
    """What one caller says. ``waits``: for the answer to the first PDU before the rest; ``cuts``: the segments."""

    number: int
    name: str
    pdus: tuple[bytes, ...]
    ending: str
    waits: bool
    cuts: int

    def segments(self) -> list[list[bytes]]:
        """The bytes to write, in one or two parts: until the first answer is waited for, and the rest."""
        parts = [self.pdus[0], b"".join(self.pdus[1:])] if self.waits else [b"".join(self.pdus)]
        return [list(_cut(part, self.cuts, self.number)) for part in parts]


def script(number: int, name: str, pdus: Sequence[bytes], rng: random.Random) -> Script:
    """A script with a random way of speaking and leaving."""
    cuts = rng.choice((0, 0, 0, 1, 3, 20))
    return Script(number, name, tuple(pdus), rng.choice(ENDINGS), rng.random() < 0.9, cuts)


def _cut(data: bytes, cuts: int, seed: int) -> Iterable[bytes]:
    rng = random.Random(seed)
    places = sorted(rng.randrange(len(data) + 1) for _ in range(cuts))
    for lo, hi in zip([0, *places], [*places, len(data)], strict=True):
        if hi > lo:
            yield data[lo:hi]


@dataclass
class Played:
    """What came of all callers: how their associations ended (the type of the last PDU, or how TCP ended)."""

    ends: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    forgotten: list[str] = field(default_factory=list)
    unconnected: int = 0


class _Caller:
    def __init__(self, script: Script, played: Played) -> None:
        self.script = script
        self.played = played
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.heard = asyncio.Event()
        self.gone = False
        self.tail = b""
        self.loop = asyncio.get_running_loop()

    async def play(self, port: int) -> None:
        if self.script.ending == "deaf":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        await self.loop.sock_connect(self.sock, (HOST, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening = asyncio.create_task(self._listen()) if self.script.ending != "deaf" else None
        try:
            await self._speak()
            await self._leave()
        finally:
            if listening is not None:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
            self.sock.close()

    async def _listen(self) -> None:
        while True:
            try:
                data = await self.loop.sock_recv(self.sock, 65536)
            except OSError:
                data = b""
            if not data:
                self.gone = True
                self.heard.set()
                return
            self.tail = (self.tail + data)[-10:]
            self.heard.set()

    async def _speak(self) -> None:
        for n, part in enumerate(self.script.segments()):
            if n:
                await self._hears(ANSWER)
            for segment in part:
                if self.gone:
                    return
                await self._write(segment)

    async def _write(self, segment: bytes) -> None:
        self.played.sent += len(segment)
        try:
            async with asyncio.timeout(5):
                await self.loop.sock_sendall(self.sock, segment)
        except (OSError, TimeoutError):
            self.gone = True

    async def _hears(self, seconds: float) -> bool:
        """Whether something comes in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.heard.wait()
        heard = self.heard.is_set()
        self.heard.clear()
        return heard

    async def _leave(self) -> None:
        ending = self.script.ending
        if ending == "half":
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)
        if ending in ("stay", "half"):
            await self._stay()
        elif ending == "deaf":
            await asyncio.sleep(QUIET)
        elif ending == "polite":
            while not self.over and await self._hears(QUIET):
                pass
        elif ending == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.played.ends[self._end()] += 1

    @property
    def over(self) -> bool:
        """Whether the other side has said its last word."""
        return self.gone or (len(self.tail) == 10 and self.tail[0] in LAST_WORDS and self.tail[1:6] == b"\0\0\0\0\4")

    async def _stay(self) -> None:
        """Until the other side has had enough."""
        until = self.loop.time() + FOR_EVER
        while not self.over:
            left = until - self.loop.time()
            if left <= 0:
                self.played.forgotten.append(f"#{self.script.number} ({self.script.name}, {self.script.ending})")
                return
            await self._hears(left)

    def _end(self) -> str:
        if len(self.tail) == 10 and self.over and self.tail[0] in LAST_WORDS:
            return {ul.RJ: "rejected", ul.RELEASE_RP: "released", ul.ABORT: "aborted"}[self.tail[0]]
        return "closed by the router" if self.gone else "left"


def play(scripts: Iterable[Script], port: int, played: Played | None = None) -> Played:
    """Play all ``scripts`` at the router on ``port``, ``AT_ONCE`` at a time; what came of it is added to ``played``."""
    played = played or Played()
    asyncio.run(_play(scripts, port, played))
    return played


async def _play(scripts: Iterable[Script], port: int, played: Played) -> None:
    waiting = iter(scripts)

    async def work() -> None:
        for each in waiting:
            try:
                await _Caller(each, played).play(port)
            except ConnectionError:
                played.unconnected += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
