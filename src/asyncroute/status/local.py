"""The status of a router that does not run: what its journal and its spool say.

Guarantees: nothing is changed, nothing needs to be writable. Failures: ``StorageFault`` from the journal's reader; a
spool that cannot be read counts as empty.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asyncroute.journal.base import Reader
from asyncroute.status import snapshot


async def read(reader: Reader, node: str, destinations: Mapping[str, str], data_dir: Path) -> dict[str, Any]:
    """See ``snapshot.stopped``; ``destinations``: {name: kind} of the configuration."""
    counts = await reader.counts()
    files, size = spool_usage(data_dir / "spool")
    spool = {"files": files, "bytes": size, "free_bytes": free_bytes(data_dir)}
    found = snapshot.stopped(node, counts, await reader.completions(), dict(destinations), spool)
    return found | {"orphans": Orphans(data_dir).look()}


def spool_usage(spool: Path) -> tuple[int, int]:
    """Files and bytes in the spool."""
    files = size = 0
    for folder, _, names in os.walk(spool):
        for name in names:
            try:
                size += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue  # it has just left
            files += 1
    return files, size


class Orphans:
    """Files that were set aside in ``data_dir/orphans``: counted again only after something changed there."""

    def __init__(self, data_dir: Path) -> None:
        self.count = 0
        self._folder = data_dir / "orphans"
        self._seen = 0

    def look(self) -> int:
        """Their number now; as before if the folder cannot be read. Blocks."""
        try:
            changed = self._folder.stat().st_mtime_ns
            if changed != self._seen:
                with os.scandir(self._folder) as entries:
                    self.count = sum(1 for entry in entries if entry.is_file(follow_symlinks=False))
                self._seen = changed
        except FileNotFoundError:
            self.count = self._seen = 0
        except OSError:
            pass
        return self.count


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written to the file system of ``folder``; 0 if that cannot be told."""
    try:
        state = os.statvfs(folder)
    except OSError:
        return 0
    return state.f_bavail * state.f_frsize
