"""The router's log: one line per event on standard error, for a terminal or a service manager to keep.

Guarantees: an event is one line of bounded length whatever peers put into titles, UIDs and comments: what is not
printable is escaped, and tracebacks are folded into the line. Whoever repeats a mistake cannot fill a disk: of one kind
of line about one peer or destination at most ``MOST`` are written in ``WITHIN`` seconds, the others are counted and
told in one line afterwards. A standard error that nobody reads any more does not stop the router.
Failures: none.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from asyncroute.status.render import clean

_FORMAT: Final = "%(asctime)s %(levelname)s %(message)s"
_NAMED: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"

LONGEST: Final = 8000
"""Characters of one line; of longer ones the middle is left out."""

MOST: Final = 20
WITHIN: Final = 60.0
_KINDS: Final = 1000
"""Kinds of lines, times peers, that are counted at once; with more the oldest are told early."""

Kind = tuple[str, str, str]


class OneLine(logging.Formatter):
    """See module. Times are local, to the millisecond, with the offset from UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        line = clean(super().format(record).replace("\n", " | "))
        if len(line) <= LONGEST:
            return line
        half = LONGEST // 2
        return f"{line[:half]} ... ({len(line) - 2 * half} characters left out) ... {line[-half:]}"

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """See ``logging.Formatter``."""
        at = time.localtime(record.created)
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', at)}.{int(record.msecs):03d}{time.strftime('%z', at)}"

    def formatException(self, ei: object) -> str:
        """See ``logging.Formatter``."""
        lines = super().formatException(ei).splitlines()  # type: ignore[arg-type]
        return "\n".join(line.strip() for line in lines)


@dataclass(slots=True)
class _Count:
    """Lines of one kind since ``began``: how many were written, how many not, and the last of these."""

    began: float
    written: int = 0
    kept_back: int = 0
    last: logging.LogRecord | None = None


class Limit:
    """Which lines may be written; see module. ``clock``: monotonic seconds. Not thread-safe: handlers have a lock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: OrderedDict[Kind, _Count] = OrderedDict()

    def passes(self, record: logging.LogRecord) -> bool:
        """Whether ``record`` may be written; if not, it is counted. CRITICAL always may."""
        if record.levelno >= logging.CRITICAL:
            return True
        count = self._counts.setdefault(_kind(record), _Count(self._clock()))
        if count.written < MOST:
            count.written += 1
            return True
        count.kept_back += 1
        count.last = record
        return False

    def due(self, everything: bool = False) -> Iterator[logging.LogRecord]:
        """Lines about what was kept back and is over now; ``everything``: at the end."""
        now = self._clock()
        while self._counts:
            kind, count = next(iter(self._counts.items()))  # the oldest: all last equally long
            if not everything and now - count.began < WITHIN and len(self._counts) <= _KINDS:
                return
            del self._counts[kind]
            if count.last is not None:
                yield _told(count, count.last, now)


def _kind(record: logging.LogRecord) -> Kind:
    """Where a line comes from, its words, and whom it is about: its first argument, ``AET@address`` without the title
    (a caller may use another one each time).
    """
    args = record.args
    first = args[0] if isinstance(args, tuple) and args else ""
    return record.name, str(record.msg), first.rpartition("@")[2] if isinstance(first, str) else ""


def _told(count: _Count, last: logging.LogRecord, now: float) -> logging.LogRecord:
    text = f"{last.getMessage()} (and {count.kept_back - 1} more like this in the last {now - count.began:.0f} s)"
    return logging.LogRecord(last.name, last.levelno, last.pathname, last.lineno, text, None, None)


class LimitedHandler(logging.StreamHandler):  # type: ignore[type-arg] # generic in its stubs only
    """Writes the lines that ``Limit`` lets pass."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._limit = Limit()

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        for told in self._limit.due():
            super().emit(told)
        if self._limit.passes(record):
            super().emit(record)

    def close(self) -> None:
        """See ``logging.Handler``."""
        for told in self._limit.due(everything=True):
            super().emit(told)
        super().close()


def set_up(debug: bool) -> None:
    """Log to standard error from now on; with ``debug`` every detail, without a limit."""
    handler = logging.StreamHandler(sys.stderr) if debug else LimitedHandler()
    handler.setFormatter(OneLine(_NAMED if debug else _FORMAT))
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = debug
