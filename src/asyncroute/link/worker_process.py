"""What runs in a worker process (``processes``): named functions, one call after the other, until the router is gone.

Guarantees: the process has no more memory than it is given (RLIMIT_AS), leaves no core file, heeds no signal that is
meant for the router (which ends it, as its death does), and what functions print goes to standard error.
Failures: an exception of a function is the call's answer, also where it is the lack of memory; everything else ends the
process.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import signal
import socket
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from asyncroute.link import plain

_PR_SET_PDEATHSIG = 1
NICE = 19
"""The router and all others go first where processors are short; waiting for one does not count for deadlines."""

_LONGEST = 500
"""Characters of an exception's text."""


def main() -> None:
    """``NUMBER MEMORY PARENT``: descriptor of the socket, bytes of address space, the router's process id."""
    number, memory, parent = map(int, sys.argv[1:])
    _live_with(parent)
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    sock = socket.socket(fileno=number)
    sock.set_inheritable(False)
    with contextlib.suppress(EOFError, OSError):
        _serve(sock)
    os._exit(0)  # whatever threads a function has left


def _live_with(parent: int) -> None:
    for meant_for_router in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(meant_for_router, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _serve(sock: socket.socket) -> None:
    plain.send(sock, plain.packed("ready"))
    lasting: dict[str, bytes] = {}
    while True:
        call = plain.receive(sock)
        answer = _answer(call, lasting)
        try:
            pieces = plain.packed(answer)
        except (TypeError, ValueError) as error:
            pieces = plain.packed(_raised(error))
        plain.send(sock, pieces)


def _answer(call: dict[str, Any], lasting: dict[str, bytes]) -> dict[str, Any]:
    try:
        lasting.update((key, bytes(data)) for key, data in call["new"].items())
        arguments = call["arguments"]
        for number in call["lasting"]:
            arguments[number] = lasting[arguments[number][0]]
        return {"value": _function(call["function"])(*arguments)}
    except MemoryError:
        gc.collect()
        return {"memory": True}
    except BaseException as error:  # also SystemExit: a function does not end the process politely
        return _raised(error)


def _function(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


def _raised(error: BaseException) -> dict[str, Any]:
    text = "".join(c if c.isprintable() else " " for c in str(error))[:_LONGEST]
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return {"raised": type(error).__name__, "text": text, "where": where}


if __name__ == "__main__":
    main()
