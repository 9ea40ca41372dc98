"""Listeners: the sockets that senders connect to, and the rules of who may.

A ``Listener`` accepts (backlog 512), applies caps and allow-lists, lends its pool for negotiation and knows its
associations. ``Intake`` is all listeners together: it makes room when memory is short, and drains at a stop.
Guarantees: accepting never waits for a peer (TLS handshakes and requests have their own deadlines); a peer over a cap
gets the standard's rejection (PS3.8 9.3.4), and is only cut off without one far beyond it. Failures to listen are
``OurFault``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING

from asyncroute.core.errors import OurFault
from asyncroute.link import negotiate
from asyncroute.link.buffers import Memory
from asyncroute.link.deadlines import Deadlines
from asyncroute.link.stream import Stream, TlsStream
from asyncroute.receive.association import Acceptor
from asyncroute.receive.base import Admit

if TYPE_CHECKING:
    from asyncroute.config.model import Listener as Settings

log = logging.getLogger(__name__)

BACKLOG = 512
ACCEPTS = 64
"""Connections taken per readiness, so that a flood of them does not hold up the images."""

Answer = negotiate.Accepted | negotiate.Rejected | negotiate.Aborted
Rejection = tuple[int, int, int, str]

CALLED_UNKNOWN = (1, 1, 7)
CALLING_UNKNOWN = (1, 1, 3)
NO_REASON = (1, 1, 1)
CONGESTION = (2, 3, 1)
LIMIT = (2, 3, 2)


class Listener:
    """One ``[[listener]]``."""

    def __init__(self, settings: Settings, intake: Intake, tls: ssl.SSLContext | None = None) -> None:
        self.settings = settings
        self.intake = intake
        self.memory = intake.memory
        self.deadlines = intake.deadlines
        self.admit: Admit = intake.admit
        self.port = settings.port
        self.associations: set[Acceptor] = set()
        self._tls = tls
        self._counted: dict[Acceptor, tuple[str, str]] = {}
        self._per_peer: Counter[tuple[str, str]] = Counter()
        self._policy = negotiate.AcceptorPolicy(settings.ae_title, settings.max_pdu, tuple(settings.prefer))
        self._sock: socket.socket | None = None
        self._most = 2 * settings.max_associations + 256
        self._handshakes: dict[Acceptor, asyncio.Task[None]] = {}

    def change(self, settings: Settings, tls: ssl.SSLContext | None) -> None:
        """New settings for those who connect from now on; the address is the same."""
        self.settings = settings
        self._tls = tls
        self._policy = negotiate.AcceptorPolicy(settings.ae_title, settings.max_pdu, tuple(settings.prefer))
        self._most = 2 * settings.max_associations + 256

    @property
    def listening(self) -> bool:
        """Whether it takes connections."""
        return self._sock is not None

    def open(self) -> None:
        """Listen.

        Raises:
            OurFault: the address is taken, unknown or not ours.
        """
        s = self.settings
        try:
            family, _, _, _, address = socket.getaddrinfo(
                s.host or None, s.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self._sock = sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(BACKLOG)
        except OSError as error:
            raise OurFault(
                f"listener {s.ae_title}: cannot listen on {s.host}:{s.port}: {error.strerror or error}"
            ) from None
        self.port = sock.getsockname()[1]
        asyncio.get_running_loop().add_reader(sock, self._accept)

    def close(self) -> None:
        """Take no more connections. Idempotent; those that are open go on."""
        sock, self._sock = self._sock, None
        if sock is not None:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()

    # ---- accepting

    def _accept(self) -> None:
        sock = self._sock
        for _ in range(ACCEPTS):
            if sock is None:
                return
            try:
                connection, address = sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._accept_failed(sock, error)
                return
            try:
                self._connected(connection, address[0])
            except OSError:
                connection.close()

    def _accept_failed(self, sock: socket.socket, error: OSError) -> None:
        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            return
        log.error("cannot accept: %s; trying again in 0.2 s (raise the limit of open files)", error.strerror)
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock)
        loop.call_later(0.2, self._accept_again, sock)

    def _accept_again(self, sock: socket.socket) -> None:
        if self._sock is sock:
            asyncio.get_running_loop().add_reader(sock, self._accept)

    def _connected(self, connection: socket.socket, peer: str) -> None:
        if len(self.associations) >= self._most:
            log.error("%s: cut off: %d connections are open", peer, len(self.associations))
            connection.close()
            return
        if self._tls is None:
            acceptor = self._begin(Stream(connection, peer))
            acceptor.stream.watch_read()
            return
        acceptor = self._begin(TlsStream(connection, peer, self._tls, server=True))
        task = asyncio.get_running_loop().create_task(self._shake(acceptor), name=f"tls handshake {peer}")
        self._handshakes[acceptor] = task

    def _begin(self, stream: Stream) -> Acceptor:
        acceptor = Acceptor(stream, self)
        self.associations.add(acceptor)
        return acceptor

    async def _shake(self, acceptor: Acceptor) -> None:
        try:
            await acceptor.stream.handshake()
        except (OSError, ValueError) as error:
            log.warning("%s: TLS handshake failed: %s", acceptor.who, _tls_words(error))
            acceptor.close()
        else:
            acceptor.stream.watch_read()
            acceptor._on_readable()
        finally:
            self._handshakes.pop(acceptor, None)

    # ---- who may

    def refuses(self, acceptor: Acceptor) -> Rejection | None:
        """(result, source, reason, words) of the rejection that this requestor gets, or None; then it counts."""
        s, source = self.settings, acceptor.source
        if not s.accepts_from(source.peer):
            return (*NO_REASON, f"address {source.peer} is not in accept_from")
        if not s.accepts_called(source.called_aet):
            return (
                *CALLED_UNKNOWN,
                f"called AE title {source.called_aet!r} is neither {s.ae_title!r} nor in accept_called",
            )
        if not s.accepts_calling(source.calling_aet):
            return (*CALLING_UNKNOWN, f"calling AE title {source.calling_aet!r} is not in accept_calling")
        refusal = self.admit.refusal()
        if refusal:
            return (*LIMIT, refusal)
        if len(self._counted) >= s.max_associations:
            return (*LIMIT, f"max_associations = {s.max_associations} reached")
        key = (source.peer, source.calling_aet)
        if s.max_associations_per_peer and self._per_peer[key] >= s.max_associations_per_peer:
            return (*LIMIT, f"max_associations_per_peer = {s.max_associations_per_peer} reached")
        self._counted[acceptor] = key
        self._per_peer[key] += 1
        return None

    def negotiate(self, rq: bytes, done: Callable[[Answer], None]) -> None:
        """Answer ``rq``: at once if it was answered before, else through the pool."""
        answer = negotiate.accept_cached(rq, self._policy)
        if answer is not None:
            done(answer)
            return
        future = self.intake.loop.run_in_executor(self.intake.negotiators, negotiate.accept, rq, self._policy)
        future.add_done_callback(partial(_deliver, done))

    # ---- comings and goings

    def left(self, acceptor: Acceptor) -> None:
        """The association is over, though its connection may live a little longer."""
        key = self._counted.pop(acceptor, None)
        if key is not None:
            self._per_peer[key] -= 1
            if not self._per_peer[key]:
                del self._per_peer[key]

    def closed(self, acceptor: Acceptor) -> None:
        """The connection is gone."""
        self.left(acceptor)
        self.associations.discard(acceptor)
        task = self._handshakes.pop(acceptor, None)
        if task is not None and task is not _current_task():
            task.cancel()

    @property
    def established(self) -> list[Acceptor]:
        """Associations that count."""
        return list(self._counted)


class Intake:
    """All listeners, and what they share."""

    def __init__(self, admit: Admit, memory: Memory, deadlines: Deadlines, negotiators: Executor) -> None:
        self.admit = admit
        self.memory = memory
        self.deadlines = deadlines
        self.negotiators = negotiators
        self.loop = asyncio.get_running_loop()
        self.listeners: list[Listener] = []

    @property
    def associations(self) -> list[Acceptor]:
        """Every connection of every listener."""
        return [a for listener in self.listeners for a in listener.associations]

    def relieve(self) -> bool:
        """Memory is full: send the largest incomplete image to disk. False if none is worth it."""
        largest, size = None, 128 << 10
        for acceptor in self.associations:
            message = acceptor.message
            if message is not None and message.in_memory > size:
                largest, size = message, message.in_memory
        if largest is None:
            return False
        largest.spill()
        return True

    async def drain(self, seconds: float, quiet: float = 1.0) -> None:
        """Listeners are closed; let images in flight finish, abort who is idle, and at the deadline everybody."""
        loop = self.loop
        deadline = loop.time() + seconds
        idle_since: dict[Acceptor, float] = {}
        while self.associations and loop.time() < deadline:
            now = loop.time()
            for acceptor in self.associations:
                if acceptor.busy or acceptor.reader.mid_pdu:
                    idle_since.pop(acceptor, None)
                elif now - idle_since.setdefault(acceptor, now) >= quiet:
                    self._send_away(acceptor)
            await asyncio.sleep(0.05)
        for acceptor in self.associations:
            self._send_away(acceptor)
            acceptor.close()

    @staticmethod
    def _send_away(acceptor: Acceptor) -> None:
        with contextlib.suppress(OSError):
            acceptor.abort(0, 0)
        if not acceptor.ended:
            acceptor.deadline = min(acceptor.deadline, acceptor.loop.time() + 0.5)


def _deliver(done: Callable[[Answer], None], future: asyncio.Future[Answer]) -> None:
    if not future.cancelled():
        done(future.result())


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _tls_words(error: Exception) -> str:
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or "EOF" in str(error):
        return "unexpected eof while reading"  # worded otherwise by each build of OpenSSL
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)
