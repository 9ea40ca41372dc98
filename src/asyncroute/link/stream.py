"""Byte streams on the event loop: plain TCP and TLS behind one interface.

A ``Stream`` owns its socket from accept or connect to close. It never blocks: ``recv_into`` and ``send`` raise
``BlockingIOError`` where the kernel (or the TLS layer) has nothing more; the caller watches for readiness. Callbacks
are guarded: an exception in one closes the stream and is told to ``on_fault`` instead of being raised 400,000 times a
second.

TCP_NODELAY is set, and TCP_QUICKACK re-armed (``quick_ack``) whenever a peer may be in the middle of something: one
that uses Nagle's algorithm would otherwise wait 40 ms for each of our delayed acknowledgements. TCP keepalive is set in
both directions: a peer that vanishes without a word (power, network, a firewall that forgets) is noticed within
``VANISHED`` seconds also where nothing is due.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import ssl
import sys
import termios
from collections import deque
from collections.abc import Callable, Sequence

from asyncroute.link import certificates
from asyncroute.link.certificates import Certificate

PROBE_AFTER, PROBE_EVERY, PROBES = 60, 15, 4
VANISHED = PROBE_AFTER + PROBE_EVERY * PROBES
"""Seconds of silence after which a peer that answers no keepalive probe is taken for gone (RFC 9293 3.8.4)."""

_QUICK = (socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_EVERY),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES),
)
_JOIN = 64 << 10
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")
_ALERT = b"\x15\x03\x03\x00\x02\x02\x46"
"""Fatal, protocol_version (RFC 8446 6.2)."""

Pieces = Sequence[bytes | memoryview] | deque[bytes | memoryview]


class Stream:
    """A connected, non-blocking TCP socket. Not thread-safe: the loop's thread only."""

    __slots__ = ("_fault", "_loop", "_on_read", "_on_write", "_reading", "_writing", "closed", "peer", "sock")

    tls = False

    def __init__(self, sock: socket.socket, peer: str) -> None:
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            for option in _OPTIONS:
                sock.setsockopt(*option)
        self.sock = sock
        self.peer = peer
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._reading = self._writing = False
        self._on_read: Callable[[], None] = _nothing
        self._on_write: Callable[[], None] = _nothing
        self._fault: Callable[[BaseException], None] = _ignore

    def attach(
        self, on_read: Callable[[], None], on_write: Callable[[], None], on_fault: Callable[[BaseException], None]
    ) -> None:
        """Name the callbacks. ``on_fault`` gets what a callback raised; the stream is closed by then."""
        self._on_read, self._on_write, self._fault = on_read, on_write, on_fault

    # ---- readiness

    def watch_read(self) -> None:
        """Call ``on_read`` whenever there may be something to read."""
        if not self._reading and not self.closed:
            self._reading = True
            self._loop.add_reader(self.sock, self.serve)

    def unwatch_read(self) -> None:
        """Stop calling ``on_read``."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self.sock)

    def watch_write(self) -> None:
        """Call ``on_write`` whenever something may be written."""
        if not self._writing and not self.closed:
            self._writing = True
            self._loop.add_writer(self.sock, self._writable)

    def unwatch_write(self) -> None:
        """Stop calling ``on_write``."""
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self.sock)

    def serve(self) -> None:
        """There may be something to read."""
        try:
            self._on_read()
        except BaseException as error:
            self._failed(error)

    def _writable(self) -> None:
        try:
            self._on_write()
        except BaseException as error:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        fault = self._fault
        self.close()
        fault(error)
        if not isinstance(error, Exception):
            raise error

    # ---- bytes

    def recv_into(self, view: memoryview) -> int:
        """Bytes read into ``view``; 0 at the end of the stream.

        Raises:
            BlockingIOError: nothing to read now.
            OSError: the connection is gone.
        """
        return self.sock.recv_into(view)

    @property
    def buffered(self) -> bool:
        """Whether bytes wait above the socket, unseen by its readiness (TLS)."""
        return False

    def exhausted(self, n: int, room: int) -> bool:
        """Whether a read of ``n`` bytes into ``room`` took all that there is: the loop will say when more comes.

        Raises:
            OSError: the connection has failed behind those bytes. The loop says that only once, and may have done so.
        """
        if n == room:
            return False
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        return True

    def quick_ack(self) -> None:
        """Acknowledge what was read at once."""
        try:
            self.sock.setsockopt(*_QUICK)
        except OSError:
            pass

    def unacknowledged(self) -> int:
        """Bytes that were sent and that the peer has not acknowledged, as TCP counts (tcp(7): SIOCOUTQ)."""
        if self.closed:
            return 0
        return int.from_bytes(fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    def send_one(self, piece: bytes | memoryview) -> int:
        """As ``send``, of one piece."""
        return self.sock.send(piece)

    def send(self, pieces: Pieces) -> int:
        """Bytes written of ``pieces`` (1,024 at most), at least one.

        Raises:
            BlockingIOError: nothing could be written now.
            OSError: the connection is gone.
        """
        return self.sock.sendmsg(pieces)

    async def handshake(self) -> None:
        """Nothing to do on plain TCP."""

    @property
    def certificate(self) -> Certificate | None:
        """The peer's certificate, verified; None: it showed nothing, or was not asked."""
        return None

    def end(self) -> None:
        """Say nothing any more."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close. Idempotent."""
        if not self.closed:
            self.unwatch_read()
            self.unwatch_write()
            self.closed = True
            self.sock.close()
            self.attach(_nothing, _nothing, _ignore)  # or it would hold its owner, and they each other

    def reset(self) -> None:
        """Close so that the peer sees a reset instead of an orderly end."""
        if not self.closed:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            self.close()


