"""Images with their headers as the journal keeps them, the newest first: for ``asyncroute plan``.

Guarantees: walks in stretches, so that memory stays small and no writer waits for a long read; what is received
meanwhile is not told. An image whose header is not known (any more) is told without one.
Failures: ``StorageFault``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from asyncroute.core.model import Instance, Source
from asyncroute.journal import headers
from asyncroute.journal.statements import load
from asyncroute.journal.values import json_ids, unsigned

STRETCH = 2048
"""Images that are read at a time."""

_SQL = load("replay.sql")
_NEWEST = (1 << 63) - 1
Row = tuple[Any, ...]


class SqliteReplay:
    """See module. ``all_``: runs one statement and gives all its rows."""

    def __init__(self, all_: Callable[[str, Any], Awaitable[list[Row]]]) -> None:
        self._all = all_

    async def images(self, since: float, limit: int) -> AsyncIterator[list[Instance]]:
        """Those received at ``since`` (seconds since the epoch) or later, at most ``limit``, in stretches."""
        before, left = _NEWEST, limit
        while left > 0:
            rows = await self._all(_SQL["images"], (before, min(STRETCH, left)))
            wanted = [row for row in rows if row[8] >= since]
            if not wanted:
                return
            known = await self._headers({row[-1] for row in wanted if row[-1] is not None})
            yield [_instance(row, known) for row in wanted]
            before, left = rows[-1][0], left - len(wanted)

    async def _headers(self, groups: set[int]) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for row in await self._all(_SQL["headers"], (json_ids(groups),)):
            found |= headers.unpack_all(*row)
        return found


def _instance(row: Row, known: dict[int, bytes]) -> Instance:
    id_, calling, called, listener, peer, *stored, own, _ = row
    sop_class, sop_instance, syntax, received_at, path, data_offset, size, checksum, *attributes = stored
    header = known.get(id_) if own is None else headers.unpack_own(own)
    source = Source(calling, called, listener, peer)
    facts = (sop_class, sop_instance, syntax, received_at, path, data_offset, size, unsigned(checksum))
    made = Instance(id_, source, *facts, *attributes)
    made.header = header
    return made
