"""Starts the program without the processor time that it takes to import it, some half a second each time.

Purpose: tests start it more than a thousand times. ``spawn`` runs ``python -m MODULE ARGUMENTS`` in a process of its
own that is forked from one that has imported everything already (``forking_process``, one for each test process).
Guarantees: what runs is the real program, from its ``__main__`` on, in a new session, with the environment, folder and
descriptors that it was given; signals, exit statuses and crash points are as for any other process.
Limits: what an interpreter reads of its environment when it starts, and what it inherits (limits, namespaces), is that
of the first; ``fits`` tells whether an environment may differ so. Tests of such things start the program afresh.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FREE = {"ASYNCROUTE_CRASH", "ASYNCROUTE_DEBUG", "PYTHONPATH", "PYTEST_CURRENT_TEST"}


class Forked:
    """A process of the program: what tests use of ``subprocess.Popen``."""

    def __init__(self, status: socket.socket, command: Sequence[str]) -> None:
        self._status = status
        self._command = list(command)
        self.returncode: int | None = None
        self.pid = self._number(60.0)

    def poll(self) -> int | None:
        """Its exit status; None: it runs."""
        if self.returncode is None:
            try:
                self._end(0.0)
            except TimeoutError:
                return None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, when it has ended; negative: the signal that ended it.

        Raises:
            subprocess.TimeoutExpired: it still runs after ``timeout`` seconds.
        """
        try:
            return self._end(timeout) if self.returncode is None else self.returncode
        except TimeoutError:
            raise subprocess.TimeoutExpired(self._command, timeout or 0.0) from None

    def send_signal(self, number: int) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def _end(self, timeout: float | None) -> int:
        self.returncode = os.waitstatus_to_exitcode(self._number(timeout))
        self._status.close()
        return self.returncode

    def _number(self, timeout: float | None) -> int:
        self._status.settimeout(timeout)
        try:
            told = self._status.recv(4)
        except BlockingIOError:
            raise TimeoutError from None
        if not told:
            raise RuntimeError("the process that starts the program is gone")
        return int.from_bytes(told, "big")

    def __del__(self) -> None:
        self._status.close()


class Starter:
    """The process that forks. It ends with this one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._turn = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forking_process"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                cwd=ROOT,
                env=self._environment,
                start_new_session=True,
            )
        atexit.register(self.close)

    def fits(self, environment: Mapping[str, str]) -> bool:
        """Whether an interpreter would start with ``environment`` as it did with this process's own."""
        names = environment.keys() | self._environment.keys()
        return all(name in FREE or environment.get(name) == self._environment.get(name) for name in names)

    def spawn(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, output: int, errors: int
    ) -> Forked:
        """Run ``command`` (a module and its arguments) with these descriptors."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        order: dict[str, object] = {"module": command[0], "arguments": list(command[1:])}
        order |= {"environment": dict(environment), "folder": str(folder.absolute())}
        with theirs, self._turn:
            socket.send_fds(self._orders, [json.dumps(order).encode()], [output, errors, theirs.fileno()])
        return Forked(ours, command)

    def run(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, timeout: float
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``command`` to its end, as ``subprocess.run`` does that captures the output."""
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            process = self.spawn(command, environment, folder, output.fileno(), errors.fileno())
            try:
                status = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait(10)
                raise
            output.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(list(command), status, output.read(), errors.read())

    def close(self) -> None:
        """End the process; what it has started lives on."""
        self._orders.close()
        self._process.wait(10)
