"""What all commands say and how: results on standard output, everything else on standard error, one line each.

Guarantees: text that came from peers, files or configurations cannot move the cursor, forge lines or confuse a terminal
(``clean``); a reader that goes away (``| head``) is no error.
Failures: none of its own.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any, Final, TextIO

from asyncroute.core.errors import AsyncrouteError, ConfigError
from asyncroute.status.render import Table, clean, grid, plain

if TYPE_CHECKING:
    from rich.console import Console

OK: Final = 0
FAILED: Final = 1
UNUSABLE: Final = 2
"""Wrong use or a wrong configuration; for ``status``: it cannot tell."""
INTERRUPTED: Final = 130

DEBUG: Final = "ASYNCROUTE_DEBUG"
PROGRAM: Final = "asyncroute"


def prepare_streams() -> None:
    """Characters that the locale's encoding does not have are escaped instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def say(text: str = "", end: str = "\n") -> None:
    """One line of a result."""
    print(clean(text), end=end)


def note(text: str) -> None:
    """One line about what is going on, on standard error."""
    print(clean(text), file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """One line about what went wrong."""
    note(f"{PROGRAM}: error: {text}")


def table(shown: Table) -> None:
    """A table, in the form that suits standard output."""
    if on_terminal():
        console().print(grid(shown))
    else:
        print(plain(shown))


def console() -> Console:
    """A rich console that takes nothing in what it prints for markup."""
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False)


def facts(value: Any) -> None:
    """Facts as JSON, in ASCII: nothing in it needs cleaning."""
    print(json.dumps(value, indent=2))


def on_terminal(stream: TextIO | None = None) -> bool:
    """Whether a person looks at standard output (or ``stream``)."""
    stream = stream or sys.stdout
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def debugging() -> bool:
    """Whether the user wants tracebacks and detailed logs."""
    return os.environ.get(DEBUG, "") not in ("", "0")


def told(error: AsyncrouteError) -> int:
    """Say what is wrong, a line each; the exit status for it."""
    if isinstance(error, ConfigError):
        for problem in error.problems:
            note(str(problem))
        return UNUSABLE
    complain(" ".join(str(error).splitlines()))
    return FAILED


def unexpected(error: BaseException) -> int:
    """Say that the program itself is wrong; the exit status for it."""
    if debugging():
        traceback.print_exception(error)
    words = " ".join(f"{type(error).__name__}: {error}".split())
    complain(f"unexpected: {words} (please report it; {DEBUG}=1 shows where it happened)")
    return FAILED


def reader_went_away() -> int:
    """Standard output is a closed pipe: keep Python from complaining about it at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    return FAILED
