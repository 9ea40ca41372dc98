"""From a destination's name to a connected stream: addresses, TCP, TLS, each with its deadline.

By callbacks: where many calling titles share few lanes, associations are opened all the time, and a task with its
futures and timers costs more than the connection. Only what is rare is a task: a look-up, a TLS handshake.
Guarantees: ``connect_timeout`` holds for the look-up, and then for each of the name's addresses anew (TCP and TLS
together), so that a dead first address costs time and not the delivery; one that failed is tried last for a while. A
TLS handshake that hangs is told as TLS trouble. Failures are ``Failed``, with the outcome.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from asyncroute.core import outcomes
from asyncroute.core.errors import PeerFault
from asyncroute.core.outcomes import Outcome
from asyncroute.link import tls
from asyncroute.link.answers import Answers
from asyncroute.link.deadlines import NEVER, Deadlines
from asyncroute.link.resolve import Addresses, Resolver
from asyncroute.link.stream import Stream, TlsStream
from asyncroute.wire.command import Alike

log = logging.getLogger(__name__)

MOST_ADDRESSES = 8
"""Addresses of one name that are tried in one go."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where an association goes, and its limits (seconds, bytes)."""

    host: str
    port: int
    called_aet: str
    connect_timeout: float = 10.0
    response_timeout: float = 60.0
    max_pdu: int = 128 << 10
    tls: ssl.SSLContext | None = None
    server_name: str | None = None


@dataclass(slots=True)
class Shared:
    """What all associations of a process use."""

    deadlines: Deadlines
    pool: Executor
    """Negotiates (pynetdicom)."""
    resolver: Resolver
    answers: Answers = field(default_factory=Answers)
    usual: dict[tuple[str, int, str], Alike] = field(default_factory=dict)
    """What successful responses look like, by host, port and AE title of who sends them."""


