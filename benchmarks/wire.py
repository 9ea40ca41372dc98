"""What the benchmark's sender and sink share: sockets that wait for nobody, output in pieces, answers to associations.

A ``Peer`` is one connection on an epoll loop: bytes in through ``asyncroute.wire.pdata.PduReader`` and one buffer that
all connections of the process share, bytes out by ``sendmsg``. ``Tcp`` says how kind it is to the other side.
Failures: ``OSError`` and ``PeerFault`` reach the owner, which closes the connection.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from asyncroute.wire.pdata import PduReader

BUFFER = memoryview(bytearray(512 << 10))
"""What a read gives is used up before the next one."""
MOST_PIECES = 1000
"""Buffers in one ``sendmsg`` (IOV_MAX is 1,024)."""


@dataclass(frozen=True)
class Tcp:
    """``nodelay``: Nagle's algorithm off. ``quickack``: acknowledge at once. ``pieces``: write each header and each
    body by itself, as dcmtk does, so that Nagle's algorithm and delayed acknowledgements meet.
    """

    nodelay: bool = True
    quickack: bool = True
    pieces: bool = False


KIND = Tcp()


class Peer:
    """See module; a subclass has ``fragment`` and ``pdu`` (``pdata.Sink``)."""

    __slots__ = ("_epoll", "_out", "_tcp", "_writing", "reader", "sock")

    def __init__(self, sock: socket.socket, epoll: select.epoll, tcp: Tcp) -> None:
        sock.setblocking(False)
        if tcp.nodelay:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.reader = PduReader(self, 0)
        self._epoll = epoll
        self._tcp = tcp
        self._out: list[bytes | memoryview] = []
        self._writing = False

    def fragment(self, context_id: int, control: int, lo: int, hi: int) -> None:
        """See ``pdata.Sink``."""
        raise NotImplementedError

    def pdu(self, kind: int, body: bytes) -> None:
        """See ``pdata.Sink``."""
        raise NotImplementedError

    def receive(self) -> bool:
        """Read once; False at the end of the stream."""
        try:
            n = self.sock.recv_into(BUFFER)
        except BlockingIOError:
            return True
        if not n:
            return False
        self.reader.feed(BUFFER, 0, n)
        if self._tcp.quickack and self.sock.fileno() >= 0:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return True

    def send(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Give to the kernel, now or when it takes it."""
        idle = not self._out
        self._out += pieces
        if idle:
            self.flush()

    def flush(self) -> None:
        """Write what waits, and watch for room as long as something does."""
        out, sendmsg = self._out, self.sock.sendmsg
        most = 1 if self._tcp.pieces else MOST_PIECES
        at = 0
        try:
            while at < len(out):
                at = _skip(out, at, sendmsg(out[at : at + most]))
        except BlockingIOError:
            pass
        del out[:at]
        if bool(out) != self._writing:
            self._writing = bool(out)
            self._epoll.modify(self.sock, select.EPOLLIN | (select.EPOLLOUT if out else 0))

    def close(self) -> None:
        """End it, whatever waits."""
        self.sock.close()


def _skip(out: list[bytes | memoryview], at: int, sent: int) -> int:
    """The first piece that is not wholly sent; what is left of it stands in its place."""
    while at < len(out):
        n = len(out[at])
        if sent < n:
            if sent:
                out[at] = memoryview(out[at])[sent:]
            break
        sent -= n
        at += 1
    return at
