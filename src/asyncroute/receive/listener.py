"""Listeners: the sockets that senders connect to, and the rules of who may.

A ``Listener`` accepts (backlog 512), applies caps and allow-lists, lends its pool for negotiation and knows its
associations. ``Intake`` is all listeners together: it makes room when memory or descriptors are short, and drains at a
stop. Guarantees: accepting never waits for a peer (TLS handshakes and requests have their own deadlines); a peer over a
cap gets the standard's rejection (PS3.8 9.3.4); who says nothing takes nobody's place (``receive.waiting``).
Failures to listen are ``OurFault``.
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
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING

from asyncroute.core.errors import OurFault
from asyncroute.link import negotiate
from asyncroute.link import tls as link_tls
from asyncroute.link.answers import Answers
from asyncroute.link.buffers import ImageBytes, Memory
from asyncroute.link.deadlines import Deadlines
from asyncroute.link.descriptors import Descriptors
from asyncroute.link.stream import Stream, TlsStream
from asyncroute.link.users import Users
from asyncroute.receive import identity
from asyncroute.receive.association import Acceptor
from asyncroute.receive.base import Admit
from asyncroute.receive.repeats import Repeats
from asyncroute.receive.services import Services
from asyncroute.receive.waiting import Requests, Waiting

if TYPE_CHECKING:
    from asyncroute.config.listeners import Listener as Settings

log = logging.getLogger(__name__)

BACKLOG = 512
SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""What the system says when it cannot give a connection."""

RELIEF = 0.8
"""Of the memory for images, what is left in use when those that go to disk have gone."""

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

    def __init__(
        self, settings: Settings, intake: Intake, tls: ssl.SSLContext | None = None, users: Users | None = None
    ) -> None:
        self.settings = settings
        self.intake = intake
        self.memory = intake.memory
        self.deadlines = intake.deadlines
        self.admit: Admit = intake.admit
        self.port = settings.port
        self.associations: set[Acceptor] = set()
        self._tls, self._users = tls, users
        self._counted: dict[Acceptor, tuple[str, str]] = {}
        self._per_peer: Counter[tuple[str, str]] = Counter()
        self._policy = _policy(settings)
        self._repeats = Repeats()
        self._sock: socket.socket | None = None
        self._handshakes: dict[Acceptor, asyncio.Task[None]] = {}

    def change(self, settings: Settings, tls: ssl.SSLContext | None, users: Users | None = None) -> None:
        """New settings for those who connect from now on; the address is the same."""
        self.settings = settings
        self._tls, self._users = tls, users
        self._policy = _policy(settings)

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
                if error.errno not in SHORT or not self.intake.waiting.make_room(error.strerror or str(error)):
                    self._accept_failed(sock, error)
                    return
                continue
            try:
                if self.intake.descriptors.scarce(connection.fileno()):
                    connection = self._moved_down(connection, address[0])
                self._connected(connection, address[0])
            except OSError:
                connection.close()

    def _accept_failed(self, sock: socket.socket, error: OSError) -> None:
        if error.errno not in SHORT:
            return
        log.error("cannot accept: %s; trying again in 0.2 s (raise the limit of open files)", error.strerror)
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock)
        loop.call_later(0.2, self._accept_again, sock)

    def _accept_again(self, sock: socket.socket) -> None:
        if self._sock is sock:
            asyncio.get_running_loop().add_reader(sock, self._accept)

    def _moved_down(self, connection: socket.socket, peer: str) -> socket.socket:
        """The connection under the number of one that goes for it: callers keep out of the numbers that are for others.

        Raises:
            OSError: there is none to go.
        """
        files = self.intake.descriptors
        why = f"the limit of {files.limit} open files is near (raise it)"
        if self.intake.waiting.make_room(why):
            moved = connection.dup()
            connection.close()
            if not files.scarce(moved.fileno()):
                return moved
            moved.close()
        log.error("%s: cut off: %s", peer, why)
        raise OSError(errno.EMFILE, why)

    def _connected(self, connection: socket.socket, peer: str) -> None:
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
        self.intake.waiting.add(acceptor)
        return acceptor

    async def _shake(self, acceptor: Acceptor) -> None:
        try:
            await acceptor.stream.handshake()
        except (OSError, ValueError) as error:
            self._shaken_off(acceptor, error)
        else:
            acceptor.stream.watch_read()
            acceptor.stream.serve()
        finally:
            self._handshakes.pop(acceptor, None)

    def _shaken_off(self, acceptor: Acceptor, error: Exception) -> None:
        """Say why a handshake failed, unless nothing was said in it: somebody looked whether the port is open."""
        stream = acceptor.stream
        assert isinstance(stream, TlsStream)
        if stream.closed or (stream.silent and not isinstance(error, ssl.SSLCertVerificationError)):
            acceptor.close()
            return
        more = self._repeats.note((stream.peer, link_tls.kind(error)), self.intake.loop.time())
        if more is not None:
            words = link_tls.words(error, "caller", stream.refused)
            log.warning("%s: TLS handshake failed: %s%s", acceptor.who, words, more)
        acceptor.turned_away()

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
        if unbound := identity.unbound(s, source.calling_aet, acceptor.stream):
            return (*CALLING_UNKNOWN, unbound)
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
        self.intake.waiting.discard(acceptor)
        return None

    def negotiate(self, rq: bytes, peer: str, done: Callable[[Answer], None]) -> None:
        """Answer ``rq`` from the address ``peer``: at once if it was answered before, else through the pool."""
        if self._users is not None:
            done = partial(self._identify, self._users, peer, done)
        answer = negotiate.accept_cached(rq, self._policy)
        if answer is not None:
            done(answer)
            return
        future = self.intake.loop.run_in_executor(self.intake.negotiators, negotiate.accept, rq, self._policy)
        future.add_done_callback(partial(_deliver, done))

    def _identify(self, users: Users, peer: str, done: Callable[[Answer], None], answer: Answer) -> None:
        """Before an association is accepted: is who was named a user? Each time, also if the answer is known."""
        rules = self.settings.user_identity
        if not isinstance(answer, negotiate.Accepted):
            done(answer)
            return
        required = rules is None or rules.required
        self.intake.identities.check(users, required, answer.named, peer, partial(_identified, done, answer))

    # ---- comings and goings

    def left(self, acceptor: Acceptor) -> None:
        """The association is over, though its connection may live a little longer."""
        self.intake.requests.holds(acceptor, 0)
        key = self._counted.pop(acceptor, None)
        if key is not None:
            self._per_peer[key] -= 1
            if not self._per_peer[key]:
                del self._per_peer[key]
            if not acceptor.ended:
                self.intake.waiting.add(acceptor)

    def closed(self, acceptor: Acceptor) -> None:
        """The connection is gone."""
        self.left(acceptor)
        self.associations.discard(acceptor)
        self.intake.waiting.discard(acceptor)
        task = self._handshakes.pop(acceptor, None)
        if task is not None and task is not _current_task():
            task.cancel()

    @property
    def established(self) -> list[Acceptor]:
        """Associations that count."""
        return list(self._counted)