class Failed(PeerFault):
    """No association; ``outcome`` says why and what follows."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.text)
        self.outcome = outcome


class Dialing:
    """One attempt to reach a target. ``done`` is called once, also from within ``begin``: with a stream to the first of
    the addresses that answers, TLS done; or with ``Failed``, whose outcome is the last address's, or TLS trouble, if
    there was any. The loop's thread only.
    """

    def __init__(self, target: Target, shared: Shared, done: Callable[[Stream | Failed], None]) -> None:
        self.deadline = NEVER
        self._target = target
        self._resolver = shared.resolver
        self._deadlines = shared.deadlines
        self._done = done
        self._loop = asyncio.get_running_loop()
        self._addresses: Addresses = []
        self._tried = 0
        self._until = NEVER
        self._stream: Stream | None = None
        self._task: asyncio.Task[None] | None = None
        self._failure: Failed | None = None

    def begin(self) -> None:
        """Once."""
        found = self._resolver.known(self._target.host, self._target.port)
        if found is None:
            self._run("look up a destination", self._look_up)
        else:
            self._found(found)

    def cancel(self) -> None:
        """Give up; ``done`` is not called any more. Idempotent."""
        self._done = _nobody
        if self._task is not None:
            self._task.cancel()
        self._close()

    def _end(self, found: Stream | Failed) -> None:
        done, self._done = self._done, _nobody
        done(found)

    def _unexpected(self, error: BaseException) -> None:
        log.error("%s: unexpected error while connecting", self._target.host, exc_info=error)
        self._close()
        self._end(Failed(outcomes.lost(f"unexpected error while connecting: {error!r}", image_in_flight=True)))

    def _close(self) -> None:
        stream, self._stream = self._stream, None
        self._deadlines.remove(self)
        if stream is not None:
            stream.close()

    def _run(self, name: str, rare: Callable[..., Awaitable[None]], *given: object) -> None:
        self._task = self._loop.create_task(self._guarded(rare, *given), name=name)

    async def _guarded(self, rare: Callable[..., Awaitable[None]], *given: object) -> None:
        try:
            await rare(*given)
        except Exception as error:
            self._unexpected(error)

    # ---- addresses

    async def _look_up(self) -> None:
        target = self._target
        try:
            async with asyncio.timeout(target.connect_timeout):
                found = await self._resolver.addresses(target.host, target.port)
        except TimeoutError:
            words = f"{target.host}: no answer from the name server in {target.connect_timeout:g} s"
            self._end(Failed(outcomes.unresolved(words)))
        except OSError as error:
            self._end(Failed(outcomes.unresolved(f"{target.host}: {error.strerror or error}")))
        else:
            self._found(found)

    def _found(self, addresses: Addresses) -> None:
        self._addresses = addresses[:MOST_ADDRESSES]
        self._next()

    def _next(self) -> None:
        """Try the next address; if there is none, that is the end."""
        while self._tried < len(self._addresses):
            self._tried += 1
            error = self._connect(self._addresses[self._tried - 1])
            if error is None:
                return
            self._note(self._connect_failed(error))
        target = self._target
        self._resolver.forget(target.host, target.port)  # it may have moved
        self._end(self._failure or Failed(outcomes.unresolved(f"{target.host} has no address")))

    def _failed(self, failure: Failed) -> None:
        self._note(failure)
        self._next()

    def _note(self, failure: Failed) -> None:
        """This address is none of use."""
        self._close()
        self._resolver.avoid(self._addresses[self._tried - 1])
        if self._failure is None or not self._failure.outcome.loud:
            self._failure = failure

    @property
    def _where(self) -> str:
        target, at = self._target, self._addresses[self._tried - 1][4]
        return f"{target.host}:{target.port}" + (f" ({at[0]})" if len(self._addresses) > 1 else "")

    def _connect_failed(self, error: OSError) -> Failed:
        if isinstance(error, ConnectionRefusedError):
            return Failed(outcomes.refused(f"connection refused by {self._where}"))
        return Failed(outcomes.unreachable(f"{self._where}: {error.strerror or error}"))

    # ---- TCP

    def _connect(self, address: tuple[Any, ...]) -> OSError | None:
        """Begin to connect; the error, if that has failed already."""
        family, kind, proto, _, at = address
        self._until = self._loop.time() + self._target.connect_timeout
        try:
            stream = self._stream = Stream(socket.socket(family, kind, proto), str(at[0]))
            number = stream.sock.connect_ex(at)
            if number == errno.EINPROGRESS:  # asked again, the kernel knows of a neighbour: no turn of the loop for it
                number = stream.sock.connect_ex(at)
        except OSError as error:
            return error
        if number == errno.EALREADY:
            self._wait(stream)
        elif number:
            return OSError(number, os.strerror(number))
        else:
            self._connected(stream)
        return None

    def _wait(self, stream: Stream) -> None:
        self.deadline = self._until
        self._deadlines.add(self)
        stream.attach(self._writable, self._writable, self._unexpected)
        stream.watch_write()

    def _writable(self) -> None:
        """The kernel knows."""
        stream = self._stream
        assert stream is not None
        number = stream.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._failed(self._connect_failed(OSError(number, os.strerror(number))))
            return
        self._deadlines.remove(self)
        if self._target.tls is None:
            stream.watch_read()  # first: what the loop watches goes on, instead of ending and being made anew
        stream.unwatch_write()
        self._connected(stream)

    def expired(self) -> None:
        """See ``link.deadlines.Expiring``."""
        words = f"no answer from {self._where} in {self._target.connect_timeout:g} s"
        self._failed(Failed(outcomes.unreachable(words)))

    def _connected(self, stream: Stream) -> None:
        if self._target.tls is None:
            self._stream = None
            self._end(stream)
        else:
            self._run("TLS handshake", self._secure, stream, self._target.tls)

    # ---- TLS

    async def _secure(self, plain: Stream, context: ssl.SSLContext) -> None:
        target = self._target
        try:
            async with asyncio.timeout_at(self._until):
                name = target.server_name or target.host
                stream = TlsStream(plain.sock, plain.peer, context, server=False, server_name=name)
                await _shake_hands(stream)
        except TimeoutError:
            words = f"no answer to the handshake from {self._where} in {target.connect_timeout:g} s"
            self._failed(Failed(outcomes.tls_failed(words)))
        except OSError as error:
            self._failed(self._connect_failed(error))
        except Failed as failure:
            self._failed(failure)
        else:
            self._close()
            self._end(stream)


async def _shake_hands(stream: TlsStream) -> None:
    """Raises Failed; the stream is closed then."""
    try:
        await stream.handshake()
    except OSError as error:
        failed = outcomes.tls_failed(tls.words(error, "destination", stream.refused))
        stream.close()
        raise Failed(failed) from None
    except BaseException:
        stream.close()
        raise


def _nobody(_: Stream | Failed) -> None:
    """Who asked has been told, or has given up."""
