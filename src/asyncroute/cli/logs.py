"""The router's log: one line per event on standard error, for a terminal or a service manager to keep.

Guarantees: an event is one line whatever peers put into titles, UIDs and comments: what is not printable is escaped,
and tracebacks are folded into the line. A standard error that nobody reads any more does not stop the router.
Failures: none.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Final

from asyncroute.status.render import clean

_FORMAT: Final = "%(asctime)s %(levelname)s %(message)s"
_NAMED: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class OneLine(logging.Formatter):
    """See module. Times are local, to the millisecond, with the offset from UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        return clean(super().format(record).replace("\n", " | "))

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """See ``logging.Formatter``."""
        at = time.localtime(record.created)
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', at)}.{int(record.msecs):03d}{time.strftime('%z', at)}"

    def formatException(self, ei: object) -> str:
        """See ``logging.Formatter``."""
        lines = super().formatException(ei).splitlines()  # type: ignore[arg-type]
        return "\n".join(line.strip() for line in lines)


def set_up(debug: bool) -> None:
    """Log to standard error from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(_NAMED if debug else _FORMAT))
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = debug
