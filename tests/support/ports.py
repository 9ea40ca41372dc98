"""Free TCP ports on the loopback interface.

Ports come from below the kernel's range for outgoing connections, so that none is taken as somebody's source port
between being chosen and being bound, and are never given out twice by one process. Test processes that run side by side
(pytest-xdist) choose from ranges of their own.
"""

from __future__ import annotations

import os
import random
import socket

HOST = "127.0.0.1"
LOWEST, HIGHEST = 20_000, 32_000
WORKER = "PYTEST_XDIST_WORKER"
SHARES = 8


def _share() -> range:
    """This test process's ports."""
    worker = os.environ.get(WORKER, "").removeprefix("gw")
    if not worker:
        return range(LOWEST, HIGHEST)
    size = (HIGHEST - LOWEST) // SHARES
    first = LOWEST + int(worker) % SHARES * size
    return range(first, first + size)


_given: set[int] = set()
_random = random.SystemRandom()


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing listens on.

    Raises:
        RuntimeError: none was found.
    """
    for _ in range(1000):
        port = _random.choice(_share())
        if port not in _given and _can_bind(port):
            _given.add(port)
            return port
    raise RuntimeError(f"no free port between {LOWEST} and {HIGHEST}")


def listening(port: int) -> bool:
    """Whether something accepts connections on ``port``."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((HOST, port)) == 0


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


class BlackHole:
    """A port that swallows connection requests: its accept queue is full, so the kernel drops every further SYN."""

    def __init__(self, host: str = HOST, port: int | None = None) -> None:
        self.host = host
        self.port = port or free_port()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((host, self.port))
        self._listener.listen(0)
        self._fillers = [self._filler() for _ in range(4)]

    def _filler(self) -> socket.socket:
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex((self.host, self.port))
        return filler

    def listen(self) -> None:
        """Swallow no more: who asks again gets a connection."""
        self._listener.listen(16)

    def close(self) -> None:
        """Give the port back."""
        for held in (*self._fillers, self._listener):
            held.close()

    def __enter__(self) -> BlackHole:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
