"""Host names to addresses, so that a name server that hangs holds up only those who wait for it.

One look-up per name at a time, shared by all who want it; answers serve for a few seconds, so that many lanes opening
at once cost one look-up and a changed address is still noticed. Addresses in numbers need none. Of several addresses
those that could not be reached lately come last.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

TTL = 5.0
AVOIDED = 60.0
"""Seconds for which an address that could not be reached comes after the others of its name."""

THREADS = 32

Addresses = list[tuple[Any, ...]]
"""As of ``socket.getaddrinfo``."""


class Resolver:
    """See module. The loop's thread only."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="resolve")
        self._asked: dict[tuple[str, int], tuple[float, asyncio.Future[Addresses]]] = {}
        self._avoided: dict[tuple[Any, ...], float] = {}

    def known(self, host: str, port: int) -> Addresses | None:
        """Where ``host`` is, if it is no name or was looked up lately; None: ask for ``addresses``."""
        found = _in_numbers(host, port)
        if found is not None:
            return found
        at, future = self._asked.get((host, port), (0.0, None))
        if future is None or not future.done() or asyncio.get_running_loop().time() - at > TTL:
            return None
        return None if future.cancelled() or future.exception() else self._in_order(future.result())

    async def addresses(self, host: str, port: int) -> Addresses:
        """Where ``host`` is.

        Raises:
            OSError: nowhere.
        """
        found = _in_numbers(host, port)
        if found is not None:
            return found
        return self._in_order(await self._asked_for(host, port))

    def _in_order(self, found: Addresses) -> Addresses:
        if len(found) == 1 or not self._avoided:
            return found
        since = asyncio.get_running_loop().time() - AVOIDED
        return sorted(found, key=lambda address: self._avoided.get(address, since) > since)

    def forget(self, host: str, port: int) -> None:
        """Ask anew next time; a look-up under way is left alone."""
        _, future = self._asked.get((host, port), (0.0, None))
        if future is not None and future.done():
            del self._asked[host, port]

    def avoid(self, address: tuple[Any, ...]) -> None:
        """This one (as ``addresses`` gave it) could not be reached."""
        now = asyncio.get_running_loop().time()
        self._avoided = {known: at for known, at in self._avoided.items() if at > now - AVOIDED}
        self._avoided[address] = now

    async def _asked_for(self, host: str, port: int) -> Addresses:
        loop = asyncio.get_running_loop()
        at, future = self._asked.get((host, port), (0.0, None))
        if future is None or (future.done() and loop.time() - at > TTL):
            future = loop.run_in_executor(self._pool, _look_up, host, port)
            self._asked[host, port] = (loop.time(), future)
        try:
            return await asyncio.shield(future)
        except OSError:
            if self._asked.get((host, port), (0.0, None))[1] is future:
                del self._asked[host, port]
            raise

    def close(self) -> None:
        """Forget all; a look-up under way is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _in_numbers(host: str, port: int) -> Addresses | None:
    """The address that ``host`` is, without asking anybody; None: it is a name."""
    if not _numeric(host):
        return None
    return (
        _look_up(host, port) if "%" in host else list(_looked_up(host, port))
    )  # the number of an interface may change


@lru_cache(256)
def _numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


@lru_cache(256)
def _looked_up(host: str, port: int) -> Addresses:
    return _look_up(host, port)


def _look_up(host: str, port: int) -> Addresses:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
