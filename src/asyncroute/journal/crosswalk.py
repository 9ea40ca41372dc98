"""The crosswalk: from pseudonyms back to the original values, in ``data_dir/crosswalk.db``.

Guarantees: what `keep` was given is on stable storage when it returns (one transaction and one sync for all threads
that wait at that time), and stays; the file is readable by its owner only. With a key the originals are encrypted
(AES-256-GCM, a random nonce each; the pseudonym and kind are authenticated), and the file says nothing without it.
Failures: one-line ``StorageFault``; ``OurFault`` for a wrong key or a missing package.
"""

from __future__ import annotations

import hmac
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from asyncroute.core.errors import OurFault, StorageFault
from asyncroute.durable import sync_folder
from asyncroute.journal.faults import storage_fault
from asyncroute.journal.place import uri_of
from asyncroute.journal.statements import load

FILE = "crosswalk.db"
MOST_KNOWN = 50_000
"""Links that are remembered as kept, so that a study's second image costs nothing."""

_SQL = load("crosswalk.sql")
_VERSION = 1
_NONCE = 12
_PLAIN = b"plain"


class Link(Protocol):
    """``transform.base.Link``."""

    @property
    def kind(self) -> str: ...
    @property
    def original(self) -> str: ...
    @property
    def pseudonym(self) -> str: ...


class Original(NamedTuple):
    """What a pseudonym stands for. ``since``: when an image first went out with it, in seconds since the epoch."""

    kind: str
    value: str
    since: float


class Seal:
    """Encryption of the originals, or none."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key
        if key is None:
            return
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise OurFault("an encrypted crosswalk needs the package cryptography: pip install cryptography") from None
        self._cipher = AESGCM(hmac.digest(key, b"asyncroute crosswalk", "sha256"))

    def proof(self) -> bytes:
        """What a new file remembers, so that another key is noticed."""
        return _PLAIN if self._key is None else self.closed("", "seal", "seal")

    def fits(self, proof: bytes) -> bool:
        """Whether this is the key of the file with this ``proof``."""
        if self._key is None or proof == _PLAIN:
            return self._key is None and proof == _PLAIN
        try:
            return self.opened("", "seal", proof) == "seal"
        except OurFault:
            return False

    def mark(self, original: str) -> bytes:
        """The same for the same original; tells nothing of it."""
        return hmac.digest(self._key or _PLAIN, original.encode("utf-8", "surrogatepass"), "sha256")[:16]

    def closed(self, pseudonym: str, kind: str, original: str) -> bytes:
        """As it stands in the file."""
        raw = original.encode("utf-8", "surrogatepass")
        if self._key is None:
            return raw
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, raw, f"{kind}\0{pseudonym}".encode())

    def opened(self, pseudonym: str, kind: str, raw: bytes) -> str:
        """The original again. Raises ``OurFault``."""
        if self._key is not None:
            from cryptography.exceptions import InvalidTag

            try:
                raw = self._cipher.decrypt(raw[:_NONCE], raw[_NONCE:], f"{kind}\0{pseudonym}".encode())
            except (InvalidTag, ValueError):
                raise OurFault("the crosswalk cannot be read with this key, or was changed") from None
        return raw.decode("utf-8", "surrogatepass")


class Crosswalk:
    """See module. Safe to use from several threads."""

    def __init__(self, folder: Path, key: bytes | None = None) -> None:
        """Nothing is touched until `open` or `keep`."""
        self.path = folder / FILE
        self._seal = Seal(key)
        self._known: dict[tuple[str, str, str], None] = {}
        self._waiting: dict[tuple[str, str, str], None] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Make it where there is none, and see that it can be used; otherwise `keep` does. Blocks."""
        with self._writing:
            self._opened()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            with _faults(self.path):
                self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        number = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.close(number)
        self.path.chmod(0o600)
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=5)
        try:
            connection.execute(_SQL["journal mode"]).fetchall()
            connection.execute(_SQL["synchronous"])
            _check_version(self.path, connection)
            connection.execute(_SQL["links"])
            connection.execute(_SQL["seal"])
            if connection.execute(_SQL["sealed"]).fetchone() is None:
                connection.execute(_SQL["set seal"], (self._seal.proof(),))
            connection.execute(_SQL["mark version"])
            _check_seal(self.path, connection, self._seal)
            sync_folder(self.path.parent)
        except BaseException:
            connection.close()
            raise
        return connection

    def knows(self, links: Iterable[Link]) -> bool:
        """Whether all of them are kept already, without looking at the disk; for the loop."""
        return all((link.pseudonym, link.kind, link.original) in self._known for link in links)

    def keep(self, links: Iterable[Link]) -> None:
        """Write what is not kept yet; durable when it returns. Blocks; raises ``StorageFault``."""
        mine = [(link.pseudonym, link.kind, link.original) for link in links]
        with self._lock:
            self._waiting.update(dict.fromkeys(each for each in mine if each not in self._known))
        with self._writing:  # who comes first writes for all who wait behind
            with self._lock:
                if all(each in self._known for each in mine):
                    return
                group = list(self._waiting | dict.fromkeys(mine))
            connection = self._opened()
            with _faults(self.path):
                self._write(connection, group)
            self._remember(group)

    def _write(self, connection: sqlite3.Connection, group: list[tuple[str, str, str]]) -> None:
        now = time.time()
        rows = [(p, kind, self._seal.mark(of), self._seal.closed(p, kind, of), now) for p, kind, of in group]
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.executemany(_SQL["add"], rows)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _remember(self, group: list[tuple[str, str, str]]) -> None:
        with self._lock:
            if len(self._known) + len(group) > MOST_KNOWN:
                self._known = {}
            for each in group:
                self._known[each] = None
                self._waiting.pop(each, None)

    def close(self) -> None:
        """Close it."""
        with self._writing:
            if self._connection is not None:
                self._connection.close()


def look_up(folder: Path, pseudonym: str, key: bytes | None = None) -> list[Original]:
    """What ``pseudonym`` stands for; empty: nobody knows. Also while a router runs."""
    path = folder / FILE
    if not path.exists():
        raise OurFault(f"{path}: there is no crosswalk; nothing was de-identified here")
    seal = Seal(key)
    with _faults(path):
        connection = sqlite3.connect(uri_of(path), uri=True, isolation_level=None)
        try:
            _check_version(path, connection)
            _check_seal(path, connection, seal)
            rows = connection.execute(_SQL["find"], (pseudonym,)).fetchall()
        finally:
            connection.close()
    return [Original(kind, seal.opened(pseudonym, kind, raw), since) for kind, raw, since in rows]


def _check_version(path: Path, connection: sqlite3.Connection) -> None:
    (version,) = connection.execute(_SQL["version"]).fetchone()
    if version > _VERSION:
        raise OurFault(f"{path}: was written by a newer asyncroute (format {version}, this one knows {_VERSION})")


def _check_seal(path: Path, connection: sqlite3.Connection, seal: Seal) -> None:
    (proof,) = connection.execute(_SQL["sealed"]).fetchone()
    if not seal.fits(proof):
        what = "it is not encrypted, but a key is configured" if proof == _PLAIN else "it is encrypted with another key"
        raise OurFault(f"{path}: {what}")


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """Errors of SQLite and the system as ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise storage_fault(error, path) from error
    except OSError as error:
        raise StorageFault(f"{path}: {error.strerror or error}", error.errno or 0) from error
