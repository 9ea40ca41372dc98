"""Room that the journal keeps for a full disk: a file of 8 MiB beside it, given up when it is needed.

Delivering frees space, since what is delivered leaves the spool; but each result has to be written first, and SQLite
cannot even open a journal where nothing is free. So the reserve goes when the journal cannot be opened, or results
cannot be written, for want of space. It is made again when there is plenty.
Guarantees: nothing is ever read from the file; it takes at most a quarter of what is free.
Failures: none; without room there is no reserve.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

FILE = "reserve"
SIZE = 8 << 20
PLENTY = 4
"""The reserve is made where so many times its size is free."""

_log = logging.getLogger(__name__)


class Reserve:
    """See module. Thread-safe. ``used``: it was given up, and is not back yet."""

    def __init__(self, folder: Path, size: int = SIZE) -> None:
        self.path = folder / FILE
        self.used = False
        self._size = size
        self._turn = threading.Lock()
        self._held = self._is_whole()

    @property
    def missing(self) -> int:
        """Bytes of what is free that belong to the reserve by rights: nothing else may take them."""
        return self._size if self.used else 0

    def give_up(self) -> bool:
        """Free its room; whether there was any."""
        with self._turn:
            if not self._held:
                return False
            self._held = not self._remove()
            self.used = not self._held
        if self.used:
            _log.error("%s: the disk is full: the reserve of %d MiB is used", self.path, self._size >> 20)
        return self.used

    def restore(self) -> None:
        """Make it (again), if there is plenty of space."""
        with self._turn:
            if self._held:
                return
            try:
                state = os.statvfs(self.path.parent)
                if state.f_bavail * state.f_frsize < PLENTY * self._size:
                    return
                self._make()
            except OSError:
                self._remove()
                return
            back, self._held, self.used = self.used, True, False
        if back:
            _log.info("%s: there is space again: the reserve is back", self.path)

    def _make(self) -> None:
        number = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(number, 0, self._size)
        finally:
            os.close(number)

    def _is_whole(self) -> bool:
        try:
            state = self.path.stat()
        except OSError:
            return False
        return state.st_size == self._size and state.st_blocks * 512 >= self._size

    def _remove(self) -> bool:
        """Whether the file is gone."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            _log.error("%s: cannot be removed: %s", self.path, error.strerror)
            return False
        return True
