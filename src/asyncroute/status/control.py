"""The control socket: how the commands talk to a running router.

An aiohttp application on a Unix socket in ``data_dir``; whoever may open the file may act. Requests and answers are
JSON. The path of a Unix socket is limited to 108 bytes, so both ends go through ``/proc/self/fd``, whatever the
folder's name.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from asyncroute.core.errors import AsyncrouteError, OurFault

log = logging.getLogger(__name__)

SOCKET = "control.sock"
Call = Callable[[dict[str, Any]], Awaitable[Any]]
MOST_BODY = 1 << 20


class Administration(Protocol):
    """What can be asked of a running router; selections come as ``select.parse`` makes them from JSON."""

    def status(self) -> dict[str, Any]:
        """See ``status.snapshot.running``."""
        ...

    def reload(self) -> dict[str, Any]:
        """Take over the configuration file as it is now."""
        ...

    async def why(self, what: dict[str, Any]) -> dict[str, Any]:
        """See ``status.story.tell``; with how the destinations are now to which something is owed."""
        ...

    async def queue_list(self, what: dict[str, Any]) -> list[dict[str, Any]]:
        """Open deliveries or held images."""
        ...

    async def queue_retry(self, what: dict[str, Any]) -> dict[str, Any]:
        """Failed deliveries and held images go again."""
        ...

    async def queue_discard(self, what: dict[str, Any]) -> dict[str, Any]:
        """Failed deliveries or held images go for good."""
        ...

    async def queue_reroute(self, what: dict[str, Any]) -> dict[str, Any]:
        """Failed deliveries or held images go to another destination (``target``)."""
        ...

    async def queue_hold(self, what: dict[str, Any]) -> dict[str, Any]:
        """A destination (``to``) is sent nothing more."""
        ...

    async def queue_release(self, what: dict[str, Any]) -> dict[str, Any]:
        """It is sent to again."""
        ...


@contextlib.contextmanager
def short_path(data_dir: Path) -> Iterator[str]:
    """A path of the socket that is short enough, valid in the block."""
    fd = os.open(data_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{SOCKET}"
    finally:
        os.close(fd)


class Control:
    """The server's end."""

    def __init__(self, data_dir: Path, administration: Administration, more: Mapping[str, Call] | None = None) -> None:
        """``more``: other requests, by path."""
        self._data_dir = data_dir
        self._administration = administration
        self._more = more or {}
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. A socket file left by a crash is replaced (the journal's lock shows that nobody uses it)."""
        with contextlib.suppress(FileNotFoundError):
            (self._data_dir / SOCKET).unlink()
        app = web.Application(client_max_size=MOST_BODY)
        act = self._administration
        app.router.add_get("/status", _answering(_ignoring_body(act.status)))
        app.router.add_post("/reload", _answering(_ignoring_body(act.reload)))
        app.router.add_post("/why", _answering(act.why))
        app.router.add_post("/queue/list", _answering(act.queue_list))
        app.router.add_post("/queue/retry", _answering(act.queue_retry))
        app.router.add_post("/queue/discard", _answering(act.queue_discard))
        app.router.add_post("/queue/reroute", _answering(act.queue_reroute))
        app.router.add_post("/queue/hold", _answering(act.queue_hold))
        app.router.add_post("/queue/release", _answering(act.queue_release))
        for path, call in self._more.items():
            app.router.add_post(path, _answering(call))
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        with short_path(self._data_dir) as path:
            await web.UnixSite(self._runner, path).start()
        (self._data_dir / SOCKET).chmod(0o600)

    async def stop(self) -> None:
        """Stop listening. Idempotent."""
        runner, self._runner = self._runner, None
        if runner is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(runner.cleanup(), 2)
            with contextlib.suppress(FileNotFoundError):
                (self._data_dir / SOCKET).unlink()


def _ignoring_body(call: Callable[[], Any]) -> Callable[[dict[str, Any]], Awaitable[Any]]:
    async def answer(_: dict[str, Any]) -> Any:
        return call()

    return answer


def _answering(call: Call) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            body = await request.json() if request.can_read_body else {}
            if not isinstance(body, dict):
                raise OurFault("the request is no JSON object")
            return web.json_response(await call(body))
        except AsyncrouteError as error:
            return web.json_response({"error": str(error)}, status=409)
        except ValueError as error:
            return web.json_response({"error": f"bad request: {error}"}, status=400)
        except Exception as error:
            log.exception("unexpected error in %s", request.path)
            return web.json_response({"error": f"unexpected error, see the log: {error!r}"}, status=500)

    return handle