class TlsStream(Stream):
    """TLS over a TCP socket (RFC 8446, 5246), driven by the loop like a plain one."""

    __slots__ = ("_ssl", "_starved", "_unwait", "silent")

    tls = True

    def __init__(
        self, sock: socket.socket, peer: str, context: ssl.SSLContext, server: bool, server_name: str | None = None
    ) -> None:
        sock.setblocking(False)
        wrapped = context.wrap_socket(
            sock, server_side=server, do_handshake_on_connect=False, server_hostname=server_name
        )
        super().__init__(wrapped, peer)
        self._ssl = wrapped
        self._unwait: Callable[..., object] | None = None
        self._starved = False
        self.silent = True
        """Whether the peer has not sent a byte yet."""

    async def handshake(self) -> None:
        """Shake hands; the caller holds the deadline.

        Raises:
            ssl.SSLError, OSError: no.
        """
        if self._ssl.server_side:
            await self._first_byte()
        while True:
            try:
                self._ssl.do_handshake()
                return
            except ssl.SSLWantReadError:
                await self._ready(self._loop.add_reader, self._loop.remove_reader)
            except ssl.SSLWantWriteError:
                await self._ready(self._loop.add_writer, self._loop.remove_writer)
            except ssl.SSLError as error:
                if getattr(error, "reason", "") in _NO_TLS and self._ssl.server_side:
                    self._tell()
                raise

    def _tell(self) -> None:
        """OpenSSL says nothing to who does not speak TLS; an alert is how such a peer can know what is wrong."""
        with contextlib.suppress(OSError):
            socket.socket.send(self._ssl, _ALERT)

    async def _first_byte(self) -> None:
        """Wait until the peer says something, which stays where it is (the end of the stream is nothing): OpenSSL does
        not tell afterwards whether it has read a byte."""
        with contextlib.suppress(ConnectionError):
            while True:
                try:
                    self.silent = not socket.socket.recv(self._ssl, 1, socket.MSG_PEEK)
                    return
                except BlockingIOError:
                    await self._ready(self._loop.add_reader, self._loop.remove_reader)

    @property
    def certificate(self) -> Certificate | None:
        """See ``Stream``."""
        return certificates.of_peer(self._ssl)

    @property
    def refused(self) -> list[Certificate]:
        """What the peer showed in a handshake that failed for it, authorities last; empty if nothing is known of it."""
        return certificates.refused(self._ssl)

    async def _ready(self, add: Callable[..., None], remove: Callable[..., object]) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        add(self._ssl, _resolve, future)
        self._unwait = remove
        try:
            await future
        finally:
            self._wait_over()

    def _wait_over(self) -> None:
        unwait, self._unwait = self._unwait, None
        if unwait is not None:
            unwait(self._ssl)

    def close(self) -> None:
        """As ``Stream.close``; a handshake that waits is forgotten first, or the loop would watch a closed socket."""
        if not self.closed:
            self._wait_over()
        super().close()

    def recv_into(self, view: memoryview) -> int:
        """As ``Stream.recv_into``; a peer that closes without close_notify ends the stream all the same."""
        try:
            n = self._ssl.recv_into(view)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return 0
        if self._starved:  # TLS wanted to read before it could write
            self._starved = False
            self.watch_write()
        return n

    def exhausted(self, n: int, room: int) -> bool:
        """As ``Stream.exhausted``; records come whole, and only the next read tells whether there is one more."""
        return False

    @property
    def buffered(self) -> bool:
        return not self.closed and self._ssl.pending() > 0

    def send_one(self, piece: bytes | memoryview) -> int:
        """As ``Stream.send_one``."""
        return self.send((piece,))

    def send(self, pieces: Pieces) -> int:
        """As ``Stream.send``; small pieces share a record."""
        chunk = pieces[0]
        if len(pieces) > 1 and len(chunk) < _JOIN:
            chunk = _join(pieces)
        try:
            return self._ssl.send(chunk)
        except ssl.SSLWantWriteError:
            raise BlockingIOError from None
        except ssl.SSLWantReadError:
            self._starved = True
            raise BlockingIOError from None
        except OSError as error:
            raise self._alert() or error from None

    def _alert(self) -> ssl.SSLError | None:
        """The peer has gone, a write failed: the alert that it may have sent before says why."""
        try:
            self._ssl.recv(1)
        except ssl.SSLError as alert:
            return alert if "ALERT" in (getattr(alert, "reason", None) or "") else None
        except (OSError, ValueError):
            pass
        return None


def _join(pieces: Pieces) -> bytes:
    chosen, size = [], 0
    for piece in pieces:
        room = _JOIN - size
        chosen.append(piece if len(piece) <= room else piece[:room])
        size += len(chosen[-1])
        if size >= _JOIN:
            break
    return b"".join(chosen)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _nothing() -> None:
    """No callback yet."""


def _ignore(_: BaseException) -> None:
    """No fault handler yet."""
