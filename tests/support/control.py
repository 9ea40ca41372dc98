"""The router's control socket, asked without starting an interpreter: HTTP over a Unix socket in its data folder."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any

SOCKET = "control.sock"
TIMEOUT = 20.0


class _Connection(http.client.HTTPConnection):
    """An HTTP connection over a Unix socket; through /proc, because the socket's path may be too long for one."""

    def __init__(self, folder: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._folder = folder

    def connect(self) -> None:
        """Connect to the socket in the folder."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        descriptor = os.open(self._folder, os.O_PATH | os.O_CLOEXEC)
        try:
            self.sock.connect(f"/proc/self/fd/{descriptor}/{SOCKET}")
        finally:
            os.close(descriptor)


def get(data_dir: Path, path: str) -> dict[str, Any]:
    """The JSON answer of the router in ``data_dir`` to a GET request.

    Raises:
        OSError: nothing answers there.
    """
    parsed: dict[str, Any] = _answer(data_dir, "GET", path, None)
    return parsed


def listed(data_dir: Path, what: dict[str, Any]) -> list[dict[str, Any]]:
    """What ``queue list`` of the router in ``data_dir`` finds. Raises as ``get``."""
    parsed: list[dict[str, Any]] = _answer(data_dir, "POST", "/queue/list", json.dumps(what))
    return parsed


def post(data_dir: Path, path: str, what: dict[str, Any]) -> Any:
    """The JSON answer to any other request. Raises as ``get``."""
    return _answer(data_dir, "POST", path, json.dumps(what))


def _answer(data_dir: Path, method: str, path: str, body: str | None) -> Any:
    connection = _Connection(data_dir)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    assert answer.status == 200, content
    return json.loads(content)
