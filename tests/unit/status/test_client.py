"""The commands' end of the control socket, against the router's real end."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncroute.core.errors import OurFault
from asyncroute.status import client, control
from asyncroute.status.client import Client, NotRunning
from asyncroute.status.control import Control


class Answers:
    """Says what it was asked (``status.control.Administration``)."""

    def status(self) -> dict[str, Any]:
        return {"node": "n", "running": True}

    def reload(self) -> dict[str, Any]:
        return {"changes": ["route all: changed"]}

    async def why(self, what: dict[str, Any]) -> dict[str, Any]:
        return {"name": what["name"]}

    async def queue_list(self, what: dict[str, Any]) -> list[dict[str, Any]]:
        return [what, {"title": "Zürich \x1b"}]

    async def queue_retry(self, what: dict[str, Any]) -> dict[str, Any]:
        return {"deliveries": len(what), "images": 0}

    async def queue_discard(self, what: dict[str, Any]) -> dict[str, Any]:
        raise OurFault(f"cannot discard {what['state']}")

    async def queue_reroute(self, what: dict[str, Any]) -> dict[str, Any]:
        return {"deliveries": 0, "images": len(what)}

    async def queue_hold(self, what: dict[str, Any]) -> dict[str, Any]:
        return {"destinations": 1}

    async def queue_release(self, what: dict[str, Any]) -> dict[str, Any]:
        return {"destinations": 0}


class Served:
    """A ``Control`` on an event loop in a thread."""

    def __init__(self, folder: Path) -> None:
        self._control = Control(folder, Answers())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._control.start(), self._loop).result(10)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._control.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Path], Client]]:
    made: list[Served] = []

    def start(folder: Path) -> Client:
        made.append(Served(folder))
        return Client(folder)

    yield start
    for each in made:
        each.close()


def test_both_ends_mean_the_same_socket() -> None:
    assert client.SOCKET == control.SOCKET


def test_questions_and_answers(tmp_path: Path, serve: Callable[[Path], Client]) -> None:
    ask = serve(tmp_path)
    assert ask.status() == {"node": "n", "running": True}
    assert ask.queue_list({"to": "Zürich", "ids": [1]}) == [{"to": "Zürich", "ids": [1]}, {"title": "Zürich \x1b"}]
    assert ask.why({"name": "1.2"}) == {"name": "1.2"}
    assert ask.queue_act("retry", {"to": "a", "state": None}) == {"deliveries": 2, "images": 0}


def test_what_the_router_refuses_is_told_in_its_words(tmp_path: Path, serve: Callable[[Path], Client]) -> None:
    with pytest.raises(OurFault, match=r"^cannot discard held$") as error:
        serve(tmp_path).queue_act("discard", {"state": "held"})
    assert not isinstance(error.value, NotRunning)


def test_a_folder_with_a_long_name(tmp_path: Path, serve: Callable[[Path], Client]) -> None:
    """The socket's path would not fit into a socket address."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    assert serve(folder).status()["node"] == "n"


def test_nobody_there(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(NotRunning):
            Client(folder).status()
    (tmp_path / "file").touch()
    with pytest.raises(NotRunning):
        Client(tmp_path / "file").status()


def test_a_socket_that_a_crash_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind("control.sock")
    assert (tmp_path / "control.sock").exists()
    with pytest.raises(NotRunning):
        Client(tmp_path).status()


def stand_in(answer: bytes | None) -> tuple[socket.socket, threading.Thread]:
    """Something else at the router's socket, in the current folder: it answers ``answer``, or nothing at all."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("control.sock")
    listener.listen()
    held: list[socket.socket] = []

    def serve() -> None:
        connection, _ = listener.accept()
        held.append(connection)
        if answer is not None:
            connection.recv(65536)
            connection.sendall(answer)
            connection.close()
            return
        while connection.recv(65536):
            pass
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    return listener, thread


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "does not answer within 0.2 s"),
        (b"", "does not answer"),
        (b"SSH-2.0-x\r\n", "does not answer"),
        (http(b"{"), "does not answer"),
        (http(json.dumps({"error": "no"}).encode(), "409 Conflict"), "^no$"),
        (http(b"[]", "500 Internal Server Error"), "HTTP status 500"),
        (http(b"", "404 Not Found"), "does not answer"),
    ],
)
def test_bad_answers_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes | None, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    listener, thread = stand_in(answer)
    try:
        with pytest.raises(OurFault, match=words) as error:
            Client(tmp_path, timeout=0.2 if answer is None else 10).status()
        assert not isinstance(error.value, NotRunning)
        assert len(str(error.value).splitlines()) == 1
    finally:
        thread.join(10)
        listener.close()


def test_what_concerns_the_whole_queue_may_take_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listener, thread = stand_in(None)
    try:
        with pytest.raises(OurFault, match=r"does not answer within 3 s"):
            Client(tmp_path, timeout=0.1).queue_act("retry", {})
    finally:
        thread.join(10)
        listener.close()
