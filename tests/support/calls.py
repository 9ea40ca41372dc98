"""Functions that tests call in worker processes: well-behaved ones, and those that users write when they are tired."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def double(data: memoryview, number: int) -> list[object]:
    """Bytes and numbers there and back."""
    return [bytes(data) * 2, number * 2, {"pid": os.getpid(), "text": "Grüße\n"}]


def same(lasting: bytes) -> list[int]:
    """Which object it is, and where."""
    return [os.getpid(), id(lasting), len(lasting)]


def pid_of(seconds: float) -> int:
    """After a while."""
    time.sleep(seconds)
    return os.getpid()


def calculate(seconds: float) -> int:
    """For so long, of a processor's time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return os.getpid()


def wait_for(path: str) -> int:
    """Until there is such a file."""
    while not Path(path).exists():
        time.sleep(0.005)
    return os.getpid()


def raises(text: str) -> None:
    """An exception."""
    raise ValueError(text)


def leaves(status: int) -> None:
    """Without a word."""
    os._exit(status)


def exits() -> None:
    """As a script would."""
    sys.exit("enough")


def dies(number: int) -> None:
    """As a library with a bug does."""
    os.kill(os.getpid(), number)


def dies_once(mark: str) -> str:
    """The first time only."""
    path = Path(mark)
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    return "well"


def eats(count: int) -> int:
    """Memory."""
    return len(bytearray(count))


def sleeps_for_ever(child_pid: str) -> None:
    """With a child that would outlive it."""
    child = subprocess.Popen(["sleep", "1000"])
    Path(child_pid).write_text(str(child.pid))
    while True:
        time.sleep(1)


def nonsense() -> object:
    """What is no plain value."""
    return object()


def prints() -> str:
    """To standard output."""
    print("to standard output")
    return "printed"


def limits() -> list[object]:
    """What a process is told to heed."""
    ignored = [signal.getsignal(n) == signal.SIG_IGN for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    return [os.getpgid(0) == os.getpid() != os.getsid(0), all(ignored), os.nice(0)]
