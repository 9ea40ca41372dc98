"""A few worker processes for work that must neither block nor crash the router: users' functions, codecs.

``Processes.submit(Call("package.module:function", (...)), done)``: the function is called with these arguments in a
process that has the router's ``sys.path``; ``done`` has what it returned. Arguments and results are plain values and
bytes (``plain``): no objects. Large data go as the path of a file. ``Lasting`` bytes (a setting, a table) go to each
process once, however often they are an argument; the function gets the same bytes again.

Guarantees:
- ``done`` is called exactly once per call that was not cancelled, on the loop's thread, with the result or a
  ``Failed``; nothing of the loop blocks: each process has a thread that talks to it.
- A call that takes longer than its deadline (from its beginning; neither while it waits for a process nor while that
  waits for a processor, which the router and all others get first), ends its process, or takes more memory than there
  is fails alone; the process is killed, with what it started, and replaced. A call that ended its
  process is made a second time, in a new one, before it fails: the first end may have been another call's fault.
- There are at most ``most`` processes, started as they are needed by executing the interpreter anew (never a fork of
  this process), and none after ``IDLE`` seconds without work. Calls of one ``group`` have all of them but one at most,
  so that a group whose calls hang leaves one for the others, or as many as its share is; groups take turns.
- They end with ``close``, or with the router, however it ends.
Failures: ``Raised``, ``Crashed``, ``Late``, ``NotStarted``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from asyncroute.core.errors import OurFault
from asyncroute.link import plain
from asyncroute.link.workers import Workers

DEADLINE: Final = 30.0
"""Seconds that a call may take, where nothing else is said."""

MEMORY: Final = 2 << 30
"""Bytes of address space of one process, where nothing else is said."""

IDLE: Final = 60.0
_START: Final = 60.0
_WORTH: Final = 0.05
"""Seconds left to a call that are worth another look."""

_REST: Final = 10.0
"""Seconds for the rest of an answer that has begun, at least."""

_TRIES: Final = 2
_ENVIRONMENT: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
"""Threads and arenas that reserve address space for nothing."""


class Failed(OurFault):
    """A call gave no result; the text says why, for a person."""


class Raised(Failed):
    """The function raised an exception; ``kind``: its class."""

    def __init__(self, kind: str, text: str, where: str) -> None:
        place = f" ({where})" if where else ""
        super().__init__(f"{kind}: {text}{place}" if text else f"{kind}{place}")
        self.kind = kind


class Crashed(Failed):
    """The function ended its process, or needs more memory than it may have, twice."""


class Late(Failed):
    """The function was not done at its deadline."""


class NotStarted(Failed):
    """There is no process: this machine is short of something. Another try later may do."""


class Lasting:
    """Bytes that are an argument again and again; see module."""

    __slots__ = ("data", "key")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.key = hashlib.sha256(data).hexdigest()


@dataclass(slots=True)
class Call:
    """What is to be done. ``deadline``: seconds. ``group``: see module."""

    function: str
    arguments: tuple[Any, ...]
    deadline: float = DEADLINE
    group: str = ""
    cancelled: bool = field(default=False, init=False)

    def cancel(self) -> None:
        """Nobody waits for the result any more: ``done`` is not called. What has begun goes on to its end."""
        self.cancelled = True


Done = Callable[[Any, Failed | None], None]


class Processes:
    """See module. On the loop's thread."""

    def __init__(self, most: int = 4, memory: int = MEMORY, shares: Mapping[str, int] | None = None) -> None:
        """``most``: processes at a time, at least 1. ``memory``: bytes of address space of each of them.
        ``shares``: how many of them a group has at most, where that is less than all but one."""
        self._loop = asyncio.get_running_loop()
        self._most = most
        self._memory = memory
        self._seats: list[_Seat] = []
        self._free: list[_Seat] = []
        self._waiting: dict[str, deque[tuple[Call, Done]]] = {}
        self._running: dict[str, int] = {}
        self._share = max(most - 1, 1)
        self._shares = shares or {}
        self._closed = False
        self._tidying: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Calls that have not begun."""
        return sum(map(len, self._waiting.values()))

    @property
    def running(self) -> int:
        """Calls under way."""
        return sum(self._running.values())

    @property
    def alive(self) -> list[int]:
        """Process ids of those that have been started."""
        return [seat.process.pid for seat in self._seats if seat.process is not None]

    def submit(self, call: Call, done: Done) -> None:
        """Make ``call`` as soon as a process is free; see module."""
        self._waiting.setdefault(call.group, deque()).append((call, done))
        self._begin()

    async def run(self, call: Call) -> Any:
        """``submit`` for coroutines: the result.

        Raises:
            Failed: there is none.
        """
        came: asyncio.Future[Any] = self._loop.create_future()

        def done(value: Any, failed: Failed | None) -> None:
            if not came.done():
                came.set_exception(failed) if failed is not None else came.set_result(value)

        self.submit(call, done)
        try:
            return await came
        finally:
            call.cancel()

    def renew(self) -> None:
        """Calls that begin from now on are made in new processes: files that functions are in may have changed."""
        for seat in self._seats:
            seat.stale = True

    def close(self) -> None:
        """End all processes at once, also those at work; calls that wait are dropped. Idempotent. Blocks briefly."""
        self._closed = True
        self._waiting.clear()
        if self._tidying is not None:
            self._tidying.cancel()
        for seat in self._seats:
            seat.kill()
        for seat in self._seats:
            seat.close()

    # ---- whose turn it is

    def _begin(self) -> None:
        while (self._free or len(self._seats) < self._most) and (next_ := self._next()) is not None:
            call, done = next_
            seat = self._free.pop() if self._free else self._new_seat()
            self._running[call.group] = self._running.get(call.group, 0) + 1
            seat.work(call, partial(self._ended, seat, call, done))

    def _new_seat(self) -> _Seat:
        seat = _Seat(self._memory, len(self._seats))
        self._seats.append(seat)
        return seat

    def _next(self) -> tuple[Call, Done] | None:
        for group in list(self._waiting):
            calls = self._waiting[group]
            while calls and calls[0][0].cancelled:
                calls.popleft()
            if not calls:
                del self._waiting[group]
            elif self._running.get(group, 0) < min(self._share, self._shares.get(group, self._share)):
                found = calls.popleft()
                del self._waiting[group]
                if calls:  # behind the others
                    self._waiting[group] = calls
                return found
        return None

    def _ended(self, seat: _Seat, call: Call, done: Done, value: Any, error: Exception | None) -> None:
        self._running[call.group] -= 1
        if not self._running[call.group]:
            del self._running[call.group]
        seat.idle_since = self._loop.time()
        self._free.append(seat)
        if self._closed:
            return
        try:
            if not call.cancelled:
                failed = (
                    error if error is None or isinstance(error, Failed) else Crashed(f"unexpected error: {error!r}")
                )
                done(value, failed)
        finally:
            self._begin()
            if self._tidying is None:
                self._tidying = self._loop.call_later(IDLE, self._tidy)

    def _tidy(self) -> None:
        """Processes without work end."""
        self._tidying = None
        before = self._loop.time() - IDLE
        for seat in self._free:
            if seat.process is not None and seat.idle_since <= before:
                seat.rest()
        if self.alive:
            self._tidying = self._loop.call_later(IDLE, self._tidy)


class _Seat:
    """A place for one process, with the thread that talks to it."""

    def __init__(self, memory: int, number: int) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.idle_since = 0.0
        self.stale = False
        """Whether the process must not be used again."""
        self._memory = memory
        self._workers = Workers(1, f"process_{number}")
        self._sock: socket.socket | None = None
        self._known: set[str] = set()
        self._closed = False

    def work(self, call: Call, done: Callable[[Any, Exception | None], None]) -> None:
        """Do ``call``; ``done`` follows on the loop."""
        self._workers.submit(partial(self._do, call), done)

    def rest(self) -> None:
        """End the process; the next call starts another."""
        self._workers.submit(self._end, lambda _, error: None)

    def kill(self) -> None:
        """End what runs, at once; nothing is started any more."""
        self._closed = True
        process = self.process
        if process is not None and process.returncode is None:
            _kill(process)

    def close(self) -> None:
        """End the thread."""
        self._workers.submit(self._end, lambda _, error: None)
        self._workers.close(5)

    # ---- in the thread

    def _do(self, call: Call) -> Any:
        if self.stale:
            self.stale = False
            self._end()
        for left in reversed(range(_TRIES)):
            if self.process is None:
                self._start()
            try:
                return self._exchange(call)
            except Crashed:
                self._end()
                if not left or call.cancelled or self._closed:
                    raise
            except Raised:
                raise
            except BaseException:
                self._end()
                raise
        raise AssertionError

    def _exchange(self, call: Call) -> Any:
        """Ask the process and wait for its answer."""
        until = time.monotonic() + call.deadline
        sock, pieces = self._sock, self._asked(call)
        assert sock is not None
        try:
            plain.send(sock, pieces, until)
            answer = plain.receive(sock, self._awaited(sock, until, call.deadline))
        except TimeoutError:
            raise Late(f"not done after {call.deadline:g} s") from None
        except (EOFError, OSError):
            raise Crashed(self._how_it_ended()) from None
        except ValueError as error:
            raise Crashed(f"its process answered nonsense: {error}") from None
        return self._read(answer)

    def _awaited(self, sock: socket.socket, until: float, deadline: float) -> float:
        """Wait for the beginning of an answer; the deadline, later by what its process has waited for a processor.

        A wait that has not ended is in no account yet: of a process that is ready to run, what it has run counts.
        """
        ran, waited, _ = self._scheduled()
        begun = until - deadline
        while True:
            sock.settimeout(max(until - time.monotonic(), 0.001))
            try:
                sock.recv(1, socket.MSG_PEEK)
            except TimeoutError:
                has_run, has_waited, ready = self._scheduled()
                now = time.monotonic()
                left = deadline - (has_run - ran if ready else now - begun - (has_waited - waited))
                if left < _WORTH:
                    raise
                until = now + left
            else:
                return max(until, time.monotonic() + _REST)

    def _scheduled(self) -> tuple[float, float, bool]:
        """Seconds that its process has run, and was ready and did not; whether it is ready now (or runs).

        See sched-stats and proc(5) of the kernel's documentation.
        """
        assert self.process is not None
        place = Path(f"/proc/{self.process.pid}")
        try:
            ran, waited, *_ = (int(each) * 1e-9 for each in (place / "schedstat").read_text().split())
            state = (place / "stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, ValueError, IndexError):
            return 0.0, 0.0, False  # not every kernel tells
        return ran, waited, state == "R"

    def _asked(self, call: Call) -> list[plain.Data]:
        lasting = {it.key: it.data for it in call.arguments if isinstance(it, Lasting)}
        new = {key: data for key, data in lasting.items() if key not in self._known}
        arguments = [[it.key] if isinstance(it, Lasting) else it for it in call.arguments]
        named = [n for n, it in enumerate(call.arguments) if isinstance(it, Lasting)]
        asked = {"function": call.function, "arguments": arguments, "lasting": named, "new": new}
        try:
            pieces = plain.packed(asked)
        except (TypeError, ValueError) as error:
            raise Raised(type(error).__name__, str(error), "") from None
        self._known |= new.keys()
        return pieces

    @staticmethod
    def _read(answer: Any) -> Any:
        if isinstance(answer, dict) and "value" in answer:
            return answer["value"]
        if isinstance(answer, dict) and "raised" in answer:
            raise Raised(*(str(answer.get(key, "")) for key in ("raised", "text", "where")))
        if isinstance(answer, dict) and "memory" in answer:
            raise Crashed("it needs more memory than a worker process may have")
        raise Crashed("its process answered nonsense")

    def _start(self) -> None:
        """A new process.

        Raises:
            NotStarted: there is none.
        """
        if self._closed:
            raise NotStarted("the router is stopping")
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                self._sock, self._known = ours, set()
                self.process = _started(theirs.fileno(), self._memory)
            if plain.receive(ours, time.monotonic() + _START) != "ready":
                raise ValueError("it says something else")
        except (OSError, EOFError, ValueError) as error:
            how = self._how_it_ended() if self.process is not None else str(error)
            self._end()
            raise NotStarted(f"a worker process cannot be started: {how}") from None

    def _how_it_ended(self) -> str:
        process = self.process
        if process is None:
            return "there is none"
        try:
            status = process.wait(1)
        except subprocess.TimeoutExpired:
            return "its process does not answer any more"
        if status < 0:
            with contextlib.suppress(ValueError):
                return f"its process was ended by {signal.Signals(-status).name}"
        return f"its process ended with status {status}"

    def _end(self) -> None:
        process, self.process = self.process, None
        sock, self._sock = self._sock, None
        if process is not None:
            _kill(process)
            process.wait()
        if sock is not None:
            sock.close()


def _started(number: int, memory: int) -> subprocess.Popen[bytes]:
    """A process that serves the socket ``number``."""
    program = [sys.executable, "-P", "-m", "asyncroute.link.worker_process", str(number), str(memory), str(os.getpid())]
    environment = os.environ | _ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    # A group of its own, to be killed as one, but not a session: Linux shares the processor out by session (sched(7),
    # autogroup), and the router would have no more of it than each of them, however nice they are.
    return subprocess.Popen(
        program,
        stdin=subprocess.DEVNULL,
        stdout=2,
        env=environment,
        pass_fds=[number],
        process_group=0,
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With what it has started itself."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
