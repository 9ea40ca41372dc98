"""Which routes have, or had, a transform: a small file beside the journal, so that a renamed one is not forgotten.

An image remembers its route by name only. When the configuration knows the name no more, this file says whether the
image was to be changed. One name a line, in the order of their first use.
Guarantees: a name is on stable storage before images are received for it. Failures: ``StorageFault``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from asyncroute.core.errors import StorageFault
from asyncroute.durable import sync_folder

FILE = "transformed-routes"


class TransformedRoutes:
    """See module. Blocks, for a moment."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE
        try:
            lines = self._path.read_text("utf-8").splitlines() if self._path.exists() else []
            self.names = frozenset(json.loads(line) for line in lines)
        except (OSError, ValueError, TypeError) as error:
            raise StorageFault(f"{self._path}: cannot be read: {error}", getattr(error, "errno", 0) or 0) from error

    def remember(self, names: Iterable[str]) -> None:
        """These have a transform."""
        new = [name for name in dict.fromkeys(names) if name not in self.names]
        if not new:
            return
        try:
            self._append("".join(f"{json.dumps(name)}\n" for name in new))
        except OSError as error:
            raise StorageFault(f"{self._path}: cannot be written: {error.strerror}", error.errno or 0) from error
        self.names |= set(new)

    def _append(self, text: str) -> None:
        """All of what was there and ``text``, whole whatever happens meanwhile."""
        known = self._path.read_text("utf-8") if self._path.exists() else ""
        temporary = self._path.with_name(f".{FILE}.new")
        with temporary.open("w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(known + text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        sync_folder(self._path.parent)
