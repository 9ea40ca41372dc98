"""What several unit tests build on: an event loop that tolerates nothing, TCP pairs, images and deliveries."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec

import uvloop

from asyncroute.core.model import Delivery, Instance, RouteHit, Source
from asyncroute.core.states import DeliveryState
from asyncroute.journal.sqlite import SqliteJournal
from asyncroute.link.buffers import ImageBytes, Memory
from asyncroute.wire.command import Command
from tests.support.waiting import NotInTime

P = ParamSpec("P")
CT, MR, SR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.88.11"
EXPLICIT_LE, IMPLICIT_LE, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.50"
SOURCE = Source("CT_A", "ASYNCROUTE", "ASYNCROUTE@0.0.0.0:11112", "127.0.0.1")
TIMEOUT = 10.0


def on_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test on a loop of its own, at most 30 s; whatever a callback raises unheard fails the test."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        unheard: list[dict[str, Any]] = []

        async def body() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
            async with asyncio.timeout(30):
                await test(*args, **kwargs)
            await asyncio.sleep(0)

        uvloop.run(body())
        assert not unheard, "\n".join(f"{context.get('message')}: {_trace(context)}" for context in unheard)

    return run


def _trace(context: dict[str, Any]) -> str:
    error = context.get("exception")
    return "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else repr(context)


async def until(condition: Callable[[], object], what: str, deadline: float = TIMEOUT) -> None:
    """Let the loop run until ``condition()`` is true; ``NotInTime`` after ``deadline`` seconds."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise NotInTime(f"waited {deadline:g} s for: {what}")
        await asyncio.sleep(0.002)


async def settle_loop(rounds: int = 5) -> None:
    """Let callbacks that are ready now run, and those that they make ready."""
    for _ in range(rounds):
        await asyncio.sleep(0)


def tcp_pair(buffers: int = 0) -> tuple[socket.socket, socket.socket]:
    """Two connected, non-blocking TCP sockets on the loopback; ``buffers``: bytes of their kernel buffers, 0: usual."""
    with socket.socket() as listener:
        if buffers:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        near = socket.socket()
        if buffers:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
        near.connect(listener.getsockname())
        far, _ = listener.accept()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


async def read_exactly(sock: socket.socket, size: int) -> bytes:
    """``size`` bytes from a non-blocking socket."""
    loop, found = asyncio.get_running_loop(), bytearray()
    while len(found) < size:
        piece = await loop.sock_recv(sock, size - len(found))
        assert piece, f"closed after {len(found)} of {size} bytes"
        found += piece
    return bytes(found)


async def read_pdu(sock: socket.socket) -> tuple[int, bytes]:
    """Type and content of the next PDU."""
    head = await read_exactly(sock, 6)
    return head[0], await read_exactly(sock, int.from_bytes(head[2:], "big"))


def noise(size: int, seed: int = 1) -> bytes:
    """``size`` bytes that repeat nowhere near."""
    return b"".join((n * 2_654_435_761 + seed).to_bytes(8, "little") for n in range(size // 8 + 1))[:size]


def in_memory(data: bytes, cuts: list[int] | None = None) -> ImageBytes:
    """An image as it was received, in slices that end at ``cuts``."""
    made = ImageBytes()
    buffer = Memory(1 << 30).take(8)
    view = memoryview(data)
    at = 0
    for cut in [*(cuts or []), len(data)]:
        if cut > at:
            made.parts.append(view[at:cut])
            at = cut
    made.buffers, made.size = [buffer], len(data)
    return made


def instance(number: int, *destinations: str, **more: Any) -> Instance:
    """An image with this id; its path is the spool's."""
    path = f"{number // 1000:06d}/{number:08d}.dcm"
    made = Instance(number, SOURCE, CT, f"1.2.3.{number}", EXPLICIT_LE, time.time(), path)
    made.data_offset, made.size, made.study_uid = 500, 1000, "1.2.3"
    made.hits = tuple(RouteHit("all", name) for name in destinations)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def delivery(number: int = 1, destination: str = "pacs", **more: Any) -> Delivery:
    """A delivery of image ``number``."""
    path = f"{number // 1000:06d}/{number:08d}.dcm"
    made = Delivery(
        number,
        destination,
        "all",
        "CT_A",
        "ASYNCROUTE",
        "ROUTER@0.0.0.0:11112",
        CT,
        f"1.2.3.{number}",
        EXPLICIT_LE,
        "1.2.3",
        path,
        500,
        1000,
        7,
        0.0,
    )
    made.queued_at = time.time()
    for name, value in more.items():
        setattr(made, name, value)
    return made


def states(journal: SqliteJournal, destination: str) -> dict[int, str]:
    """The state of each delivery to ``destination``, by image."""
    rows = journal._connection.execute(
        "SELECT d.instance, d.state FROM delivery d JOIN destination n ON n.id = d.destination WHERE n.name = ?",
        (destination,),
    )
    return {number: DeliveryState(state).word for number, state in rows.fetchall()}


def command(values: dict[int, bytes] | None = None) -> Command:
    """A command set of these raw values."""
    return Command(values or {})


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``, by its relative name; but for those that go while we look."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            with contextlib.suppress(FileNotFoundError):
                found[str(path.relative_to(folder))] = path.read_bytes()
    return found
