"""The commands' end of the control socket (``control`` is the router's).

Guarantees: whoever is there has a deadline to answer; the standard library's HTTP client is enough, and starts in a
tenth of aiohttp's time.
Failures: ``NotRunning`` where no router listens; ``OurFault`` with one line for everything else, also for what the
router refuses.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any, Final

from asyncroute.core.errors import OurFault

SOCKET: Final = "control.sock"
TIMEOUT: Final = 10.0
WORK: Final = 30
"""Times as long may what concerns the whole queue take: there may be 100,000 deliveries, and a slow disk."""


class NotRunning(OurFault):
    """No router answers for this folder."""


class Client:
    """Asks the router whose ``data_dir`` this is."""

    def __init__(self, data_dir: Path, timeout: float = TIMEOUT) -> None:
        self.data_dir = data_dir
        self._timeout = timeout

    def status(self) -> dict[str, Any]:
        """See ``snapshot.running``."""
        found: dict[str, Any] = self._ask("GET", "/status", None)
        return found

    def reload(self) -> list[str]:
        """See ``control.Administration``; what changed, one line each."""
        found: list[str] = self._ask("POST", "/reload", {})["changes"]
        return found

    def queue_list(self, what: dict[str, Any]) -> list[dict[str, Any]]:
        """See ``control.Administration``."""
        found: list[dict[str, Any]] = self._ask("POST", "/queue/list", what, self._timeout * WORK)
        return found

    def why(self, what: dict[str, Any]) -> dict[str, Any]:
        """See ``control.Administration``."""
        found: dict[str, Any] = self._ask("POST", "/why", what, self._timeout * WORK)
        return found

    def queue_act(self, verb: str, what: dict[str, Any]) -> dict[str, int]:
        """``verb``: retry, discard, hold or release; see ``control.Administration``."""
        found: dict[str, int] = self._ask("POST", f"/queue/{verb}", what, self._timeout * WORK)
        return found

    def ask(self, path: str, what: dict[str, Any]) -> Any:
        """The answer to any other request: see ``batch.words``."""
        return self._ask("POST", path, what, self._timeout * WORK)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None, timeout: float = 0) -> Any:
        timeout = timeout or self._timeout
        try:
            status, answer = self._exchange(method, path, body, timeout)
            parsed = json.loads(answer)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            raise NotRunning(f"no router is running in {self.data_dir}") from None
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise OurFault(self._trouble(error, timeout)) from None
        if status != http.client.OK:
            words = parsed.get("error") if isinstance(parsed, dict) else None
            raise OurFault(str(words or f"the router answers with HTTP status {status}"))
        return parsed

    def _exchange(self, method: str, path: str, body: dict[str, Any] | None, timeout: float) -> tuple[int, bytes]:
        connection = _UnixConnection(self.data_dir, timeout)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _trouble(self, error: Exception, timeout: float) -> str:
        if isinstance(error, PermissionError):
            return f"may not talk to the router in {self.data_dir}: only the account that runs it (and root) may"
        if isinstance(error, TimeoutError):
            return f"the router in {self.data_dir} does not answer within {timeout:g} s"
        words = error.strerror if isinstance(error, OSError) else str(error)
        return f"the router in {self.data_dir} does not answer: {words or type(error).__name__}"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over the socket, reached through its folder: a socket's path has at most 108 bytes."""

    def __init__(self, data_dir: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._data_dir = data_dir

    def connect(self) -> None:
        folder = os.open(self._data_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{folder}/{SOCKET}")
        finally:
            os.close(folder)
