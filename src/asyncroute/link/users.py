"""The users file: who may name themselves in an association request (PS3.7 D.3.3.7), with their passcodes' hashes.

One user per line, ``name:$scrypt$ln=14,r=8,p=1$SALT$KEY`` (scrypt, RFC 7914; base64 without padding); empty lines and
those that begin with ``#`` are kept and mean nothing. Passcodes are bytes (people's: UTF-8) and are never kept.

Guarantees: ``Users.verify`` costs the same for unknown names as for known ones, and compares in constant time; it takes
some 50 ms of a processor and 16 MiB: never on the event loop. Writing replaces the file in one step.
Failures: ``OurFault``, with file and line.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from asyncroute.core.errors import OurFault

LONGEST_NAME: Final = 64
MOST_BYTES: Final = 1 << 20
_SALT, _KEY = 16, 32
_LOG_N, _R, _P = 14, 8, 1
_MOST_MEMORY: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class Hash:
    """A passcode's scrypt hash with its cost: 2 ** ``log_n`` rounds of 128 * ``r`` bytes, ``p`` times."""

    log_n: int
    r: int
    p: int
    salt: bytes
    key: bytes

    @classmethod
    def of(cls, passcode: bytes) -> Hash:
        """A fresh one."""
        salt = os.urandom(_SALT)
        return cls(_LOG_N, _R, _P, salt, _scrypt(passcode, _LOG_N, _R, _P, salt, _KEY))

    @classmethod
    def read(cls, text: str) -> Hash:
        """The reverse of ``str``; raises ValueError."""
        empty, scheme, cost, salt, key = text.split("$")
        pairs = dict(pair.split("=") for pair in cost.split(","))
        made = cls(int(pairs["ln"]), int(pairs["r"]), int(pairs["p"]), _from_base64(salt), _from_base64(key))
        memory = 128 * made.r << made.log_n
        usual = 8 <= made.log_n <= 24 and 1 <= made.r <= 64 and 1 <= made.p <= 16 and memory <= _MOST_MEMORY
        if empty or scheme != "scrypt" or not usual or len(made.salt) < 8 or len(made.key) < 16:
            raise ValueError(text)
        return made

    def __str__(self) -> str:
        """As the file has it."""
        return f"$scrypt$ln={self.log_n},r={self.r},p={self.p}${_to_base64(self.salt)}${_to_base64(self.key)}"

    def fits(self, passcode: bytes) -> bool:
        """Whether it is this passcode's."""
        made = _scrypt(passcode, self.log_n, self.r, self.p, self.salt, len(self.key))
        return hmac.compare_digest(made, self.key)


def _scrypt(passcode: bytes, log_n: int, r: int, p: int, salt: bytes, size: int) -> bytes:
    room = (128 * r << log_n) + (128 * r * p) + (1 << 20)
    return hashlib.scrypt(passcode, salt=salt, n=1 << log_n, r=r, p=p, maxmem=room, dklen=size)


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii").rstrip("=")


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


_NOBODY: Final = Hash(_LOG_N, _R, _P, bytes(_SALT), bytes(_KEY))


class Users:
    """The users of a file; does not change."""

    def __init__(self, hashes: Mapping[str, Hash]) -> None:
        self._hashes = dict(hashes)

    def __len__(self) -> int:
        return len(self._hashes)

    def stored(self, name: str) -> str:
        """The user's hash as text, empty for an unknown name: it changes when the passcode does."""
        found = self._hashes.get(name)
        return str(found) if found else ""

    def verify(self, name: str, passcode: bytes) -> bool:
        """Whether this is a user with this passcode. In a thread: it takes long on purpose."""
        known = self._hashes.get(name)
        return (known or _NOBODY).fits(passcode) and known is not None


def load(path: Path) -> Users:
    """The users of this file.

    Raises:
        OurFault: it cannot be read, everybody may read it, or a line is wrong.
    """
    text, mode = _read(path)
    if mode & 0o007:
        raise OurFault(f"{path}: everybody on this machine may read or change it; chmod o-rwx {path}")
    found: dict[str, Hash] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not _is_user(line):
            continue
        name, _, coded = line.partition(":")
        if problem := name_problem(name):
            raise OurFault(f"{path}:{number}: {problem}")
        if name in found:
            raise OurFault(f"{path}:{number}: {name!r} is there twice")
        try:
            found[name] = Hash.read(coded.strip())
        except (ValueError, KeyError):
            raise OurFault(f"{path}:{number}: no NAME:$scrypt$..., as asyncroute user add writes it") from None
    return Users(found)


def name_problem(name: str) -> str:
    """Why this cannot be a user's name; empty: it can."""
    if not name or name != name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        return f"a user's name has 1 to {LONGEST_NAME} printable characters, and no outer spaces"
    return "a user's name has no colon, and does not begin with #" if ":" in name or name.startswith("#") else ""


def _is_user(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _read(path: Path) -> tuple[str, int]:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    except OSError as error:
        raise OurFault(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(data) > MOST_BYTES:
        raise OurFault(f"{path}: is larger than 1 MiB: not a users file")
    try:
        return data.decode(), mode
    except UnicodeDecodeError:
        raise OurFault(f"{path}: is not UTF-8 text: not a users file") from None


# --- changing it ------------------------------------------------------------------------------------------------------


def names(path: Path) -> list[str]:
    """The users of this file, in its order. Raises OurFault."""
    return [line.partition(":")[0] for line in _lines(path)[0] if _is_user(line)]


def put(path: Path, name: str, passcode: bytes) -> bool:
    """Add a user, or give them this passcode; makes the file (mode 600) if there is none. Whether the name was new.

    Raises:
        OurFault: the name cannot be one, or the file cannot be read or written.
    """
    if problem := name_problem(name):
        raise OurFault(problem)
    lines, mode = _lines(path) if path.exists() else ([], 0o600)
    at = _line_of(name, lines)
    new = at == len(lines)
    lines[at : at + 1] = [f"{name}:{Hash.of(passcode)}"]
    _write(path, lines, mode)
    return new


def remove(path: Path, name: str) -> bool:
    """Remove a user; whether there was one. Raises OurFault."""
    lines, mode = _lines(path)
    at = _line_of(name, lines)
    if at == len(lines):
        return False
    del lines[at]
    _write(path, lines, mode)
    return True


def _lines(path: Path) -> tuple[list[str], int]:
    """All lines of a file that is right, and its mode. Raises OurFault."""
    load(path)
    text, mode = _read(path)
    return text.splitlines(), mode


def _line_of(name: str, lines: list[str]) -> int:
    """Where the user's line is; the number of lines if there is none."""
    return next((n for n, each in enumerate(lines) if _is_user(each) and each.partition(":")[0] == name), len(lines))


def _write(path: Path, lines: list[str], mode: int) -> None:
    temporary = ""
    try:
        number, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(number, "wb") as file:
            file.write("".join(f"{line}\n" for line in lines).encode())
            _keep_owner(path, file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise OurFault(f"{path}: cannot be written: {(error.strerror or str(error)).lower()}") from None


def _keep_owner(path: Path, number: int, mode: int) -> None:
    """The new file belongs to whom the old one did, so that the router can still read what root has changed."""
    os.fchmod(number, mode)
    with contextlib.suppress(OSError):
        old = path.stat()
        os.fchown(number, old.st_uid, old.st_gid)
