"""The process that starts the program over and over: it has imported all of it, and forks (see ``forking``).

Standard input is a socket. Each message on it is one program to run, as JSON (module, arguments, environment, folder),
with the three descriptors that go with it: its output, its errors, and a socket of its own, on which its process id is
told at once and its wait status at its end. When the other end is gone, so is this process; its children live on.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Any

MOST = 1 << 18
PARTS = ("asyncroute.app", "uvloop", "unittest.mock")


@dataclass(frozen=True)
class Job:
    """One program to run."""

    module: str
    arguments: list[str]
    environment: dict[str, str]
    folder: str


def prepare() -> None:
    """Import whatever a command may import, and let the collector leave all of that alone."""
    from asyncroute import cli

    names = [f"asyncroute.cli.{part.name}" for part in pkgutil.iter_modules(cli.__path__)]
    for name in (*PARTS, *names):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def serve(orders: socket.socket) -> Job | None:
    """Fork for each order until there are no more; in a child the order itself, which is to be run."""
    asleep, awake = socket.socketpair()
    for end in (asleep, awake):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(awake.fileno(), warn_on_full_buffer=False)
    children: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([orders, asleep], [], [])
        if asleep in ready:
            asleep.recv(MOST)
            tell_ends(children)
        if orders in ready:
            message, numbers, _, _ = socket.recv_fds(orders, MOST, 3)
            if not message:
                return None
            status = socket.socket(fileno=numbers.pop())
            child = os.fork()
            if not child:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                become(numbers, status)
                for other in (orders, asleep, awake, *children.values()):
                    other.close()
                return Job(**json.loads(message))
            children[child] = status
            for number in numbers:
                os.close(number)


def tell_ends(children: dict[int, socket.socket]) -> None:
    """Each child that has ended: its wait status on its socket."""
    while children:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            return
        with children.pop(child) as told:
            tell(told, status)


def tell(to: socket.socket, number: int) -> None:
    """One number, unless nobody listens any more."""
    try:
        to.send(number.to_bytes(4, "big"))
    except OSError:
        return


def become(numbers: list[int], status: socket.socket) -> None:
    """In the child: a session of its own, these descriptors as output and errors, no input; then say who this is."""
    os.setsid()
    for number, name in zip(numbers, (1, 2), strict=True):
        os.dup2(number, name)
        os.close(number)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    tell(status, os.getpid())
    status.close()


def run(job: Job) -> None:
    """In the child: be ``python -m MODULE ARGUMENTS``."""
    before = len(search_path())
    os.environ.clear()
    os.environ.update(job.environment)
    os.chdir(job.folder)
    sys.path[: 1 + before] = [job.folder, *search_path()]
    sys.argv = [job.module, *job.arguments]
    arm()
    runpy.run_module(job.module, run_name="__main__", alter_sys=True)


def search_path() -> list[str]:
    """What the environment puts before the libraries."""
    return list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))


def arm() -> None:
    """The crash point that the environment asks for, everywhere: modules take it when they are imported."""
    crashpoints: Any = sys.modules["asyncroute.crashpoints"]
    idle, chosen = crashpoints.crash_point, crashpoints._chosen(os.environ.get(crashpoints.VARIABLE, ""))
    for name, module in list(sys.modules.items()):
        if name.startswith("asyncroute.") and vars(module).get("crash_point") is idle:
            vars(module)["crash_point"] = chosen


if __name__ == "__main__":
    prepare()
    taken = serve(socket.socket(fileno=os.dup(0)))
    if taken is not None:
        run(taken)
