"""A wall clock that jumps while a program runs: libfaketime (Debian: ``faketime``), steered through a file.

Only the wall clock is faked. The steady clock goes on as it does when somebody sets the date.
"""

from __future__ import annotations

import time
from pathlib import Path

LIBRARIES = Path("/usr/lib")


class FakedClock:
    """``environment``: what a program needs to see this clock. ``offset``: seconds that it is ahead of the real one."""

    def __init__(self, folder: Path) -> None:
        found = sorted(LIBRARIES.glob("*/faketime/libfaketimeMT.so.1"))
        assert found, "libfaketime is not installed (Debian package faketime)"
        self._file = folder / "offset"
        self.offset = 0.0
        self.jump(0.0)
        self.environment = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def jump(self, offset: float) -> None:
        """Be ``offset`` seconds ahead of the real clock from now on."""
        waiting = self._file.with_suffix(".new")
        waiting.write_text(f"{offset:+.0f}s\n")
        waiting.rename(self._file)
        self.offset = offset

    def now(self) -> float:
        """The time that the program sees."""
        return time.time() + self.offset
