"""The exceptions of asyncroute, split by whose fault they are.

Purpose: a caller decides what to do from the family alone: `OurFault` is repaired here (the configuration, this
program), `PeerFault` by whoever runs the other side, `StorageFault` on this machine's disks. Foreign exceptions are
mapped to one of them once, at the seam where they appear.
Guarantees: the text of each is fit to be shown to an administrator as it is; `ConfigError` has one line per problem.
Failures: none of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class AsyncrouteError(Exception):
    """Everything that asyncroute raises on purpose."""


class OurFault(AsyncrouteError):
    """Wrong on this side: the configuration, the command line, or the program itself."""


class PeerFault(AsyncrouteError):
    """The other side broke the protocol, refused, or went away."""


class StorageFault(AsyncrouteError):
    """This machine's storage failed: full, read-only, broken, or its content is not what was written.

    `errno` is the system's number for it (ENOSPC, EIO, ...), 0 where there is none.
    """

    def __init__(self, text: str, errno: int = 0) -> None:
        self.errno = errno
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a configuration: where, which key, and what to do about it.

    `line` and `column` count from 1 and are None where there is no such place (a file that cannot be read).
    """

    file: str
    key: str
    text: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        """The problem in one line: ``FILE:LINE: listener[0].port: must be 0..65535, not 70000``."""
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return ": ".join(part for part in (place, self.key, self.text) if part)


class ConfigError(OurFault):
    """A configuration that cannot be used; its text has one line per problem, in the file's order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
