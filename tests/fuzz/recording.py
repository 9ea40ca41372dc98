"""A TCP relay that remembers both directions of each connection: what real programs say, byte for byte.

Guarantees: it changes nothing of what passes through; a recording is complete when both ends have closed.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.support import ul
from tests.support.ports import HOST, free_port
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Recording:
    """One association of a real program: the PDUs of its caller and those of its acceptor, in order."""

    name: str
    caller: tuple[bytes, ...]
    acceptor: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Bytes that the caller sent."""
        return sum(map(len, self.caller))


@dataclass
class _Passing:
    """A connection that is being relayed."""

    ends: tuple[socket.socket, socket.socket]
    said: tuple[bytearray, bytearray] = field(default_factory=lambda: (bytearray(), bytearray()))
    over: int = 0


class Recorder:
    """Listens on ``port`` and relays to ``target``, which may change; 0: hangs up. Use as a context manager."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.target = target
        self._passed: list[_Passing] = []
        self._listener = socket.create_server((HOST, self.port))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            try:
                acceptor = socket.create_connection((HOST, self.target), 10)
            except OSError:
                caller.close()
                continue
            self._relay(_Passing((caller, acceptor)))

    def _relay(self, passing: _Passing) -> None:
        self._passed.append(passing)
        for end in passing.ends:
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for way in (0, 1):
            thread = threading.Thread(target=self._pass_on, args=(passing, way), daemon=True)
            self._threads.append(thread)
            thread.start()

    @staticmethod
    def _pass_on(passing: _Passing, way: int) -> None:
        source, sink = passing.ends[way], passing.ends[1 - way]
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                passing.said[way].extend(data)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        passing.over += 1

    def recordings(self, name: str, deadline: float = 20) -> list[Recording]:
        """All associations that went through, once they are over."""
        wait_until(lambda: all(each.over == 2 for each in self._passed), deadline, f"{name} has hung up")
        spoken = [each for each in self._passed if each.said[0]]
        return [
            Recording(f"{name}-{n}", tuple(pdus_of(bytes(each.said[0]))), tuple(pdus_of(bytes(each.said[1]))))
            for n, each in enumerate(spoken)
        ]

    def close(self) -> None:
        """Stop relaying."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for passing in self._passed:
            for end in passing.ends:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for passing in self._passed:
            for end in passing.ends:
                end.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def pdus_of(stream: bytes) -> list[bytes]:
    """A stream cut into its PDUs; what is left at its end is the last piece."""
    found, at = [], 0
    while at < len(stream):
        size = struct.unpack_from(">I", stream, at + 2)[0] + 6 if at + 6 <= len(stream) else len(stream)
        found.append(stream[at : at + size])
        at += size
    return found


def commands_of(pdus: Sequence[bytes]) -> list[dict[int, int | str]]:
    """The command sets in the P-DATA of a stream, one PDV each, as far as they can be read."""
    found = []
    for pdu in pdus:
        if pdu[:1] == bytes((ul.PDATA,)):
            with contextlib.suppress(ul.WireError):
                values = list(ul.pdvs(memoryview(pdu)[6:]))
                found += [ul.read_command(bytes(body)) for _, control, body in values if control & ul.COMMAND]
    return found