class Intake:
    """All listeners, and what they share."""

    def __init__(
        self,
        admit: Admit,
        memory: Memory,
        deadlines: Deadlines,
        negotiators: Executor,
        descriptors: Descriptors | None = None,
        answers: Answers | None = None,
    ) -> None:
        self.admit = admit
        self.answers = answers or Answers()
        self.descriptors = descriptors or Descriptors.plan(0, 0)
        self._leaving: list[ImageBytes] = []
        self.waiting = Waiting()
        self.requests = Requests()
        self.identities = identity.Identities(asyncio.get_running_loop())
        self.memory = memory
        self.deadlines = deadlines
        self.negotiators = negotiators
        self.services = Services(negotiators)
        self.loop = asyncio.get_running_loop()
        self.listeners: list[Listener] = []

    @property
    def associations(self) -> list[Acceptor]:
        """Every connection of every listener."""
        return [a for listener in self.listeners for a in listener.associations]

    def relieve(self) -> None:
        """Memory is short: send the largest incomplete images to disk, as many as make room for whoever waits.

        Small ones, too, if there is nothing else: a crowd that stalls in the middle of small images would otherwise
        hold up everybody. What is on its way to the disk already is reckoned with.
        """
        self._leaving = [image for image in self._leaving if image.alive]
        too_much = self.memory.used - sum(image.capacity for image in self._leaving) - RELIEF * self.memory.limit
        if too_much <= 0:
            return
        for held, acceptor in sorted(((a.held, a) for a in self.associations), key=itemgetter(0), reverse=True):
            if too_much <= 0 or not held:
                return
            too_much -= held
            image = acceptor.relieve()
            if image is not None:
                self._leaving.append(image)

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


def _policy(settings: Settings) -> negotiate.AcceptorPolicy:
    return negotiate.AcceptorPolicy(
        settings.ae_title,
        settings.max_pdu,
        tuple(settings.prefer),
        verifies_users=settings.user_identity is not None,
    )


def _identified(
    done: Callable[[Answer], None], answer: negotiate.Accepted, user: str, refusal: Rejection | None
) -> None:
    if refusal is None:
        done(replace(answer, user=user) if user else answer)
        return
    result, source, reason, why = refusal
    words = f"{negotiate.reject_text(result, source, reason)}: {why}"
    done(negotiate.Rejected(negotiate.reject(result, source, reason), result, source, reason, words))


def _deliver(done: Callable[[Answer], None], future: asyncio.Future[Answer]) -> None:
    if not future.cancelled():
        done(future.result())


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
