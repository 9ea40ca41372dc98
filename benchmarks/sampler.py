"""Where the router's CPU time goes: a thread that looks at all others five hundred times a second.

What a thread has used up since the last look (the kernel's account, nanoseconds) is put to the function that it is in.
So time spent waiting costs nothing here, and what C code uses up (system calls, SQLite, hashing) is the calling line's.
The interpreter is told to hand over quickly; else looks would fall on system calls only. It costs some speed: shares
count, not seconds.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

INTERVAL = 0.002
PACKAGE = "asyncroute"
ELSEWHERE = "interpreter"
"""What runs without a function of ours: the event loop, the starting of threads' work."""
START = "start-up"
"""Importing, the command line, the configuration."""
_STARTING = frozenset({"cli", "config", "__init__", "__main__"})


class Sampler:
    """See module; a ``launch.Instrument``."""

    def __init__(self) -> None:
        self.rooms: Counter[str] = Counter()
        self.functions: Counter[str] = Counter()
        self._used: dict[int, int] = {}
        self._thread = threading.Thread(target=self._watch, name="sampler", daemon=True)
        self._running = True

    def install(self) -> None:
        """Begin to look."""
        sys.setswitchinterval(1e-4)
        self._thread.start()

    def report(self) -> dict[str, Any]:
        """Nanoseconds by room and by function."""
        self._running = False
        self._thread.join(1.0)
        return {"rooms": dict(self.rooms), "functions": dict(self.functions)}

    def _watch(self) -> None:
        while self._running:
            time.sleep(INTERVAL)
            self.look()

    def look(self) -> None:
        """Put what every thread has used up since the last look to where it is now."""
        frames = sys._current_frames()
        for thread in threading.enumerate():
            frame = frames.get(thread.ident or 0)
            if frame is None or thread is self._thread or thread.native_id is None:
                continue
            spent = self._spent(thread.native_id)
            if spent:
                room, function = place_of(frame)
                self.rooms[room] += spent
                self.functions[function] += spent

    def _spent(self, native_id: int) -> int:
        """Nanoseconds since the last look; a thread seen for the first time begins at zero."""
        try:
            used = int(Path(f"/proc/self/task/{native_id}/schedstat").read_text().split()[0])
        except OSError:
            return 0
        before = self._used.get(native_id, 0)
        self._used[native_id] = used
        return used - before


def place_of(frame: FrameType | None) -> tuple[str, str]:
    """Room and function of the innermost frame that is the program's; ``wire``, ``wire/pdata.py PduReader.feed``."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] == PACKAGE:
            inner = module.partition(".")[2] or "__init__"
            room, code = inner.partition(".")[0], frame.f_code.co_qualname
            if room in _STARTING or code == "<module>":
                return START, START
            return room, f"{inner.replace('.', '/')}.py {code}"
        frame = frame.f_back
    return ELSEWHERE, ELSEWHERE
