"""The sink: a destination that hashes what it gets, remembers it, and answers success.

``python -m benchmarks.sink SETTINGS`` (JSON, ``Settings``) listens until SIGTERM, then writes what came to
``settings.report``. How many images came can be seen meanwhile in ``settings.progress`` (``Progress``). With ``down``
nobody listens (callers are refused by the kernel) until SIGUSR1. Times are CLOCK_MONOTONIC seconds.
"""

from __future__ import annotations

import heapq
import json
import mmap
import select
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import xxhash

from asyncroute.core.errors import PeerFault
from asyncroute.wire import command as dimse
from asyncroute.wire.pdata import (
    ASSOCIATE_RQ,
    COMMAND,
    HEADERS,
    LAST,
    RELEASE_RP_PDU,
    RELEASE_RQ,
    command_pdus,
)
from benchmarks import upper
from benchmarks.wire import BUFFER, Peer, Tcp

_COUNTS = struct.Struct("<QQd")


@dataclass(frozen=True)
class Settings:
    """``delay``: seconds before each answer. ``down``: refuse connections until told."""

    port: int
    report: str
    progress: str
    delay: float = 0.0
    down: bool = False
    max_pdu: int = 128 << 10
    nodelay: bool = True
    quickack: bool = True
    pieces: bool = False


class Progress:
    """Different images and all images so far, and when the last one was whole; in a file that both sides map."""

    def __init__(self, path: str, create: bool = False) -> None:
        if create:
            Path(path).write_bytes(bytes(_COUNTS.size))
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), _COUNTS.size)

    def set(self, different: int, total: int, at: float) -> None:
        """The sink's side."""
        _COUNTS.pack_into(self._map, 0, different, total, at)

    def get(self) -> tuple[int, int, float]:
        """(different images, all images, when the last one came)."""
        different, total, at = _COUNTS.unpack_from(self._map)
        return different, total, at


class Sink:
    """See module."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tcp = Tcp(settings.nodelay, settings.quickack, settings.pieces)
        self.progress = Progress(settings.progress, create=True)
        self.epoll = select.epoll()
        self.guests: dict[int, Guest] = {}
        self.stored: list[tuple[str, int, int, float]] = []
        self.seen: set[str] = set()
        self.due: list[tuple[float, int, Guest, list[bytes]]] = []
        self.associations = 0
        self.over = False
        self._order = count()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", settings.port))
        if not settings.down:
            self.listen()

    def listen(self, *_: object) -> None:
        """Take connections from now on."""
        self.listener.listen(1024)
        self.listener.setblocking(False)
        self.epoll.register(self.listener, select.EPOLLIN)

    def stop(self, *_: object) -> None:
        """End the loop."""
        self.over = True

    def run(self) -> None:
        """Serve until ``stop``."""
        while not self.over:
            timeout = max(self.due[0][0] - time.monotonic(), 0) if self.due else 0.1
            for number, events in self.epoll.poll(timeout):
                guest = self.guests.get(number)
                if guest is None:
                    self._accept()
                else:
                    self._serve(guest, events)
            self._answer_late()

    def _accept(self) -> None:
        try:
            sock, _ = self.listener.accept()
        except BlockingIOError:
            return
        guest = Guest(sock, self)
        self.guests[sock.fileno()] = guest
        self.epoll.register(sock, select.EPOLLIN)
        self.associations += 1

    def _serve(self, guest: Guest, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                guest.flush()
            if events & ~select.EPOLLOUT and not guest.receive():
                guest.leave()
        except (OSError, PeerFault):
            guest.leave()

    def came(self, guest: Guest, uid: str, digest: int, size: int, answer: list[bytes]) -> None:
        """A whole image."""
        now = time.monotonic()
        self.stored.append((uid, digest, size, now))
        self.seen.add(uid)
        self.progress.set(len(self.seen), len(self.stored), now)
        if self.settings.delay:
            heapq.heappush(self.due, (now + self.settings.delay, next(self._order), guest, answer))
        else:
            guest.send(answer)

    def _answer_late(self) -> None:
        now = time.monotonic()
        while self.due and self.due[0][0] <= now:
            _, _, guest, answer = heapq.heappop(self.due)
            if guest.sock.fileno() >= 0:
                guest.send(answer)

    def report(self) -> dict[str, Any]:
        """What came, in the order of its coming."""
        return {"stored": self.stored, "associations": self.associations, "cpu_s": time.process_time()}


class Guest(Peer):
    """One association."""

    __slots__ = ("_command", "_hash", "_request", "_sink", "_size")

    def __init__(self, sock: socket.socket, sink: Sink) -> None:
        super().__init__(sock, sink.epoll, sink.tcp)
        self._sink = sink
        self._command = bytearray()
        self._request: dimse.Command | None = None
        self._hash = xxhash.xxh3_64()
        self._size = 0

    def pdu(self, kind: int, body: bytes) -> None:
        """See ``pdata.Sink``."""
        if kind == ASSOCIATE_RQ:
            self.send([upper.accept(upper.read(body), self._sink.settings.max_pdu)])
        elif kind == RELEASE_RQ:
            self.send([RELEASE_RP_PDU])
        else:
            raise OSError("association ended by the peer")

    def fragment(self, context_id: int, control: int, lo: int, hi: int) -> None:
        """See ``pdata.Sink``."""
        if control & COMMAND:
            self._command += BUFFER[lo:hi]
            if control & LAST:
                self._begin(context_id)
            return
        self._hash.update(BUFFER[lo:hi])
        self._size += hi - lo
        if control & LAST:
            self._end(context_id)

    def _begin(self, context_id: int) -> None:
        request = dimse.parse(self._command)
        self._command = bytearray()
        if request.has_data_set:
            self._request = request
        else:
            self.send(self._answer(context_id, request))

    def _end(self, context_id: int) -> None:
        request = self._request
        if request is None:
            raise OSError("data set without a command")
        uid, digest, size = request.text(dimse.AFFECTED_INSTANCE), self._hash.intdigest(), self._size
        self._request, self._size = None, 0
        self._hash.reset()
        self._sink.came(self, uid, digest, size, self._answer(context_id, request))

    def _answer(self, context_id: int, request: dimse.Command) -> list[bytes]:
        whole = command_pdus(context_id, dimse.response(request, dimse.SUCCESS), 16 << 10)
        return [whole[:HEADERS], whole[HEADERS:]] if self._sink.settings.pieces else [whole]

    def leave(self) -> None:
        """Closed by the other side, or broken."""
        self._sink.guests.pop(self.sock.fileno(), None)
        self.close()


def main(text: str) -> None:
    """Run as a process."""
    settings = Settings(**json.loads(text))
    sink = Sink(settings)
    signal.signal(signal.SIGTERM, sink.stop)
    signal.signal(signal.SIGUSR1, sink.listen)
    print("ready", flush=True)
    sink.run()
    Path(settings.report).write_text(json.dumps(sink.report()))


if __name__ == "__main__":
    main(sys.argv[1])
