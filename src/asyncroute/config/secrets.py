"""Files that hold a secret: made, and read only if nobody else can.

Guarantees: a new one has 256 random bits, is readable by its owner only, and is durable. Failures: ``Invalid`` (a
ValueError), in one line that follows the file's or key's name; OSError where a file cannot be made.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from asyncroute.config.words import Invalid
from asyncroute.durable import sync_folder

BYTES = 32
SHORTEST = 16
"""Characters that a secret has at least."""

_LONGEST = 1 << 16


def create(path: Path) -> None:
    """A new secret in a new file. Raises OSError, also if there is something of this name."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(number, os.urandom(BYTES).hex().encode() + b"\n")
        os.fsync(number)
    finally:
        os.close(number)
    sync_folder(path.absolute().parent)


def read(path: Path, private: bool = False) -> bytes:
    """The secret in a file; ``private``: which only its owner can read. Raises ``Invalid``."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            secret = file.read(_LONGEST if private else -1).strip()
    except OSError as error:
        raise Invalid(f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    if private and mode & 0o077:
        raise Invalid(f"can be read by others (mode {mode:04o}), so it is no secret: chmod 600 {path}")
    if len(secret) < SHORTEST:
        raise Invalid(f"must have at least {SHORTEST} characters in it")
    return secret
