"""From a destination's name to a connected stream: addresses, TCP, TLS, each with its deadline.

Guarantees: ``connect_timeout`` holds for the look-up, and then for each of the name's addresses anew (TCP and TLS
together), so that a dead first address costs time and not the delivery; one that failed is tried last for a while. A
TLS handshake that hangs is told as TLS trouble. Failures are ``Failed``, with the outcome.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from asyncroute.core import outcomes
from asyncroute.core.errors import PeerFault
from asyncroute.core.outcomes import Outcome
from asyncroute.link import tls
from asyncroute.link.answers import Answers
from asyncroute.link.deadlines import Deadlines
from asyncroute.link.resolve import Addresses, Resolver
from asyncroute.link.stream import Stream, TlsStream
from asyncroute.wire.command import Alike

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


async def dial(target: Target, resolver: Resolver) -> Stream:
    """A connected stream to the first of the target's addresses that answers, TLS done.

    Raises:
        Failed: none does; the outcome is the last one's, or TLS trouble, if there was any.
    """
    failure: Failed | None = None
    found = (resolver.known(target.host, target.port) or await _addresses(target, resolver))[:MOST_ADDRESSES]
    for address in found:
        try:
            return await _connected(address, target, several=len(found) > 1)
        except Failed as failed:
            resolver.avoid(address)
            if failure is None or not failure.outcome.loud:
                failure = failed
    resolver.forget(target.host, target.port)  # it may have moved
    raise failure or Failed(outcomes.unresolved(f"{target.host} has no address"))


async def _addresses(target: Target, resolver: Resolver) -> Addresses:
    try:
        async with asyncio.timeout(target.connect_timeout):
            return await resolver.addresses(target.host, target.port)
    except TimeoutError:
        words = f"{target.host}: no answer from the name server in {target.connect_timeout:g} s"
    except OSError as error:
        words = f"{target.host}: {error.strerror or error}"
    raise Failed(outcomes.unresolved(words))


async def _connected(address: tuple[Any, ...], target: Target, several: bool) -> Stream:
    family, kind, proto, _, at = address
    where = f"{target.host}:{target.port}" + (f" ({at[0]})" if several else "")
    sock: socket.socket | None = None
    shaking = False
    try:
        sock = socket.socket(family, kind, proto)
        sock.setblocking(False)
        if target.tls is None and not sock.connect_ex(at):  # a neighbour may be there at once
            return Stream(sock, str(at[0]))
        async with asyncio.timeout(target.connect_timeout):
            await asyncio.get_running_loop().sock_connect(sock, at)
            shaking = True
            return await _secured(sock, target, str(at[0]))
    except TimeoutError:
        _close(sock)
        raise Failed(_late(where, target, shaking and target.tls is not None)) from None
    except OSError as error:
        _close(sock)
        raise Failed(_connect_failed(where, error)) from None
    except BaseException:
        _close(sock)
        raise


def _close(sock: socket.socket | None) -> None:
    if sock is not None:
        sock.close()


async def _secured(sock: socket.socket, target: Target, peer: str) -> Stream:
    if target.tls is None:
        return Stream(sock, peer)
    stream = TlsStream(sock, peer, target.tls, server=False, server_name=target.server_name or target.host)
    try:
        await stream.handshake()
    except OSError as error:
        failed = outcomes.tls_failed(tls.words(error, "destination", stream.refused))
        stream.close()
        raise Failed(failed) from None
    except BaseException:
        stream.close()
        raise
    return stream


def _late(where: str, target: Target, shaking: bool) -> Outcome:
    if shaking:
        return outcomes.tls_failed(f"no answer to the handshake from {where} in {target.connect_timeout:g} s")
    return outcomes.unreachable(f"no answer from {where} in {target.connect_timeout:g} s")


def _connect_failed(where: str, error: OSError) -> Outcome:
    if isinstance(error, ConnectionRefusedError):
        return outcomes.refused(f"connection refused by {where}")
    return outcomes.unreachable(f"{where}: {error.strerror or error}")
