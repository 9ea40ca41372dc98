"""Crowds of callers that misbehave: many connections of one kind, and when each of them came.

Each kind is a function of a ``Caller`` that returns a socket in the state that its name says.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.support import synthetic, ul
from tests.support.exact_sender import Association, Caller, contexts_for
from tests.support.images import Image
from tests.support.ports import HOST

IMAGE = synthetic.image("crowd", 0, synthetic.Kind(size=400_000))
Bad = Callable[[Caller], socket.socket]


@contextlib.contextmanager
def many_descriptors(wanted: int = 8192) -> Iterator[None]:
    """Let this process, and those that it starts, have ``wanted`` descriptors, or as many as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, wanted), hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@dataclass
class Crowd:
    """Callers of one kind, when each had come (monotonic), and the seconds after which it must be cleared."""

    name: str
    deadline: float
    sockets: list[tuple[socket.socket, float]] = field(default_factory=list)

    def join(self, bad: Bad, caller: Caller, count: int = 1) -> Crowd:
        """``count`` more callers come."""
        for _ in range(count):
            self.sockets.append((bad(caller), time.monotonic()))
        return self

    def still_there(self, late: float) -> int:
        """How many are connected ``late`` seconds after their deadlines; waits until then if it has to."""
        return sum(not ended(sock, came + self.deadline + late) for sock, came in self.sockets)

    def leave(self) -> None:
        """Close every caller's side."""
        for sock, _ in self.sockets:
            sock.close()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *exc: object) -> None:
        self.leave()


def ended(sock: socket.socket, until: float) -> bool:
    """Whether the other side ends the connection before ``until`` (monotonic): closes it, or says A-ABORT.

    After an A-ABORT it may wait a little for our close (PS3.8 9.2.2, ARTIM).
    """
    try:
        while True:
            sock.settimeout(max(until - time.monotonic(), 0.001))
            data = sock.recv(4096)
            if not data or data[0] == ul.ABORT:
                return True
    except TimeoutError:
        return False
    except (OSError, ssl.SSLError):
        return True


def silent(caller: Caller) -> socket.socket:
    """Connects (without a TLS handshake) and says nothing."""
    return socket.create_connection((HOST, caller.port), 10)


def shaken(caller: Caller) -> socket.socket:
    """Connects, with the TLS handshake, and says nothing."""
    return caller.connect()


def three_bytes(caller: Caller) -> socket.socket:
    """Sends the first three bytes of an A-ASSOCIATE-RQ."""
    sock = caller.connect()
    sock.sendall(b"\x01\x00\x00")
    return sock


def three_raw_bytes(caller: Caller) -> socket.socket:
    """Sends three bytes before any TLS handshake."""
    sock = silent(caller)
    sock.sendall(b"\x16\x03\x01")
    return sock


def stalled(caller: Caller) -> socket.socket:
    """Stops in the middle of a presentation data value."""
    return stalled_at(caller, IMAGE, 150_000)


def stalled_at(caller: Caller, image: Image, size: int) -> socket.socket:
    """Stops after ``size`` bytes of the PDUs of ``image``."""
    association = caller.associate([image])
    left = size
    for piece in association.store_pdus(image):
        association.write(piece[:left])
        left -= len(piece)
        if left <= 0:
            break
    return association.sock


def idle(caller: Caller) -> socket.socket:
    """An association on which nothing happens."""
    return caller.associate([IMAGE]).sock


def between_pdus(caller: Caller) -> socket.socket:
    """Stops inside a message, between two PDUs."""
    association = caller.associate([IMAGE])
    for piece in list(association.store_pdus(IMAGE))[:3]:
        association.write(piece)
    return association.sock


def half_a_message(caller: Caller) -> socket.socket:
    """An association on which a message has begun; for its data to be dripped."""
    association = caller.associate([IMAGE])
    association.write(message(association)[:1000])
    return association.sock


def message(association: Association) -> bytes:
    """The PDUs of a C-STORE-RQ with ``IMAGE``."""
    return b"".join(association.store_pdus(IMAGE))


def request(caller: Caller) -> bytes:
    """An A-ASSOCIATE-RQ, for its bytes to be dripped."""
    return ul.associate_rq("DRIP", caller.called, contexts_for([IMAGE]))
